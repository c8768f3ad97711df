/**
 * The coordinator of a move: the table's states done, one after the other, with path agents at the ends that stay and hosts at the ends that move. Each effect may be
 * repeated, and the state is on disk before it begins: whoever finds a move after a kill does its last effect again or goes back (`resume`).
 */
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { ConnectionPaths, Outcome, PathSide } from '../mptcp/paths.ts';
import type { MoveRecord, MoveStore } from './paths-journal.ts';
import { allows, isBack, isEnd, nextState, whenFound, type MoveKind, type MoveState } from './paths-table.ts';

/** The two ends of the VM's own move. Each call may be repeated, and resolves when it is so. */
export interface Waypoints {
  /** A checkpoint of the source runs at the target under the new address; the source goes on. */
  copy(move: MoveRecord): Promise<void>;
  /** The target drops what comes for the new address, without answering. */
  hold(move: MoveRecord): Promise<void>;
  /** The source is suspended: it sends and answers nothing. */
  suspend(move: MoveRecord): Promise<void>;
  /** The suspended source's state runs at the target under the new address. */
  start(move: MoveRecord): Promise<void>;
  /** The source's host answers for the old address with RST. */
  bury(move: MoveRecord): Promise<void>;
  /** The source runs again, and nothing answers for the old address in its place. */
  revive(move: MoveRecord): Promise<void>;
  /** What ran, or was to run, at the target is gone. */
  discard(move: MoveRecord): Promise<void>;
  /** The suspended source is gone for good; its tombstone stays. */
  release(move: MoveRecord): Promise<void>;
}

export interface CoordinatorOptions {
  /** Every path agent whose connections run over the waypoint. */
  sides: readonly PathSide[];
  waypoints: Waypoints;
  store: MoveStore;
  log: (line: string) => void;
  now: () => number;
  /** Until every connection has its subflow at the target. */
  joinMs?: number;
  /** Before a source is stopped whose target is not there yet: the announcement has only the old path, no peer is heard to have got it, and what is lost with the source is not repeated. */
  tellMs?: number;
  /** At most, for what is under way on the old subflows. */
  drainMs?: number;
  /** A step that fails because something is out of reach is tried so long. */
  patienceMs?: number;
  /** Between two looks or tries. */
  lookMs?: number;
}

export interface MoveOutcome {
  record: MoveRecord;
  /** Milliseconds each state took, in order. */
  took: { state: MoveState; ms: number }[];
  /** Connections that had no subflow at the target when the old address went. */
  left: number;
}

const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

const total = (paths: ConnectionPaths['from']): number => paths.ackedBytes + paths.receivedBytes;

/** Nothing moved on a path over so many looks: it is drained. */
const quietLooks = 3;

export class PathCoordinator {
  readonly #o: Required<CoordinatorOptions>;
  readonly #aborts = new Map<string, string>();
  readonly #running = new Set<string>();

  constructor(options: CoordinatorOptions) {
    this.#o = { joinMs: 10_000, tellMs: 300, drainMs: 1_500, patienceMs: 10_000, lookMs: 20, ...options };
  }

