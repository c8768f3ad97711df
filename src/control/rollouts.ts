/**
 * Rollouts of the fleet's services: the table of src/rollout run over what the fleet shows. Each step is kept before it is told of; what
 * it means for copies the planner reads from the state itself, so there is nothing to be done again after a crash but to look.
 */
import { createHash } from 'node:crypto';
import type { AuditLog } from './audit.ts';
import { keyOf } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { Probes } from './gates.ts';
import type { Change } from './port.ts';
import { rolloutView } from './rollout-view.ts';
import type { Services } from './services.ts';
import type { ServiceRecord } from './state.ts';
import { isSameStand, Trials } from './trials.ts';
import { specOf, versionFrom } from './versions.ts';
import { impossible, pastQuota } from './possible.ts';
import type { Desired, DesiredService } from '../model/desired.ts';
import { ShoalError } from '../model/errors.ts';
import type { RolloutEntry, Version } from '../model/rollout.ts';
import { serviceKey } from '../model/service.ts';
import { advance, begin, mayHappen, rollbackTo, takenOver } from '../rollout/machine.ts';
import { isEnded, isOnTrial, settledVersion, type Rollout, type RolloutEvent } from '../rollout/state.ts';

/** Keeps an entry where the deployment repository has its record; called in the order of their numbers, at least once for each. */
export type Record_ = (tenant: string, name: string, entry: RolloutEntry) => Promise<void>;

export interface RolloutOptions {
  fleet: Fleet;
  services: Services;
  probes: Probes;
  audit?: Pick<AuditLog, 'append'>;
  record?: Record_;
  /** Milliseconds that went by, of a clock that no one sets. */
  monotonic?: () => number;
  tickMs?: number;
}

export interface RolloutStatus {
  release: number;
  state: 'idle' | 'rolling' | 'paused' | 'rolling-back' | 'done' | 'rolled-back' | 'failed';
  reason?: string;
}

export type RolloutAction = 'pause' | 'resume' | 'abort' | 'promote' | 'rollback';

/** A signed clock may be behind: a release that expired this long ago is still begun. */
const expiryToleranceMs = 5 * 60_000;
/** Ticks that change nothing but times are kept so seldom. */
const keepEveryMs = 5000;

export class Rollouts {
  readonly #o: RolloutOptions;
  readonly #fleet: Fleet;
  readonly #trials: Trials;
  readonly #timer: NodeJS.Timeout;
  readonly #tickMs: number;
  readonly #monotonic: () => number;
  readonly #listeners = new Set<(tenant: string, service: string) => void>();
  /** Asked for, and not possible now: tried again from time to time, for hosts, quotas and pools change. */
  readonly #refused = new Map<string, { counter: number; reason: string; service: DesiredService; commit: string }>();
  readonly #telling = new Set<string>();
  /** Copies whose gate failed: their end is not counted again. */
  readonly #blamed = new WeakSet<object>();
  /** May be set until `open`. */
  record: Record_ | undefined;
  #lastMs: number;
  #keptMs = 0;
  #opened = false;
  #closed = false;

