/** One event over a fleet and caches in memory, on a clock of its own: what is asked of the controller, and what goes on when it gives no answer. */
import test from 'tape';
import type { CacheFleet, FleetService, FleetVm } from '../../../src/cache/event/fleet-port.ts';
import { newRecord } from '../../../src/cache/event/records.ts';
import { Running, type RunningOptions } from '../../../src/cache/event/running.ts';
import { readEvent } from '../../../src/cache/event/spec.ts';
import { readMetrics } from '../../../src/cache/route/openmetrics.ts';
import { usualScale } from '../../../src/cache/route/scale.ts';
import { ShoalError } from '../../../src/model/errors.ts';

interface Spec {
  name: string;
  count: number;
  args: string;
}

class Fleet implements CacheFleet {
  readonly specs = new Map<string, Spec>();
  readonly machines = new Map<string, FleetVm>();
  readonly applied: string[] = [];
  trouble: 'none' | 'refuses' | 'hangs' = 'none';
  #serial = 0;

  async #reach(): Promise<void> {
    if (this.trouble === 'hangs') await new Promise(() => {});
    if (this.trouble === 'refuses') throw new ShoalError('CONNECTION_FAILED', 'away');
  }
  make(service: string, slot: number): FleetVm {
    const n = ++this.#serial;
    const vm = { id: `${service}.${n}`, service, slot, state: 'running', address: `10.0.0.${n}`, hostAway: false };
    this.machines.set(vm.id, vm);
    return vm;
  }
  async apply(services: readonly Record<string, unknown>[]): Promise<void> {
    await this.#reach();
    for (const spec of services as unknown as Spec[]) {
      this.applied.push(`${spec.name}=${spec.count}`);
      this.specs.set(spec.name, spec);
      const own = [...this.machines.values()].filter((vm) => vm.service === spec.name);
      for (const vm of own) if (vm.slot >= spec.count) this.machines.delete(vm.id);
      for (let slot = 0; slot < spec.count; slot++) if (!own.some((vm) => vm.slot === slot)) this.make(spec.name, slot);
    }
  }
  async scale(): Promise<void> {}
  async remove(_tenant: string, name: string): Promise<void> {
    await this.#reach();
    this.specs.delete(name);
    for (const vm of this.machines.values()) if (vm.service === name) this.machines.delete(vm.id);
  }
  async services(tenant: string): Promise<FleetService[]> {
    await this.#reach();
    return [...this.specs.values()].map(({ name, count, args }) => ({ id: `${tenant}/${name}`, count, args, deleting: false }));
  }
  async vms(_tenant: string, service: string): Promise<FleetVm[]> {
    await this.#reach();
    return [...this.machines.values()].filter((vm) => vm.service === service);
  }
  async whoami(): Promise<never> {
    throw new Error('not asked here');
  }
  close(): void {}
}

function makeRunning(more: object = {}, fleet = new Fleet()) {
  let clock = 1_000_000;
  /** Addresses that do not answer, and connections of those that do. */
  const silent = new Set<string>();
  const connections = new Map<string, number>();
  const log: string[] = [];
  const spec = readEvent({ tenant: 'acme', name: 'e', origin: 'http://192.0.2.1:8080', until: new Date(clock + 3_600_000).toISOString(), min: 2, max: 6, ...more }, clock);
  const options = {
    fleet,
    scraper: {
      read: async (url: string) => {
        const address = new URL(url).hostname;
        if (silent.has(address)) throw new Error('late');
        return readMetrics(`minicache_connections ${1 + (connections.get(address) ?? 0)}\nminicache_requests_total 1\n`);
      },
      close: () => {},
    },
    image: 'minicache',
    capacity: { bps: 1e9, requestsPerS: 1000, connections: 100 },
    scale: usualScale,
    ports: { viewers: 80, admin: 8081 },
    endpoint: ({ address }: { address: string }) => ({ url: `http://${address}`, metricsUrl: `http://${address}:8081/metrics` }),
    now: () => clock,
    log: (line: string) => void log.push(line),
  };
  const running = new Running(newRecord(spec, clock), options);
  /** Rounds as the router makes them, so many milliseconds. */
  const pass = async (ms: number): Promise<void> => {
    for (let i = 0; i < ms; i += 100) {
      clock += 100;
      void running.tick();
      for (let n = 0; n < 20; n++) await new Promise((done) => setImmediate(done));
    }
  };
  return { running, fleet, silent, connections, log, pass, options, at: () => clock };
}

