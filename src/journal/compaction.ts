/**
 * A journal written anew beside the old one, in slices, while the old one goes on taking entries.
 *
 * What counts is read a few entries a turn, so the copy mixes older and newer states; every entry that the old file takes meanwhile is
 * kept for the new one's end. Read in order, the two give exactly the state of the old file: an entry says what is so from then on, so
 * one that repeats what the copy has already changes nothing. Until `take` renames it, the new file means nothing to anyone.
 */
import { open, rename, unlink, type FileHandle } from 'node:fs/promises';

/** Work of one turn of the event loop: as many entries, or as many bytes, whichever comes first (and one entry at least). */
export const sliceEntries = 32;
export const sliceBytes = 64 * 1024;
/** Beyond this many bytes of entries that came meanwhile a compaction is given up; a later one has a calmer time. */
export const tailMaxBytes = 16 * 1024 * 1024;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A moment of a compaction, for tests that stop there. */
export type CompactionStep = 'slice' | 'copied' | 'written' | 'renamed';

export class Compaction {
  readonly #path: string;
  readonly #newPath: string;
  readonly #step: (step: CompactionStep) => Promise<void> | void;
  #file: FileHandle | undefined;
  #size = 0;
  #tail: Buffer[] = [];
  #tailBytes = 0;
  #copied = false;
  #taking = false;
  #ended = false;
  #copying: Promise<void> | undefined;

  constructor(path: string, step: (step: CompactionStep) => Promise<void> | void = () => {}) {
    this.#path = path;
    this.#newPath = `${path}.new`;
    this.#step = step;
  }

  /** Everything that counted has been read and written. */
  get copied(): boolean {
    return this.#copied && !this.#ended;
  }

  /** It came to nothing, and left nothing. */
  get gone(): boolean {
    return this.#ended && this.#copying === undefined && this.#file === undefined;
  }

  /** Writes `header` and the encoded entries; to be called once. Never rejects: one that failed is `gone`. */
  async copy(header: Buffer, encoded: Iterable<Buffer>): Promise<void> {
    this.#copying = this.#copy(header, encoded);
    await this.#copying;
    this.#copying = undefined;
    if (this.#ended) await this.#discard();
  }

  async #copy(header: Buffer, encoded: Iterable<Buffer>): Promise<void> {
    try {
      this.#file = await open(this.#newPath, 'w+', 0o600);
      await this.#write(header);
      let slice: Buffer[] = [];
      let bytes = 0;
      for (const entry of encoded) {
        slice.push(entry);
        bytes += entry.length;
        if (slice.length < sliceEntries && bytes < sliceBytes) continue;
        await this.#write(Buffer.concat(slice));
        slice = [];
        bytes = 0;
        await this.#step('slice');
        await nextTurn();
        if (this.#ended) break;
      }
      await this.#write(Buffer.concat(slice));
      // Most of it reaches the disk here, where nobody waits for it.
      await this.#file.datasync();
      this.#copied = true;
      await this.#step('copied');
    } catch {
      this.#ended = true;
    }
  }

  /** An entry that the old file has now, after those before. */
  follow(bytes: Buffer): void {
    if (this.#ended) return;
    this.#tail.push(bytes);
    this.#tailBytes += bytes.length;
    if (this.#tailBytes > tailMaxBytes) void this.giveUp();
  }

  /**
   * Puts the new file in the place of the old one. No entry may be on its way into the old file meanwhile, and every one that the copy may
   * have seen must have followed. Gives undefined when the old one stays.
   */
  async take(): Promise<{ file: FileHandle; size: number; liveBytes: number } | undefined> {
    if (!this.copied) return undefined;
    const file = this.#file!;
    const liveBytes = this.#size;
    this.#taking = true;
    try {
      await this.#write(Buffer.concat(this.#tail));
      this.#tail = [];
      await file.sync();
      await this.#step('written');
      await rename(this.#newPath, this.#path);
    } catch {
      this.#taking = false;
      await this.giveUp();
      return undefined;
    }
    await this.#step('renamed');
    return { file, size: this.#size, liveBytes };
  }

  /** A copy under way ends with its slice. Nothing once it is being taken. */
  async giveUp(): Promise<void> {
    if (this.#taking) return;
    this.#ended = true;
    this.#tail = [];
    await this.#copying;
    await this.#discard();
  }

  async #discard(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    await file.close().catch(() => {});
    await unlink(this.#newPath).catch(() => {});
  }

  async #write(bytes: Buffer): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file!.write(bytes, done, bytes.length - done, this.#size);
      done += bytesWritten;
      this.#size += bytesWritten;
    }
  }
}

/** What there was at the beginning, also when more comes meanwhile: an iteration that ends. */
export function* atMost<T>(count: number, of: Iterable<T>): Generator<T> {
  if (count <= 0) return;
  for (const each of of) {
    yield each;
    if (--count === 0) return;
  }
}
