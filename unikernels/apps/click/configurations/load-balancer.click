// A load balancer: connections to one address on eth0 go to servers on eth1; a client stays with its server. The servers' way back leads through here.
define($ip0 10.0.0.254, $net0 10.0.0.0/24, $mac0 02:00:00:00:00:01, $ip1 10.0.1.254, $net1 10.0.1.0/24, $mac1 02:00:00:00:00:02, $gateway 10.0.0.1, $service 10.0.0.200)

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

port0 :: Port(eth0, $ip0, $mac0, 1500, $service/32);
port1 :: Port(eth1, $ip1, $mac1, 1500, $ip1/32);
routes :: RadixIPLookup($ip0/32 0, $ip1/32 0, $service/32 0, $net0 1, $net1 2, 0.0.0.0/0 $gateway 1);

// A server that goes takes only its own clients with it. RoundRobinIPMapper, without numbers, takes one after the other.
servers :: SourceIPHashMapper(3 1, - - 10.0.1.1 - 0 0 1, - - 10.0.1.2 - 0 0 2, - - 10.0.1.3 - 0 0 3);
flows :: IPRewriter(servers, drop, MAPPING_CAPACITY 16384, TCP_TIMEOUT 1h, UDP_TIMEOUT 60);
flows -> routes;

port0 -> from0 :: IPClassifier(dst host $service and (tcp or udp), (dst host $service or dst host $ip0) and icmp type echo);
from0 [0] -> flows;
from0 [1] -> CheckICMPHeader -> ICMPPingResponder -> routes;
port1 -> from1 :: IPClassifier(src net $net1 and (tcp or udp), dst host $ip1 and icmp type echo);
from1 [0] -> [1] flows;
from1 [1] -> CheckICMPHeader -> ICMPPingResponder -> routes;

routes [0] -> Discard;
routes [1] -> port0;
routes [2] -> port1;
port0 [1] -> routes; port1 [1] -> routes;
