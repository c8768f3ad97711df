/**
 * A file of MPEG-TS goes out as it was meant to be played: datagrams of seven packets, none of them split, at the times that the stream's own clock (PCR)
 * gives. Between two clock values the rate is even. Used from the origin to many caches at once, by multicast.
 */
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../../model/errors.ts';
import type { UdpSender } from './sender.ts';

export const packetBytes = 188;
export const datagramBytes = 7 * packetBytes;
const syncByte = 0x47;
/** 27 MHz, and where its 33 bits of 90 kHz begin anew. */
const ticksPerMs = 27_000;
const wrapTicks = 2 ** 33 * 300;
/** The standard asks for a clock value each 100 ms; a gap beyond this is a jump. */
const mostGapMs = 2_000;
/** Without a clock value in so much there is none to pace by. */
const mostBetweenBytes = 8 * 1024 * 1024;

/** The clock value of a packet, in ticks of 27 MHz; undefined when it has none. */
export function pcrOf(packet: Uint8Array): { pid: number; ticks: number } | undefined {
  if ((packet[3]! & 0x20) === 0 || packet[4]! < 7 || (packet[5]! & 0x10) === 0) return undefined;
  const base = packet[6]! * 2 ** 25 + packet[7]! * 2 ** 17 + packet[8]! * 2 ** 9 + packet[9]! * 2 + (packet[10]! >> 7);
  return { pid: ((packet[1]! & 0x1f) << 8) | packet[2]!, ticks: base * 300 + (((packet[10]! & 1) << 8) | packet[11]!) };
}

export interface Stretch {
  /** Whole packets, from a clock value to the next. */
  bytes: Buffer;
  durationMs: number;
}

const broken = (why: string): ShoalError => new ShoalError('MEDIA_UNREADABLE', `This is no transport stream that can be paced: ${why}.`);

/** Cuts a stream at the clock values of its first clock, however its bytes come. */
export class PcrCutter {
  #held: Buffer = Buffer.alloc(0);
  /** Of `#held`: looked at up to here. */
  #at = 0;
  #pid: number | undefined;
  #last: number | undefined;
  #stretchMs = 0;

  /** Throws MEDIA_UNREADABLE when packets do not begin where they should. */
  push(chunk: Buffer): Stretch[] {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const found: Stretch[] = [];
    let from = 0;
    for (; this.#at + packetBytes <= this.#held.length; this.#at += packetBytes) {
      const packet = this.#held.subarray(this.#at, this.#at + packetBytes);
      if (packet[0] !== syncByte) throw broken(`the packet at byte ${this.#at} of a stretch does not begin with 0x47`);
      const pcr = pcrOf(packet);
      if (pcr === undefined || (this.#pid !== undefined && pcr.pid !== this.#pid)) continue;
      this.#pid = pcr.pid;
      if (this.#last !== undefined) {
        const gapMs = ((pcr.ticks - this.#last + wrapTicks) % wrapTicks) / ticksPerMs;
        // A jump says nothing of time: the stretch lasts as long as the one before it.
        if (gapMs <= mostGapMs) this.#stretchMs = gapMs;
        found.push({ bytes: this.#held.subarray(from, this.#at), durationMs: this.#stretchMs });
        from = this.#at;
      }
      this.#last = pcr.ticks;
    }
    this.#held = this.#held.subarray(from);
    this.#at -= from;
    if (this.#held.length > mostBetweenBytes) throw broken(`it has no clock value in ${mostBetweenBytes} bytes`);
    return found;
  }

  /** What is behind the last clock value, at the rate of the stretch before it. Throws MEDIA_UNREADABLE. */
  finish(): Stretch | undefined {
    if (this.#pid === undefined) throw broken('it has no clock value');
    const bytes = this.#held.subarray(0, this.#at);
    this.#held = Buffer.alloc(0);
    return bytes.length === 0 ? undefined : { bytes, durationMs: this.#stretchMs };
  }
}

export interface SendOptions {
  path: string;
  sender: Pick<UdpSender, 'send'>;
  /** Again from the beginning at its end. */
  loop?: boolean;
  signal?: AbortSignal;
  /** Monotonic milliseconds, and waiting; a test gives its own. */
  now?: () => number;
  wait?: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/** Datagrams go together that are due within so long: a timer for each would cost more than it gives. */
const togetherMs = 4;
/** Later than this is given up: the stream goes on from now, rather than in a burst. */
const mostLateMs = 250;

export interface Sent {
  datagrams: number;
  bytes: number;
  /** How often the clock was set anew because sending was too late. */
  late: number;
}

/** Resolves at the file's end, or when the signal says so. Throws MEDIA_UNREADABLE, UDP_SEND_FAILED, TIMEOUT. */
export async function sendFile(options: SendOptions): Promise<Sent> {
  const { path, sender, signal } = options;
  const now = options.now ?? (() => performance.now());
  const wait = options.wait ?? ((ms: number, s?: AbortSignal) => sleep(ms, undefined, s === undefined ? {} : { signal: s }).catch(() => {}));
  const sent: Sent = { datagrams: 0, bytes: 0, late: 0 };
  const stopped = (): boolean => signal?.aborted === true;
  let dueMs = now();
  let rest: Buffer = Buffer.alloc(0);

  async function pace({ bytes, durationMs }: Stretch): Promise<void> {
    const began = dueMs;
    const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    const datagrams = Math.floor(all.length / datagramBytes);
    const each = Math.max(1, Math.ceil((datagrams * togetherMs) / Math.max(togetherMs, durationMs)));
    for (let i = 0; i < datagrams && !stopped(); i += each) {
      const at = began + (durationMs * i) / datagrams;
      const behind = now() - at;
      if (behind > mostLateMs) {
        dueMs += behind;
        sent.late++;
        return pace({ bytes: all.subarray(i * datagramBytes), durationMs: (durationMs * (datagrams - i)) / datagrams });
      }
      if (behind < -0.5) await wait(-behind, signal);
      if (stopped()) return;
      const end = Math.min(datagrams, i + each);
      const batch = all.subarray(i * datagramBytes, end * datagramBytes);
      await sender.send(batch, datagramBytes);
      sent.datagrams += end - i;
      sent.bytes += batch.length;
    }
    rest = Buffer.from(all.subarray(datagrams * datagramBytes));
    dueMs = Math.max(dueMs, began) + durationMs;
  }

  const file = await open(path, 'r').catch((error: Error) => {
    throw new ShoalError('MEDIA_UNREADABLE', `${path}: ${error.message}`, { cause: error });
  });
  try {
    do {
      const cutter = new PcrCutter();
      const chunk = Buffer.alloc(packetBytes * 1024);
      for (let at = 0; !stopped(); ) {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
        if (bytesRead === 0) break;
        at += bytesRead;
        for (const stretch of cutter.push(Buffer.from(chunk.subarray(0, bytesRead)))) await pace(stretch);
      }
      if (stopped()) break;
      const last = cutter.finish();
      if (last !== undefined) await pace(last);
    } while (options.loop === true && !stopped());
    if (rest.length > 0 && !stopped()) {
      // The last datagram may have fewer packets, all of them whole.
      await sender.send(rest, datagramBytes);
      sent.datagrams++;
      sent.bytes += rest.length;
    }
  } finally {
    await file.close();
  }
  return sent;
}
