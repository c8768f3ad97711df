/**
 * One host as the controller drives it: its link, what it last showed, and its queue. Launches go many in a call and two calls at a
 * time, so that the host never waits for the controller; ending goes in calls of its own, and never waits behind launches.
 */
import { asShoalError, type ShoalError } from '../model/errors.ts';
import type { Host } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';
import type { OnHost, Tracked } from './copies.ts';
import type { AddressMove, HostLink, LaunchItem, LaunchOutcome, SeenHost, SeenVm } from './port.ts';
import type { HostRecord } from './state.ts';

/** Sees to it that a host has an image before VMs of it are launched there. */
export interface Bringer {
  /** As far as is known. */
  has(unit: HostUnit, image: string): boolean;
  /** Never rejects. */
  bring(unit: HostUnit, image: string): Promise<void>;
}

export interface UnitListener {
  bringer?(): Bringer | undefined;
  picture(unit: HostUnit, vms: SeenVm[]): void;
  vm(unit: HostUnit, vm: SeenVm): void;
  gone(unit: HostUnit, uuid: Uuid): void;
  /** Its own facts or its state changed. */
  changed(unit: HostUnit): void;
}

const launchesACall = 32;
const launchCalls = 2;
const destroysACall = 64;
const singleCalls = 4;
const movesACall = 64;
/**
 * After a call of a kind the next one waits so long, for more that can go with it: a call by itself costs a host as much as a VM in it. The
 * first goes at once, and so does one that is full.
 */
const gapMs = { launch: 100, move: 100, destroy: 200 };
/** Of a host that has much to do the calls are few and large. */
const muchAtOnce = 16;
const gapTimes = 8;
type Kind = keyof typeof gapMs;
const refreshAfterMs = 2000;
/** So many launches waiting make a host fully busy. */
const fullLoad = 128;

interface Move {
  moves: readonly AddressMove[];
  /** The first error of its moves. */
  done: (error: ShoalError | undefined) => void;
}

interface Waiting {
  copy: Tracked;
  /** Image that was brought for it, or could not be. */
  brought?: string;
  item: () => LaunchItem | undefined;
  done: (outcome: LaunchOutcome) => void;
}

interface Asked {
  waiting: Waiting;
  item: LaunchItem;
}

export class HostUnit {
  record: HostRecord;
  readonly link: HostLink;
  up = false;
  awaySinceMs: number;
  /** Why it is away. */
  error: ShoalError | undefined;
  seen: SeenHost | undefined;
  readonly #now: () => number;
  readonly #listener: UnitListener;
  readonly #launches: Waiting[] = [];
  readonly #destroys: { uuid: Uuid; done: (error: ShoalError | undefined) => void }[] = [];
  readonly #moves: Move[] = [];
  readonly #singles: (() => Promise<void>)[] = [];
  readonly #abort = new AbortController();
  #launching = 0;
  /** Launches whose image is on its way. */
  #bringing = 0;
  #launchCallsNow = 0;
  #destroyCallsNow = 0;
  #moveCallsNow = 0;
  #singlesNow = 0;
  #pumping = false;
  readonly #lastMs: Record<Kind, number> = { launch: -Infinity, move: -Infinity, destroy: -Infinity };
  readonly #gaps: Partial<Record<Kind, NodeJS.Timeout>> = {};
  #refreshing: NodeJS.Timeout | undefined;

  constructor(record: HostRecord, link: HostLink, now: () => number, listener: UnitListener) {
    this.record = record;
    this.link = link;
    this.#now = now;
    this.#listener = listener;
    this.awaySinceMs = now();
  }