test('the tiers are made, edges know their shield, and follow it when it is replaced', async (t) => {
  const { running, fleet, pass } = makeRunning();
  await pass(1000);
  t.deepEqual([...fleet.specs.values()].map(({ name, count }) => [name, count]), [['ev-e-s', 1], ['ev-e-e0', 2]]);
  const shield = [...fleet.machines.values()].find((vm) => vm.service === 'ev-e-s')!;
  t.ok(fleet.specs.get('ev-e-s')!.args.startsWith('origin=192.0.2.1:8080 originhost=192.0.2.1:8080 '));
  t.ok(fleet.specs.get('ev-e-e0')!.args.startsWith(`origin=${shield.address}:80 originhost=192.0.2.1:8080 `));
  t.equal(running.route('/x', '').length, 2, 'two edges serve');
  const asked = fleet.applied.length;
  await pass(3000);
  t.equal(fleet.applied.length, asked, 'nothing more is asked for while nothing differs');
  fleet.machines.delete(shield.id);
  const next = fleet.make('ev-e-s', 0);
  await pass(1500);
  t.ok(fleet.specs.get('ev-e-e0')!.args.includes(`origin=${next.address}:80`), 'the new shield');
  await pass(500);
});

test('a cache is told no more connections than its memory is enough for', async (t) => {
  for (const [memoryKib, connections] of [[16_384, 100], [5_120, 100], [4_096, 80]] as const) {
    const { fleet, pass } = makeRunning({ memoryKib, min: 1, max: 1, shield: false });
    await pass(1000);
    const args = [...fleet.specs.values()].map((spec) => /connections=(\d+)/.exec(spec.args)?.[1]);
    t.deepEqual(args, [String(connections)], `${memoryKib} KiB`);
  }
});

test('a name that leads to an address that may be no origin boots nothing', async (t) => {
  const { running, fleet, pass, options } = makeRunning({ origin: 'http://localhost:8080' });
  (options as RunningOptions).isDenied = (address) => address.startsWith('127.');
  const refused = await running.begin().then(() => undefined, (error: unknown) => error as ShoalError);
  t.equal(refused?.code, 'FORBIDDEN', refused?.message);
  await pass(1000);
  t.equal(fleet.applied.length, 0);
});

test('a controller that hangs: dead caches are still seen, viewers still sent elsewhere, and the end comes when it is back', async (t) => {
  const { running, fleet, silent, pass } = makeRunning();
  await pass(1000);
  fleet.trouble = 'hangs';
  await pass(1000);
  const [first, second] = running.route('/x', '');
  silent.add(first!.address);
  await pass(600);
  t.deepEqual(running.route('/x', '').map((c) => c.id), [second!.id], 'only the one that answers');
  silent.clear();
  await pass(600);
  t.equal(running.route('/x', '').length, 2, 'and both when both do');
  const fresh = makeRunning({}, new Fleet());
  await fresh.pass(1000);
  fresh.fleet.trouble = 'refuses';
  await fresh.pass(3000);
  t.equal(fresh.running.trouble?.code, 'CONNECTION_FAILED', 'it says what is the matter');
  fresh.running.record.state = 'ending';
  await fresh.pass(3000);
  t.notOk(fresh.running.gone, 'what could not be looked at is not said to be gone');
  t.deepEqual(fresh.running.route('/x', ''), [], 'but takes no viewers');
  fresh.fleet.trouble = 'none';
  await fresh.pass(4000);
  t.ok(fresh.running.gone && fresh.fleet.machines.size === 0, 'and then it is');
});

test('it grows with what its caches carry, keeps them over a restart, and drains before it shrinks', async (t) => {
  const rig = makeRunning();
  await rig.pass(1000);
  const load = (n: number): void => rig.fleet.machines.forEach((vm) => vm.address !== undefined && vm.service !== 'ev-e-s' && rig.connections.set(vm.address, n));
  load(90);
  await rig.pass(2000);
  t.ok(rig.fleet.specs.get('ev-e-e0')!.count >= 3, `${rig.fleet.specs.get('ev-e-e0')!.count} of two`);
  load(55);
  await rig.pass(3000);
  const { count } = rig.fleet.specs.get('ev-e-e0')!;
  const again = new Running(rig.running.record, rig.options);
  void again.tick();
  for (let n = 0; n < 50; n++) await new Promise((done) => setImmediate(done));
  t.equal(rig.fleet.specs.get('ev-e-e0')!.count, count, 'a new life begins with as many as there are');
  load(5);
  await rig.pass(usualScale.holdMs + 3000);
  t.ok(rig.running.views().some((c) => c.state === 'draining') || rig.fleet.specs.get('ev-e-e0')!.count < count, 'one drains');
  t.ok(rig.running.route('/x', '').every((c) => c.state === 'serving'), 'and gets nobody');
  await rig.pass(4 * (usualScale.holdMs + usualScale.drainMs));
  t.equal(rig.fleet.specs.get('ev-e-e0')!.count, 2, 'down to its min');
});
