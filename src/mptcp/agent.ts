/**
 * The path agent: what a coordinator asks, done to each connection by the policy of the machine's owner. It remembers nothing that matters: which addresses were
 * announced under which ids, and what is backup, is read from the kernel before each act, so that one that was killed goes on as if it had not been.
 */
import { randomBytes } from 'node:crypto';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { pathState, type Outcome, type PathSide, type PathStatus, type StatusQuestion } from './paths.ts';
import type { Connection, MptcpPort } from './port.ts';

export interface Policy {
  /** What may be announced, withdrawn and set backup; undefined: any. */
  addresses: readonly string[] | undefined;
  /** A connection with so many subflows gets no more. */
  maxSubflows: number;
}

export interface AgentOptions {
  port: MptcpPort;
  policy: Policy;
  log: (line: string) => void;
  /** Peers that were told that an address goes have so long to end their subflows on it, and four of the longest round trips if that is more. */
  leaveMs?: number;
}

/** Those who wait for a change at once. */
const waitersMax = 64;
export const waitMaxMs = 30_000;
const leaveLookMs = 20;
const leaveMaxMs = 2_000;
const highestId = 255;

export interface Counts {
  announced: number;
  withdrawn: number;
  backups: number;
  destroyed: number;
  refused: number;
  events: number;
  eventsLost: number;
}

export class PathAgent implements PathSide {
  readonly port: MptcpPort;
  readonly #policy: Policy;
  readonly #log: (line: string) => void;
  readonly #leaveMs: number;
  readonly #epoch = randomBytes(6).toString('hex');
  readonly #waiters = new Set<() => void>();
  readonly #unsubscribe: () => void;
  #changes = 0;
  readonly counts: Counts = { announced: 0, withdrawn: 0, backups: 0, destroyed: 0, refused: 0, events: 0, eventsLost: 0 };