  open(): void {
    this.link.open({
      picture: (host, vms) => {
        this.seen = host;
        this.up = true;
        this.error = undefined;
        this.#listener.picture(this, vms);
        this.#listener.changed(this);
        this.#pump();
      },
      vm: (vm) => this.#listener.vm(this, vm),
      gone: (uuid) => this.#listener.gone(this, uuid),
      host: (host) => {
        this.seen = host;
        this.#listener.changed(this);
      },
      away: (error) => {
        const news = this.up || this.error?.code !== error.code;
        if (this.up) this.awaySinceMs = this.#now();
        this.up = false;
        this.error = error;
        if (news) this.#listener.changed(this);
      },
    });
  }

  async close(): Promise<void> {
    this.#abort.abort();
    clearTimeout(this.#refreshing);
    for (const gap of Object.values(this.#gaps)) clearTimeout(gap);
    await this.link.close();
  }

  get queued(): number {
    return this.#launches.length + this.#launching + this.#bringing + this.#destroys.length + this.#moves.length + this.#singles.length;
  }

  /** As planner and placer see it. */
  view(load: OnHost): Host {
    const { record, seen } = this;
    return {
      name: record.name,
      state: this.up ? 'up' : 'away',
      awaySinceMs: this.awaySinceMs,
      drained: record.drained,
      dead: record.dead,
      labels: record.labels,
      totalKib: seen?.totalKib ?? 0,
      freeKib: seen?.freeKib ?? 0,
      promisedKib: load.promisedKib,
      vifs: load.vifs,
      maxVifs: record.maxVifs,
      vms: load.vms,
      load: Math.min(1, (this.#launches.length + this.#launching) / fullLoad),
      networks: seen?.networks.map(({ name }) => name) ?? [],
    };
  }

  /** `item` is asked for when its turn comes: undefined when it is not wanted any more. */
  launch(waiting: Waiting): void {
    this.#launches.push(waiting);
    this.#pump();
  }

  /** Takes a copy out of the queue; false when it was sent already, or is not in it. */
  unqueue(copy: Tracked): boolean {
    const at = this.#launches.findIndex((waiting) => waiting.copy === copy);
    if (at < 0) return false;
    this.#launches.splice(at, 1);
    return true;
  }

  destroy(uuid: Uuid, done: (error: ShoalError | undefined) => void): void {
    this.#destroys.push({ uuid, done });
    this.#pump();
  }

  /** Addresses go from one VM to another; many copies in a call. */
  move(move: Move): void {
    this.#moves.push(move);
    this.#pump();
  }

  /** Any other call; never fails here. */
  single(work: () => Promise<void>): void {
    this.#singles.push(work);
    this.#pump();
  }

  /** Its facts are read once after many calls: each reading is three calls. */
  #refreshSoon(): void {
    this.#refreshing ??= setTimeout(() => {
      this.#refreshing = undefined;
      void this.refresh();
    }, refreshAfterMs);
  }

  async refresh(): Promise<void> {
    try {
      this.seen = await this.link.lookAtHost();
      this.#listener.changed(this);
    } catch {
      // The link tells when the host is away.
    }
  }

  /** One turn later, so that what comes in one turn goes in one call. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      if (!this.up) return;
      while (this.#singlesNow < singleCalls && this.#singles.length > 0) void this.#single(this.#singles.shift()!);
      if (this.#moveCallsNow === 0 && this.#moves.length > 0 && this.#mayCall('move', this.#moves.length >= movesACall)) void this.#moveMany(this.#moves.splice(0, movesACall));
      if (this.#destroyCallsNow === 0 && this.#destroys.length > 0 && this.#mayCall('destroy', this.#destroys.length >= destroysACall))
        void this.#destroyMany(this.#destroys.splice(0, destroysACall));
      if (this.#launchCallsNow === launchCalls || this.#launches.length === 0 || !this.#mayCall('launch', this.#launches.length >= launchesACall)) return;
      while (this.#launchCallsNow < launchCalls && this.#launches.length > 0) {
        // The second call takes its part even when one could take all.
        const share = this.#launchCallsNow === 0 ? Math.max(1, Math.ceil(this.#launches.length / 2)) : this.#launches.length;
        void this.#launchMany(this.#launches.splice(0, Math.min(launchesACall, share)));
      }
    });
  }

  /** Whether a call of this kind may begin, and then it does; if not, it is looked at again when it may. */
  #mayCall(kind: Kind, isFull: boolean): boolean {
    const nowMs = performance.now();
    const waitMs = this.#lastMs[kind] + gapMs[kind] * (this.queued > muchAtOnce ? gapTimes : 1) - nowMs;
    if (isFull || waitMs <= 0) {
      this.#lastMs[kind] = nowMs;
      return true;
    }
    this.#gaps[kind] ??= setTimeout(() => {
      delete this.#gaps[kind];
      this.#pump();
    }, waitMs);
    return false;
  }

  async #launchMany(batch: Waiting[]): Promise<void> {
    const asked = this.#withImage(
      batch
        .map((waiting) => ({ waiting, item: waiting.item() }))
        .filter((each): each is Asked => each.item !== undefined),
    );
    if (asked.length === 0) return this.#pump();
    this.#launchCallsNow++;
    this.#launching += asked.length;
    let outcomes: LaunchOutcome[];
    try {
      outcomes = await this.link.launch(
        asked.map(({ item }) => item),
        this.#abort.signal,
      );
    } catch (thrown) {
      const error = asShoalError(thrown);
      outcomes = asked.map(() => ({ error }));
    }
    this.#launchCallsNow--;
    this.#launching -= asked.length;
    asked.forEach(({ waiting }, i) =>
      waiting.done(outcomes[i] ?? { error: asShoalError(new Error('The host gave no outcome.')) }),
    );
    this.#refreshSoon();
    this.#pump();
  }

  /** Those that can be launched now; the others come back into the queue when their image was brought. */
  #withImage(asked: Asked[]): Asked[] {
    const bringer = this.#listener.bringer?.();
    if (bringer === undefined) return asked;
    const late = new Map<string, Waiting[]>();
    const now = asked.filter(({ waiting, item: { image } }) => {
      if (waiting.brought === image || bringer.has(this, image)) return true;
      waiting.brought = image;
      late.set(image, [...(late.get(image) ?? []), waiting]);
      return false;
    });
    for (const [image, waiting] of late) {
      this.#bringing += waiting.length;
      void bringer.bring(this, image).finally(() => {
        this.#bringing -= waiting.length;
        this.#launches.unshift(...waiting);
        this.#pump();
      });
    }
    return now;
  }

  async #destroyMany(batch: { uuid: Uuid; done: (error: ShoalError | undefined) => void }[]): Promise<void> {
    this.#destroyCallsNow++;
    const errors = new Map<Uuid, ShoalError>();
    try {
      for (const { uuid, error } of await this.link.destroy(batch.map(({ uuid }) => uuid))) errors.set(uuid, error);
    } catch (thrown) {
      for (const { uuid } of batch) errors.set(uuid, asShoalError(thrown));
    }
    this.#destroyCallsNow--;
    for (const { uuid, done } of batch) done(errors.get(uuid));
    this.#refreshSoon();
    this.#pump();
  }

  async #moveMany(batch: Move[]): Promise<void> {
    this.#moveCallsNow++;
    const errors = new Map<AddressMove, ShoalError>();
    const all = batch.flatMap(({ moves }) => moves);
    try {
      for (const { move, error } of await this.link.moveAddress(all)) errors.set(move, error);
    } catch (thrown) {
      for (const move of all) errors.set(move, asShoalError(thrown));
    }
    this.#moveCallsNow--;
    for (const { moves, done } of batch) done(moves.map((move) => errors.get(move)).find((error) => error !== undefined));
    this.#pump();
  }

  async #single(work: () => Promise<void>): Promise<void> {
    this.#singlesNow++;
    await work();
    this.#singlesNow--;
    this.#pump();
  }
}
