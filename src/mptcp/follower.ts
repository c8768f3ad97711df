/**
 * The client's side of a move: an address that the other end announces is joined at once, by this end, and asked again soon when nothing answers. The kernel's own
 * path manager asks once and then waits a second for TCP to repeat its SYN, which is what an application would see of a middlebox that is not up yet.
 */
import type { Connection, Endpoint, MptcpPort, PathEvent } from './port.ts';

export interface FollowOptions {
  port: MptcpPort;
  /** Between a subflow that did not come up and the next try. */
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
  timer: NodeJS.Timeout | undefined;
}

/** Announcements under way at once, over all connections. */
const wantedMax = 4_096;

export class Follower {
  readonly #o: FollowOptions;
  readonly #wanted = new Map<string, Wanted>();
  readonly #unsubscribe: () => void;
  joined = 0;
  gaveUp = 0;

  constructor(options: FollowOptions) {
    this.#o = options;
    this.#unsubscribe = options.port.onEvent((event) => this.#on(event));
  }

  close(): void {
    this.#unsubscribe();
    for (const { timer } of this.#wanted.values()) clearTimeout(timer);
    this.#wanted.clear();
  }

  get waiting(): number {
    return this.#wanted.size;
  }

  #on(event: PathEvent): void {
    if (event.kind === 'announced' && this.#wanted.size < wantedMax) {
      const { token, remoteId, remote } = event;
      const key = `${token}/${remoteId}`;
      clearTimeout(this.#wanted.get(key)?.timer);
      const wanted: Wanted = { token, remoteId, remote, untilMs: Date.now() + this.#o.patienceMs, timer: undefined };
      this.#wanted.set(key, wanted);
      this.#try(wanted);
    } else if (event.kind === 'removed') this.#drop(`${event.token}/${event.remoteId}`);
    else if (event.kind === 'closed') for (const [key, { token }] of this.#wanted) if (token === event.token) this.#drop(key);
  }

  #drop(key: string): void {
    clearTimeout(this.#wanted.get(key)?.timer);
    this.#wanted.delete(key);
  }

  /** One look and at most one new subflow; comes back until it is established. */
  #try(wanted: Wanted): void {
    const { token, remoteId, untilMs } = wanted;
    const key = `${token}/${remoteId}`;
    try {
      const connection = this.#o.port.connections().find((one) => one.token === token);
      if (connection === undefined) return this.#drop(key);
      const remote: Endpoint = { address: wanted.remote.address, port: wanted.remote.port === 0 ? connection.remote.port : wanted.remote.port };
      const there = connection.subflows.filter((one) => one.remote.address === remote.address && one.remote.port === remote.port);
      if (there.some(({ state }) => state === 'established')) {
        this.joined++;
        return this.#drop(key);
      }
      if (Date.now() >= untilMs) {
        this.gaveUp++;
        this.#o.log(`connection ${token}: ${remote.address} was announced and never answered`);
        return this.#drop(key);
      }
      // A SYN that nobody answered is taken back: a new one leaves at once, TCP's own repeat a second later.
      for (const one of there) this.#o.port.destroySubflow(token, one.local, one.remote);
      if (connection.subflows.length - there.length < this.#o.maxSubflows) this.#o.port.createSubflow(token, from(connection), remote);
    } catch (error) {
      this.#o.log(`connection ${token}: ${(error as Error).message}`);
    }
    wanted.timer = setTimeout(() => this.#try(wanted), this.#o.retryMs);
  }
}

/** The address that the connection uses now, with its id. */
function from({ local, subflows }: Connection): { address: string; id: number } {
  const used = subflows.find(({ state, backup }) => state === 'established' && !backup) ?? subflows.find(({ state }) => state === 'established');
  return { address: used?.local.address ?? local.address, id: used?.localId ?? 0 };
}
