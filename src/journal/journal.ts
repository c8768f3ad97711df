/**
 * An append-only file of JSON entries that survives a kill at any instant (docs/formats/agent-journal.md). Entries that arrive
 * together are written and synced together; when more than half of the file is history, it is rewritten with what still counts,
 * in slices (compaction.ts) while entries go on being taken.
 *
 * What a kill can leave is one entry cut short at the end: it is cut off on open, and its writer was never told it was kept.
 * Damage before the end is no crash's work: the file is put aside under another name before the good part is used.
 */
import { open, readFile, copyFile, unlink, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { ShoalError } from '../model/errors.ts';
import { Compaction, type CompactionStep } from './compaction.ts';

const magic = 'SHOALJNL';
const version = 1;
export const headerBytes = 16;
const entryHeaderBytes = 8;
/** Far above what an entry of the host agent can be (a VM is at most about 12 KiB), and what the controller keeps in one; a length
 * beyond it is damage. */
export const entryMaxBytes = 1 << 24;
const compactAboveBytes = 256 * 1024;

export type Entry = Record<string, unknown>;

function header(): Buffer {
  const b = Buffer.alloc(headerBytes);
  b.write(magic, 0, 'latin1');
  b.writeUInt32LE(version, 8);
  b.writeUInt32LE(headerBytes, 12);
  return b;
}

/** Length and checksum, little endian, then the entry's JSON. */
export function encodeEntry(entry: Entry): Buffer {
  const json = Buffer.from(JSON.stringify(entry));
  const b = Buffer.allocUnsafe(entryHeaderBytes + json.length);
  b.writeUInt32LE(json.length, 0);
  b.writeUInt32LE(crc32(json), 4);
  json.copy(b, entryHeaderBytes);
  return b;
}

export interface Decoded {
  entries: Entry[];
  /** Bytes up to the end of the last whole entry. */
  goodBytes: number;
  /** 'clean'; 'torn': the last entry was cut short; 'damaged': something after the good part is no cut entry. */
  end: 'clean' | 'torn' | 'damaged';
}

/** Throws STATE_UNREADABLE for a file that is not a journal of this version; a file shorter than its header counts as torn. */
export function decodeJournal(bytes: Buffer): Decoded {
  const want = header();
  if (bytes.length < headerBytes) {
    if (!want.subarray(0, bytes.length).equals(bytes)) throw unreadable('it is not a journal');
    return { entries: [], goodBytes: 0, end: bytes.length === 0 ? 'clean' : 'torn' };
  }
  if (bytes.toString('latin1', 0, 8) !== magic) throw unreadable('it is not a journal');
  if (bytes.readUInt32LE(8) !== version) throw unreadable(`it has version ${bytes.readUInt32LE(8)}, this agent reads ${version}`);
  const entries: Entry[] = [];
  let at = bytes.readUInt32LE(12);
  while (at < bytes.length) {
    const left = bytes.length - at;
    if (left < entryHeaderBytes) return { entries, goodBytes: at, end: 'torn' };
    const length = bytes.readUInt32LE(at);
    if (length === 0 || length > entryMaxBytes) {
      // A machine that lost power may leave zeroes where the last blocks were to come.
      return { entries, goodBytes: at, end: bytes.subarray(at).every((b) => b === 0) ? 'torn' : 'damaged' };
    }
    if (left < entryHeaderBytes + length) return { entries, goodBytes: at, end: 'torn' };
    const json = bytes.subarray(at + entryHeaderBytes, at + entryHeaderBytes + length);
    if (crc32(json) !== bytes.readUInt32LE(at + 4)) {
      return { entries, goodBytes: at, end: left === entryHeaderBytes + length ? 'torn' : 'damaged' };
    }
    entries.push(JSON.parse(json.toString()) as Entry);
    at += entryHeaderBytes + length;
  }
  return { entries, goodBytes: at, end: 'clean' };
}

const unreadable = (why: string): ShoalError => new ShoalError('STATE_UNREADABLE', `The journal cannot be used: ${why}.`);

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

interface Waiting {
  bytes: Buffer;
  resolve: () => void;
  reject: (error: unknown) => void;
}

export class Journal {
  readonly #path: string;
  readonly #live: () => Iterable<Entry>;
  readonly #step: ((step: CompactionStep) => Promise<void> | void) | undefined;
  #file: FileHandle;
  #size: number;
  #liveBytes: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #compaction: Compaction | undefined;
  #copying: Promise<void> | undefined;
  /** No compaction below this size: the last one came to nothing. */
  #compactAbove = compactAboveBytes;
  #closed = false;

  private constructor(
    path: string,
    file: FileHandle,
    size: number,
    live: () => Iterable<Entry>,
    step?: (step: CompactionStep) => Promise<void> | void,
  ) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#liveBytes = size;
    this.#live = live;
    this.#step = step;
  }

  /**
   * Opens or makes the file, hands each entry to `apply` in order, and mends a torn end.
   *
   * `live` gives what a rewritten journal holds: everything that still counts. It is read over many turns of the event loop, and must
   * stand changes meanwhile: what was there all the time is given once, as it is at that moment; what comes or goes may be given or not,
   * and it ends however much comes. Whoever changes what it gives appends the entry that says so in the same turn. `step` is for tests.
   */
  static async open(
    path: string,
    apply: (entry: Entry) => void,
    live: () => Iterable<Entry>,
    log: (line: string) => void = () => {},
    step?: (step: CompactionStep) => Promise<void> | void,
  ): Promise<Journal> {
    await unlink(`${path}.new`).catch(() => {});
    const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0);
      throw error;
    });
    const { entries, goodBytes, end } = decodeJournal(bytes);
    if (end === 'damaged') {
      await copyFile(path, `${path}.damaged`);
      log(`journal: damaged after byte ${goodBytes}; the whole file was kept as ${path}.damaged`);
    } else if (end === 'torn') {
      log(`journal: an entry cut short by a crash was dropped at byte ${goodBytes}`);
    }
    for (const entry of entries) apply(entry);
    const file = await open(path, goodBytes === 0 ? 'w+' : 'r+', 0o600);
    let size = goodBytes;
    if (size === 0) {
      await file.write(header(), 0, headerBytes, 0);
      size = headerBytes;
      await file.sync();
      await syncFolder(dirname(path));
    } else {
      await file.truncate(size);
    }
    const journal = new Journal(path, file, size, live, step);
    journal.#liveBytes = headerBytes;
    for (const entry of live()) journal.#liveBytes += encodeEntry(entry).length;
    return journal;
  }

  get sizeBytes(): number {
    return this.#size;
  }

  /** Resolves when the entry is on disk. Entries are kept in the order of the calls. Throws HOST_LIMIT when the disk is full. */
  append(entry: Entry): Promise<void> {
    if (this.#closed) return Promise.reject(new ShoalError('INTERNAL_ERROR', 'The journal is closed.'));
    const bytes = encodeEntry(entry);
    if (bytes.length > entryMaxBytes)
      return Promise.reject(new ShoalError('REQUEST_TOO_LARGE', `An entry of the journal would have ${bytes.length} bytes.`));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    // One turn later, so that entries of the same turn share one write.
    await Promise.resolve();
    // A batch is all that waits: once one was written that was taken after the copy ended, the new file lacks nothing the copy may have seen.
    while (this.#waiting.length > 0 || this.#compaction?.copied === true) {
      const compaction = this.#compaction?.copied === true ? this.#compaction : undefined;
      const batch = this.#waiting;
      this.#waiting = [];
      const bytes = Buffer.concat(batch.map((w) => w.bytes));
      try {
        await this.#write(bytes);
        if (bytes.length > 0) this.#compaction?.follow(bytes);
        for (const w of batch) w.resolve();
      } catch (error) {
        // What the copy has seen is not all in the file.
        await this.#compaction?.giveUp();
        const failure = new ShoalError('HOST_LIMIT', `The journal could not be written: ${(error as Error).message}`, {
          hint: 'Make room on the disk of the state directory.',
          cause: error,
        });
        for (const w of batch) w.reject(failure);
      }
      if (compaction !== undefined) await this.#take(compaction);
      if (this.#compaction?.gone === true) this.#abandon(this.#compaction);
      if (this.#compaction === undefined && this.#size > this.#compactAbove && this.#size > 2 * this.#liveBytes) this.#compact();
    }
    this.#writing = undefined;
  }

  async #write(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#size + done);
      done += bytesWritten;
    }
    await this.#file.datasync();
    this.#size += bytes.length;
  }

  /** Begins to write what counts beside the file; the old file stays whole, and in use, until `#take`. */
  #compact(): void {
    if (this.#closed) return;
    const compaction = new Compaction(this.#path, this.#step);
    this.#compaction = compaction;
    this.#copying = compaction.copy(header(), encodedOf(this.#live())).then(() => {
      if (compaction.copied) this.#writing ??= this.#drain();
      else this.#abandon(compaction);
    });
  }

  /** No write is under way. */
  async #take(compaction: Compaction): Promise<void> {
    const made = await compaction.take();
    if (made === undefined) return;
    const old = this.#file;
    this.#file = made.file;
    this.#size = made.size;
    this.#liveBytes = made.liveBytes;
    this.#compaction = undefined;
    this.#compactAbove = compactAboveBytes;
    await old.close().catch(() => {});
    await syncFolder(dirname(this.#path)).catch(() => {});
  }

  /** The old file is whole and stays in use; it is tried again once there is more history. */
  #abandon(compaction: Compaction): void {
    if (this.#compaction === compaction) this.#compaction = undefined;
    this.#compactAbove = this.#size + compactAboveBytes;
  }

  /** Ends when all that was appended is on disk; a rewriting under way is given up. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#compaction?.giveUp();
    await this.#copying;
    await this.#writing;
    await this.#file.close();
  }
}

function* encodedOf(entries: Iterable<Entry>): Generator<Buffer> {
  for (const entry of entries) yield encodeEntry(entry);
}
