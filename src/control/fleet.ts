/**
 * The fleet as one object: what is wanted and kept (State), what is there (Copies, HostUnits), what changed (Changes), and the loop
 * between them. The loop hears that something about a service changed, plans it anew, places what is to be made, and hands the
 * steps to `Doing`. It keeps no list of things to do: what was not done shows in the next plan.
 */
import { Changes } from './changes.ts';
import { Copies, keyOf, type Tracked } from './copies.ts';
import { createCopies, type Wish } from './creating.ts';
import { Doing } from './doing.ts';
import { HostUnit, type Bringer } from './host-unit.ts';
import type { HostLink } from './port.ts';
import type { HostRecord, State } from './state.ts';
import { Versions, type At } from './versions.ts';
import { hostView, serviceView, vmView } from './views.ts';
import type { HostName, SlotMemory, Step } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';
import type { Rollout } from '../rollout/state.ts';
import { afterFailure } from '../plan/backoff.ts';
import { planService, type Counts, type Progress, type Wanted } from '../plan/plan.ts';

export interface FleetOptions {
  state: State;
  link: (record: HostRecord) => HostLink;
  graceMs: number;
  now?: () => number;
  log?: (line: string) => void;
}

const restMs = 5;
const restMaxMs = 250;
/** What found no place is tried again after this time, if no news came before. */
const unplacedMs = 5000;
const refreshMs = 30_000;
/** A copy that found no room beside the one it replaces is replaced in other ways for so long. */
const besideAgainMs = 30_000;


export class Fleet {
  readonly state: State;
  readonly changes = new Changes();
  readonly copies: Copies;
  readonly units = new Map<HostName, HostUnit>();
  readonly counts = new Map<string, Counts>();
  /** How far each service is on the way that its rollout asks for. */
  readonly progress = new Map<string, Progress & { of: Rollout | undefined }>();
  /** Whether a copy on trial passed its gates. */
  hasPassed: (copy: Tracked) => boolean = () => true;
  /** A copy came to a bad end, for a reason that may be its release's. */
  onCopyFailed: (copy: Tracked, text: string) => void = () => {};
  /** Hosts that said that they move no addresses. */
  readonly cannotMove = new Set<HostName>();
  /** Service -> slot -> why it is not as it should be. */
  readonly notes = new Map<string, Map<number, string>>();
  readonly doing: Doing;
  readonly versions: Versions;
  readonly now: () => number;
  readonly log: (line: string) => void;
  /** For metrics. */
  readonly stats = { cycles: 0, planMs: 0, placeMs: 0, created: 0, destroyed: 0, failures: 0 };
  readonly #o: FleetOptions;
  readonly #memory = new Map<string, Map<number, SlotMemory>>();
  /** Copies of a service when it was told of last: those on their way out are in no other count. */
  readonly #totals = new Map<string, number>();
  readonly #dirty = new Set<string>();
  readonly #unplaced = new Set<string>();
  readonly #alarms = new Map<string, NodeJS.Timeout>();
  readonly #listeners = new Set<(key: string) => void>();
  #timer: NodeJS.Timeout | undefined;
  #refresh: NodeJS.Timeout | undefined;
  #busy = false;
  #lastMs = 0;
  #closed = false;

  constructor(options: FleetOptions) {
    this.#o = options;
    this.state = options.state;
    this.now = options.now ?? Date.now;
    this.log = options.log ?? (() => {});
    this.state.onTrouble = this.log;
    this.versions = new Versions(this.state);
    this.copies = new Copies({
      fleet: this.state.fleet,
      now: this.now,
      expected: (key, slot, revision) => {
        const at = this.versionAt(key, slot);
        return at?.revision === revision ? { image: at.image, args: at.spec.args } : undefined;
      },
      changed: (copy, before) => this.#changed(copy, before),
      gone: (copy, uuid) => this.#gone(copy, uuid),
      adopted: (record) => this.state.later([this.state.set('copy', String(record.id.serial), record)]),
      foreign: (vm, gone) => this.changes.tell('vm', vm.uuid, undefined, gone ? undefined : () => vmView(this, vm)),
      readyAtOnce: (key) => this.state.get('service', key)?.spec.health.kind === 'none',
    });
    this.doing = new Doing(this);
  }

  /** Takes in what was kept, and begins to look. */
  open(): void {
    for (const record of this.state.all('copy').values()) this.copies.add(record);
    for (const record of this.state.all('host').values()) this.addUnit(record);
    for (const key of this.keys()) this.poke(key);
    this.#refresh = setInterval(() => {
      for (const unit of this.units.values()) if (unit.up) void unit.refresh();
    }, refreshMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#refresh);
    for (const alarm of this.#alarms.values()) clearTimeout(alarm);
    this.doing.close();
    await Promise.all([...this.units.values()].map((unit) => unit.close()));
  }

  // What is wanted

  keys(): Set<string> {
    const keys = new Set(this.state.all('service').keys());
    for (const copy of this.copies.all()) keys.add(keyOf(copy.id));
    return keys;
  }

