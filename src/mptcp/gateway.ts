/**
 * A relay for ends without MPTCP: MPTCP on one side, TCP on the other, either way round. What one side sends is held only until the other has taken it (a
 * stream's watermark each way), what one side ends is ended on the other while the opposite direction goes on, and what breaks on one side
 * is a reset on the other, so that nobody takes half a transfer for a whole one.
 */
import { closeSync } from 'node:fs';
import { createServer, Socket, type AddressInfo, type Server } from 'node:net';
import { ShoalError } from '../model/errors.ts';
import { errnoOfThrown, loadNative, typed, type Native } from './linux/native.ts';

export interface GatewaySide {
  host: string;
  port: number;
  mptcp: boolean;
}

export interface GatewayOptions {
  listen: GatewaySide;
  to: GatewaySide;
  /** Connections at once; more are refused with a reset. */
  most?: number;
  connectTimeoutMs?: number;
  log: (line: string) => void;
  native?: Native;
}

const usualMost = 4_096;
const usualTimeoutMs = 10_000;
/** A connection attempt takes a thread of libuv's pool, which has four: more than these wait in a line here. */
const connectingMost = 3;
const backlog = 512;
const closeNow = (fd: number): void => closeSync(fd);

export class Gateway {
  readonly name: string;
  readonly port: number;
  readonly counts = { connections: 0, refused: 0, bytes: 0 };
  readonly #o: GatewayOptions;
  readonly #native: Native;
  readonly #server: Server;
  readonly #pairs = new Set<{ near: Socket; far: Socket | undefined }>();
  readonly #waiting: (() => void)[] = [];
  #connecting = 0;

  private constructor(options: GatewayOptions, native: Native, server: Server) {
    this.#o = options;
    this.#native = native;
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.name = `${options.listen.host}:${this.port}`;
    server.on('connection', (near) => void this.#take(near));
    server.on('error', (error) => options.log(`gateway ${this.name}: ${error.message}`));
  }

  /** Throws MPTCP_FAILED when it cannot listen there, SETUP_FAILED when the addon is not built. */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const native = options.native ?? loadNative();
    const { host, port, mptcp } = options.listen;
    let fd: number;
    try {
      fd = native.listen(host, port, backlog, mptcp);
    } catch (error) {
      throw typed(error, `listening on ${host}:${port}`);
    }
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    await new Promise<void>((done, fail) => {
      server.once('error', fail);
      server.listen({ fd }, done);
    }).catch((error: Error) => {
      throw new ShoalError('MPTCP_FAILED', `Listening on ${host}:${port}: ${error.message}.`, { cause: error });
    });
    server.removeAllListeners('error');
    return new Gateway(options, native, server);
  }

  get open(): number {
    return this.#pairs.size;
  }

  async #take(near: Socket): Promise<void> {
    if (this.#pairs.size >= (this.#o.most ?? usualMost)) {
      this.counts.refused++;
      near.resetAndDestroy();
      return;
    }
    const pair: { near: Socket; far: Socket | undefined } = { near, far: undefined };
    this.#pairs.add(pair);
    this.counts.connections++;
    let gone = false;
    near.once('close', () => (gone = true));
    near.on('error', () => near.destroy());
    try {
      const far = (pair.far = await this.#dial());
      if (gone) return void far.resetAndDestroy();
      await this.#relay(near, far);
    } catch (error) {
      this.counts.refused++;
      this.#o.log(`gateway ${this.name}: ${this.#o.to.host}:${this.#o.to.port} ${errnoOfThrown(error) ?? (error as Error).message}`);
      near.resetAndDestroy();
    } finally {
      this.#pairs.delete(pair);
    }
  }

  async #dial(): Promise<Socket> {
    if (this.#connecting >= connectingMost) await new Promise<void>((turn) => this.#waiting.push(turn));
    else this.#connecting++;
    const { host, port, mptcp } = this.#o.to;
    try {
      const fd = await this.#native.connect(host, port, '', mptcp, this.#o.connectTimeoutMs ?? usualTimeoutMs);
      try {
        return new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
      } catch (error) {
        closeNow(fd);
        throw error;
      }
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#connecting--;
      else next();
    }
  }

  /** Ends when both sockets are closed. */
  async #relay(near: Socket, far: Socket): Promise<void> {
    const one = (from: Socket, to: Socket): Promise<void> =>
      new Promise((closed) => {
        from.on('data', (part: Buffer) => {
          this.counts.bytes += part.length;
          if (!to.write(part)) from.pause();
        });
        to.on('drain', () => from.resume());
        from.on('end', () => to.end());
        let broken = false;
        from.on('error', () => (broken = true));
        from.on('close', () => {
          // Closed without an end of its own: cut, and the other side is to see it as that.
          if ((broken || !from.readableEnded) && !to.destroyed) to.resetAndDestroy();
          closed();
        });
      });
    far.setNoDelay(true);
    const both = Promise.all([one(near, far), one(far, near)]);
    near.resume();
    far.resume();
    await both;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far?.resetAndDestroy();
    }
    await closed;
  }
}