  constructor({ port, policy, log, leaveMs = 250 }: AgentOptions) {
    this.port = port;
    this.#policy = policy;
    this.#log = log;
    this.#leaveMs = leaveMs;
    this.#unsubscribe = port.onEvent(({ kind }) => {
      this.counts.events++;
      if (kind === 'lost') this.counts.eventsLost++;
      this.#changed();
    });
  }

  close(): void {
    this.#unsubscribe();
    this.#changed();
  }

  #changed(): void {
    this.#changes++;
    for (const wake of [...this.#waiters]) wake();
  }

  get #change(): string {
    return `${this.#epoch}.${this.#changes}`;
  }

  /** Returns at once when there is news, or too many wait already. */
  async #wait(after: string | undefined, waitMs: number): Promise<void> {
    if (after !== this.#change || waitMs <= 0 || this.#waiters.size >= waitersMax) return;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(late);
        this.#waiters.delete(wake);
        resolve();
      };
      const late = setTimeout(wake, Math.min(waitMs, waitMaxMs));
      this.#waiters.add(wake);
    });
  }

  async status({ from, to, after, waitMs = 0 }: StatusQuestion): Promise<PathStatus> {
    await this.#wait(after, waitMs);
    const change = this.#change;
    const connections = this.port.connections().flatMap((connection) => {
      const { token, local, remote, subflows, announced } = connection;
      const paths = { from: pathState(connection, from), to: pathState(connection, to) };
      const isAnnounced = announced.some(({ address }) => address === to);
      if (local.address !== from && local.address !== to && !isAnnounced && !subflows.some((one) => one.local.address === from || one.local.address === to)) return [];
      return [{ token, local, remote, ...paths, announced: isAnnounced, subflows: subflows.length }];
    });
    return { change, connections, plain: this.port.plain().filter(({ local }) => local.address === from) };
  }

  #allow(address: string): void {
    if (this.#policy.addresses !== undefined && !this.#policy.addresses.includes(address))
      throw new ShoalError('FORBIDDEN', `The policy of this path agent does not have the address ${address}.`, { hint: 'Add it to "addresses" of the path agent\'s configuration.' });
  }

  /** Does one thing to each connection it is about; one that fails is an outcome, not an end. */
  #each(tokens: readonly number[] | undefined, fits: (connection: Connection) => boolean, act: (connection: Connection) => boolean | string): Outcome[] {
    const wanted = tokens === undefined ? undefined : new Set(tokens);
    return this.port.connections().filter((connection) => (wanted?.has(connection.token) ?? true) && fits(connection)).map((connection): Outcome => {
      const { token } = connection;
      try {
        const done = act(connection);
        if (typeof done === 'boolean') return { token, result: done ? 'done' : 'already' };
        this.counts.refused++;
        return { token, result: 'refused', why: done };
      } catch (thrown) {
        const error = asShoalError(thrown);
        // It ended meanwhile: nothing is left to do.
        if (error.code === 'NOT_FOUND') return { token, result: 'already' };
        this.#log(`connection ${token}: ${error.message}`);
        this.counts.refused++;
        return { token, result: 'refused', why: error.message };
      }
    });
  }

  async announce({ address, from, anew = false, tokens }: { address: string; from: string; anew?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    this.#allow(address);
    const fits = ({ subflows }: Connection): boolean => subflows.some(({ local }) => local.address === from);
    const left = anew ? await this.#askToLeave(address, tokens, fits) : undefined;
    return this.#each(tokens, fits, (connection) => {
      const { token, announced, numbered, subflows } = connection;
      if (!anew && (announced.some((one) => one.address === address) || pathState(connection, address).established > 0)) return false;
      const living = subflows.filter(({ state }) => state !== 'closing').length;
      if (living >= this.#policy.maxSubflows) return `it has ${living} subflows already`;
      const taken = new Set([0, ...[...announced, ...numbered].map(({ id }) => id), ...subflows.map(({ localId }) => localId), ...(left?.get(token) ?? [])]);
      if (taken.size > highestId) return 'it has no id left';
      // Onwards, not the lowest that is free: that may be one whose removal is still on its way to the peer, and would hit the new address.
      let id = Math.max(...taken);
      do id = (id % highestId) + 1;
      while (taken.has(id));
      if (anew) this.#takeBack(connection, address);
      this.port.announce(token, { address, id });
      this.counts.announced++;
      return true;
    });
  }

  async withdraw({ address, gently = false, tokens }: { address: string; gently?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    this.#allow(address);
    const left = gently ? await this.#askToLeave(address, tokens) : undefined;
    const concerns = ({ token, announced, subflows, local }: Connection): boolean =>
      left?.has(token) === true || announced.some((one) => one.address === address) || local.address === address || subflows.some((one) => one.local.address === address);
    return this.#each(tokens, concerns, (connection) => {
      const done = this.#takeBack(connection, address) || left?.has(connection.token) === true;
      if (done) this.counts.withdrawn++;
      return done;
    });
  }

  /**
   * Tells peers with a subflow on the address that it goes, and waits until they have ended it. A Linux peer counts the addresses that it accepted, eight at most, and takes one
   * off only where REMOVE_ADDR finds its subflow alive: our own end of it, a reset, would often be there first, and after eight moves that were called off the connection could
   * never join anything again. The ids that were taken back, by token.
   */
  async #askToLeave(address: string, tokens: readonly number[] | undefined, fits: (connection: Connection) => boolean = () => true): Promise<Map<number, number[]>> {
    const left = new Map<number, number[]>();
    let waitMs = this.#leaveMs;
    this.#each(tokens, (connection) => fits(connection) && pathState(connection, address).established > 0, ({ token, announced, subflows }) => {
      const on = subflows.filter(({ local }) => local.address === address);
      const ids = new Set([...announced.filter((one) => one.address === address).map(({ id }) => id), ...on.map(({ localId }) => localId)]);
      left.set(token, [...ids]);
      waitMs = Math.max(waitMs, ...on.map(({ rttUs }) => (4 * rttUs) / 1000));
      for (const id of ids) this.port.withdraw(token, { address, id });
      return true;
    });
    const untilMs = performance.now() + Math.min(waitMs, leaveMaxMs);
    const stays = (): boolean => this.port.connections().some((connection) => left.has(connection.token) && pathState(connection, address).established > 0);
    while (left.size > 0 && performance.now() < untilMs && stays()) await new Promise((done) => setTimeout(done, leaveLookMs));
    return left;
  }

  /** False when the connection has nothing of the address. */
  #takeBack({ token, announced, subflows }: Connection, address: string): boolean {
    const on = subflows.filter(({ local }) => local.address === address);
    const ids = new Set([...announced.filter((one) => one.address === address).map(({ id }) => id), ...on.map(({ localId }) => localId)]);
    for (const id of ids) this.port.withdraw(token, { address, id });
    // The kernel only tells the peer, whose answer may go into a tombstone: this end's subflows are ended here.
    for (const { local, remote } of on) this.port.destroySubflow(token, local, remote);
    return ids.size > 0;
  }

  async backup({ address, backup, tokens }: { address: string; backup: boolean; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    this.#allow(address);
    return this.#each(tokens, (connection) => pathState(connection, address).established > 0, ({ token, subflows }) => {
      const other = subflows.filter(({ local, state, backup: is }) => local.address === address && state === 'established' && is !== backup);
      for (const subflow of other) this.port.setBackup(token, subflow, backup);
      this.counts.backups += other.length;
      return other.length > 0;
    });
  }

  /** Ends the subflows on an address at once. FORBIDDEN. */
  async destroy({ address, tokens }: { address: string; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    this.#allow(address);
    return this.#each(tokens, ({ subflows }) => subflows.some(({ local }) => local.address === address), ({ token, subflows }) => {
      const on = subflows.filter(({ local }) => local.address === address);
      for (const { local, remote } of on) this.port.destroySubflow(token, local, remote);
      this.counts.destroyed += on.length;
      return true;
    });
  }
}