  digestOf(image: string): string | undefined {
    return this.versions.digestOf(image);
  }

  wanted(key: string): Wanted | undefined {
    return this.versions.wanted(key);
  }

  versionAt(key: string, slot: number): At | undefined {
    return this.versions.at(key, slot);
  }

  // Hosts

  /** Set by whoever can bring images to hosts. */
  bringer: Bringer | undefined;

  addUnit(record: HostRecord): HostUnit {
    const unit = new HostUnit(record, this.#o.link(record), this.now, {
      bringer: () => this.bringer,
      picture: (u, vms) => {
        this.cannotMove.delete(u.record.name);
        this.copies.picture(u.record.name, vms);
        this.doing.resumeOn(u);
        this.#pokeHost(u);
      },
      vm: (u, vm) => this.copies.see(u.record.name, vm),
      gone: (u, uuid) => this.copies.gone(u.record.name, uuid),
      changed: (u) => {
        this.tellHost(u);
        this.#pokeHost(u);
      },
    });
    this.units.set(record.name, unit);
    unit.open();
    this.tellHost(unit);
    return unit;
  }

  tellHost(unit: HostUnit): void {
    this.changes.tell('host', unit.record.name, undefined, () => hostView(this, unit));
  }

  #pokeHost(unit: HostUnit): void {
    for (const copy of this.copies.on(unit.record.name)) this.poke(keyOf(copy.id));
    this.pokeUnplaced();
  }

  pokeUnplaced(): void {
    for (const key of this.#unplaced) this.poke(key);
  }

  // News of copies

  #changed(copy: Tracked, before: Tracked['state'] | undefined): void {
    const key = keyOf(copy.id);
    if ((copy.state === 'halted' || copy.state === 'failed') && (before === 'running' || before === 'busy')) {
      this.failed(key, copy.id.slot, copy.runningSinceMs === 0 ? 0 : this.now() - copy.runningSinceMs, copy.host);
      const text = copy.state === 'failed' ? 'does not answer its health check' : 'died';
      this.note(key, copy.id.slot, text);
      if (copy.retired === undefined) this.onCopyFailed(copy, `${copy.name} on ${copy.host}: ${text}`);
    }
    this.tellVm(copy);
    this.poke(key);
  }

  #gone(copy: Tracked, uuid: Uuid | undefined): void {
    const key = keyOf(copy.id);
    if (
      copy.work !== 'destroy' &&
      copy.seen &&
      this.units.get(copy.host)?.record.dead === false &&
      this.wanted(key) !== undefined
    ) {
      this.failed(key, copy.id.slot, this.now() - copy.sinceMs, undefined);
      this.note(key, copy.id.slot, `${copy.name} vanished from ${copy.host}`);
    }
    if (uuid !== undefined) this.doing.recover(copy, uuid);
    this.state.later([this.state.set('copy', String(copy.record.id.serial), undefined)]);
    this.changes.tell('vm', copy.name, copy.id.tenant, undefined);
    this.poke(key);
    this.pokeUnplaced();
  }

  tellVm(copy: Tracked): void {
    this.changes.tell('vm', copy.name, copy.id.tenant, () => vmView(this, copy));
  }

  /** One more failure of a slot: it waits before it is tried again. */
  failed(key: string, slot: number, ranForMs: number, host: HostName | undefined): void {
    const service = this.state.get('service', key);
    if (service === undefined) return;
    this.stats.failures++;
    let slots = this.#memory.get(key);
    if (slots === undefined) this.#memory.set(key, (slots = new Map<number, SlotMemory>()));
    slots.set(slot, afterFailure(service.spec.restart, slots.get(slot), this.now(), ranForMs, host));
  }

  memoryOf(key: string, slot: number): SlotMemory | undefined {
    return this.#memory.get(key)?.get(slot);
  }

  /** What was remembered of failures counts no more: something about the service was changed on purpose. */
  forgive(key: string): void {
    this.#memory.delete(key);
  }

  note(key: string, slot: number, text: string): void {
    let notes = this.notes.get(key);
    if (notes === undefined) this.notes.set(key, (notes = new Map<number, string>()));
    if (notes.get(slot) === text) return;
    notes.set(slot, text);
    const tenant = key.split('/')[0];
    const at = new Date(this.now()).toISOString();
    this.changes.tell('note', `${key}/${slot}`, tenant, () => ({ service: key, slot, text, at }));
    this.log(`${key} ${slot}: ${text}`);
  }

  // The loop

  poke(key: string): void {
    this.#dirty.add(key);
    if (this.#timer !== undefined || this.#busy || this.#closed) return;
    // A plan of everything may take longer than news takes to come: then it rests twice as long as it worked.
    this.#timer = setTimeout(() => void this.#cycle(), Math.max(restMs, Math.min(restMaxMs, 2 * this.#lastMs)));
  }

  /** Called with the key of each service that was planned. */
  onPlanned(listener: (key: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #cycle(): Promise<void> {
    this.#timer = undefined;
    this.#busy = true;
    const began = performance.now();
    const keys = [...this.#dirty];
    this.#dirty.clear();
    const requests: Wish[] = [];
    for (const key of keys) {
      try {
        this.#plan(key, requests);
      } catch (error) {
        this.log(`${key}: could not be planned: ${(error as Error).stack ?? String(error)}`);
      }
    }
    const planned = performance.now();
    if (requests.length > 0)
      await createCopies(this, requests, (key, slot, why) => this.#unplacedNow(key, slot, why)).catch((error: unknown) =>
        this.log(`could not create: ${(error as Error).message}`),
      );
    this.#lastMs = performance.now() - began;
    this.stats.cycles++;
    this.stats.planMs = planned - began;
    for (const key of keys) for (const listener of this.#listeners) listener(key);
    this.#busy = false;
    const [again] = this.#dirty;
    if (again !== undefined) this.poke(again);
  }

  #plan(key: string, requests: Wish[]): void {
    clearTimeout(this.#alarms.get(key));
    this.#alarms.delete(key);
    const wanted = this.wanted(key);
    const rollout = this.state.get('rollout', key);
    const copies = this.copies.of(key);
    const plan = planService(
      wanted,
      {
        copies: [...copies],
        host: (name) => {
          const unit = this.units.get(name);
          return unit === undefined
            ? undefined
            : {
                state: unit.up ? 'up' : 'away',
                awaySinceMs: unit.awaySinceMs,
                drained: unit.record.drained,
                dead: unit.record.dead,
              };
        },
        memory: (slot) => this.memoryOf(key, slot),
        passed: (copy) => this.hasPassed(copy as Tracked),
        canMove: (copy) =>
          !this.cannotMove.has(copy.host) &&
          (copy as Tracked).record.addresses.length > 0 &&
          (this.#besideRefused.get(`${key} ${copy.id.slot}`) ?? 0) <= this.now(),
      },
      this.now(),
      { graceMs: this.#o.graceMs },
    );
    this.#unplaced.delete(key);
    for (const step of plan.steps) this.#do(key, step, wanted, requests);
    if (plan.lookAgainAtMs !== undefined) this.#wake(key, plan.lookAgainAtMs - this.now());
    const before = this.counts.get(key);
    this.counts.set(key, plan.counts);
    this.progress.set(key, { ...plan.progress, of: rollout });
    if (wanted === undefined && copies.size === 0) this.#forget(key);
    else if (JSON.stringify(before) !== JSON.stringify(plan.counts) || this.#totals.get(key) !== copies.size) {
      this.#totals.set(key, copies.size);
      this.tellService(key);
    }
    if (wanted !== undefined && plan.counts.ready === plan.counts.wanted) this.notes.delete(key);
  }

  tellService(key: string): void {
    const record = this.state.get('service', key);
    this.changes.tell('service', key, key.split('/')[0], record === undefined ? undefined : () => serviceView(this, key));
  }

  #forget(key: string): void {
    this.#memory.delete(key);
    this.notes.delete(key);
    this.counts.delete(key);
    this.progress.delete(key);
    this.#totals.delete(key);
    if (this.state.get('service', key)?.deleting === true) {
      this.state.later([this.state.set('service', key, undefined)]);
      this.tellService(key);
    }
  }

  #wake(key: string, inMs: number): void {
    clearTimeout(this.#alarms.get(key));
    this.#alarms.set(
      key,
      setTimeout(() => (this.#alarms.delete(key), this.poke(key)), Math.max(1, Math.min(inMs, 2 ** 30))),
    );
  }

  #do(key: string, step: Step, wanted: Wanted | undefined, requests: Wish[]): void {
    switch (step.do) {
      case 'create':
        requests.push({
          key,
          spec: wanted?.rolling === undefined ? wanted!.spec : (this.versionAt(key, step.slot)?.spec ?? wanted.spec),
          slot: step.slot,
          avoid: step.avoid,
          replacesOn: step.replaces?.host,
          on: step.beside === true ? step.replaces?.host : undefined,
          beside: step.beside === true ? (step.replaces as Tracked | undefined) : undefined,
        });
        break;
      case 'move':
        this.doing.move(step.from as Tracked | undefined, step.to as Tracked, step.drainMs);
        break;
      case 'destroy':
        this.doing.end(step.copy as Tracked, step.why);
        break;
      case 'start':
      case 'restart':
        this.doing.run(step.copy as Tracked, step.do);
        break;
      case 'note':
        this.note(key, step.slot, step.text);
    }
  }

  readonly #besideRefused = new Map<string, number>();
  /** There is no way to have two copies of this slot beside each other now: it is replaced without. */
  refuseBeside(key: string, slot: number, why: string): void {
    this.note(key, slot, `no place beside its copy: ${why}`);
    if (this.#besideRefused.size > 20_000) this.#besideRefused.clear();
    this.#besideRefused.set(`${key} ${slot}`, this.now() + besideAgainMs);
    this.poke(key);
  }

  #unplacedNow(key: string, slot: number, why: string): void {
    this.note(key, slot, `no place: ${why}`);
    this.#unplaced.add(key);
    this.#wake(key, unplacedMs);
  }
}
