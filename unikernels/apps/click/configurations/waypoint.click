// A translator in front of a server elsewhere: clients come to the guest's own address on eth0, and the server sees them from its address on eth1. The server has
// eth0's address too, on its loopback, and what comes from eth1's for it is routed to the server. $IP0, $MAC0, $GW0 and so on are the guest's own, so that
// a copy of the guest at another place is right at once. What it does not know it drops.
define($service 1-65535)

elementclass Port { $device, $ip, $mac |
  FromDevice($device) -> HostEtherFilter($mac) -> kinds :: Classifier(12/0806 20/0001, 12/0806 20/0002, 12/0800, -);
  queue :: Queue(512) -> ToDevice($device);
  kinds[0] -> ARPResponder($ip $mac) -> queue;
  kinds[1] -> [1] arp :: ARPQuerier($ip, $mac) -> queue;
  kinds[2] -> Strip(14) -> CheckIPHeader -> output;
  kinds[3] -> Discard;
  input -> DropBroadcasts -> DecIPTTL -> arp;
}

outside :: Port(eth0, $IP0, $MAC0);
inside :: Port(eth1, $IP1, $MAC1);
flows :: IPRewriter(pattern $IP1 1024-65535 - - 0 1, drop, TCP_TIMEOUT 7440, TCP_NODATA_TIMEOUT 4min);

outside -> IPFilter(allow dst host $IP0 and tcp and dst port $service) -> in :: Counter -> [0] flows;
inside -> IPFilter(allow dst host $IP1 and tcp) -> out :: Counter -> [1] flows;
flows [0] -> RadixIPLookup(0.0.0.0/0 $GW1 0) -> inside;
flows [1] -> RadixIPLookup($NET0 0, 0.0.0.0/0 $GW0 0) -> outside;
