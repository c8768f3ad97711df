// A carrier-grade translator: customers on eth0 leave by eth1 under a few public addresses, each customer always under the same one.
// The public addresses need not be the device's own: eth1 answers ARP for all of them.
define($ip0 10.0.0.254, $net0 10.0.0.0/24, $mac0 02:00:00:00:00:01, $ip1 10.0.1.254, $net1 10.0.1.0/24, $mac1 02:00:00:00:00:02, $gateway 10.0.1.1,
  $public 10.0.1.248-10.0.1.251, $publicnet 10.0.1.248/30)

elementclass Port { $device, $ip, $mac, $mtu, $proxy |
  FromDevice($device) -> HostEtherFilter($mac) -> kinds :: Classifier(12/0806 20/0001, 12/0806 20/0002, 12/0800, -);
  queue :: Queue(512) -> ToDevice($device);
  kinds[0] -> ARPResponder($ip $proxy $mac) -> queue;
  kinds[1] -> [1] arp :: ARPQuerier($ip, $mac) -> queue;
  kinds[2] -> Strip(14) -> CheckIPHeader -> output;
  kinds[3] -> Discard;
  input -> DropBroadcasts -> gateway :: IPGWOptions($ip) -> FixIPSrc($ip) -> ttl :: DecIPTTL -> cut :: IPFragmenter($mtu) -> arp;
  gateway[1] -> ICMPError($ip, parameterproblem) -> [1] output;
  ttl[1] -> ICMPError($ip, timeexceeded) -> [1] output;
  cut[1] -> ICMPError($ip, unreachable, needfrag, PMTU $mtu) -> [1] output;
}

port0 :: Port(eth0, $ip0, $mac0, 1500, $ip0/32);
port1 :: Port(eth1, $ip1, $mac1, 1500, $publicnet);
routes :: RadixIPLookup($ip0/32 0, $ip1/32 0, $publicnet 0, $net0 1, $net1 2, 0.0.0.0/0 $gateway 2);

flows :: IPRewriter(pattern $public 1024-65535 - - 0 0, drop, MAPPING_CAPACITY 8192, TCP_TIMEOUT 7440, TCP_NODATA_TIMEOUT 4min, UDP_TIMEOUT 5min);
pings :: ICMPPingRewriter(pattern $public 1-65535 - - 0 0, drop, TIMEOUT 60, MAPPING_CAPACITY 2048);
flows -> routes; pings -> routes;

// Customers: themselves to this host, to others translated. What is not theirs to send from is dropped.
port0 -> IPFilter(allow src net $net0) -> from0 :: IPClassifier(dst host $ip0, icmp, tcp or udp);
from0 [0] -> CheckICMPHeader -> ICMPPingResponder -> routes;
from0 [1] -> pings;
from0 [2] -> flows;
// From outside: to the public addresses only.
port1 -> from1 :: IPClassifier(dst net $publicnet and icmp, dst net $publicnet, dst host $ip1);
from1 [0] -> [1] pings;
from1 [1] -> [1] flows;
from1 [2] -> CheckICMPHeader -> ICMPPingResponder -> routes;

routes [0] -> Discard;
routes [1] -> port0;
routes [2] -> port1;
port0 [1] -> routes; port1 [1] -> routes;
