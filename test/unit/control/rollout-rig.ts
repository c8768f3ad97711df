/** Rollouts over hosts in memory: pushes, images that are bad, and a store that dies at the n-th step. */
import type { Probes } from '../../../src/control/gates.ts';
import type { Change, StateStore } from '../../../src/control/port.ts';
import { Rollouts } from '../../../src/control/rollouts.ts';
import { readSpec } from '../../../src/control/schema.ts';
import { Services } from '../../../src/control/services.ts';
import { MemoryStore } from '../../../src/control/store.ts';
import { Tasks } from '../../../src/control/tasks.ts';
import type { FakeOptions } from '../../../src/control/links/fake.ts';
import type { Desired } from '../../../src/model/desired.ts';
import type { Digest } from '../../../src/model/ids.ts';
import type { RolloutEntry, RolloutPolicy } from '../../../src/model/rollout.ts';
import { makeFleet, type FleetRig } from './rig.ts';

export const imageOf = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;

export const policy = (more: Partial<RolloutPolicy> = {}): RolloutPolicy => ({
  mode: 'waves',
  canary: 1,
  waves: [50, 100],
  observeMs: 60,
  budget: 4,
  gates: [
    { kind: 'ready', withinMs: 4000 },
    { kind: 'http', port: 80, path: '/', status: 200, timesInRow: 2, timeoutMs: 200 },
  ],
  failuresAllowed: 0,
  onFailure: 'rollback',
  replace: { address: 'new', drainMs: 50 },
  ...more,
});

/** A push of release `counter` with the image named by one hex letter. */
export function push(counter: number, letter: string, spec: object = {}, rollout = policy(), expires = '2099-01-01T00:00:00Z'): Desired {
  const image = imageOf(letter);
  const read = readSpec({ tenant: 't', name: 's', image, memoryKib: 4096, count: 6, restart: { firstMs: 20, maxMs: 100 }, ...spec });
  if (read.spec === undefined) throw new Error(JSON.stringify(read.reasons));
  const manifest = {
    name: 'app',
    version: String(counter),
    digest: image,
    sizeBytes: 1,
    source: { commit: String(counter).repeat(40).slice(0, 40), digest: image, dirty: false },
    compiler: 'cc',
    recipe: 'make',
  };
  return {
    commit: String(counter).padStart(40, '0'),
    services: [
      {
        spec: read.spec,
        release: { format: 'shoal-release-1', tenant: 't', service: read.spec.name, counter, image: manifest, created: '2026-01-01T00:00:00Z', expires },
        rollout,
      },
    ],
  };
}

/** Dies at the n-th write that is about a rollout, or, asked to, about a copy: that write is the last that is kept, or the first that is not. */
export class MortalStore implements StateStore {
  readonly #store = new MemoryStore();
  /** Of those that count. */
  writes = 0;
  copiesCount = false;
  dieAt = Infinity;
  keepsLast = true;
  dead = false;
  onDeath: () => void = () => {};

  get entries(): ReadonlyMap<string, unknown> {
    return this.#store.entries;
  }

  write(changes: readonly Change[]): Promise<void> {
    if (this.dead) return new Promise(() => {});
    const counts = changes.some(({ key }) => key.startsWith('rollout/') || (this.copiesCount && key.startsWith('copy/')));
    if (!counts || ++this.writes < this.dieAt) return this.#store.write(changes);
    if (this.keepsLast) void this.#store.write(changes);
    this.dead = true;
    this.onDeath();
    return new Promise(() => {});
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export interface RolloutRig extends FleetRig {
  rollouts: Rollouts;
  services: Services;
  /** Images whose copies answer 500. */
  bad: Set<string>;
  /** Images whose copies do not answer at all. */
  mute: Set<string>;
  entries: RolloutEntry[];
  audited: string[];
  commands: { name: string; input: string }[];
  /** What a command gate answers. */
  commandSays: (name: string, input: string) => string | undefined;
  /** Added to the clock that nobody sets. */
  skippedMs: number;
  phase(key?: string): string;
  /** Digest letters of what runs, sorted: "aab". */
  images(): string;
  /** The most VMs that were ever at once on this image. */
  most(letter: string): number;
}

export async function makeRollouts(names: string[], options: FakeOptions & { graceMs?: number; store?: StateStore } = {}): Promise<RolloutRig> {
  const fleetRig = await makeFleet(names, options);
  const rig = fleetRig as RolloutRig;
  Object.assign(rig, { bad: new Set(), mute: new Set(), entries: [], audited: [], commands: [], skippedMs: 0, commandSays: () => undefined });
  const letterOf = (image: string): string => image.slice(7, 8);
  const imageAt = (address: string): string | undefined => {
    for (const host of rig.hosts.values())
      for (const vm of host.vms.values())
        if (vm.state === 'running' && vm.addresses.some(({ ip }) => ip === address)) return letterOf(vm.image);
    return undefined;
  };
  const probes: Probes = {
    icmp: async (address) => {
      const letter = imageAt(address);
      return letter !== undefined && !rig.mute.has(letter);
    },
    http: async (address) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const letter = imageAt(address);
      return letter === undefined || rig.mute.has(letter) ? undefined : rig.bad.has(letter) ? 500 : 200;
    },
    udp: async (address) => imageAt(address) !== undefined,
    command: async (name, input) => {
      rig.commands.push({ name, input });
      return rig.commandSays(name, input);
    },
  };
  const most = new Map<string, number>();
  rig.most = (letter) => most.get(letter) ?? 0;
  rig.images = () =>
    [...rig.hosts.values()].flatMap((host) => [...host.vms.values()].map(({ image }) => letterOf(image))).sort().join('');
  const watch = setInterval(() => {
    const now = new Map<string, number>();
    for (const letter of rig.images()) now.set(letter, (now.get(letter) ?? 0) + 1);
    for (const [letter, count] of now) most.set(letter, Math.max(most.get(letter) ?? 0, count));
  }, 1);
  const begin = (): void => {
    rig.services = new Services(rig.fleet, new Tasks(rig.fleet.changes, Date.now));
    rig.rollouts = new Rollouts({
      fleet: rig.fleet,
      services: rig.services,
      probes,
      audit: { append: async (line) => void rig.audited.push(`${line.path} ${line.code}`) },
      record: async (_tenant, _name, entry) => void rig.entries.push(entry),
      monotonic: () => performance.now() + rig.skippedMs,
      tickMs: 10,
    });
    rig.rollouts.open();
  };
  begin();
  const { crash, close } = fleetRig;
  rig.crash = async () => {
    rig.rollouts.close();
    await crash();
    begin();
  };
  rig.close = async () => {
    clearInterval(watch);
    rig.rollouts.close();
    await close();
  };
  rig.phase = (key = 't/s') => rig.fleet.state.get('rollout', key)?.phase ?? 'none';
  return rig;
}