  /** Resolves with `moved` or `stayed`; rejects only with what the store throws, CONFLICT when the move is under way, PATHS_LOST when it never began. */
  async move(wanted: { id: string; kind: MoveKind; from: string; to: string; leave?: boolean; about?: MoveRecord['about'] }): Promise<MoveOutcome> {
    const { id, kind, from, to, leave = false, about } = wanted;
    if (from === to) throw new ShoalError('REQUEST_INVALID', 'A waypoint does not move to the address it has.');
    const open = this.#o.store.open().find((one) => one.id === id || [one.from, one.to].some((address) => address === from || address === to));
    if (open !== undefined || this.#running.has(id)) throw new ShoalError('CONFLICT', `The move ${open?.id ?? id} is under way.`, { hint: 'Wait for its end, or resume it.' });
    return this.#run({ id, kind, from, to, leave, state: 'planned', ...(about === undefined ? {} : { about }) });
  }

  /** Has a move go back as soon as the step under way ends. OPERATION_NOT_ALLOWED once it can only go on; NOT_FOUND. */
  abort(id: string, why = 'it was asked to'): void {
    const record = this.#o.store.open().find((one) => one.id === id);
    if (record === undefined || !this.#running.has(id)) throw new ShoalError('NOT_FOUND', `No move ${id} is under way here.`);
    if (!allows(record.state, 'abort')) nextState(record.state, 'abort');
    this.#aborts.set(id, why);
  }

  /** Ends what a killed coordinator left, or the one of it: back while the source is untouched, on otherwise. */
  async resume(only?: string): Promise<MoveOutcome[]> {
    const outcomes: MoveOutcome[] = [];
    for (const record of this.#o.store.open()) {
      if (this.#running.has(record.id) || (only !== undefined && record.id !== only)) continue;
      if (whenFound(record.state) === 'abort') outcomes.push(await this.#run({ ...record, state: nextState(record.state, 'abort'), why: 'its coordinator was killed' }));
      else outcomes.push(await this.#run(record));
    }
    return outcomes;
  }

  async #run(record: MoveRecord): Promise<MoveOutcome> {
    const outcome: MoveOutcome = { record, took: [], left: 0 };
    this.#running.add(record.id);
    try {
      for (;;) {
        await this.#o.store.save(record);
        if (isEnd(record.state)) return outcome;
        const began = this.#o.now();
        let event: 'done' | 'break' | 'failed' | 'abort' = record.state === 'planned' && record.kind === 'break-before-make' ? 'break' : 'done';
        try {
          await this.#patiently(record, outcome);
        } catch (thrown) {
          const error = asShoalError(thrown);
          this.#o.log(`move ${record.id}: ${record.state}: ${error.message}`);
          // What can only go on is taken up again by `resume`; nothing is undone by giving up here.
          if (!allows(record.state, 'failed')) throw error;
          record.why = `${error.code}: ${error.message}`;
          event = 'failed';
        }
        outcome.took.push({ state: record.state, ms: this.#o.now() - began });
        const why = this.#aborts.get(record.id);
        if (why !== undefined && allows(record.state, 'abort')) {
          this.#aborts.delete(record.id);
          record.why = why;
          event = 'abort';
        }
        record.state = nextState(record.state, event);
      }
    } finally {
      this.#running.delete(record.id);
      this.#aborts.delete(record.id);
    }
  }

  /** An agent or host that restarts is waited for; what was refused for good is not. */
  async #patiently(record: MoveRecord, outcome: MoveOutcome): Promise<void> {
    const until = this.#o.now() + this.#o.patienceMs;
    for (;;) {
      try {
        return await this.#effect(record, outcome);
      } catch (thrown) {
        const error = asShoalError(thrown);
        const passing = ['CONNECTION_FAILED', 'TIMEOUT', 'HOST_AWAY'].includes(error.code);
        if (!passing || this.#o.now() >= until || (this.#aborts.has(record.id) && allows(record.state, 'abort'))) throw error;
        await wait(this.#o.lookMs * 5);
      }
    }
  }

  async #effect(record: MoveRecord, outcome: MoveOutcome): Promise<void> {
    const { waypoints } = this.#o;
    const { from, to } = record;
    switch (record.state) {
      case 'planned':
      case 'moved':
      case 'stayed':
        return;
      case 'copying':
        return waypoints.copy(record);
      case 'holding':
        return waypoints.hold(record);
      case 'announcing':
        return this.#announce(record, to, from);
      case 'announcing-early':
        await this.#announce(record, to, from);
        return wait(this.#o.tellMs);
      case 'joining':
      case 'joining-late':
        outcome.left = await this.#join(record, from, to, !record.leave);
        return;
      case 'demoting':
        return this.#backup(from, true);
      case 'draining':
        return this.#drain(from, to);
      case 'suspending':
      case 'stopping':
        return waypoints.suspend(record);
      case 'starting':
        return waypoints.start(record);
      case 'burying':
        return waypoints.bury(record);
      case 'withdrawing':
        return this.#withdraw(from);
      case 'releasing':
        return waypoints.release(record);
      case 'reviving':
        return waypoints.revive(record);
      case 'returning':
        return this.#giveBack(record);
      case 'rejoining':
        // Who cannot come back keeps the move open with both waypoints running: nothing is lost, and `resume` tries again.
        outcome.left = await this.#join(record, to, from, !record.leave);
        return;
      case 'promoting':
        return this.#backup(from, false);
      case 'emptying':
        await this.#backup(to, true);
        return this.#drain(to, from);
      case 'retracting':
        return this.#withdraw(to, true);
      case 'discarding':
        await waypoints.discard(record);
        // A join that was under way when the address was taken back may have come through until now: it leads nowhere, and data would be given to it.
        return this.#withdraw(to);
    }
  }

  async #all(act: (side: PathSide) => Promise<Outcome[]>): Promise<Outcome[]> {
    return (await Promise.all(this.#o.sides.map(act))).flat();
  }

  async #announce(record: MoveRecord, address: string, from: string): Promise<void> {
    const refused = (await this.#all((side) => side.announce({ address, from }))).filter(({ result }) => result === 'refused');
    if (refused.length > 0 && !record.leave && !isBack(record.state)) throw lost(refused.length, `could not be told of ${address}: ${refused[0]!.why ?? ''}`);
  }

  async #backup(address: string, backup: boolean): Promise<void> {
    for (const { token, why } of (await this.#all((side) => side.backup({ address, backup }))).filter(({ result }) => result === 'refused')) this.#o.log(`connection ${token}: ${address} was not set ${backup ? 'backup' : 'back'}: ${why}`);
  }

  /** `gently`: of an address whose waypoint still runs. */
  async #withdraw(address: string, gently = false): Promise<void> {
    await this.#all((side) => side.withdraw({ address, gently }));
  }

  /**
   * Those that live at the target get the old address like any new one: their subflows on it may be dead at the other end (a tombstone's RST) and look alive here, so
   * they are ended first. Those that live only on the old one keep it.
   */
  async #giveBack(record: MoveRecord): Promise<void> {
    const { from, to } = record;
    await Promise.all(
      this.#o.sides.map(async (side) => {
        const tokens = (await side.status({ from, to })).connections.filter((one) => one.to.established > 0).map(({ token }) => token);
        if (tokens.length > 0) await side.announce({ address: from, from: to, anew: true, tokens });
      }),
    );
  }

  /** A join that met no listening path agent was refused by the kernel and is not repeated: the address is taken back and announced anew. */
  async #tellAnew(from: string, to: string): Promise<void> {
    for (const side of this.#o.sides) {
      const { connections } = await side.status({ from, to });
      const tokens = connections.filter((one) => one.from.established > 0 && one.to.established === 0 && one.to.connecting === 0).map(({ token }) => token);
      if (tokens.length > 0) await side.announce({ address: to, from, anew: true, tokens });
    }
  }

  /** Waits until whoever has a subflow on `from` has one on `to`; how many have none at the end. Throws PATHS_LOST when that is an end. */
  async #join(record: MoveRecord, from: string, to: string, must: boolean): Promise<number> {
    const until = this.#o.now() + this.#o.joinMs;
    const changes: (string | undefined)[] = this.#o.sides.map(() => undefined);
    let told = this.#o.now();
    let anew = record.state !== 'joining';
    for (;;) {
      const left = until - this.#o.now();
      const waitMs = Math.ceil(Math.max(0, Math.min(left, this.#o.joinMs / 4, this.#o.sides.length === 1 ? 250 : this.#o.lookMs)));
      const found = await Promise.all(this.#o.sides.map((side, i) => side.status({ from, to, after: changes[i], waitMs })));
      found.forEach(({ change }, i) => (changes[i] = change));
      const missing = found.flatMap(({ connections }) => connections).filter((one) => one.from.established > 0 && one.to.established === 0);
      if (missing.length === 0) return 0;
      if (this.#o.now() >= until) {
        if (must) throw lost(missing.length, `did not join ${to} within ${this.#o.joinMs} ms`);
        return missing.length;
      }
      if (this.#aborts.has(record.id) && allows(record.state, 'abort')) return missing.length;
      if (!anew && this.#o.now() >= until - this.#o.joinMs / 2) {
        anew = true;
        await this.#tellAnew(from, to);
      }
      // A connection that began after the announcement was not told.
      if (missing.some(({ announced }) => !announced) && this.#o.now() - told >= this.#o.lookMs) {
        told = this.#o.now();
        await this.#announce(record, to, from);
      }
    }
  }

  /** Until nothing moves on `from` any more; what has no other path is not waited for. */
  async #drain(from: string, to: string): Promise<void> {
    const until = this.#o.now() + this.#o.drainMs;
    let before = '';
    for (let quiet = 0; quiet < quietLooks && this.#o.now() < until; ) {
      const found = await Promise.all(this.#o.sides.map((side) => side.status({ from, to })));
      const draining = found.flatMap(({ connections }) => connections).filter((one) => one.from.established > 0 && one.to.established > 0);
      const now = draining.map(({ token, from: path }) => `${token}:${total(path)}`).join();
      const queued = draining.some(({ from: path }) => path.queuedBytes > 0);
      quiet = now === before && !queued ? quiet + 1 : 0;
      before = now;
      if (draining.length === 0) return;
      await wait(this.#o.lookMs);
    }
  }
}

const lost = (count: number, what: string): ShoalError => new ShoalError('PATHS_LOST', `${count} connection${count === 1 ? '' : 's'} ${what}.`, { data: { count } });
