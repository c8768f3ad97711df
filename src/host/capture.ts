/**
 * Captures: frames of a vif on their way to somebody who looks at them now. The switch copies them into a pipe, the agent keeps what was not
 * read yet. Nothing here can hold up the switch or grow: beyond `unreadMaxBytes` the agent stops reading, the pipe fills, and the switch
 * drops whole frames and counts them. A capture that nobody reads ends, as do those of an agent that was killed: its end of the pipe
 * closes, and the switch sees that with the next frame. A capture ends with its VM, for then the switch closes the pipe.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { mkdir, rm, unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Hypervisor } from '../hypervisor/port.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Domid } from '../model/ids.ts';
import { PcapStream } from './pcap.ts';

export const capturesMax = 16;
/** Of each, and at most what one reading of the pipe brings on top. */
export const unreadMaxBytes = 4 * 1024 * 1024;
/** Of one answer. */
const answerMaxBytes = 512 * 1024;

export interface CaptureOptions {
  hypervisor: Hypervisor;
  /** For the pipes; what it holds goes when the agent starts. */
  folder: string;
  log: (line: string) => void;
  /** Milliseconds without a reader after which a capture ends; 10,000 by default. */
  patienceMs?: number | undefined;
}

/** `data` is the next part of a pcap file; the counts are of the whole capture. */
export interface CaptureRead {
  data: Buffer;
  frames: number;
  /** Frames that came while nothing had room for them, as far as is known. */
  dropped: number;
  /** Nothing comes any more, and this is the last of it. The capture is forgotten. */
  ended: boolean;
}

interface Capture {
  domid: Domid;
  handle: number;
  pipe: Socket;
  stream: PcapStream;
  unread: Buffer[];
  unreadBytes: number;
  /** The switch has let go: what the pipe still holds is all there will be. */
  ending: boolean;
  over: boolean;
  /** Those who wait for something to read. */
  waiting: Set<() => void>;
  readers: number;
  timer: NodeJS.Timeout | undefined;
}

const run = promisify(execFile);

export class Captures {
  readonly #o: CaptureOptions;
  readonly #open = new Map<string, Capture>();
  /** Vifs of captures that run or begin. */
  readonly #vifs = new Set<string>();
  #made: Promise<unknown> | undefined;
  #closed = false;

  constructor(options: CaptureOptions) {
    this.#o = options;
  }

  get count(): number {
    return this.#vifs.size;
  }

