/**
 * A xenstore client over the daemon's unix socket. Requests are pipelined: any number may be under way, and a batch leaves in one write
 * to the socket, so that a daemon that serves one request a turn is at least never waited for in between. Nothing polls: watches bring news.
 *
 * When the connection is lost, every request under way fails with XENSTORE_FAILED (whether it was carried out is not known); the next
 * request connects again and sets the watches anew. A watch fires once when it is set, so after a reconnect each listener looks again.
 */
import { connect, type Socket } from 'node:net';
import { ShoalError } from '../../../model/errors.ts';
import {
  Decoder, directoryPart, directoryPartRequest, directoryRequest, encode, messageType, readRequest, texts, transactionEndRequest,
  transactionStartRequest, unwatchRequest, watchRequest, WireError, type Message, type Request,
} from './wire.ts';

export const storeSockets = ['/run/xenstored/socket', '/var/run/xenstored/socket'];

/** An answer of the daemon that says no. `errno` is its symbol, for example "ENOENT". */
export class StoreRefusal extends ShoalError {
  readonly errno: string;
  constructor(errno: string, what: string) {
    super('XENSTORE_FAILED', `xenstore: ${what}: ${errno}`, { data: { errno } });
    this.errno = errno;
  }
}

/** Running totals since the start, for benchmarks and for the agent's facts. */
export interface StoreCounts {
  requests: number;
  /** Requests that change nodes: write, mkdir, rm, set permissions. */
  changes: number;
  /** Transactions done again after EAGAIN. */
  retries: number;
}

interface Pending {
  request: Request;
  resolve: (body: Buffer) => void;
  reject: (error: Error) => void;
}

interface Watch {
  path: string;
  listener: (path: string) => void;
}

/** A transaction that loses this often against other writers gives up. */
const mostAttempts = 50;
const connectTimeoutMs = 10_000;
const changing = new Set<number>([messageType.write, messageType.mkdir, messageType.rm, messageType.setPerms]);
const typeNames = new Map<number, string>(Object.entries(messageType).map(([name, type]) => [type, name]));

const describe = (request: Request): string => `${typeNames.get(request.type) ?? request.type} ${texts(request.body)[0]?.slice(0, 120) ?? ''}`.trim();

export class StoreClient {
  readonly counts: StoreCounts = { requests: 0, changes: 0, retries: 0 };
  private readonly paths: string[];
  private socket: Socket | undefined;
  private connecting: Promise<Socket> | undefined;
  private closed = false;
  private nextId = 1;
  private nextToken = 1;
  private readonly pending = new Map<number, Pending>();
  private readonly watches = new Map<string, Watch>();

  /** `paths`: where the daemon's socket may be; the first that takes a connection is used. */
  constructor(paths: string[] = storeSockets) {
    this.paths = paths;
  }

