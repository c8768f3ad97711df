// A stateful firewall between eth0 (inside) and eth1 (outside): who is inside may begin what the rules allow; from outside come only answers, and what
// the second list of rules allows. Anything else is dropped, without a word.
define($ip0 10.0.0.254, $net0 10.0.0.0/24, $mac0 02:00:00:00:00:01, $ip1 10.0.1.254, $net1 10.0.1.0/24, $mac1 02:00:00:00:00:02, $gateway 10.0.1.1)

elementclass Port { $device, $ip, $mac, $mtu |
  FromDevice($device) -> HostEtherFilter($mac) -> kinds :: Classifier(12/0806 20/0001, 12/0806 20/0002, 12/0800, -);
  queue :: Queue(512) -> ToDevice($device);
  kinds[0] -> ARPResponder($ip $mac) -> queue;
  kinds[1] -> [1] arp :: ARPQuerier($ip, $mac) -> queue;
  kinds[2] -> Strip(14) -> CheckIPHeader -> output;
  kinds[3] -> Discard;
  input -> DropBroadcasts -> gateway :: IPGWOptions($ip) -> FixIPSrc($ip) -> ttl :: DecIPTTL -> cut :: IPFragmenter($mtu) -> arp;
  gateway[1] -> ICMPError($ip, parameterproblem) -> [1] output;
  ttl[1] -> ICMPError($ip, timeexceeded) -> [1] output;
  cut[1] -> ICMPError($ip, unreachable, needfrag, PMTU $mtu) -> [1] output;
}

port0 :: Port(eth0, $ip0, $mac0, 1500);
port1 :: Port(eth1, $ip1, $mac1, 1500);
routes :: RadixIPLookup($ip0/32 0, $ip1/32 0, $net0 1, $net1 2, 0.0.0.0/0 $gateway 2);

// Input 0: may begin; input 1: may not.
flows :: IPRewriter(keep 0 0, drop, MAPPING_CAPACITY 8192, TCP_TIMEOUT 2h, UDP_TIMEOUT 30, UDP_STREAMING_TIMEOUT 180);
pings :: ICMPPingRewriter(keep 0 0, drop, TIMEOUT 30, MAPPING_CAPACITY 1024);
flows -> routes; pings -> routes;

// Rules for what comes from inside: 0 begins, 1 only goes on.
outward :: IPFilter(drop not src net $net0, 1 tcp opt rst, allow tcp dst port 1-65535, allow udp, allow icmp, drop all);
// And from outside. To open a port: put "allow dst host 10.0.0.7 and tcp dst port 443," first.
inward :: IPFilter(drop src net $net0, 1 all);

port0 -> own0 :: IPClassifier(dst host $ip0 or dst host $ip1, -);
own0 [0] -> CheckICMPHeader -> ICMPPingResponder -> routes;
own0 [1] -> outward;
port1 -> own1 :: IPClassifier(dst host $ip0 or dst host $ip1, -);
own1 [0] -> Discard;
own1 [1] -> inward;
outward [0] -> begin :: IPClassifier(icmp, -); begin [0] -> pings; begin [1] -> flows;
outward [1] -> [1] flows;
inward [0] -> open :: IPClassifier(icmp, -); open [0] -> pings; open [1] -> flows;
inward [1] -> goes_on :: IPClassifier(icmp, -); goes_on [0] -> [1] pings; goes_on [1] -> [1] flows;

routes [0] -> Discard;
routes [1] -> port0;
routes [2] -> port1;
port0 [1] -> routes; port1 [1] -> routes;
