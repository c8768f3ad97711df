// A transparent tap: a wire between eth0 and eth1, of which eth2 gets a copy of what the pattern wants.

elementclass Tapped { $from, $to |
  FromDevice($from) -> both :: Tee -> Queue(512) -> ToDevice($to);
  both [1] -> kinds :: Classifier(12/0800, -);
  kinds [0] -> MarkIPHeader(14) -> output;
  kinds [1] -> Discard;
}
copies :: IPFilter(allow tcp port 80 or icmp, drop all) -> seen :: Counter -> Queue(512) -> ToDevice(eth2);
there :: Tapped(eth0, eth1) -> copies;
back :: Tapped(eth1, eth0) -> copies;