  /** The value of a node, or undefined when there is none. */
  async read(path: string): Promise<string | undefined> {
    try {
      const [body] = await this.batch([readRequest(path)]);
      return body!.toString('utf8');
    } catch (error) {
      if (error instanceof StoreRefusal && error.errno === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Names of the children of a node; none when there is no such node. */
  async directory(path: string): Promise<string[]> {
    try {
      const [body] = await this.batch([directoryRequest(path)]);
      return texts(body!);
    } catch (error) {
      if (error instanceof StoreRefusal && error.errno === 'ENOENT') return [];
      if (error instanceof StoreRefusal && error.errno === 'E2BIG') return this.largeDirectory(path);
      throw error;
    }
  }

  /** A folder that changes between its parts is read again, a bounded number of times. */
  private async largeDirectory(path: string): Promise<string[]> {
    for (let attempt = 1; attempt <= mostAttempts; attempt++) {
      const names: string[] = [];
      let offset = 0;
      let generation: string | undefined;
      for (;;) {
        const [body] = await this.batch([directoryPartRequest(path, offset)]);
        const part = directoryPart(body!);
        generation ??= part.generation;
        if (part.generation !== generation) break;
        names.push(...part.names);
        offset += part.bytes;
        if (part.last) return names;
      }
      this.counts.retries++;
    }
    throw new ShoalError('XENSTORE_FAILED', `xenstore: ${path} changed ${mostAttempts} times while it was listed`);
  }

  /** Sends all requests in one write and gives all answers; throws the first refusal, after all have been answered. */
  async batch(requests: Request[], transactionId = 0): Promise<Buffer[]> {
    const settled = await this.settle(requests, transactionId);
    const refused = settled.find((result) => result.status === 'rejected');
    if (refused) throw (refused as PromiseRejectedResult).reason;
    return settled.map((result) => (result as PromiseFulfilledResult<Buffer>).value);
  }

  /** As batch, but each answer or refusal by itself. */
  async settle(requests: Request[], transactionId = 0): Promise<PromiseSettledResult<Buffer>[]> {
    const socket = this.socket ?? (await this.connected());
    return Promise.allSettled(this.send(socket, requests, transactionId));
  }

  /**
   * Carries out all requests at one moment, as others see it. Two round trips: one for the transaction's number, one for everything else.
   * Done again, a bounded number of times, when another writer came between. A request that the daemon refuses does not stop the others:
   * the refusal is thrown, and the caller removes what was written.
   * What is given as `then` is carried out right after the commit, outside of the transaction and without a further round trip; it has to be
   * such that it may be carried out before a second attempt, too.
   */
  async transaction(requests: Request[], then: Request[] = []): Promise<Buffer[]> {
    for (let attempt = 1; ; attempt++) {
      const [started] = await this.batch([transactionStartRequest()]);
      const id = Number(texts(started!)[0]);
      if (!Number.isSafeInteger(id) || id <= 0) throw new ShoalError('XENSTORE_FAILED', 'xenstore: a transaction without a number');
      const socket = this.socket ?? (await this.connected());
      socket.cork();
      const answers = [...this.send(socket, [...requests, transactionEndRequest(true)], id), ...this.send(socket, then, 0)];
      socket.uncork();
      const settled = await Promise.allSettled(answers);
      const refused = settled.find((result) => result.status === 'rejected') as PromiseRejectedResult | undefined;
      if (!refused) return settled.slice(0, requests.length).map((result) => (result as PromiseFulfilledResult<Buffer>).value);
      if (!(refused.reason instanceof StoreRefusal) || refused.reason.errno !== 'EAGAIN') throw refused.reason;
      if (attempt === mostAttempts) throw new ShoalError('XENSTORE_FAILED', `xenstore: a transaction lost ${mostAttempts} times against others`);
      this.counts.retries++;
    }
  }

  /** Calls the listener with the path that changed: `path` itself or something below it; once at the start too. Gives the unsubscriber. */
  async watch(path: string, listener: (path: string) => void): Promise<() => Promise<void>> {
    const token = String(this.nextToken++);
    const request = watchRequest(path, token);
    const socket = this.socket ?? (await this.connected());
    this.watches.set(token, { path, listener });
    try {
      await this.send(socket, [request], 0)[0];
    } catch (error) {
      if (error instanceof StoreRefusal) this.watches.delete(token);
      throw error;
    }
    return async () => {
      if (this.watches.delete(token) && this.socket) await this.batch([unwatchRequest(path, token)]);
    };
  }

  close(): void {
    this.closed = true;
    this.watches.clear();
    this.drop(new ShoalError('XENSTORE_FAILED', 'xenstore: the client was closed'));
  }

  private connected(): Promise<Socket> {
    if (this.closed) throw new ShoalError('XENSTORE_FAILED', 'xenstore: the client was closed');
    this.connecting ??= this.open().finally(() => {
      this.connecting = undefined;
    });
    return this.connecting;
  }

  private async open(): Promise<Socket> {
    let last: unknown;
    for (const path of this.paths) {
      try {
        const socket = await connectTo(path);
        if (this.closed) {
          socket.destroy();
          throw new ShoalError('XENSTORE_FAILED', 'xenstore: the client was closed');
        }
        this.adopt(socket);
        return socket;
      } catch (error) {
        last = error;
      }
    }
    throw new ShoalError('XENSTORE_FAILED', `xenstore: no daemon at ${this.paths.join(' or ')}`, { cause: last });
  }

  private adopt(socket: Socket): void {
    const decoder = new Decoder();
    this.socket = socket;
    socket.on('data', (chunk) => {
      try {
        for (const message of decoder.push(chunk)) this.take(message);
      } catch (error) {
        if (!(error instanceof WireError)) throw error;
        this.drop(new ShoalError('XENSTORE_FAILED', error.message, { cause: error }), socket);
      }
    });
    const lost = (cause?: Error): void => this.drop(new ShoalError('XENSTORE_FAILED', 'xenstore: the connection was lost', { cause }), socket);
    socket.on('error', lost);
    socket.on('close', () => lost());
    // What was watched before a loss is watched again; the listener hears of it at once and looks.
    for (const [token, watch] of this.watches) {
      for (const answer of this.send(socket, [watchRequest(watch.path, token)], 0)) answer.catch(() => {});
    }
  }

  private drop(error: ShoalError, only?: Socket): void {
    const socket = this.socket;
    if (!socket || (only && only !== socket)) return;
    this.socket = undefined;
    socket.removeAllListeners();
    socket.on('error', () => {});
    socket.destroy();
    const pending = [...this.pending.values()];
    this.pending.clear();
    for (const entry of pending) entry.reject(error);
    // A listener waits for news that would come over a connection: make one, so that the watch fires and it looks again.
    if (!this.closed && this.watches.size > 0) setTimeout(() => this.reconnect(), 100).unref();
  }

  private reconnect(): void {
    if (this.closed || this.socket || this.watches.size === 0) return;
    this.connected().catch(() => setTimeout(() => this.reconnect(), 1000).unref());
  }

  private send(socket: Socket, requests: Request[], transactionId: number): Promise<Buffer>[] {
    const chunks: Buffer[] = [];
    const answers = requests.map((request) => {
      const requestId = this.nextId;
      this.nextId = this.nextId === 0xffffffff ? 1 : this.nextId + 1;
      this.counts.requests++;
      if (changing.has(request.type)) this.counts.changes++;
      chunks.push(encode({ type: request.type, requestId, transactionId, body: request.body }));
      return new Promise<Buffer>((resolve, reject) => this.pending.set(requestId, { request, resolve, reject }));
    });
    if (chunks.length > 0) socket.write(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
    return answers;
  }

  private take(message: Message): void {
    if (message.type === messageType.watchEvent) {
      const [path, token] = texts(message.body);
      this.watches.get(token ?? '')?.listener(path ?? '');
      return;
    }
    const entry = this.pending.get(message.requestId);
    if (!entry) return;
    this.pending.delete(message.requestId);
    if (message.type === messageType.error) {
      entry.reject(new StoreRefusal(texts(message.body)[0] ?? 'EIO', describe(entry.request)));
    } else {
      entry.resolve(message.body);
    }
  }
}

function connectTo(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`)), connectTimeoutMs);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}
