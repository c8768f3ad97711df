// An IPv6 router and filter between two links whose next hops are known: there is no neighbour discovery, so both sides have it written down
// (ip -6 neigh add). From eth1 come only answers to TCP, UDP from port 53, and pings.
define($mac0 02:00:00:00:00:01, $hop0 02:00:00:00:10:01, $mac1 02:00:00:00:00:02, $hop1 02:00:00:00:10:02, $net0 2001:db8:0::/64, $net1 2001:db8:1::/64)

elementclass Port6 { $device, $mac, $hop |
  FromDevice($device) -> HostEtherFilter($mac) -> kinds :: Classifier(12/86dd, -);
  kinds [0] -> Strip(14) -> CheckIP6Header -> output;
  kinds [1] -> Discard;
  input -> DecIP6HLIM -> EtherEncap(0x86dd, $mac, $hop) -> Queue(512) -> ToDevice($device);
}
port0 :: Port6(eth0, $mac0, $hop0);
port1 :: Port6(eth1, $mac1, $hop1);
routes :: LookupIP6Route($net0 0, $net1 1);

port0 -> IP6Filter(allow src net $net0) -> routes;
port1 -> IP6Filter(drop src net $net0, allow tcp opt ack, allow udp src port 53, allow icmp type echo or icmp type echo-reply, drop all) -> routes;
routes [0] -> port0;
routes [1] -> port1;
