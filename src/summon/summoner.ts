/**
 * From a name to a VM that answers: which version is meant, is it there, boot it once however many ask, tell its address when a client may use it, and
 * stop it after it was idle. Idle is what the host counts of its address, not who asks for its name.
 *
 * Nothing is remembered that cannot be found again: a summoned version is a service whose name follows from what it is, with one copy. What a
 * killed summoner had under way, the next one finds in the fleet.
 */
import { asShoalError, ShoalError } from '../model/errors.ts';
import { serviceKey, type HealthCheck, type ServiceSpec } from '../model/service.ts';
import type { Resolution, Resolver } from './dns.ts';
import { Known } from './known.ts';
import { summonedName, summonedPrefix, type Target } from './names.ts';
import type { SummonCopy, SummonFleet, SummonService } from './port.ts';

export interface SummonerOptions {
  fleet: SummonFleet;
  /** For services whose policy does not say. Seconds. */
  idleS: number;
  /** A query waits so long for its VM at most, and a boot may take so long. */
  answerMs: number;
  bootMs: number;
  /** So long a VM stays after its name was answered, whatever was counted: for who got the answer and is on his way. */
  graceMs: number;
  /** VMs summoned at once. */
  most: number;
  /** After a failed boot; doubled up to a minute. */
  backoffMs: number;
  /** Between two looks at what is idle. */
  lookMs: number;
  now: () => number;
  log: (line: string) => void;
}

interface Wanted {
  /** Of the service that runs it. */
  tenant: string;
  name: string;
  /** Of the service that was asked for. */
  of: string;
  idleS: number;
  /** Undefined: the plain service, which is scaled. */
  spec: ServiceSpec | undefined;
  /** Made before the boot: its image may be in history only. */
  prepare: () => Promise<void>;
}

interface Entry {
  tenant: string;
  name: string;
  of: string;
  idleS: number;
  /** A summoned version is removed when it is idle, a plain service is scaled to nothing. */
  plain: boolean;
  state: 'booting' | 'up' | 'failed' | 'ending';
  addresses: readonly string[];
  /** Of the boot, as far as a client may use it. */
  first: Promise<Resolution> | undefined;
  /** Of one that failed: what was begun is taken away. */
  ended: boolean;
  failures: number;
  againMs: number;
  answeredMs: number;
  /** What was counted at the last look, and when that changed last: for hosts that count and do not time. */
  frames: number;
  changedMs: number;
}

const longestBackoffMs = 60_000;
const holdMs = 60_000;
const pollMs = 50;
const mostWaiting = 2_000;
const patienceMs = 2_000;
const alwaysMs = 60_000;
const mostAlways = 10_000;
/** Of a health check. */
const longestIntervalMs = 3_600_000;

/** Probes over HTTP are counted as use by hosts. So it is asked until it is ready, and then seldom enough to be found idle in between; or by ICMP, which nobody counts. */
function unseen(health: HealthCheck, idleS: number): HealthCheck {
  const needMs = 2000 * idleS;
  if (health.kind !== 'http' || health.intervalMs >= needMs) return health;
  if (needMs <= longestIntervalMs) return { ...health, intervalMs: needMs };
  const { port: _, path: __, ...rest } = health;
  return { ...rest, kind: 'icmp' };
}

