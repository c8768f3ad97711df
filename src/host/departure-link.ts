/**
 * The source's end of a migration: one connection to the target's agent at a time, and a new one when it is cut. Both ends show their
 * certificates; the source goes on only with the one its ticket names. What the target has not confirmed is kept, at most `windowBytes`, and
 * sent again from where the target says it is.
 */
import { request } from 'node:https';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { asShoalError, isErrorCode, ShoalError } from '../model/errors.ts';
import { frame, frameHead, FrameReader, jsonFrame, jsonOf, kinds, mostFrameBytes } from '../migrate/wire.ts';

export interface Ticket {
  id: string;
  token: string;
  url: string;
  fingerprint: string;
}

/** Of an agent, as PEM texts. */
export interface Credentials {
  cert: string;
  key: string;
}

export type Word = Record<string, unknown>;

const ciphers = 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256';
const windowBytes = 4 * 1024 * 1024;
const answerMs = 30_000;
const connectMs = 5_000;
/** Waits before attempts to connect again. */
const attemptsMs = [0, 100, 300, 1000, 2000];

/** The other side said no. */
export class Refused extends Error {
  readonly reason: ShoalError;
  constructor(reason: ShoalError) {
    super(reason.message);
    this.reason = reason;
  }
}
/** The other side cannot be reached, or does not answer. */
export class Lost extends Error {}

export class DepartureLink {
  readonly #ticket: Ticket;
  readonly #credentials: Credentials;
  readonly #hello: () => Word;
  readonly #signal: AbortSignal;
  #socket: Duplex | undefined;
  #words: Word[] = [];
  #wake: () => void = () => {};
  #unconfirmed: { at: number; bytes: Buffer }[] = [];
  #sent = 0;
  #confirmed = 0;
  /** The target said from where on it wants data. */
  #ready = false;
  /** Connections made. */
  connections = 0;

  /** `hello` is said at the beginning of each connection. */
  constructor(ticket: Ticket, credentials: Credentials, hello: () => Word, signal: AbortSignal) {
    this.#ticket = ticket;
    this.#credentials = credentials;
    this.#hello = hello;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#wake());
  }

  get sentBytes(): number {
    return this.#sent;
  }

  say(word: Word): void {
    this.#socket?.write(jsonFrame(word));
  }

