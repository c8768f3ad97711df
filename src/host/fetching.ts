/**
 * Images that a host fetches by itself: from the controller, from a neighbour, whole or as a delta against one it has. An order names the
 * sources; they are tried in turn, and what any of them gives counts only when it has the digest. What has arrived of a whole image is
 * kept on disk below its digest, so a cut, another source or a killed agent goes on where the last one ended.
 */
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { headerBytes, layDelta } from '../image/delta.ts';
import { noRoom, type ImageStore } from '../image/store.ts';
import type { FetchOrder, FetchReport, ImageSource } from '../model/distribution.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import { pinnedGet } from './pinned.ts';

/** Connections to one source for one file: each further one has to bring something. */
const mostConnections = 64;
/** In a row without a byte, cut or refused. One that stood still is the source's last. */
const mostVain = 3;
/** Between two connections. */
const pauseMs = 100;
/** Whole transfers begun and not ended, of which the bytes are kept. */
const mostPartial = 8;
/** Orders under way; more are refused. */
const mostOrders = 16;

export interface FetchingOptions {
  images: ImageStore;
  /** Milliseconds without a byte after which a connection is given up, and its source with it; 5,000 by default. */
  stallMs?: number | undefined;
  log?: ((line: string) => void) | undefined;
}

type Remote = Extract<ImageSource, { url: string }>;

interface Under {
  order: FetchOrder;
  signal: AbortSignal;
  /** Bytes taken so far, of use or not. */
  bytes: number;
}

export class Fetching {
  readonly #images: ImageStore;
  readonly #stallMs: number;
  readonly #log: (line: string) => void;
  readonly #underWay = new Map<Digest, Promise<FetchReport>>();

  constructor(options: FetchingOptions) {
    this.#images = options.images;
    this.#stallMs = options.stallMs ?? 5000;
    this.#log = options.log ?? (() => {});
  }

  /**
   * Resolves when the image is on disk and whole. A second order for the same image joins the first. Throws FETCH_FAILED when no source
   * gave it, REQUEST_TOO_LARGE, TIMEOUT, HOST_LIMIT, and what the store says of an image that is no kernel.
   */
  fetch(order: FetchOrder): Promise<FetchReport> {
    const { digest } = order;
    if (this.#images.has(digest)) return Promise.resolve({ digest, how: 'had', source: -1, bytes: 0, failures: [] });
    const under = this.#underWay.get(digest);
    if (under !== undefined) return under;
    if (order.sizeBytes > this.#images.maxBytes)
      return Promise.reject(new ShoalError('REQUEST_TOO_LARGE', `An image may have at most ${this.#images.maxBytes} bytes.`, { data: { maxBytes: this.#images.maxBytes } }));
    if (this.#underWay.size >= mostOrders) return Promise.reject(new ShoalError('HOST_LIMIT', `This host fetches ${mostOrders} images already.`));
    const work = this.#work(order).finally(() => this.#underWay.delete(digest));
    this.#underWay.set(digest, work);
    return work;
  }

  async #work(order: FetchOrder): Promise<FetchReport> {
    const ended = new AbortController();
    const timer = setTimeout(() => ended.abort(), order.timeoutMs);
    const under: Under = { order, signal: ended.signal, bytes: 0 };
    const failures: FetchReport['failures'] = [];
    try {
      for (const [i, source] of order.sources.entries()) {
        if (source.from !== undefined && !this.#images.has(source.from)) continue;
        if (ended.signal.aborted) break;
        try {
          if (source.from === undefined) await this.#whole(under, source as Remote);
          else await this.#delta(under, source, source.from);
          await this.#clearPartial(order.digest);
          return { digest: order.digest, how: source.from === undefined ? 'whole' : 'delta', source: i, bytes: under.bytes, failures };
        } catch (thrown) {
          const { code, message } = asShoalError(thrown);
          this.#log(`image ${order.digest}: source ${i}: ${code}: ${message}`);
          failures.push({ source: i, code, message });
        }
      }
    } finally {
      clearTimeout(timer);
    }
    if (ended.signal.aborted) throw new ShoalError('TIMEOUT', `The image did not arrive within ${order.timeoutMs} ms.`, { data: { failures } });
    const tried = failures.map(({ source, code, message }) => `source ${source}: ${code}: ${message}`);
    throw new ShoalError('FETCH_FAILED', `No source gave the image ${order.digest}. ${tried.join(' ') || 'None was of use to this host.'}`, { data: { failures } });
  }

  /** A delta is small: it is held in memory, and a cut goes on within this order. */
  async #delta(under: Under, source: ImageSource, from: Digest): Promise<void> {
    const { digest, sizeBytes } = under.order;
    let delta: Buffer;
    if ('delta' in source) {
      delta = Buffer.from(source.delta, 'base64');
      under.bytes += delta.length;
    } else {
      const parts: Buffer[] = [];
      let have = 0;
      // One that is as large as the image has no use.
      await this.#transfer(under, source, sizeBytes + headerBytes, undefined, () => have, async (part) => {
        parts.push(part);
        have += part.length;
      });
      delta = Buffer.concat(parts);
    }
    const made = await layDelta(await this.#images.bytes(from), delta, { from, to: digest, maxBytes: sizeBytes });
    await this.#images.put(digest, made).catch((error: unknown) => {
      // One of the two is damaged, the delta or the image here that it is against.
      if (asShoalError(error).code === 'IMAGE_DIGEST_MISMATCH') throw new ShoalError('DELTA_INVALID', 'What the delta makes of the image here has another digest.', { cause: error });
      throw error;
    });
  }

  async #whole(under: Under, source: Remote): Promise<void> {
    const { digest, sizeBytes } = under.order;
    const path = await this.#partialFile(digest);
    const file = await open(path, 'a', 0o600);
    let have = (await file.stat()).size;
    const had = have <= sizeBytes && have > 0;
    try {
      if (have > sizeBytes) {
        await file.truncate(0);
        have = 0;
      }
      if (have < sizeBytes)
        await this.#transfer(under, source, sizeBytes, sizeBytes, () => have, async (part) => {
          await file.appendFile(part);
          have += part.length;
        });
    } finally {
      await file.close();
    }
    try {
      await this.#images.put(digest, createReadStream(path));
    } catch (error) {
      await rm(path, { force: true });
      // Some source lied, or the disk did. What was there before this one is not its fault: it gives all of it.
      if (had && asShoalError(error).code === 'IMAGE_DIGEST_MISMATCH') return this.#whole(under, source);
      throw error;
    }
  }

