/** A fleet over hosts in memory; `crash` drops the controller as a kill would and opens the next one over the same state and hosts. */
import { Fleet } from '../../../src/control/fleet.ts';
import { FakeHost, type FakeOptions } from '../../../src/control/links/fake.ts';
import type { StateStore } from '../../../src/control/port.ts';
import { readSpec } from '../../../src/control/schema.ts';
import { State, type HostRecord } from '../../../src/control/state.ts';
import { MemoryStore } from '../../../src/control/store.ts';

export const digest = `sha256:${'ab'.repeat(32)}`;
export const recordOf = (name: string, more: Partial<HostRecord> = {}): HostRecord => ({
  name,
  url: `https://${name}`,
  credential: name,
  labels: {},
  drained: false,
  dead: false,
  maxVifs: 5000,
  ...more,
});

export interface FleetRig {
  fleet: Fleet;
  hosts: Map<string, FakeHost>;
  log: string[];
  apply(spec: object): string;
  forget(key: string): void;
  crash(): Promise<void>;
  close(): Promise<void>;
  /** All VMs on all hosts, whether anybody reaches them or not. */
  vms(): { host: string; name: string; state: string; ip: string | undefined }[];
  ready(key: string): number;
}

export async function makeFleet(
  names: string[],
  options: FakeOptions & { graceMs?: number; store?: StateStore } = {},
): Promise<FleetRig> {
  const store = options.store ?? new MemoryStore();
  const hosts = new Map(names.map((name) => [name, new FakeHost(name, options)]));
  const log: string[] = [];
  const open = async (): Promise<Fleet> => {
    const state = await State.open(store);
    for (const name of names)
      if (state.get('host', name) === undefined) await state.write([state.set('host', name, recordOf(name))]);
    const fleet = new Fleet({
      state,
      graceMs: options.graceMs ?? 200,
      link: ({ name }) => hosts.get(name)!.link(),
      log: (line) => log.push(line),
    });
    fleet.open();
    return fleet;
  };
  const rig: FleetRig = {
    fleet: await open(),
    hosts,
    log,
    apply: (given) => {
      const { spec, reasons } = readSpec({
        tenant: 't',
        name: 's',
        image: digest,
        memoryKib: 4096,
        count: 1,
        restart: { firstMs: 20, maxMs: 100 },
        ...given,
      });
      if (spec === undefined) throw new Error(JSON.stringify(reasons));
      const key = `${spec.tenant}/${spec.name}`;
      const { state } = rig.fleet;
      void state.write([state.set('service', key, { spec, nonce: 0, createdMs: 0, changedMs: 0, deleting: false })]);
      rig.fleet.forgive(key);
      rig.fleet.poke(key);
      return key;
    },
    forget: (key) => {
      const { state } = rig.fleet;
      void state.write([state.set('service', key, { ...state.get('service', key)!, deleting: true })]);
      rig.fleet.poke(key);
    },
    crash: async () => {
      await rig.fleet.close();
      rig.fleet = await open();
    },
    close: () => rig.fleet.close(),
    vms: () =>
      [...hosts].flatMap(([host, fake]) =>
        [...fake.vms.values()].map(({ name, state, addresses }) => ({ host, name, state, ip: addresses[0]?.ip })),
      ),
    ready: (key) => rig.fleet.counts.get(key)?.ready ?? 0,
  };
  return rig;
}

/** Addresses that more than one VM has, on whatever hosts. */
export function doubles(rig: FleetRig): string[] {
  const seen = new Set<string>();
  return rig.vms().flatMap(({ ip }) => {
    if (ip === undefined) return [];
    if (seen.has(ip)) return [ip];
    seen.add(ip);
    return [];
  });
}