  image(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += mostFrameBytes) this.#socket?.write(frame(kinds.image, bytes.subarray(at, at + mostFrameBytes)));
  }

  /** What comes next, in parts that are not changed afterwards. Resolves when there is room for more. Throws Refused, Lost. */
  async data(...parts: readonly Buffer[]): Promise<void> {
    const socket = this.#socket;
    // A part is often a few bytes: they leave together.
    socket?.cork();
    for (const part of parts) {
      for (let from = 0; from < part.length; from += mostFrameBytes) {
        const bytes = part.subarray(from, from + mostFrameBytes);
        this.#unconfirmed.push({ at: this.#sent, bytes });
        this.#sent += bytes.length;
        this.#write(bytes);
      }
    }
    socket?.uncork();
    // What was not written above is as the target says where it is.
    if (this.#socket === undefined) await this.connect();
    while (this.#sent - this.#confirmed > windowBytes) await this.#turn();
  }

  /** Until the target has laid in all that was sent, or so long: nothing is lost when it has not, but it is not ready for more. Throws Refused, Lost. */
  async taken(mostMs: number): Promise<void> {
    const untilMs = performance.now() + mostMs;
    const timer = setTimeout(() => this.#wake(), mostMs);
    try {
      while (this.#sent > this.#confirmed && performance.now() < untilMs) await this.#turn();
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The next word that is one of these; words of progress in between are taken in. Connects anew when the connection is cut, unless `once`. Throws
   * Refused, Lost.
   */
  async word(wanted: readonly string[], once = false): Promise<Word> {
    for (;;) {
      const found = this.#words.findIndex(({ say }) => wanted.includes(String(say)));
      if (found >= 0) return this.#words.splice(found, 1)[0]!;
      await this.#turn(once);
    }
  }

  /** Throws Lost after all attempts, Refused when it is another host. */
  async connect(): Promise<void> {
    let last: unknown;
    for (const waitMs of attemptsMs) {
      await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => {});
      if (this.#signal.aborted) throw cancelled();
      try {
        return await this.#open();
      } catch (error) {
        if (error instanceof Refused) throw error;
        last = error;
      }
    }
    throw new Lost(`${this.#ticket.url} cannot be reached: ${(last as Error).message}`);
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.end();
    socket?.on('error', () => {});
    if (socket !== undefined) setTimeout(() => socket.destroy(), 1000).unref();
  }

  /** Something new came, or the time is over. */
  async #turn(once = false): Promise<void> {
    if (this.#signal.aborted) throw cancelled();
    const refused = this.#words.findIndex(({ say }) => say === 'refused');
    if (refused >= 0) throw new Refused(errorOf(this.#words.splice(refused, 1)[0]!['error']));
    if (this.#socket === undefined) {
      if (once) throw new Lost(`${this.#ticket.url} is away`);
      return this.connect();
    }
    let timer: NodeJS.Timeout | undefined;
    const late = await Promise.race([
      new Promise<boolean>((resolve) => (this.#wake = () => resolve(false))),
      new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(true), answerMs))),
    ]);
    clearTimeout(timer);
    if (late) {
      this.#socket?.destroy();
      throw new Lost(`${this.#ticket.url} does not answer`);
    }
  }

  async #open(): Promise<void> {
    const socket = await connectTo(this.#ticket, this.#credentials);
    const reader = new FrameReader();
    this.connections++;
    this.#ready = false;
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const { payload } of reader.take(chunk)) this.#take(jsonOf(payload));
      } catch {
        socket.destroy();
      }
      this.#wake();
    });
    const gone = (): void => {
      if (this.#socket === socket) this.#socket = undefined;
      this.#wake();
    };
    socket.on('error', gone).on('close', gone).on('end', gone);
    socket.write(jsonFrame(this.#hello()));
  }

  #take(word: Word): void {
    const offset = typeof word['offset'] === 'number' ? word['offset'] : undefined;
    if (offset !== undefined && offset >= this.#confirmed && offset <= this.#sent) {
      this.#confirmed = offset;
      while (this.#unconfirmed.length > 0 && this.#unconfirmed[0]!.at + this.#unconfirmed[0]!.bytes.length <= offset) this.#unconfirmed.shift();
    }
    if (word['say'] === 'ack') return;
    // The target goes on from there.
    if (word['say'] === 'reserved' && word['needImage'] !== true) {
      this.#ready = true;
      for (const { at, bytes } of this.#unconfirmed) this.#write(bytes.subarray(Math.max(0, this.#confirmed - at)));
    }
    if (this.#words.length < 64) this.#words.push(word);
  }

  #write(bytes: Buffer): void {
    const socket = this.#socket;
    if (bytes.length === 0 || !this.#ready || socket === undefined) return;
    socket.write(frameHead(kinds.data, bytes.length));
    socket.write(bytes);
  }
}

function connectTo(ticket: Ticket, { cert, key }: Credentials): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const outgoing = request(new URL('/migration', ticket.url), {
      method: 'GET',
      agent: false,
      cert,
      key,
      minVersion: 'TLSv1.2',
      // Its rounds are fewer than those of what would be chosen otherwise, and the VM may be standing still.
      ciphers,
      // Trusted is the one certificate that the ticket names, below.
      rejectUnauthorized: false,
      timeout: connectMs,
      headers: { connection: 'Upgrade', upgrade: 'shoal-migration' },
    });
    const failed = (error: Error): void => reject(error);
    outgoing.once('error', failed);
    outgoing.once('timeout', () => outgoing.destroy(new Error('no answer')));
    outgoing.once('response', (response) => {
      response.resume();
      reject(new Refused(new ShoalError('MIGRATION_REFUSED', `${ticket.url} takes no migrations (${response.statusCode}).`)));
    });
    outgoing.once('upgrade', (_response, socket, head) => {
      socket.removeAllListeners('timeout');
      (socket as TLSSocket).setTimeout(0);
      (socket as TLSSocket).setNoDelay(true);
      if ((socket as TLSSocket).getPeerCertificate().fingerprint256 !== ticket.fingerprint) {
        socket.destroy();
        return reject(new Refused(new ShoalError('CERTIFICATE_MISMATCH', `${ticket.url} is not the host that the order names.`)));
      }
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    outgoing.end();
  });
}

const cancelled = (): ShoalError => new ShoalError('TASK_CANCELLED', 'The migration was cancelled.');

function errorOf(value: unknown): ShoalError {
  const { code, message, hint, data } = (value ?? {}) as { code?: string; message?: string; hint?: string; data?: Record<string, unknown> };
  if (typeof code !== 'string' || !isErrorCode(code)) return asShoalError(new Error(String(message ?? 'the target gave no reason')));
  return new ShoalError(code, String(message), { ...(hint === undefined ? {} : { hint }), ...(data === undefined ? {} : { data }) });
}
