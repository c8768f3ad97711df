// A router between two networks. The first line is yours to change: addresses, the devices' own Ethernet addresses, and where all else goes.
define($ip0 10.0.0.254, $net0 10.0.0.0/24, $mac0 02:00:00:00:00:01, $ip1 10.0.1.254, $net1 10.0.1.0/24, $mac1 02:00:00:00:00:02, $gateway 10.0.1.1)

// A device: frames in, IP packets out of output 0; packets that leave come in; errors about them out of output 1.
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

port0 -> routes; port0 [1] -> routes; port1 -> routes; port1 [1] -> routes;
routes [0] -> CheckICMPHeader -> ICMPPingResponder -> routes;
routes [1] -> port0;
routes [2] -> port1;
