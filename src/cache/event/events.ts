/** All events of a router: made, shown, ended, and kept going round by round. One process; what it must not forget is in its records. */
import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIPv4 } from 'node:net';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { refused } from '../../control/schema.ts';
import type { Caller } from './fleet-port.ts';
import { newRecord, Records, type EventRecord } from './records.ts';
import { Running, type RunningOptions } from './running.ts';
import { readEvent, type EventSpec } from './spec.ts';

export interface EventsOptions extends RunningOptions {
  stateFolder: string;
  /** Of one tenant. */
  quota: { events: number; caches: number };
  /** Addresses that no event may have as its origin: what only this machine, or the fleet itself, should reach. */
  denied: readonly string[];
  /** What viewers are told: "http://HOST:PORT"; a function because the port may be known later. */
  viewersUrl: () => string;
  zone: string | undefined;
}

const roundMs = 100;
const totalsEveryMs = 10_000;
/** Ended events that are still shown, of one tenant. */
const endedKept = 20;

const keyOf = ({ tenant, name }: Pick<EventSpec, 'tenant' | 'name'>): string => `${tenant}/${name}`;
const invalidCodes = new Set(['SPEC_INVALID', 'SPEC_IMPOSSIBLE', 'QUOTA_EXCEEDED', 'FORBIDDEN', 'TOKEN_INVALID']);

export class Events {
  readonly #options: EventsOptions;
  readonly #records: Records;
  readonly #running = new Map<string, Running>();
  readonly #denied = new BlockList();
  readonly #timer: NodeJS.Timeout;
  #keptAtMs = 0;
  #closed = false;

  private constructor(options: EventsOptions, records: Records) {
    this.#options = options;
    this.#records = records;
    for (const cidr of options.denied) {
      const [address, bits] = cidr.split('/');
      this.#denied.addSubnet(address!, Number(bits));
    }
    for (const [key, record] of records.all()) if (record.state !== 'ended') this.#running.set(key, new Running(record, this.#forRunning()));
    this.#timer = setInterval(() => void this.round(), roundMs);
  }

  #forRunning(): EventsOptions & { isDenied: (address: string) => boolean } {
    return { ...this.#options, isDenied: (address) => this.#denied.check(address) };
  }

  static async open(options: EventsOptions): Promise<Events> {
    return new Events(options, await Records.open(options.stateFolder, options.log));
  }

  get(tenant: string, name: string): Running | undefined {
    return this.#running.get(`${tenant}/${name}`);
  }

