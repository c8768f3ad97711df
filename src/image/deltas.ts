/**
 * Deltas as the controller keeps them: made once for a pair of images, one at a time, and kept as files `<old hex>-<new hex>.delta`
 * below a bound of bytes. Nobody waits until a file is on the disk: what is lost or damaged is made again.
 */
import { mkdir, readdir, readFile, rename, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../model/ids.ts';
import { headerBytes } from './delta.ts';
import { makeDelta } from './make-delta.ts';
import type { Served } from './serving.ts';

export interface DeltaStoreOptions {
  /** An image's bytes; undefined when it is not kept here. */
  bytes: (digest: Digest) => Promise<Uint8Array | undefined>;
  make?: (old: Uint8Array, fresh: Uint8Array) => Promise<Buffer | undefined>;
  /** Of all deltas together; 256 MiB by default. The ones not asked for longest go first. */
  maxBytes?: number;
  log?: (line: string) => void;
}

const fileForm = /^([0-9a-f]{64})-([0-9a-f]{64})\.delta$/;
/** Pairs remembered as not worth a delta. */
const mostUseless = 1000;
/** Deltas that are kept in memory as text; each was small enough for an order. */
const mostTexts = 16;
/** Pairs that wait to be made; a pair beyond that goes whole. */
const mostWaiting = 32;

export class DeltaStore {
  readonly #folder: string;
  readonly #o: Required<DeltaStoreOptions>;
  /** Least recently asked for first. */
  readonly #files = new Map<string, Served>();
  readonly #making = new Map<string, Promise<Served | undefined>>();
  readonly #useless = new Set<string>();
  /** In base64, by path: a fix goes to every host. */
  readonly #texts = new Map<string, Promise<string>>();
  #last: Promise<unknown> = Promise.resolve();
  #bytes = 0;
  /** For tests: how many were made by this process. */
  made = 0;

  private constructor(folder: string, options: DeltaStoreOptions) {
    this.#folder = folder;
    this.#o = { make: makeDelta, maxBytes: 256 << 20, log: () => {}, ...options };
  }

  static async open(folder: string, options: DeltaStoreOptions): Promise<DeltaStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const store = new DeltaStore(folder, options);
    const found: { key: string; path: string; bytes: number; atMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const match = fileForm.exec(name);
      if (match === null) await rm(path, { force: true });
      else {
        const { size, mtimeMs } = await stat(path);
        // Of a machine that lost its power it may be a name with nothing behind it.
        if (size < headerBytes) {
          await rm(path, { force: true });
          continue;
        }
        found.push({ key: `${match[1]} ${match[2]}`, path, bytes: size, atMs: mtimeMs });
      }
    }
    for (const { key, path, bytes } of found.sort((a, b) => a.atMs - b.atMs)) store.#keep(key, { path, bytes });
    await store.#bound();
    return store;
  }

  /** The one that is there; nothing is made. */
  get(from: Digest, to: Digest): Served | undefined {
    return this.#files.get(keyOf(from, to));
  }

  /** Makes it when it is not there. Undefined when there is no use in one, or none can be made: never throws. */
  async need(from: Digest, to: Digest): Promise<Served | undefined> {
    const key = keyOf(from, to);
    const file = this.#files.get(key);
    if (file !== undefined) {
      this.#files.delete(key);
      this.#files.set(key, file);
      void utimes(file.path, new Date(), new Date()).catch(() => {});
      return file;
    }
    if (this.#useless.has(key)) return undefined;
    const under = this.#making.get(key);
    if (under !== undefined) return under;
    if (this.#making.size >= mostWaiting) return undefined;
    const turn = this.#last.then(() => this.#make(from, to, key)).finally(() => this.#making.delete(key));
    this.#last = turn;
    this.#making.set(key, turn);
    return turn;
  }

  /** A small one's bytes in base64. Throws what reading its file does. */
  text({ path }: Served): Promise<string> {
    const known = this.#texts.get(path);
    if (known !== undefined) return known;
    const reading = readFile(path, 'base64');
    this.#texts.set(path, reading);
    if (this.#texts.size > mostTexts) this.#texts.delete(this.#texts.keys().next().value!);
    reading.catch(() => this.#texts.delete(path));
    return reading;
  }

  /** One that turned out to be damaged: it is made anew when it is asked for again. */
  async drop(from: Digest, to: Digest): Promise<void> {
    const file = this.#files.get(keyOf(from, to));
    if (file === undefined) return;
    this.#files.delete(keyOf(from, to));
    this.#bytes -= file.bytes;
    this.#texts.delete(file.path);
    await unlink(file.path).catch(() => {});
  }

  async #make(from: Digest, to: Digest, key: string): Promise<Served | undefined> {
    try {
      const [old, fresh] = await Promise.all([this.#o.bytes(from), this.#o.bytes(to)]);
      if (old === undefined || fresh === undefined) return undefined;
      const delta = await this.#o.make(old, fresh);
      if (delta === undefined) {
        if (this.#useless.size >= mostUseless) this.#useless.clear();
        this.#useless.add(key);
        return undefined;
      }
      this.made++;
      const path = join(this.#folder, `${from.slice(7)}-${to.slice(7)}.delta`);
      const part = `${path}.part`;
      await writeFile(part, delta, { mode: 0o600 });
      await rename(part, path);
      const served = { path, bytes: delta.length };
      this.#keep(key, served);
      await this.#bound();
      return served;
    } catch (error) {
      this.#o.log(`delta of ${from} to ${to}: ${(error as Error).message}`);
      return undefined;
    }
  }

  #keep(key: string, file: Served): void {
    this.#files.set(key, file);
    this.#bytes += file.bytes;
  }

  async #bound(): Promise<void> {
    for (const [key, { path, bytes }] of this.#files) {
      if (this.#bytes <= this.#o.maxBytes || this.#files.size === 1) return;
      this.#files.delete(key);
      this.#bytes -= bytes;
      await unlink(path).catch(() => {});
    }
  }
}

const keyOf = (from: Digest, to: Digest): string => `${from.slice(7)} ${to.slice(7)}`;
