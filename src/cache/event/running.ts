/**
 * One event at work: what its record wants, what the controller and the caches show, and the difference, again and again. Nothing is remembered that
 * could not be found out anew: after a kill the next life looks at the same services and goes on. The first and the last step are not special.
 */
import { lookup } from 'node:dns/promises';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Capacity } from '../route/openmetrics.ts';
import { decide, freshMemory, shareOut, type ScaleMemory, type ScaleOptions } from '../route/scale.ts';
import { route, tableOf, type CacheView, type Table } from '../route/table.ts';
import { Cache, type Endpoint, type Scraper } from './caches.ts';
import type { CacheFleet, FleetService, FleetVm } from './fleet-port.ts';
import type { EventRecord } from './records.ts';
import { argsOf, connectionsIn, serviceOf, tiersOf, type CacheWords, type TierService } from './spec.ts';
import { Statistics } from './statistics.ts';

export interface RunningOptions {
  fleet: CacheFleet;
  scraper: Scraper;
  /** Digest or release of the cache's image. */
  image: string;
  capacity: Capacity;
  scale: ScaleOptions;
  ports: { viewers: number; admin: number };
  /** Addresses that may be no origin, whatever name leads there. */
  isDenied?: (address: string) => boolean;
  endpoint: (vm: FleetVm & { address: string }) => Endpoint;
  now: () => number;
  log: (line: string) => void;
}

/** The controller is asked what there is so often. */
const lookEveryMs = 500;
const afterFailureMs = 2_000;

export class Running {
  readonly record: EventRecord;
  readonly statistics: Statistics;
  readonly #options: RunningOptions;
  readonly #tiers: TierService[];
  readonly #memories = new Map<string, ScaleMemory>();
  readonly #caches = new Map<string, Cache>();
  #services = new Map<string, FleetService>();
  #shields: FleetVm[] = [];
  #parent: string | undefined;
  #originAddress: string | undefined;
  #table: Table = tableOf([]);
  #looked = false;
  #lookAtMs = -Infinity;
  #working: Promise<void> | undefined;
  #waiting = new Set<() => void>();
  /** What last went wrong; undefined when nothing does. */
  trouble: ShoalError | undefined;

  constructor(record: EventRecord, options: RunningOptions) {
    this.record = record;
    this.#options = options;
    this.statistics = new Statistics(record.totals);
    this.#tiers = tiersOf(record.spec);
  }

  get key(): string {
    return `${this.record.spec.tenant}/${this.record.spec.name}`;
  }

  get caches(): ReadonlyMap<string, Cache> {
    return this.#caches;
  }

  get over(): boolean {
    return this.record.state !== 'live' || this.#options.now() >= this.record.spec.untilMs;
  }

  /**
   * Caches are asked in every round, however long the controller takes; it is asked once at a time. Resolves when what it was asked is done. Never
   * rejects.
   */
  tick(): Promise<void> {
    this.#measure();
    this.#working ??= this.#reconcile().finally(() => (this.#working = undefined));
    return this.#working;
  }

  /** As `tick`, and throws what the controller said of the first services. */
  async begin(): Promise<void> {
    await this.tick();
    if (this.trouble !== undefined) throw this.trouble;
  }