  /** One round of each event. Never rejects. */
  async round(): Promise<void> {
    if (this.#closed) return;
    const { now, log } = this.#options;
    try {
      await Promise.all([...this.#running.values()].map((running) => running.tick()));
      for (const [key, running] of this.#running) {
        const { record } = running;
        if (running.over && record.state === 'live') {
          log(`${key}: its time is over`);
          record.state = 'ending';
          await this.#records.keep(key, record);
        } else if (record.state === 'ending' && running.gone) {
          record.state = 'ended';
          record.endedMs = now();
          await this.#records.keep(key, record);
          this.#running.delete(key);
          await this.#forgetOld(record.spec.tenant);
          log(`${key}: ended, nothing of it is left`);
        }
      }
      if (now() - this.#keptAtMs >= totalsEveryMs) {
        this.#keptAtMs = now();
        for (const [key, { record }] of this.#running) await this.#records.keep(key, record);
      }
    } catch (error) {
      log(`events: ${asShoalError(error).message}`);
    }
  }

  async #forgetOld(tenant: string): Promise<void> {
    const ended = [...this.#records.all()].filter(([, r]) => r.state === 'ended' && r.spec.tenant === tenant).sort(([, a], [, b]) => (b.endedMs ?? 0) - (a.endedMs ?? 0));
    for (const [key] of ended.slice(endedKept)) await this.#records.keep(key, undefined);
  }

  /** Written down before anything is booted. Throws SPEC_INVALID, SPEC_IMPOSSIBLE, QUOTA_EXCEEDED, CONFLICT, FORBIDDEN; then there is no such event. */
  async create(value: unknown, caller: Caller) {
    const { now, quota } = this.#options;
    const given = typeof value === 'object' && value !== null ? { ...(value as object) } : value;
    if (caller.tenant !== undefined && typeof given === 'object') (given as { tenant?: unknown }).tenant ??= caller.tenant;
    const spec = readEvent(given, now());
    if (caller.role === 'viewer' || caller.role === 'ci') throw new ShoalError('FORBIDDEN', `The role ${caller.role} may not make events.`);
    if (caller.tenant !== undefined && caller.tenant !== spec.tenant)
      throw refused('SPEC_INVALID', [{ path: 'tenant', message: 'is not yours.', hint: `Say "${caller.tenant}".` }]);
    const host = new URL(spec.origin).hostname;
    if (isIPv4(host) && this.#denied.check(host))
      throw refused('SPEC_INVALID', [{ path: 'origin', message: `${host} may not be an origin.`, hint: 'Give an address that the public reaches.' }]);
    const key = keyOf(spec);
    const others = [...this.#running.values()].filter(({ record }) => record.spec.tenant === spec.tenant);
    if (this.#running.has(key)) throw new ShoalError('CONFLICT', `There is an event ${key} already.`, { hint: 'Choose another name, or end that one first.' });
    if (others.length >= quota.events)
      throw refused('QUOTA_EXCEEDED', [{ path: '', message: `${quota.events} events are all that ${spec.tenant} may have at once.`, hint: 'End one first.' }]);
    const caches = others.reduce((sum, { record }) => sum + record.spec.max, 0);
    if (caches + spec.max > quota.caches)
      throw refused('QUOTA_EXCEEDED', [{ path: 'max', message: `would make ${caches + spec.max} caches; ${spec.tenant} may have ${quota.caches}.`, hint: `Give a max of ${Math.max(0, quota.caches - caches)} at most.` }]);
    const record = newRecord(spec, now());
    const running = new Running(record, this.#forRunning());
    // Taken before the first wait: two calls at once make one event.
    this.#running.set(key, running);
    await this.#records.keep(key, record);
    try {
      await running.begin();
    } catch (error) {
      const { code } = asShoalError(error);
      if (invalidCodes.has(code)) {
        // The controller refused it whole; nothing of it was begun.
        this.#running.delete(key);
        await this.#records.keep(key, undefined);
        throw error;
      }
      // Any other trouble is the loop's to get over: the event exists.
    }
    return this.view(key, caller);
  }

  #need(key: string, caller: Caller): EventRecord {
    const record = this.#records.all().get(key);
    if (record === undefined || (caller.tenant !== undefined && record.spec.tenant !== caller.tenant)) throw new ShoalError('NOT_FOUND', `There is no event ${key}.`);
    return record;
  }

  list(caller: Caller, tenant?: string): unknown[] {
    const only = caller.tenant ?? tenant;
    return [...this.#records.all()]
      .filter(([, { spec }]) => only === undefined || spec.tenant === only)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key]) => this.view(key, caller, true));
  }

  /** Throws NOT_FOUND. */
  view(key: string, caller: Caller, short = false): Record<string, unknown> {
    const record = this.#need(key, caller);
    const { spec, state, createdMs, endedMs, pageKey } = record;
    const running = this.#running.get(key);
    const url = `${this.#options.viewersUrl()}/e/${key}`;
    const caches = running?.views() ?? [];
    const { samples, ...statistics } = running?.statistics.view(this.#options.now()) ?? { samples: [], ...record.totals };
    return {
      id: key,
      state: state === 'live' && running?.over === true ? 'ending' : state,
      url: `${url}${spec.path}`,
      ...(this.#options.zone === undefined ? {} : { name: `${spec.name}.${spec.tenant}.${this.#options.zone}` }),
      origin: spec.origin,
      hosts: spec.hosts,
      min: spec.min,
      max: spec.max,
      until: new Date(spec.untilMs).toISOString(),
      created: new Date(createdMs).toISOString(),
      ...(endedMs === undefined ? {} : { ended: new Date(endedMs).toISOString() }),
      caches: { serving: caches.filter((c) => c.state === 'serving').length, total: caches.length },
      statistics,
      ...(running?.trouble === undefined ? {} : { trouble: { code: running.trouble.code, message: running.trouble.message, hint: running.trouble.hint } }),
      ...(short
        ? {}
        : {
            // Its key opens the page and nothing else; after the #, no server gets to see it.
            ...(caller.role === 'viewer' ? {} : { page: `${this.#options.viewersUrl()}/pages/${key}/#${pageKey}` }),
            edges: caches.map(({ id, url: at, place, state: is, load }) => ({ id, url: at, place, state: is, load })),
            samples,
          }),
    };
  }

  /** The event takes no viewers from now on; its caches go. Throws NOT_FOUND, FORBIDDEN. */
  async end(key: string, caller: Caller): Promise<Record<string, unknown>> {
    const record = this.#need(key, caller);
    if (caller.role === 'viewer' || caller.role === 'ci') throw new ShoalError('FORBIDDEN', `The role ${caller.role} may not end events.`);
    if (record.state === 'live') {
      record.state = 'ending';
      await this.#records.keep(key, record);
      await this.#running.get(key)?.tick();
    }
    return this.view(key, caller);
  }

  /** By the key of its page; undefined for a wrong one, or no such event. */
  byPage(tenant: string, name: string, pageKey: string): Record<string, unknown> | undefined {
    const key = `${tenant}/${name}`;
    const record = this.#records.all().get(key);
    return record === undefined || !sameSecret(record.pageKey, pageKey) ? undefined : this.view(key, { role: 'viewer', tenant });
  }

  /** The events go on; only this process ends. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await Promise.all([...this.#running.values()].map((running) => running.tick()));
    for (const [key, { record }] of this.#running) await this.#records.keep(key, record);
    await this.#records.close();
  }
}

const sameSecret = (a: string, b: string): boolean => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b, 'latin1').subarray(0, a.length));