  constructor(options: RolloutOptions) {
    this.#o = options;
    this.#fleet = options.fleet;
    this.record = options.record;
    this.#tickMs = options.tickMs ?? 250;
    this.#monotonic = options.monotonic ?? (() => performance.now());
    this.#lastMs = this.#monotonic();
    this.#trials = new Trials(this.#fleet, options.probes, {
      copyFailed: (key, copy, text) => {
        this.#blamed.add(copy);
        this.#step(key, { on: 'copy-failed', text: `${copy.name} on ${copy.host}: ${text}` });
        this.#fleet.note(key, copy.id.slot, text);
        this.#fleet.copies.set(copy, 'failed', false);
      },
      waveAsked: (key, of, text) => {
        const now = this.#fleet.state.get('rollout', key);
        if (now !== undefined && isSameStand(now, of)) this.#step(key, text === undefined ? { on: 'gates-passed' } : { on: 'gate-failed', text });
      },
    });
    this.#fleet.hasPassed = (copy) => this.#trials.hasPassed(copy);
    this.#fleet.onCopyFailed = (copy, text) => {
      if (this.#blamed.delete(copy)) return;
      if (this.#trials.isTarget(copy)) this.#step(keyOf(copy.id), { on: 'copy-failed', text });
    };
    this.#fleet.onPlanned((key) => this.#planned(key));
    options.services.onChanged = (record) => this.#changedByHand(record);
    this.#timer = setInterval(() => this.#tick(), this.#tickMs);
  }

  /** Begins to watch and to tell, also what a controller before this one did not come to tell: fleet and `record` are there now. */
  open(): void {
    this.#opened = true;
    this.#lastMs = this.#monotonic();
    for (const key of this.#fleet.state.all('rollout').keys()) void this.#tellEntries(key);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#trials.close();
  }

  /** Called when a service's rollout changed. */
  onChange(listener: (tenant: string, service: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // What is asked for

  /**
   * Makes services as the repository has them at a commit; asked for again it changes nothing. A service that cannot be begun is left as
   * it is, and its status says why. Services that came by an earlier commit and are not in this one end.
   */
  async begin(desired: Desired): Promise<void> {
    const kept: Promise<void>[] = [];
    const keys = new Set<string>();
    for (const service of desired.services) {
      const key = serviceKey(service.spec.tenant, service.spec.name);
      keys.add(key);
      kept.push(this.#tryToBegin(key, service, desired.commit));
    }
    for (const key of this.#refused.keys()) if (!keys.has(key)) this.#refused.delete(key);
    for (const key of this.#fleet.state.all('rollout').keys()) {
      const record = this.#fleet.state.get('service', key);
      if (!keys.has(key) && record !== undefined && !record.deleting) kept.push(this.#o.services.remove(key).then(() => undefined));
    }
    await Promise.all(kept);
  }

  async #tryToBegin(key: string, service: DesiredService, commit: string): Promise<void> {
    const reason = this.#whyNot(key, service);
    const before = this.#refused.get(key);
    if (reason === undefined) {
      this.#refused.delete(key);
      return this.#begin(key, service, commit);
    }
    const { counter } = service.release;
    this.#refused.set(key, { counter, reason, service, commit });
    if (before?.reason === reason && before.counter === counter) return;
    this.#fleet.log(`${key}: release ${counter} is not begun: ${reason}`);
    for (const listener of this.#listeners) listener(service.spec.tenant, service.spec.name);
  }

  #whyNot(key: string, { spec, release }: DesiredService): string | undefined {
    const before = this.#fleet.state.get('rollout', key);
    if (before !== undefined && release.counter < before.asked.counter) return `release ${before.asked.counter} was asked for already`;
    const isNew = before === undefined || release.counter > before.asked.counter;
    if (isNew && this.#fleet.now() > Date.parse(release.expires) + expiryToleranceMs) return `it expired at ${release.expires}`;
    const [reason] = [...impossible(this.#fleet, spec), ...pastQuota(this.#fleet, spec.tenant, [spec])];
    return reason === undefined ? undefined : `${reason.path} ${reason.message}`.trim();
  }

  async #begin(key: string, { spec, release, rollout: policy }: DesiredService, commit: string): Promise<void> {
    const { state, now } = this.#fleet;
    const record = state.get('service', key);
    const before = record === undefined ? undefined : state.get('rollout', key);
    const { digest, source } = release.image;
    const version = versionFrom(spec, digest, { counter: release.counter, source: source.commit }, record?.spec);
    const running = record === undefined || before !== undefined ? undefined : this.#byHand(record);
    const said = createHash('sha256').update(JSON.stringify([spec, policy])).digest('hex').slice(0, 16);
    const push = { tenant: spec.tenant, service: spec.name, commit, version, policy, count: spec.count, spec: said };
    const next = begin(before, running, push, now());
    // Nothing new of this service: what was changed by hand stays.
    if (before !== undefined && record?.deleting === false && next.number === before.number && before.asked.spec === said) {
      if (before.asked.commit !== commit) await this.#keep(key, next, [], false);
      return;
    }
    const settled = settledVersion(next) ?? version;
    const wanted: ServiceRecord = {
      spec: specOf(settled, spec),
      nonce: record?.nonce ?? 0,
      createdMs: record?.createdMs ?? now(),
      changedMs: now(),
      deleting: false,
    };
    const rolls = before === undefined || next.number !== before.number;
    if (rolls && !isEnded(next)) this.#bringImage(key, digest);
    await this.#keep(key, next, [state.set('service', key, wanted)], rolls);
  }

  /** Hosts that have copies will have the next ones too: they fetch the image while the step is kept and the canary is asked. */
  #bringImage(key: string, digest: string): void {
    const hosts = new Set([...this.#fleet.copies.of(key)].map(({ host }) => host));
    for (const host of hosts) {
      const unit = this.#fleet.units.get(host);
      if (unit?.up === true) void this.#fleet.bringer?.bring(unit, digest);
    }
  }

  #byHand(record: ServiceRecord): Version | undefined {
    const digest = this.#fleet.digestOf(record.spec.image);
    return digest === undefined ? undefined : versionFrom(record.spec, digest, { counter: 0, source: '' }, record.spec);
  }

  /** Another version, or number of copies, was applied by hand. */
  #changedByHand(record: ServiceRecord): Change[] {
    const { state, now } = this.#fleet;
    const key = serviceKey(record.spec.tenant, record.spec.name);
    const before = state.get('rollout', key);
    if (before === undefined || record.deleting) return [];
    const version = this.#byHand(record);
    const settled = settledVersion(before);
    const { count } = record.spec;
    const next =
      version === undefined || version.revision === settled?.revision || (settled === undefined && version.revision === before.target.revision)
        ? { ...before, count }
        : takenOver(before, version, count, now());
    setImmediate(() => this.#closed || this.#told(key));
    return this.#changesOf(key, next);
  }

  /** Throws NOT_FOUND, CONFLICT. `by`: who asks, for the record. */
  async act(key: string, action: RolloutAction, by: string, to?: number): Promise<Rollout> {
    const state = this.need(key);
    const event: RolloutEvent = action === 'rollback' ? { on: action, to: rollbackTo(state, to) } : { on: action };
    await this.#keep(key, advance(state, event, this.#fleet.now(), `by ${by}`), [], true);
    return this.need(key);
  }

  need(key: string): Rollout {
    const rollout = this.#fleet.state.get('rollout', key);
    if (rollout === undefined)
      throw new ShoalError('NOT_FOUND', `${key} has no rollout.`, { hint: 'Rollouts begin with a push to the deployment repository.' });
    return rollout;
  }

  keys(): Iterable<string> {
    return this.#fleet.state.all('rollout').keys();
  }

  view(key: string) {
    return rolloutView(this.#fleet, this.need(key), (copy) => this.#trials.hasPassed(copy));
  }

  status(tenant: string, service: string): RolloutStatus {
    const key = serviceKey(tenant, service);
    const refused = this.#refused.get(key);
    if (refused !== undefined) return { release: refused.counter, state: 'failed', reason: refused.reason };
    const rollout = this.#fleet.state.get('rollout', key);
    if (rollout === undefined) return { release: 0, state: 'idle' };
    const { phase, reason, asked, target } = rollout;
    if (phase === 'done' && target.counter !== asked.counter)
      return { release: asked.counter, state: 'rolled-back', reason: 'another version was applied by hand' };
    const words = { replacing: 'rolling', gating: 'rolling', observing: 'rolling', promoting: 'rolling' } as const;
    const state = phase in words ? 'rolling' : (phase as Exclude<typeof phase, keyof typeof words>);
    return { release: rollout.asked.counter, state, ...(reason === '' ? {} : { reason }) };
  }

  // What happens

  #step(key: string, event: RolloutEvent): void {
    const state = this.#fleet.state.get('rollout', key);
    if (state === undefined || this.#closed || this.#isEnding(key) || !mayHappen(state, event)) return;
    const next = advance(state, event, this.#fleet.now());
    if (next.entries === state.entries) {
      // Times alone: kept now and then; a crash makes it wait a little longer.
      this.#fleet.state.set('rollout', key, next);
      return;
    }
    void this.#keep(key, next, [], next.phase !== state.phase || next.wave !== state.wave);
  }

  #isEnding(key: string): boolean {
    return this.#fleet.state.get('service', key)?.deleting !== false;
  }

  /** All that a step changes in what is kept. A service at rest has the spec of the version it rests at. */
  #changesOf(key: string, next: Rollout): Change[] {
    const { state } = this.#fleet;
    const record = state.get('service', key);
    const settled = settledVersion(next);
    const changes = [state.set('rollout', key, next)];
    if (record !== undefined && settled !== undefined) {
      const spec = specOf(settled, record.spec);
      if (this.#byHand(record)?.revision !== settled.revision) changes.push(state.set('service', key, { ...record, spec }));
    }
    return changes;
  }

  async #keep(key: string, next: Rollout, more: Change[], rolls: boolean): Promise<void> {
    const changes = [...more, ...this.#changesOf(key, next)];
    try {
      await this.#fleet.state.write(changes);
    } catch (error) {
      this.#fleet.log(`${key}: a step of its rollout could not be kept: ${(error as Error).message}`);
    }
    if (this.#closed) return;
    if (rolls) {
      this.#fleet.forgive(key);
      this.#fleet.notes.delete(key);
    }
    this.#told(key);
    for (const listener of this.#listeners) listener(next.tenant, next.service);
    this.#fleet.tellService(key);
    this.#fleet.poke(key);
    void this.#tellEntries(key);
    this.#trials.look(key);
  }

  #told(key: string): void {
    const [tenant] = key.split('/');
    const is = this.#fleet.state.get('rollout', key) !== undefined;
    this.#fleet.changes.tell('rollout', key, tenant, is ? () => (this.#fleet.state.get('rollout', key) === undefined ? undefined : this.view(key)) : undefined);
  }

  /** Hands on what was not handed on yet, in order; what fails is tried again with the next step or tick. */
  async #tellEntries(key: string): Promise<void> {
    if (!this.#opened || this.#telling.has(key)) return;
    this.#telling.add(key);
    try {
      for (;;) {
        const rollout = this.#fleet.state.get('rollout', key);
        const entry = rollout?.entries.find(({ number }) => number > rollout.recordedUpTo);
        if (rollout === undefined || entry === undefined || this.#closed) return;
        const { tenant, service } = rollout;
        this.#fleet.log(`${key}: rollout ${entry.rollout} of release ${entry.release}: ${entry.event}: ${entry.phase}, wave ${entry.wave}${entry.text === '' ? '' : `: ${entry.text}`}`);
        await this.#o.audit?.append({
          at: entry.at,
          token: '',
          role: 'rollout',
          tenant,
          from: '',
          method: 'ROLLOUT',
          path: `/v1/rollouts/${key}?entry=${entry.number}&release=${entry.release}&wave=${entry.wave}&event=${entry.event}`,
          status: 200,
          code: entry.phase,
        });
        await this.record?.(tenant, service, entry);
        const now = this.#fleet.state.get('rollout', key);
        if (now === undefined || this.#closed) return;
        await this.#fleet.state.write([this.#fleet.state.set('rollout', key, { ...now, recordedUpTo: entry.number })]);
      }
    } catch (error) {
      this.#fleet.log(`${key}: the record of its rollout could not be kept: ${(error as Error).message}`);
    } finally {
      this.#telling.delete(key);
    }
  }

  /** Until each host answered, or was found away, nobody knows what is missing. */
  #isSeen(): boolean {
    for (const unit of this.#fleet.units.values()) if (!unit.up && unit.error === undefined && !unit.record.dead) return false;
    return true;
  }

  #planned(key: string): void {
    const rollout = this.#fleet.state.get('rollout', key);
    if (rollout === undefined || this.#closed) return;
    if (this.#fleet.state.get('service', key) === undefined) {
      // It was deleted, and its last copy is gone.
      this.#fleet.state.later([this.#fleet.state.set('rollout', key, undefined)]);
      this.#refused.delete(key);
      return this.#told(key);
    }
    const progress = this.#fleet.progress.get(key);
    if (progress?.of !== undefined && isSameStand(progress.of, rollout) && this.#isSeen())
      this.#step(key, { on: 'progress', ready: progress.ready, missing: progress.missing, left: progress.left });
    this.#trials.look(key);
    if (!isEnded(rollout)) this.#told(key);
  }

  #tick(): void {
    if (!this.#opened) return;
    const nowMs = this.#monotonic();
    // A machine that slept did not watch.
    const elapsedMs = Math.max(0, Math.min(nowMs - this.#lastMs, 8 * this.#tickMs));
    this.#lastMs = nowMs;
    const keep = (this.#keptMs += elapsedMs) >= keepEveryMs;
    if (keep) {
      this.#keptMs = 0;
      for (const [key, { service, commit }] of this.#refused) void this.#tryToBegin(key, service, commit);
    }
    this.#trials.forget();
    const changes: Change[] = [];
    for (const [key, rollout] of this.#fleet.state.all('rollout')) {
      if (rollout.entries.at(-1)!.number > rollout.recordedUpTo) void this.#tellEntries(key);
      if (isEnded(rollout) || rollout.phase === 'paused' || !this.#isSeen()) continue;
      const progress = this.#fleet.progress.get(key);
      const missing = progress?.of !== undefined && isSameStand(progress.of, rollout) ? progress.missing : 0;
      this.#step(key, { on: 'tick', elapsedMs, missing });
      const now = this.#fleet.state.get('rollout', key);
      if (keep && now !== undefined) changes.push({ key: `rollout/${key}`, value: now });
      if (isOnTrial(rollout)) this.#trials.look(key);
    }
    if (changes.length > 0) this.#fleet.state.later(changes);
  }
}