  /** Bytes from `have()` on until the file's end, over as many connections as it takes. `exactBytes`: the length it must have. */
  async #transfer(under: Under, source: Remote, mostBytes: number, exactBytes: number | undefined, have: () => number, take: (part: Buffer) => Promise<void>): Promise<void> {
    const url = new URL(source.url);
    let vain = 0;
    let last: ShoalError = new ShoalError('CONNECTION_FAILED', `${url.host} gave nothing.`);
    for (let connection = 0; connection < mostConnections && vain < mostVain; connection++) {
      if (connection > 0) await pause(pauseMs, under.signal);
      const before = have();
      let movedMs = performance.now();
      try {
        const response = await pinnedGet({ url, fingerprint: source.fingerprint, offset: before, stallMs: this.#stallMs, signal: under.signal });
        try {
          const total = totalOf(response.statusCode ?? 0, response.headers, before, url.host);
          if (total > mostBytes || (exactBytes !== undefined && total !== exactBytes))
            throw new ShoalError('REQUEST_TOO_LARGE', `${url.host} has ${total} bytes where ${exactBytes ?? `at most ${mostBytes}`} belong.`);
          for await (const part of response as AsyncIterable<Buffer>) {
            under.bytes += part.length;
            if (have() + part.length > total) throw new ShoalError('REQUEST_TOO_LARGE', `${url.host} sends more than the ${total} bytes it announced.`);
            await take(part);
            movedMs = performance.now();
          }
          if (have() === total) return;
        } finally {
          response.destroy();
        }
      } catch (thrown) {
        last = thrown instanceof ShoalError ? thrown : noRoom(thrown) ?? new ShoalError('CONNECTION_FAILED', `${url.host}: ${(thrown as Error).message}.`, { cause: thrown });
        if (last.code !== 'CONNECTION_FAILED' || under.signal.aborted) throw last;
      }
      if (performance.now() - movedMs >= 0.9 * this.#stallMs) break;
      vain = have() > before ? 0 : vain + 1;
    }
    throw last;
  }

  async #partialFile(digest: Digest): Promise<string> {
    const folder = this.#images.partialFolder;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const mine = digest.slice(7);
    const others: { path: string; atMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      if (name === mine) continue;
      const busy = isDigest(`sha256:${name}`) && this.#underWay.has(`sha256:${name}` as Digest);
      if (!busy) others.push({ path, atMs: await stat(path).then((at) => at.mtimeMs, () => 0) });
    }
    others.sort((a, b) => b.atMs - a.atMs);
    for (const { path } of others.slice(mostPartial - 1)) await rm(path, { force: true });
    return join(folder, mine);
  }

  async #clearPartial(digest: Digest): Promise<void> {
    await unlink(join(this.#images.partialFolder, digest.slice(7))).catch(() => {});
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted) done();
  });

/** Length of the whole file that an answer is about. Throws FETCH_FAILED for an answer that is not the bytes from `offset` on. */
function totalOf(status: number, headers: NodeJS.Dict<string | string[]>, offset: number, host: string): number {
  const length = Number(headers['content-length']);
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(String(headers['content-range'] ?? ''));
  if (status === 200 && offset === 0 && Number.isSafeInteger(length)) return length;
  if (status === 206 && range !== null && Number(range[1]) === offset) return Number(range[3]);
  // Busy: to be tried again, as a connection that broke.
  if (status === 503) throw new ShoalError('CONNECTION_FAILED', `${host} is busy.`);
  throw new ShoalError('FETCH_FAILED', `${host} answered ${status}.`);
}
