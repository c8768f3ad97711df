/**
 * Releases on trial: each copy of the wave is asked its gates as soon as it is ready, and may take its place only when it passed; the
 * wave as a whole when all its copies did. What passed is remembered in memory alone: after a crash it is asked again.
 */
import { keyOf, type Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import { askCompare, askCopy, isCopyGate, type Probes } from './gates.ts';
import { isOnTrial, slotsOnTarget, type Rollout } from '../rollout/state.ts';
import { slotsIn } from '../rollout/waves.ts';

/** Copies asked at once, over all services. */
const atOnce = 64;
/** While a wave is watched each copy is asked again: four times, but no more often than this. */
const againMs = 250;
const timesWatched = 4;

interface Asked {
  /** Of the life of the copy that was asked. */
  lifeMs: number;
  answer: 'under way' | 'passed';
  /** Of a clock that nobody sets. */
  atMs: number;
  again: boolean;
}

export interface TrialListener {
  copyFailed(key: string, copy: Tracked, text: string): void;
  /** `text`: why the wave failed; undefined: it passed. */
  waveAsked(key: string, of: Rollout, text: string | undefined): void;
}

export class Trials {
  readonly #fleet: Fleet;
  readonly #probes: Probes;
  readonly #listener: TrialListener;
  readonly #asked = new Map<number, Asked>();
  readonly #waiting: Tracked[] = [];
  readonly #waves = new Map<string, Rollout>();
  #asking = 0;
  #closed = false;

  constructor(fleet: Fleet, probes: Probes, listener: TrialListener) {
    this.#fleet = fleet;
    this.#probes = probes;
    this.#listener = listener;
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
  }

  #rollout(key: string): Rollout | undefined {
    return this.#fleet.state.get('rollout', key);
  }

  /** Whether it is a copy of the target in the wave that is on trial now: those of waves before it were asked then. */
  #isOnTrial(copy: Tracked, rollout: Rollout | undefined): rollout is Rollout {
    if (rollout === undefined || !isOnTrial(rollout)) return false;
    const { slot } = copy.id;
    const from = rollout.wave === 0 ? 0 : slotsIn(rollout.policy, rollout.count, rollout.wave - 1);
    return slot >= from && slot < slotsOnTarget(rollout) && this.#isTarget(copy, rollout);
  }

  #isTarget(copy: Tracked, rollout: Rollout): boolean {
    const record = this.#fleet.state.get('service', keyOf(copy.id));
    return record !== undefined && copy.id.revision === this.#fleet.versions.revisionOfVersion(record, rollout.target);
  }

  isTarget(copy: Tracked): boolean {
    const rollout = this.#rollout(keyOf(copy.id));
    return rollout !== undefined && this.#isTarget(copy, rollout);
  }

  hasPassed(copy: Tracked): boolean {
    const rollout = this.#rollout(keyOf(copy.id));
    if (!this.#isOnTrial(copy, rollout) || !rollout.policy.gates.some(isCopyGate)) return true;
    const asked = this.#asked.get(copy.record.id.serial);
    return asked?.answer === 'passed' && asked.lifeMs === copy.runningSinceMs;
  }

  /** A service was planned, or its rollout went on: asks what there is to ask. */
  look(key: string): void {
    const rollout = this.#rollout(key);
    if (rollout === undefined || this.#closed) return;
    if (rollout.phase === 'gating') this.#askWave(key, rollout);
    if (!isOnTrial(rollout) || !rollout.policy.gates.some(isCopyGate)) return;
    for (const copy of this.#fleet.copies.of(key)) {
      if (copy.state !== 'running' || !copy.ready || !this.#isOnTrial(copy, rollout)) continue;
      const { serial } = copy.record.id;
      const before = this.#asked.get(serial);
      if (before?.lifeMs === copy.runningSinceMs) {
        const watched = rollout.phase === 'observing' && before.answer === 'passed' && !before.again;
        if (!watched || performance.now() - before.atMs < Math.max(againMs, rollout.policy.observeMs / timesWatched)) continue;
        before.again = true;
      } else this.#asked.set(serial, { lifeMs: copy.runningSinceMs, answer: 'under way', atMs: 0, again: false });
      this.#waiting.push(copy);
    }
    this.#pump();
  }

  /** What is remembered of copies that are no more is forgotten. */
  forget(): void {
    for (const serial of this.#asked.keys()) if (this.#fleet.copies.get(serial) === undefined) this.#asked.delete(serial);
  }

  #pump(): void {
    while (this.#asking < atOnce && this.#waiting.length > 0) void this.#ask(this.#waiting.shift()!);
  }

  async #ask(copy: Tracked): Promise<void> {
    const key = keyOf(copy.id);
    const { serial } = copy.record.id;
    const lifeMs = copy.runningSinceMs;
    const still = (): boolean =>
      !this.#closed &&
      this.#fleet.copies.get(serial) === copy &&
      copy.state === 'running' &&
      copy.runningSinceMs === lifeMs &&
      this.#isOnTrial(copy, this.#rollout(key));
    this.#asking++;
    const gates = this.#rollout(key)?.policy.gates ?? [];
    const why = still() ? await askCopy(gates, copy.record.addresses[0]?.ip, this.#probes, still).catch(String) : undefined;
    this.#asking--;
    if (this.#closed) return;
    if (!still()) this.#asked.delete(serial);
    else if (why === undefined) {
      this.#asked.set(serial, { lifeMs, answer: 'passed', atMs: performance.now(), again: false });
      this.#fleet.poke(key);
    } else this.#listener.copyFailed(key, copy, why);
    this.#pump();
  }

  #askWave(key: string, rollout: Rollout): void {
    const before = this.#waves.get(key);
    if (before !== undefined && isSameStand(before, rollout)) return;
    this.#waves.set(key, rollout);
    void this.#wave(key, rollout).then((text) => {
      if (this.#waves.get(key) === rollout) this.#waves.delete(key);
      if (!this.#closed && this.#still(key, rollout)) this.#listener.waveAsked(key, rollout, text);
    });
  }

  #still(key: string, rollout: Rollout): boolean {
    const now = this.#rollout(key);
    return now !== undefined && isSameStand(now, rollout);
  }

  async #wave(key: string, rollout: Rollout): Promise<string | undefined> {
    const still = (): boolean => !this.#closed && this.#still(key, rollout);
    const { gates } = rollout.policy;
    for (const gate of gates) {
      if (!still()) return undefined;
      let why: string | undefined;
      if (gate.kind === 'compare') {
        const [fresh, old]: [string[], string[]] = [[], []];
        for (const copy of this.#fleet.copies.of(key)) {
          const ip = copy.record.addresses[0]?.ip;
          if (ip !== undefined && copy.state === 'running' && copy.retired === undefined) (this.#isTarget(copy, rollout) ? fresh : old).push(ip);
        }
        why = await askCompare(gate, this.#probeOf(key, rollout), fresh, old, still).catch(String);
      } else if (gate.kind === 'command') why = await this.#probes.command(gate.name, JSON.stringify(this.#waveFacts(key, rollout)), gate.timeoutMs);
      if (why !== undefined) return why;
    }
    return undefined;
  }

  /** One question by which old and new copies are compared: that of the http gate, or of the health check, or a ping. */
  #probeOf(key: string, { policy }: Rollout): (address: string) => Promise<boolean> {
    const gate = policy.gates.find((each) => each.kind === 'http');
    if (gate?.kind === 'http')
      return async (address) => (await this.#probes.http(address, gate.port, gate.path, gate.timeoutMs)) === gate.status;
    const health = this.#fleet.state.get('service', key)?.spec.health;
    if (health?.kind === 'http')
      return async (address) => ((await this.#probes.http(address, health.port, health.path, health.timeoutMs)) ?? 500) < 400;
    return (address) => this.#probes.icmp(address, 1000);
  }

  #waveFacts(key: string, rollout: Rollout) {
    const copies = [...this.#fleet.copies.of(key)].filter((copy) => copy.retired === undefined);
    return {
      tenant: rollout.tenant,
      service: rollout.service,
      wave: rollout.wave,
      release: rollout.target.counter,
      before: rollout.good?.counter,
      image: rollout.target.image,
      commit: rollout.asked.commit,
      copies: copies.map((copy) => ({
        name: copy.name,
        host: copy.host,
        slot: copy.id.slot,
        addresses: copy.addresses,
        isNew: this.#isTarget(copy, rollout),
      })),
    };
  }
}

/** The same rollout in the same phase of the same wave. */
export const isSameStand = (a: Rollout, b: Rollout): boolean => a.number === b.number && a.phase === b.phase && a.wave === b.wave && a.count === b.count;