  /** Pipes that an agent before this one left behind. */
  async clear(): Promise<void> {
    await rm(this.#o.folder, { recursive: true, force: true });
  }

  /**
   * Begins one and gives its name. `who` names the vif for people. Throws HOST_LIMIT, OTHER_OPERATION_IN_PROGRESS (the vif has one),
   * VALUE_NOT_SUPPORTED (the vif is not on the switch), SWITCH_*.
   */
  async start(domid: Domid, handle: number, who: string): Promise<string> {
    const vif = `${domid}.${handle}`;
    if (this.#closed) throw new ShoalError('INTERNAL_ERROR', 'The agent is ending.');
    if (this.#vifs.has(vif)) {
      throw new ShoalError('OTHER_OPERATION_IN_PROGRESS', `There is a capture of ${who} already.`, {
        hint: 'End that one, or wait: one that nobody reads ends by itself after ten seconds.', params: ['VIF', vif],
      });
    }
    if (this.#vifs.size >= capturesMax) throw new ShoalError('HOST_LIMIT', `This host has ${capturesMax} captures under way.`, { hint: 'End one of them.' });
    this.#vifs.add(vif);
    try {
      return await this.#begin(domid, handle, who);
    } catch (error) {
      this.#vifs.delete(vif);
      throw error;
    }
  }

  async #begin(domid: Domid, handle: number, who: string): Promise<string> {
    const { hypervisor, folder } = this.#o;
    this.#made ??= mkdir(folder, { recursive: true, mode: 0o700 });
    await this.#made;
    const id = randomUUID();
    const path = join(folder, id);
    let fd: number | undefined;
    try {
      await run('mkfifo', ['-m', '600', path]);
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
      if (!(await hypervisor.mirrorVif(domid, handle, path))) {
        // XenAPI's parameters are all that reaches a client, so the way out is among them.
        const why = `${who} is not on the switch; only such vifs can be captured, for one of netback use tcpdump in dom0`;
        throw new ShoalError('VALUE_NOT_SUPPORTED', why, { params: ['handle', String(handle), why] });
      }
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      throw error;
    } finally {
      await unlink(path).catch(() => {});
    }
    // Not before: a pipe that never had a writer reads as one that ended.
    const pipe = new Socket({ fd, readable: true, writable: false });
    const capture: Capture = {
      domid, handle, pipe, stream: new PcapStream(), unread: [], unreadBytes: 0, ending: false, over: false, waiting: new Set(), readers: 0, timer: undefined,
    };
    this.#open.set(id, capture);
    pipe.on('data', (chunk: Buffer) => this.#take(capture, chunk));
    pipe.on('error', (error) => this.#o.log(`capture of ${who}: ${error.message}`));
    pipe.on('close', () => {
      capture.over = true;
      wake(capture);
    });
    if (this.#closed) pipe.destroy();
    this.#watch(id, capture);
    return id;
  }

  /** Waits at most `waitMs` for something to read. Throws HANDLE_INVALID for one that ended or never was. */
  async read(id: string, waitMs: number): Promise<CaptureRead> {
    const capture = this.#need(id);
    clearTimeout(capture.timer);
    capture.readers++;
    try {
      if (capture.unreadBytes === 0 && !capture.over && waitMs > 0) await something(capture, waitMs);
    } finally {
      capture.readers--;
    }
    const data = this.#next(capture);
    const ended = capture.over && capture.unreadBytes === 0;
    if (ended) this.#forget(id, capture);
    else this.#watch(id, capture);
    return { data, frames: capture.stream.frames, dropped: capture.stream.lost, ended };
  }

  /** No more frames; what there is can still be read. Throws HANDLE_INVALID. */
  async end(id: string): Promise<void> {
    const capture = this.#need(id);
    // What the switch says at the end of what it lost needs room in the pipe.
    for (let turns = 0, before = -1; turns < 16 && before !== capture.unreadBytes && !capture.over; turns++) {
      before = capture.unreadBytes;
      capture.pipe.resume();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await this.#stop(capture);
    capture.ending = true;
    capture.pipe.resume();
    if (!capture.over) await something(capture, 2_000, () => capture.over);
    capture.pipe.destroy();
    capture.over = true;
  }

  /** Ends all of them. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const [id, capture] of [...this.#open]) this.#forget(id, capture);
  }

  #need(id: string): Capture {
    const capture = this.#open.get(id);
    if (capture !== undefined) return capture;
    throw new ShoalError('HANDLE_INVALID', 'There is no such capture; one that nobody reads for ten seconds ends.', { hint: 'Start another.', params: ['capture', id.slice(0, 64)] });
  }

  #take(capture: Capture, chunk: Buffer): void {
    let data: Buffer;
    try {
      data = capture.stream.push(chunk);
    } catch (error) {
      this.#o.log(`capture of ${capture.domid}.${capture.handle}: ${asShoalError(error).message}`);
      capture.pipe.destroy();
      return;
    }
    if (data.length > 0) {
      capture.unread.push(data);
      capture.unreadBytes += data.length;
    }
    if (capture.unreadBytes >= unreadMaxBytes && !capture.ending) capture.pipe.pause();
    wake(capture);
  }

  #next(capture: Capture): Buffer {
    const parts: Buffer[] = [];
    let bytes = 0;
    // A part is what one reading of the pipe brought, at most 64 KiB.
    while (capture.unread.length > 0 && bytes < answerMaxBytes) {
      const part = capture.unread.shift()!;
      parts.push(part);
      bytes += part.length;
    }
    capture.unreadBytes -= bytes;
    if (capture.unreadBytes < unreadMaxBytes && !capture.over) capture.pipe.resume();
    return Buffer.concat(parts);
  }

  #watch(id: string, capture: Capture): void {
    clearTimeout(capture.timer);
    if (capture.readers > 0 || !this.#open.has(id)) return;
    capture.timer = setTimeout(() => this.#forget(id, capture), this.#o.patienceMs ?? 10_000).unref();
  }

  #forget(id: string, capture: Capture): void {
    if (!this.#open.delete(id)) return;
    clearTimeout(capture.timer);
    const stopped = capture.over ? Promise.resolve() : this.#stop(capture);
    capture.over = true;
    capture.pipe.destroy();
    capture.unread = [];
    capture.unreadBytes = 0;
    wake(capture);
    // Until the switch has let go of it, another one on this vif would be ended by this one's end.
    void stopped.then(() => this.#vifs.delete(`${capture.domid}.${capture.handle}`));
  }

  /** A switch that cannot be told sees the end of the pipe. */
  async #stop({ domid, handle }: Capture): Promise<void> {
    await this.#o.hypervisor.mirrorVif(domid, handle).catch(() => false);
  }
}

function wake(capture: Capture): void {
  for (const waiter of [...capture.waiting]) waiter();
}

/** Until something came or `timeoutMs` is over; with `wanted`, until that holds. */
function something(capture: Capture, timeoutMs: number, wanted: () => boolean = () => capture.unreadBytes > 0 || capture.over): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      capture.waiting.delete(look);
      resolve();
    };
    const look = (): void => void (wanted() && done());
    const timer = setTimeout(done, timeoutMs);
    capture.waiting.add(look);
  });
}