  async #reconcile(): Promise<void> {
    const { now, log } = this.#options;
    if (now() >= this.#lookAtMs) {
      this.#lookAtMs = now() + lookEveryMs;
      try {
        await this.#look();
        if (this.over) await this.#takeDown();
        else await this.#make();
        this.trouble = undefined;
      } catch (thrown) {
        const error = asShoalError(thrown);
        if (error.code !== this.trouble?.code) log(`${this.key}: ${error.code}: ${error.message}`);
        this.trouble = error;
        this.#lookAtMs = now() + afterFailureMs;
      }
    }
    this.#retable();
  }

  /** Each cache is asked; their answers come when they come. */
  #measure(): void {
    const { scraper, now } = this.#options;
    const capacity = this.#capacity();
    const shield = this.record.spec.shield;
    for (const cache of this.#caches.values()) {
      const edge = cache.tier === 'edge';
      const before = cache.answers;
      void cache
        .ask(scraper, this.record.secret, capacity, now, (rates) => this.statistics.add(rates, edge, edge ? !shield : true))
        .then(() => before !== cache.answers && this.#retable());
    }
    const all = [...this.#caches.values()];
    const sum = (caches: readonly Cache[], of: 'bpsOut' | 'bpsIn'): number => caches.reduce((n, c) => n + (c.answers ? (c.rates?.[of] ?? 0) : 0), 0);
    const edges = all.filter((c) => c.tier === 'edge');
    this.statistics.tick(now(), edges.length, sum(edges, 'bpsOut'), sum(shield ? all.filter((c) => c.tier === 'shield') : edges, 'bpsIn'));
  }

  async #look(): Promise<void> {
    const { fleet, endpoint } = this.#options;
    const { tenant } = this.record.spec;
    const own = new Set(this.#tiers.map(({ name }) => `${tenant}/${name}`));
    this.#services = new Map((await fleet.services(tenant)).filter(({ id }) => own.has(id)).map((service) => [service.id.slice(tenant.length + 1), service]));
    const there = new Set<string>();
    for (const tier of this.#tiers) {
      const vms = await fleet.vms(tenant, tier.name);
      if (tier.tier === 'shield') this.#shields = vms;
      for (const vm of vms) {
        const { address } = vm;
        if (address === undefined) continue;
        there.add(vm.id);
        if (!this.#caches.has(vm.id)) this.#caches.set(vm.id, new Cache({ ...vm, address }, tier.tier, tier.place, endpoint({ ...vm, address })));
      }
    }
    for (const [id, cache] of this.#caches)
      if (!there.has(id)) {
        cache.suspect();
        this.#caches.delete(id);
      }
    this.#looked = true;
  }

  /** The words are those of this moment; the shield's address stays the one that was told as long as there is such a shield. */
  async #words(): Promise<Omit<CacheWords, 'via'>> {
    const { spec, secret } = this.record;
    const { hostname, port } = new URL(spec.origin);
    this.#originAddress ??= await lookup(hostname.replace(/^\[|\]$/g, ''), { family: 4 }).then(
      ({ address }) => {
        if (this.#options.isDenied?.(address) !== true) return address;
        throw new ShoalError('FORBIDDEN', `${hostname} is ${address}, which may not be an origin.`, { hint: 'Give an address that the public reaches.' });
      },
      () => {
        throw new ShoalError('CONNECTION_FAILED', `The origin's name ${hostname} is not known.`, { hint: 'Check the name, or give the address.' });
      },
    );
    const good = this.#shields.filter((vm) => vm.address !== undefined && !vm.hostAway);
    if (!good.some((vm) => vm.address === this.#parent)) this.#parent = (good.find((vm) => vm.state === 'running') ?? good[0])?.address;
    return {
      origin: `${this.#originAddress}:${port === '' ? 80 : port}`,
      host: new URL(spec.origin).host,
      parent: this.#parent === undefined ? undefined : `${this.#parent}:${this.#options.ports.viewers}`,
      port: this.#options.ports.viewers,
      adminPort: this.#options.ports.admin,
      secret,
      connections: this.#capacity().connections,
    };
  }

  /** Of one cache of this event: no more connections than its memory is enough for. */
  #capacity(): Capacity {
    const { capacity } = this.#options;
    return { ...capacity, connections: Math.min(capacity.connections, connectionsIn(this.record.spec.memoryKib)) };
  }

  async #make(): Promise<void> {
    const { fleet, image, log } = this.#options;
    const { spec } = this.record;
    const words = await this.#words();
    const shield = this.#tiers.find(({ tier }) => tier === 'shield');
    const changes: Record<string, unknown>[] = [];
    const want = (tier: TierService, count: number, of: Omit<CacheWords, 'via'>): void => {
      const own = { ...of, via: tier.name };
      const is = this.#services.get(tier.name);
      if (is !== undefined && !is.deleting && is.count === count && is.args === argsOf(own)) return;
      changes.push(serviceOf(spec, tier, image, count, own));
    };
    if (shield !== undefined) want(shield, 1, { ...words, parent: undefined });
    for (const { tier, count } of this.#decide()) {
      // An edge is told where its shield is: it waits for that, which takes a moment at the very beginning only.
      if (shield !== undefined && words.parent === undefined) continue;
      want(tier, count, words);
    }
    if (changes.length === 0) return;
    await fleet.apply(changes);
    log(`${this.key}: ${changes.map(({ name, count }) => `${String(name)} ${String(count)}`).join(', ')}`);
    this.#lookAtMs = this.#options.now();
  }

  #decide(): { tier: TierService; count: number }[] {
    const { scale, now, log } = this.#options;
    const { min, max } = this.record.spec;
    const edges = this.#tiers.filter(({ tier }) => tier === 'edge');
    const mins = edges.map((_, i) => Math.max(1, Math.floor(min / edges.length) + (i < min % edges.length ? 1 : 0)));
    const inputs = edges.map((tier, i) => {
      const caches = [...this.#caches.values()].filter((c) => c.tier === 'edge' && c.place === tier.place);
      // Of a life before this one the service knows how many there were.
      const memory = this.#memories.get(tier.name) ?? freshMemory(this.#services.get(tier.name)?.count ?? mins[i]!);
      return { tier, memory, caches: caches.map(({ slot, answers, load, connections }) => ({ slot, serving: answers, load: answers ? load : 0, connections })) };
    });
    const at = now();
    const first = inputs.map(({ caches, memory }, i) => decide(caches, memory, mins[i]!, max, at, scale));
    const shares = shareOut(first.map(({ memory }) => memory.active), mins, max);
    return inputs.map(({ tier, memory, caches }, i) => {
      const decision = shares[i]! < first[i]!.memory.active ? decide(caches, memory, mins[i]!, shares[i]!, at, scale) : first[i]!;
      this.#memories.set(tier.name, decision.memory);
      if (decision.memory.active !== memory.active && decision.why !== '') log(`${this.key}: ${tier.name} ${memory.active} -> ${decision.memory.active}: ${decision.why}`);
      return { tier, count: decision.count };
    });
  }

  async #takeDown(): Promise<void> {
    for (const [name, { deleting }] of this.#services) if (!deleting) await this.#options.fleet.remove(this.record.spec.tenant, name);
  }

  /** The controller has been asked, and has neither services nor VMs of this event. */
  get gone(): boolean {
    return this.#looked && this.trouble === undefined && this.#services.size === 0 && this.#caches.size === 0 && this.#shields.length === 0;
  }

  #retable(): void {
    const active = new Map(this.#tiers.map((tier) => [tier.place, this.#memories.get(tier.name)?.active ?? Infinity]));
    const views = this.over ? [] : [...this.#caches.values()].filter((c) => c.tier === 'edge').map((c) => c.view(active.get(c.place) ?? Infinity));
    this.#table = tableOf(views);
    if ((this.#table.rings.get('')?.ids.length ?? 0) > 0) {
      for (const wake of this.#waiting) wake();
      this.#waiting.clear();
    }
  }

  /** Best first; empty while none serves. */
  route(key: string, place: string): CacheView[] {
    const capacity = this.#capacity();
    return route(this.#table, key, place, new Map([...this.#caches].map(([id, cache]) => [id, cache.loadNow(capacity)])));
  }

  /** Resolves when a cache serves, or after so long. More than a few thousand do not wait. */
  async untilServing(ms: number): Promise<void> {
    if ((this.#table.rings.get('')?.ids.length ?? 0) > 0 || this.#waiting.size > 5_000) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      const waiting = this.#waiting;
      function done(): void {
        clearTimeout(timer);
        waiting.delete(done);
        resolve();
      }
      waiting.add(done);
    });
  }

  views(): CacheView[] {
    return [...this.#table.caches.values()];
  }
}
