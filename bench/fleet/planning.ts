/** Planner and placer alone, in this process: what a fleet is to have from scratch, and after one host was lost. */
import type { Copy, Host, Step } from '../../src/model/fleet.ts';
import { newVmUuid } from '../../src/model/uuid.ts';
import { completed, serviceKey, type ServiceSpec } from '../../src/model/service.ts';
import { place, type Placement, type Request } from '../../src/place/place.ts';
import { planService } from '../../src/plan/plan.ts';

export interface PlanningSample {
  what: 'scratch' | 'lost';
  planMs: number;
  placeMs: number;
  /** Copies that were planned and found a place. */
  placed: number;
}

export interface PlanningSize {
  hosts: number;
  services: number;
  copies: number;
}

const graceMs = 60_000;
const nowMs = 1_000_000;
const revision = '0000000a';

function hostOf(index: number): Host {
  const totalKib = 64 * 1024 * 1024;
  return {
    name: `h${String(index).padStart(3, '0')}`,
    state: 'up',
    awaySinceMs: 0,
    drained: false,
    dead: false,
    labels: {},
    totalKib,
    freeKib: totalKib,
    promisedKib: 0,
    vifs: 0,
    maxVifs: 5000,
    vms: 0,
    load: 0,
    networks: ['default'],
  };
}

/** One run of both; throws nothing, for there is room. */
export function measurePlanning({ hosts: hostCount, services, copies }: PlanningSize): PlanningSample[] {
  const hosts = Array.from({ length: hostCount }, (_, i) => hostOf(i));
  const specs = Array.from({ length: services }, (_, i) =>
    completed({ tenant: 'bench', name: `s${i}`, image: `sha256:${'a'.repeat(64)}`, count: copies / services, memoryKib: 4096 }),
  );
  const running = new Map<string, Copy[]>();
  const countOn = new Map<string, number>();
  const once = (what: PlanningSample['what']): { sample: PlanningSample; placements: Placement[] } => {
    const byName = new Map(hosts.map((host) => [host.name, host]));
    const began = performance.now();
    const requests = specs.flatMap((spec) => requestsOf(spec, planOf(spec, running.get(keyOf(spec)) ?? [], byName)));
    const planned = performance.now();
    const placements = place(requests, { hosts, copies: (key, host) => countOn.get(`${key} ${host}`) ?? 0 });
    const placed = placements.filter(({ host }) => host !== undefined).length;
    return { placements, sample: { what, planMs: planned - began, placeMs: performance.now() - planned, placed } };
  };
  const scratch = once('scratch');
  scratch.placements.forEach(({ request, host }, serial) => {
    if (host === undefined) return;
    const mine = running.get(request.key) ?? [];
    running.set(request.key, mine);
    mine.push(copyOf(request, host, serial));
    countOn.set(`${request.key} ${host}`, (countOn.get(`${request.key} ${host}`) ?? 0) + 1);
    const on = hosts.find(({ name }) => name === host)!;
    Object.assign(on, { vms: on.vms + 1, vifs: on.vifs + 1, freeKib: on.freeKib - request.spec.memoryKib });
  });
  // Away for longer than its grace.
  Object.assign(hosts[Math.floor(hostCount / 2)]!, { state: 'away', awaySinceMs: nowMs - graceMs - 1 });
  return [scratch.sample, once('lost').sample];
}

const keyOf = ({ tenant, name }: ServiceSpec): string => serviceKey(tenant, name);

const planOf = (spec: ServiceSpec, copies: readonly Copy[], hosts: ReadonlyMap<string, Host>): Step[] =>
  planService({ spec, revision }, { copies, host: (name) => hosts.get(name), memory: () => undefined }, nowMs, { graceMs }).steps;

const requestsOf = (spec: ServiceSpec, steps: readonly Step[]): Request[] =>
  steps.flatMap((step) =>
    step.do === 'create' ? [{ key: keyOf(spec), spec, slot: step.slot, avoid: step.avoid, replacesOn: step.replaces?.host }] : [],
  );

const copyOf = ({ spec, slot }: Request, host: string, serial: number): Copy => ({
  id: { fleet: '00000001', tenant: spec.tenant, service: spec.name, slot, serial, revision },
  host,
  uuid: newVmUuid(),
  state: 'running',
  memoryKib: spec.memoryKib,
  addresses: [],
  sinceMs: 0,
  ready: true,
});
