/**
 * Datagrams to one address, fast: the addon's socket with its promises. A call of `send` takes a whole batch; when the socket is full it waits for room, so
 * whoever awaits it sends no faster than the network takes. Datagrams may be lost behind the socket, as UDP's are.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ShoalError } from '../../model/errors.ts';

interface NativeSocket {
  readonly nativeSocket: unique symbol;
}
interface NativeUdp {
  open(to: string, port: number, local: string, interfaceAddress: string, ttl: number, loop: boolean, sendBufferBytes: number): NativeSocket;
  close(socket: NativeSocket): void;
  send(socket: NativeSocket, bytes: Uint8Array, segmentBytes: number): number;
  cuts(socket: NativeSocket): boolean;
  writable(socket: NativeSocket, timeoutMs: number): Promise<boolean>;
}

export const addonPath = fileURLToPath(new URL('../../../build/shoal_udp.node', import.meta.url));

export interface SenderOptions {
  /** IPv4, of one receiver or of a multicast group. */
  to: string;
  port: number;
  local?: string;
  /** Address of the interface that multicast leaves by. */
  interface?: string;
  /** Hops of multicast; 1 by default: it stays on the network. */
  ttl?: number;
  /** Whether this machine hears its own multicast. */
  loop?: boolean;
  sendBufferBytes?: number;
}

/** What an Ethernet path without fragments takes, behind IPv4 and UDP: seven packets of a transport stream are 1,316. */
export const mostPathBytes = 1472;
const patienceMs = 1_000;

function typed(thrown: unknown, doing: string): ShoalError {
  const { call, errno, message } = thrown as { call?: string; errno?: string; message: string };
  if (call === undefined) throw thrown;
  return new ShoalError('UDP_SEND_FAILED', `${doing}: ${message} (${errno})`, { data: { call, errno }, cause: thrown });
}

export class UdpSender {
  readonly #native: NativeUdp;
  readonly #socket: NativeSocket;
  readonly #name: string;
  #sending: Promise<void> = Promise.resolve();
  #closed = false;
  #datagrams = 0;
  #waits = 0;

  private constructor(native: NativeUdp, socket: NativeSocket, name: string) {
    this.#native = native;
    this.#socket = socket;
    this.#name = name;
  }

  /** Throws UDP_SEND_FAILED, SETUP_FAILED when the addon is not built. */
  static open(options: SenderOptions, path = addonPath): UdpSender {
    let native: NativeUdp;
    try {
      native = createRequire(import.meta.url)(path) as NativeUdp;
    } catch (cause) {
      throw new ShoalError('SETUP_FAILED', `The UDP addon ${path} cannot be loaded.`, { hint: 'make -C src/cache/native', cause });
    }
    const name = `${options.to}:${options.port}`;
    try {
      const socket = native.open(
        options.to, options.port, options.local ?? '', options.interface ?? '', options.ttl ?? 1, options.loop ?? true, options.sendBufferBytes ?? 4 * 1024 * 1024,
      );
      return new UdpSender(native, socket, name);
    } catch (error) {
      throw typed(error, `a socket to ${name}`);
    }
  }

  /** Datagrams handed to the kernel so far, and how often there was no room. */
  get counts(): { datagrams: number; waits: number } {
    return { datagrams: this.#datagrams, waits: this.#waits };
  }

  /** Whether the kernel cuts batches into datagrams. */
  get cuts(): boolean {
    return this.#native.cuts(this.#socket);
  }

  /**
   * Sends `bytes` as datagrams of `segmentBytes`, the last one maybe shorter. Resolves when the kernel has them all; batches keep their order. The bytes
   * must not be changed before. Throws UDP_SEND_FAILED, TIMEOUT when the socket took nothing for a second: then the rest of the batch was not sent.
   */
  send(bytes: Uint8Array, segmentBytes: number): Promise<void> {
    const sent = this.#sending.then(() => this.#all(bytes, segmentBytes));
    this.#sending = sent.catch(() => {});
    return sent;
  }

  async #all(bytes: Uint8Array, segmentBytes: number): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        if (this.#closed) throw new ShoalError('UDP_SEND_FAILED', `The socket to ${this.#name} was closed.`);
        const taken = this.#native.send(this.#socket, done === 0 ? bytes : bytes.subarray(done), segmentBytes);
        done += taken;
        this.#datagrams += Math.ceil(taken / segmentBytes);
        if (done >= bytes.length) return;
        this.#waits++;
        if (!(await this.#native.writable(this.#socket, patienceMs)))
          throw new ShoalError('TIMEOUT', `${this.#name}: the socket took nothing for ${patienceMs} ms.`, { hint: 'Look at the network device behind the route.' });
      }
    } catch (error) {
      throw error instanceof ShoalError ? error : typed(error, `datagrams to ${this.#name}`);
    }
  }

  /** What is under way is broken off. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#sending;
    this.#native.close(this.#socket);
  }
}
