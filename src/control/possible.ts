/** Whether the fleet could ever do what a spec asks for, and whether its tenant may ask for it: all that is in the way, at once. */
import type { Fleet } from './fleet.ts';
import { rangeOf } from './choose.ts';
import { parseIpv4 } from './links/records.ts';
import { addressesPerCopy, serviceKey, type Reason, type ServiceSpec } from '../model/service.ts';
import { fits, overheadKib } from '../place/place.ts';

/** `at` is put in front of the paths: the spec's place in what was sent. Hosts that were never reached are not judged. */
export function impossible(fleet: Fleet, spec: ServiceSpec, at = ''): Reason[] {
  const reasons: Reason[] = [];
  const say = (path: string, message: string, hint: string): void => void reasons.push({ path: at + path, message, hint });
  if (fleet.digestOf(spec.image) === undefined)
    say('image', `There is no release "${spec.image}".`, 'Give a digest, or make the release first.');
  const hosts = [...fleet.units.values()]
    .filter((unit) => unit.seen !== undefined && !unit.record.dead)
    .map((unit) => unit.view(fleet.copies.load(unit.record.name)));
  const own = serviceKey(spec.tenant, spec.name);
  spec.networks.forEach(({ name, addresses }, i) => {
    if (addresses.from === 'pool') {
      const pool = fleet.state.get('pool', addresses.pool);
      if (pool === undefined)
        say(
          `networks/${i}/addresses/pool`,
          `There is no pool "${addresses.pool}".`,
          'Make it first, or take the addresses "from": "host".',
        );
      else if (pool.network !== name)
        say(
          `networks/${i}/addresses/pool`,
          `The pool "${addresses.pool}" is for the network "${pool.network}".`,
          'Choose another pool.',
        );
      else if (parseIpv4(pool.last)! - parseIpv4(pool.first)! + 1 < spec.count)
        say(
          `networks/${i}/addresses/pool`,
          `The pool "${addresses.pool}" is smaller than the service.`,
          'Choose another pool, or ask for fewer copies.',
        );
    }
    if (addresses.from !== 'list') return;
    const ranges = [...fleet.units.values()]
      .flatMap((unit) => unit.seen?.networks ?? [])
      .filter((network) => network.name === name)
      .map(rangeOf);
    const others = new Map<string, string>();
    for (const [key, record] of fleet.state.all('service')) {
      if (key === own || record.deleting) continue;
      for (const network of record.spec.networks)
        if (network.name === name && network.addresses.from === 'list')
          for (const ip of network.addresses.list) others.set(ip, key);
    }
    addresses.list.forEach((ip, j) => {
      const other = others.get(ip);
      const address = parseIpv4(ip)!;
      // Whose it is may be another tenant's secret.
      if (other !== undefined)
        say(`networks/${i}/addresses/list/${j}`, `${ip} belongs to another service.`, 'Choose another address.');
      if (
        ranges.length > 0 &&
        !ranges.some(
          (range) => range === undefined || (address >= range.first && address <= range.last && range.except?.(address) !== true),
        )
      )
        say(
          `networks/${i}/addresses/list/${j}`,
          `${ip} is in no host's range of the network "${name}".`,
          'Choose another address.',
        );
    });
  });
  if (hosts.length === 0 || spec.count === 0) return reasons;
  const known = new Set(hosts.flatMap((host) => host.networks));
  spec.networks.forEach(({ name }, i) => {
    if (!known.has(name))
      say(`networks/${i}/name`, `No host has a network "${name}".`, `There are: ${[...known].sort().join(', ')}.`);
  });
  const labels = Object.entries(spec.placement.labels);
  for (const [label, value] of labels)
    if (!hosts.some((host) => host.labels[label] === value))
      say(`placement/labels/${label}`, `No host has the label ${label}=${value}.`, 'Label a host so, or ask for another.');
  const kind = hosts.filter((host) => fits(host, spec));
  if (kind.length === 0 && reasons.length === 0)
    say('placement', 'No host has all the labels and networks together.', 'Ask for less.');
  const largest = Math.max(0, ...kind.map((host) => host.totalKib));
  if (kind.length > 0 && largest < spec.memoryKib + overheadKib)
    say('memoryKib', `The largest host that could take it has ${largest} KiB in all.`, 'Ask for less memory.');
  if (spec.placement.required && kind.length > 0 && spec.count > kind.length)
    say(
      'count',
      `${spec.count} copies, no two on one host, need ${spec.count} hosts; ${kind.length} could take one.`,
      'Ask for fewer, or allow two on one host.',
    );
  return reasons;
}

/** `specs` are to take the place of services of the same name. */
export function pastQuota(fleet: Fleet, tenant: string, specs: readonly ServiceSpec[], at = ''): Reason[] {
  const quota = fleet.state.get('quota', tenant);
  if (quota === undefined) return [];
  const wanted = new Map<string, ServiceSpec>();
  for (const [key, record] of fleet.state.all('service'))
    if (record.spec.tenant === tenant && !record.deleting) wanted.set(key, record.spec);
  for (const spec of specs) if (spec.tenant === tenant) wanted.set(serviceKey(tenant, spec.name), spec);
  const sum = (of: (spec: ServiceSpec) => number): number =>
    [...wanted.values()].reduce((total, spec) => total + spec.count * of(spec), 0);
  const asked = { vms: sum(() => 1), memoryKib: sum((spec) => spec.memoryKib), addresses: sum(addressesPerCopy) };
  return (['vms', 'memoryKib', 'addresses'] as const).flatMap((what) => {
    const most = quota[what];
    if (most === undefined || asked[what] <= most) return [];
    return [
      {
        path: at,
        message: `${tenant} would have ${asked[what]} ${what}, its quota is ${most}.`,
        hint: 'Ask for less, or ask the operator for more.',
      },
    ];
  });
}
