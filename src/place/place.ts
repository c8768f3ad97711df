/**
 * Which host takes which copy: a pure function of what is to be placed and of what the hosts have, which gives the same answer to
 * the same question every time. Each copy looks at each host once, and what it takes is taken off before the next one looks, so
 * 10,000 copies on 50 hosts are half a million comparisons.
 */
import type { Host, HostName } from '../model/fleet.ts';
import type { ServiceSpec } from '../model/service.ts';

/** Memory Xen takes for a domain beside its own, with room to spare. */
export const overheadKib = 512;
/** Left free on each host. */
const reserveKib = 16 * 1024;

export interface Request {
  /** Of the service. */
  key: string;
  spec: ServiceSpec;
  slot: number;
  /** Taken only when no other will do. */
  avoid: HostName | undefined;
  /** Where the copy runs that this one is to replace; not counted as a second copy. */
  replacesOn: HostName | undefined;
  /** There or nowhere. */
  on?: HostName | undefined;
}

export interface Inventory {
  hosts: readonly Host[];
  /** Copies of a service on a host. */
  copies: (key: string, host: HostName) => number;
}

export type Placement = { request: Request; host: HostName } | { request: Request; host: undefined; why: string };

interface Room {
  host: Host;
  freeKib: number;
  totalKib: number;
  vifs: number;
  vms: number;
}

/** Requests are placed in the order they are given. */
export function place(requests: readonly Request[], { hosts, copies }: Inventory): Placement[] {
  const rooms = hosts
    .filter((host) => host.state === 'up' && !host.drained && !host.dead)
    .map((host): Room => ({
      host,
      freeKib: host.freeKib - host.promisedKib - reserveKib,
      totalKib: Math.max(1, host.totalKib),
      vifs: host.maxVifs - host.vifs,
      vms: host.vms,
    }))
    .sort((a, b) => (a.host.name < b.host.name ? -1 : 1));
  /** Copies of the service under way, by room; counted once a service. */
  const counted = new Map<string, number[]>();
  return requests.map((request): Placement => {
    const { spec, key } = request;
    let counts = counted.get(key);
    if (counts === undefined) counted.set(key, (counts = rooms.map(({ host }) => copies(key, host.name))));
    const needKib = spec.memoryKib + overheadKib;
    const needVifs = spec.networks.length;
    let best = -1;
    let bestScore: readonly number[] = [];
    for (let i = 0; i < rooms.length; i++) {
      const room = rooms[i]!;
      if (request.on !== undefined && request.on !== room.host.name) continue;
      if (room.freeKib < needKib || room.vifs < needVifs || !fits(room.host, spec)) continue;
      const others = counts[i]! - (request.replacesOn === room.host.name ? 1 : 0);
      if (spec.placement.required && others > 0) continue;
      const score = scoreOf(room, spec, others, request.avoid === room.host.name);
      if (best < 0 || less(score, bestScore)) [best, bestScore] = [i, score];
    }
    if (best < 0) return { request, host: undefined, why: whyNot(request, hosts, rooms, counts) };
    const room = rooms[best]!;
    room.freeKib -= needKib;
    room.vifs -= needVifs;
    room.vms++;
    counts[best]!++;
    return { request, host: room.host.name };
  });
}

/** Whether the host is of the kind that is asked for, room apart. */
export function fits(host: Host, spec: ServiceSpec): boolean {
  for (const label in spec.placement.labels) if (host.labels[label] !== spec.placement.labels[label]) return false;
  for (const { name } of spec.networks) if (!host.networks.includes(name)) return false;
  return true;
}

/** Least first. Hosts are compared in the order of their names, so an equal one that comes later does not win. */
function scoreOf(room: Room, spec: ServiceSpec, others: number, avoided: boolean): readonly number[] {
  // Sixteenths: memory that differs by little is no reason to prefer a host that is busier.
  const used = Math.round(16 * (1 - room.freeKib / room.totalKib));
  const busy = Math.round(4 * room.host.load);
  return spec.placement.strategy === 'pack'
    ? [avoided ? 1 : 0, -used, -room.vms, busy]
    : [avoided ? 1 : 0, others, busy, used, room.vms];
}

function less(a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return false;
}

/** For a person: what is in the way, host by host in sum. */
function whyNot(
  { spec, replacesOn }: Request,
  hosts: readonly Host[],
  rooms: readonly Room[],
  counts: readonly number[],
): string {
  if (hosts.length === 0) return 'the fleet has no hosts';
  if (rooms.length === 0) return `none of ${hosts.length} hosts takes new VMs: they are away, drained or dead`;
  const kind = rooms.map(({ host }, i) => ({ host, i })).filter(({ host }) => fits(host, spec));
  if (kind.length === 0) return 'no host that is up has the labels and networks asked for';
  const without = kind.filter(({ host, i }) => !spec.placement.required || counts[i]! - (replacesOn === host.name ? 1 : 0) <= 0);
  if (without.length === 0) return `each of ${kind.length} hosts has a copy already, and no second one is allowed`;
  const withMemory = without.filter(({ i }) => rooms[i]!.freeKib >= spec.memoryKib + overheadKib);
  if (withMemory.length === 0) return `none of ${without.length} hosts has ${spec.memoryKib + overheadKib} KiB free`;
  return `none of ${withMemory.length} hosts has room for ${spec.networks.length} more vifs`;
}
