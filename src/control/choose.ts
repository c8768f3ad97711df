/** The addresses of a copy that is about to be asked for: each held from here on, or none and a sentence why not. */
import type { SeenNetwork } from './port.ts';
import { formatIpv4, parseIpv4 } from './links/records.ts';
import type { PoolRecord } from './state.ts';
import type { ServiceSpec } from '../model/service.ts';
import type { FleetAddresses, Range } from '../place/addresses.ts';

export type Chosen = { vifs: { network: string; ip: string | undefined }[] } | { why: string };

/** What a host may give, gateway, network and broadcast addresses left out. */
export function rangeOf({ range }: SeenNetwork): Range | undefined {
  if (range === undefined) return undefined;
  const mask = 2 ** (32 - range.prefix) - 1;
  const except = (address: number): boolean => {
    const part = (address & mask) >>> 0;
    return address === range.gateway || part === 0 || part === mask;
  };
  return { first: range.first, last: range.last, except };
}

export function chooseAddresses(
  spec: ServiceSpec,
  slot: number,
  owner: string,
  networks: readonly SeenNetwork[],
  pool: (name: string) => PoolRecord | undefined,
  addresses: FleetAddresses,
  /** Any address of the host's range, whatever the spec says: the copy has it until it takes its own. */
  forNow = false,
): Chosen {
  const vifs: { network: string; ip: string | undefined }[] = [];
  const giveBack = (why: string): Chosen => {
    for (const { network, ip } of vifs) if (ip !== undefined) addresses.release(network, parseIpv4(ip)!, owner);
    return { why };
  };
  for (const { name, addresses: from } of spec.networks) {
    const network = networks.find((each) => each.name === name);
    if (network === undefined) return giveBack(`the host has no network "${name}"`);
    if (forNow && rangeOf(network) === undefined) return giveBack(`guests on the network "${name}" ask DHCP`);
    if (from.from === 'list' && !forNow) {
      const ip = from.list[slot];
      if (ip === undefined) return giveBack(`the list has no address for copy ${slot}`);
      const address = parseIpv4(ip)!;
      if (!addresses.isFree(name, address)) return giveBack(`${ip} is held by ${addresses.holders(name, address).join(', ')}`);
      addresses.hold(name, address, owner);
      vifs.push({ network: name, ip });
      continue;
    }
    let range = rangeOf(network);
    if (from.from === 'pool' && !forNow) {
      const record = pool(from.pool);
      if (record === undefined || record.network !== name)
        return giveBack(`there is no pool "${from.pool}" on network "${name}"`);
      const [first, last] = [parseIpv4(record.first)!, parseIpv4(record.last)!];
      range =
        range === undefined
          ? { first, last }
          : { ...range, first: Math.max(first, range.first), last: Math.min(last, range.last) };
    }
    // Guests that ask DHCP get theirs from elsewhere.
    if (range === undefined) {
      vifs.push({ network: name, ip: undefined });
      continue;
    }
    const address = range.first > range.last ? undefined : addresses.take(name, range, owner);
    if (address === undefined)
      return giveBack(
        `all addresses of ${from.from === 'pool' ? `pool "${from.pool}"` : `network "${name}"`} that the host may give are in use`,
      );
    vifs.push({ network: name, ip: formatIpv4(address) });
  }
  return { vifs };
}
