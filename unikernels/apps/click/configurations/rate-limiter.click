// A wire between eth0 (customers) and eth1 in which each customer has a rate of its own, both ways. Frames keep their Ethernet header; what is not IPv4 passes.
define($rate 10Mbps, $others 1Mbps)

elementclass Customer { $limit | input -> Queue(64) -> BandwidthShaper($limit) -> Unqueue -> output }
// Sorted by the customer's address: the source on the way up, the destination on the way down. A line a customer, and one for all others together.
elementclass Direction { $from, $to, $where |
  FromDevice($from) -> kinds :: Classifier(12/0800, -);
  out :: Queue(512) -> ToDevice($to);
  kinds [1] -> out;
  kinds [0] -> MarkIPHeader(14) -> GetIPAddress(IP $where) -> customers :: RadixIPLookup(10.0.0.1/32 0, 10.0.0.2/32 1, 10.0.0.16/28 2, 0.0.0.0/0 3);
  customers [0] -> Customer($rate) -> out;
  customers [1] -> Customer($rate) -> out;
  customers [2] -> Customer($rate) -> out;
  customers [3] -> Customer($others) -> out;
}
up :: Direction(eth0, eth1, src);
down :: Direction(eth1, eth0, dst);