export class Summoner implements Resolver {
  readonly #o: SummonerOptions;
  readonly #known: Known;
  readonly #entries = new Map<string, Entry>();
  /** Services that may not go to nothing, and until when nobody looks again whether that is still so. */
  readonly #always = new Map<string, number>();
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: SummonerOptions) {
    this.#o = options;
    this.#known = new Known(options.fleet, options.now);
  }

  /** Takes up what an earlier summoner left, and begins to look for what is idle. Throws what the fleet throws. */
  async open(): Promise<void> {
    await this.#adopt(await this.#o.fleet.services());
    this.#timer = setInterval(() => void this.look(), this.#o.lookMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#looking;
  }

  /** Names of services that were summoned and are not ended, for people and tests. */
  summoned(): { service: string; state: Entry['state']; addresses: readonly string[] }[] {
    return [...this.#entries].map(([service, { state, addresses }]) => ({ service, state, addresses }));
  }

  async exists(target: Target): Promise<boolean | undefined> {
    try {
      return (await this.#wanted(target)) !== undefined;
    } catch {
      return undefined;
    }
  }

  async resolve(target: Target): Promise<Resolution> {
    if (this.#waiting >= mostWaiting) return { is: 'failed' };
    this.#waiting++;
    let timer: NodeJS.Timeout | undefined;
    try {
      const late = new Promise<Resolution>((resolve) => (timer = setTimeout(() => resolve({ is: 'failed' }), this.#o.answerMs)));
      return await Promise.race([late, this.#resolve(target)]);
    } catch (error) {
      this.#o.log(`${target.commit ?? ''} ${target.tenant}/${target.service}: ${asShoalError(error).message}`);
      return { is: 'failed' };
    } finally {
      clearTimeout(timer);
      this.#waiting--;
    }
  }

  async #resolve(target: Target): Promise<Resolution> {
    const wanted = await this.#wanted(target);
    if (wanted === undefined) return { is: 'unknown' };
    const key = serviceKey(wanted.tenant, wanted.name);
    const nowMs = this.#o.now();
    let entry = this.#entries.get(key);
    if (entry?.state === 'ending') {
      await entry.first;
      entry = this.#entries.get(key);
    }
    if (entry === undefined || (entry.state === 'failed' && entry.againMs <= nowMs)) {
      if (entry === undefined && this.#entries.size >= this.#o.most) return { is: 'failed' };
      entry = this.#begin(key, wanted, entry);
    }
    if (entry.state === 'failed') return { is: 'failed' };
    const found = entry.state === 'up' ? ({ is: 'address', addresses: entry.addresses } as const) : await entry.first!;
    if (found.is === 'address') entry.answeredMs = this.#o.now();
    return found;
  }

  /** Undefined where there is no such name, or it may not be summoned. */
  async #wanted({ tenant, service, commit }: Target): Promise<Wanted | undefined> {
    const of = serviceKey(tenant, service);
    const base = await this.#known.service(of);
    if (base === undefined || service.startsWith(summonedPrefix)) return undefined;
    const policy = await this.#known.policy(tenant, service);
    const idleS = policy?.idleS ?? this.#o.idleS;
    if (commit === undefined) {
      // One that is always there is answered for; one that may go to nothing is summoned.
      if (policy === undefined && base.spec.count === 0) return undefined;
      return { tenant, name: service, of, idleS: policy === undefined ? Infinity : idleS, spec: undefined, prepare: async () => {} };
    }
    const found = await this.#known.release(tenant, service, commit);
    if (found === undefined) return undefined;
    const name = summonedName(service, found.source);
    const networks = base.spec.networks.map(({ name: network }) => ({ name: network, addresses: { from: 'host' as const } }));
    const spec: ServiceSpec = { ...base.spec, name, image: found.digest, count: 1, networks, health: unseen(base.spec.health, idleS), update: { ...base.spec.update, maxAtOnce: 1 } };
    return { tenant, name, of, idleS, spec, prepare: () => this.#o.fleet.ensureImage(tenant, service, found) };
  }

  // Booting

  #begin(key: string, wanted: Wanted, before: Entry | undefined): Entry {
    const nowMs = this.#o.now();
    const entry: Entry = {
      tenant: wanted.tenant, name: wanted.name, of: wanted.of, idleS: wanted.idleS, plain: wanted.spec === undefined, state: 'booting', addresses: [],
      first: undefined, ended: false, failures: before?.failures ?? 0, againMs: 0, answeredMs: nowMs, frames: -1, changedMs: nowMs,
    };
    this.#entries.set(key, entry);
    entry.first = this.#boot(key, entry, wanted).catch((error: unknown): Resolution => {
      this.#fail(key, entry, asShoalError(error).message);
      return { is: 'failed' };
    });
    return entry;
  }

  /** Resolves when a client may use the address; goes on until its copy is ready. */
  async #boot(key: string, entry: Entry, wanted: Wanted): Promise<Resolution> {
    const { fleet, now, bootMs } = this.#o;
    const untilMs = now() + bootMs;
    let failingMs: number | undefined;
    await wanted.prepare();
    if (wanted.spec !== undefined) await fleet.apply(wanted.spec);
    else if (((await this.#known.serviceNow(key))?.spec.count ?? 0) === 0) await fleet.scale(entry.tenant, entry.name, 1);
    // What is known of services may be old; this is asked while the copy boots, and costs no time.
    const base = this.#known.serviceNow(entry.of);
    base.catch(() => {});
    for (;;) {
      const copies = await fleet.copies(entry.tenant, entry.name, holdMs, 1000);
      const usable = copies.filter(({ address, ready, held }) => address !== undefined && (ready || held));
      if (usable.length > 0) {
        if ((await base) === undefined) throw new ShoalError('NOT_FOUND', `${entry.of} is gone`);
        const ready = usable.filter((copy) => copy.ready);
        entry.addresses = addressesOf(ready.length > 0 ? ready : usable);
        entry.changedMs = now();
        if (ready.length > 0) this.#up(entry);
        else void this.#wait(key, entry, untilMs).catch((error: unknown) => this.#fail(key, entry, asShoalError(error).message));
        return { is: 'address', addresses: entry.addresses };
      }
      // A host that misses the image is brought it, and is asked again.
      if (!copies.some(({ failed }) => failed)) failingMs = undefined;
      else if (now() - (failingMs ??= now()) >= patienceMs) throw new ShoalError('UNPLACEABLE', 'its start failed');
      if (now() > untilMs) throw new ShoalError('TIMEOUT', `it was not up within ${bootMs} ms`);
      await pause(pollMs);
    }
  }

  /** Its address was told while it boots: whether it comes up is still to be seen. */
  async #wait(key: string, entry: Entry, untilMs: number): Promise<void> {
    while (!this.#closed && entry.state === 'booting') {
      const copies = await this.#o.fleet.copies(entry.tenant, entry.name, 0, 0);
      // Somebody else ended it meanwhile.
      if (copies.length === 0 && ((await this.#known.serviceNow(key))?.spec.count ?? 0) === 0) return void this.#entries.delete(key);
      const ready = copies.filter((copy) => copy.ready && copy.address !== undefined);
      if (ready.length > 0) {
        entry.addresses = addressesOf(ready);
        return this.#up(entry);
      }
      if (copies.some(({ failed }) => failed) || this.#o.now() > untilMs) return this.#fail(key, entry, 'it did not come up');
      await pause(pollMs * 4);
    }
  }

  #up(entry: Entry): void {
    entry.state = 'up';
    entry.failures = 0;
  }

  #fail(key: string, entry: Entry, why: string): void {
    const { now, backoffMs, log } = this.#o;
    entry.againMs = now() + Math.min(longestBackoffMs, backoffMs * 2 ** Math.min(16, entry.failures++));
    log(`${key}: could not be summoned: ${why}`);
    entry.state = 'ending';
    entry.first = this.#end(entry).then((ended): Resolution => {
      entry.state = 'failed';
      entry.ended = ended;
      return { is: 'failed' };
    });
  }

  /** What does not work now is tried again at the next look. */
  async #end(entry: Entry): Promise<boolean> {
    const { fleet, log } = this.#o;
    if (entry.idleS === Infinity) return true; // it is answered for, and not ours to end
    try {
      if (entry.plain) await fleet.scale(entry.tenant, entry.name, 0);
      else await fleet.remove(entry.tenant, entry.name);
      return true;
    } catch (error) {
      if (asShoalError(error).code === 'NOT_FOUND') return true;
      log(`${serviceKey(entry.tenant, entry.name)}: could not be ended: ${asShoalError(error).message}`);
      return false;
    }
  }

  // Idle

  /** Looks at all that was summoned, and ends what is idle or whose service is gone. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(async () => {
      const all = await this.#o.fleet.services().catch(() => undefined);
      if (all === undefined) return; // nobody knows: nothing is ended
      const before = new Set(this.#entries.keys());
      const there = new Set(all.filter(({ deleting }) => !deleting).map(({ id }) => id));
      await Promise.all([...this.#entries].map(([key, entry]) => this.#lookAt(key, entry, there).catch(() => {})));
      // Not those that were just ended.
      await this.#adoptStarted(all.filter(({ id }) => !before.has(id))).catch(() => {});
    });
    return this.#looking;
  }

  async #lookAt(key: string, entry: Entry, there: ReadonlySet<string>): Promise<void> {
    const nowMs = this.#o.now();
    if (entry.state === 'failed') {
      if (!entry.ended) entry.ended = await this.#end(entry);
      else if (nowMs > entry.againMs + longestBackoffMs) this.#entries.delete(key);
      return;
    }
    if (entry.state === 'booting' || entry.state === 'ending') return;
    if (!there.has(entry.of) || !there.has(key)) {
      this.#o.log(`${key}: ${entry.of} is gone; so is what was summoned of it`);
      return this.#stop(key, entry);
    }
    const copies = await this.#o.fleet.copies(entry.tenant, entry.name, 0, 0);
    if (copies.length === 0) return void this.#entries.delete(key); // somebody else ended it
    const ready = copies.filter((copy) => copy.ready && copy.address !== undefined);
    if (ready.length > 0) entry.addresses = addressesOf(ready);
    const traffic = entry.idleS === Infinity ? undefined : await this.#o.fleet.traffic(entry.tenant, entry.name);
    if (traffic === undefined) return;
    const frames = traffic.reduce((sum, each) => sum + each.frames, 0);
    if (frames !== entry.frames) entry.changedMs = Math.max(entry.changedMs, nowMs - Math.min(...traffic.map(({ idleMs }) => idleMs), Infinity));
    entry.frames = frames;
    if (nowMs - entry.changedMs < entry.idleS * 1000 || nowMs - entry.answeredMs < this.#o.graceMs) return;
    this.#o.log(`${key}: idle for ${Math.round((nowMs - entry.changedMs) / 1000)} s; stopped`);
    return this.#stop(key, entry);
  }

  /** Whoever asks meanwhile waits for the end, and begins anew. */
  async #stop(key: string, entry: Entry): Promise<void> {
    entry.state = 'ending';
    const ended = this.#end(entry);
    entry.first = ended.then((): Resolution => ({ is: 'failed' }));
    if (await ended) this.#entries.delete(key);
    else entry.state = 'up';
  }

  /** Services that may go to nothing and were started by somebody else: they end when they are idle, too. */
  async #adoptStarted(all: readonly SummonService[]): Promise<void> {
    const nowMs = this.#o.now();
    for (const { id, spec, deleting } of all) {
      if (deleting || spec.count === 0 || this.#entries.has(id) || spec.name.startsWith(summonedPrefix) || (this.#always.get(id) ?? 0) > nowMs) continue;
      if ((await this.#known.policy(spec.tenant, spec.name)) === undefined) {
        if (this.#always.size > mostAlways) this.#always.clear();
        this.#always.set(id, nowMs + alwaysMs);
      } else await this.#adopt([{ id, spec, deleting }]);
    }
  }

  async #adopt(all: readonly SummonService[]): Promise<void> {
    const nowMs = this.#o.now();
    const bases = all.filter(({ spec, deleting }) => !deleting && !spec.name.startsWith(summonedPrefix));
    for (const { id, spec, deleting } of all) {
      if (deleting) continue;
      const summoned = spec.name.startsWith(summonedPrefix);
      const base = summoned ? await this.#baseOf(spec, bases) : undefined;
      const policy = summoned && base === undefined ? undefined : await this.#known.policy(spec.tenant, (base ?? spec).name);
      if (!summoned && (policy === undefined || spec.count === 0)) continue;
      const copies = await this.#o.fleet.copies(spec.tenant, spec.name, 0, 0).catch((): SummonCopy[] => []);
      const ready = copies.filter((copy) => copy.ready);
      const entry: Entry = {
        tenant: spec.tenant, name: spec.name, of: base === undefined ? (summoned ? '' : id) : serviceKey(base.tenant, base.name), idleS: policy?.idleS ?? this.#o.idleS, plain: !summoned,
        state: ready.length > 0 ? 'up' : 'booting', addresses: addressesOf(ready),
        first: undefined, ended: false, failures: 0, againMs: 0, answeredMs: nowMs, frames: -1, changedMs: nowMs,
      };
      this.#entries.set(id, entry);
      if (ready.length === 0) entry.first = this.#waitAgain(id, entry);
      this.#o.log(`${id}: was summoned before`);
    }
  }

  /** One that a summoner before this one began. */
  async #waitAgain(key: string, entry: Entry): Promise<Resolution> {
    await this.#wait(key, entry, this.#o.now() + this.#o.bootMs).catch((error: unknown) => this.#fail(key, entry, asShoalError(error).message));
    return entry.state === 'up' ? { is: 'address', addresses: entry.addresses } : { is: 'failed' };
  }

  /** Which service a summoned version is of: the one whose release makes this name. */
  async #baseOf(spec: ServiceSpec, bases: readonly { spec: ServiceSpec }[]): Promise<ServiceSpec | undefined> {
    for (const { spec: base } of bases) {
      if (base.tenant !== spec.tenant) continue;
      const releases = await this.#known.releases(base.tenant, base.name).catch(() => []);
      if (releases.some(({ source }) => summonedName(base.name, source) === spec.name)) return base;
    }
    return undefined;
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const addressesOf = (copies: readonly SummonCopy[]): string[] => copies.flatMap(({ address }) => (address === undefined ? [] : [address]));
