/**
 * The client's side of a move: an address that the other end announces is joined at once, by this end, and asked again soon when nothing answers. The kernel's own
 * path manager asks once and then waits a second for TCP to repeat its SYN, which is what an application would see of a middlebox that is not up yet.
 */
import type { Connection, Endpoint, MptcpPort, PathEvent } from './port.ts';

export interface FollowOptions {
  port: MptcpPort;
  /** Between a subflow that did not come up and the next try, at first. Each further wait is longer by half: a way on which an answer takes that long would never be waited for. */
  retryMs: number;
  /** In all, for one announced address. */
  patienceMs: number;
  maxSubflows: number;
  log: (line: string) => void;
}

interface Wanted {
  token: number;
  remoteId: number;
  remote: Endpoint;
  untilMs: number;
  nextMs: number;
  waitMs: number;
}

const growth = 1.5;
const minLookMs = 5;
const longestWaitMs = 2000;
/** Announcements under way at once, over all connections. */
const wantedMax = 65_536;

export class Follower {
  readonly #o: FollowOptions;
  readonly #wanted = new Map<string, Wanted>();
  readonly #unsubscribe: () => void;
  #soon: NodeJS.Immediate | undefined;
  #later: NodeJS.Timeout | undefined;
  joined = 0;
  gaveUp = 0;

  constructor(options: FollowOptions) {
    this.#o = options;
    this.#unsubscribe = options.port.onEvent((event) => this.#on(event));
  }

  close(): void {
    this.#unsubscribe();
    clearImmediate(this.#soon);
    clearTimeout(this.#later);
    this.#wanted.clear();
  }

  get waiting(): number {
    return this.#wanted.size;
  }

  #on(event: PathEvent): void {
    if (event.kind === 'announced' && this.#wanted.size < wantedMax) {
      const { token, remoteId, remote } = event;
      this.#wanted.set(`${token}/${remoteId}`, { token, remoteId, remote, untilMs: Date.now() + this.#o.patienceMs, nextMs: 0, waitMs: this.#o.retryMs });
      // All that are told of in one turn cost one look.
      this.#soon ??= setImmediate(() => this.#look());
    } else if (event.kind === 'removed') this.#wanted.delete(`${event.token}/${event.remoteId}`);
    else if (event.kind === 'closed') for (const [key, { token }] of this.#wanted) if (token === event.token) this.#wanted.delete(key);
  }

  /** One look at the connections, and at most one new subflow for each that is due; comes back while anything is wanted. */
  #look(): void {
    this.#soon = undefined;
    clearTimeout(this.#later);
    const now = Date.now();
    let connections: Map<number, Connection> | undefined;
    try {
      connections = new Map(this.#o.port.connections().map((one) => [one.token, one]));
    } catch (error) {
      this.#o.log(`announced addresses: ${(error as Error).message}`);
    }
    if (connections !== undefined)
      for (const [key, wanted] of this.#wanted) {
        if (wanted.nextMs > now) continue;
        wanted.nextMs = now + wanted.waitMs;
        wanted.waitMs = Math.max(this.#o.retryMs, Math.min(longestWaitMs, wanted.waitMs * growth));
        if (!this.#try(wanted, connections.get(wanted.token), now)) this.#wanted.delete(key);
      }
    if (this.#wanted.size === 0) return;
    let nextMs = Infinity;
    for (const wanted of this.#wanted.values()) nextMs = Math.min(nextMs, wanted.nextMs);
    this.#later = setTimeout(() => this.#look(), Math.max(minLookMs, nextMs - now));
  }

  /** False when nothing more is to be done for it. */
  #try({ token, remote: announced, untilMs }: Wanted, connection: Connection | undefined, now: number): boolean {
    if (connection === undefined) return false;
    const { port, maxSubflows, log } = this.#o;
    const remote: Endpoint = { address: announced.address, port: announced.port === 0 ? connection.remote.port : announced.port };
    const there = connection.subflows.filter((one) => one.remote.address === remote.address && one.remote.port === remote.port);
    if (there.some(({ state }) => state === 'established')) {
      this.joined++;
      return false;
    }
    if (now >= untilMs) {
      this.gaveUp++;
      log(`connection ${token}: ${remote.address} was announced and never answered`);
      return false;
    }
    try {
      // A SYN that nobody answered is taken back: a new one leaves at once, TCP's own repeat a second later.
      for (const one of there) port.destroySubflow(token, one.local, one.remote);
      if (connection.subflows.length - there.length < maxSubflows) port.createSubflow(token, from(connection), remote);
    } catch (error) {
      log(`connection ${token}: ${(error as Error).message}`);
    }
    return true;
  }
}

/** The address that the connection uses now, with its id. */
function from({ local, subflows }: Connection): { address: string; id: number } {
  const used = subflows.find(({ state, backup }) => state === 'established' && !backup) ?? subflows.find(({ state }) => state === 'established');
  return { address: used?.local.address ?? local.address, id: used?.localId ?? 0 };
}
