/**
 * An object store in a file or on a block device, as the tool sees it: one process, no cache. It reads what minicache wrote and writes what
 * minicache reads, in the same order, so that a kill of the tool leaves whole objects only. Not while a guest has the volume.
 */
import { createHash, randomBytes } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { ShoalError } from '../../model/errors.ts';
import {
  checkChunk, chunkBytes, chunkCountOf, extentsMost, metaBytesMost, objectChunksMost, planVolume, readRecord, readVolume, recordBytes,
  recordsOffset, secondCopyOffset, sectorBytes, sectorsOf, writeRecord, writeVolume, type Extent, type StoredRecord, type Volume,
} from './format.ts';

const invalid = (path: string, why: string): ShoalError => new ShoalError('VOLUME_INVALID', `${path}: ${why}`);

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(bytes, at, length - at, offset + at);
    if (bytesRead === 0) throw new ShoalError('VOLUME_INVALID', `the device ends at ${offset + at}`);
    at += bytesRead;
  }
  return bytes;
}

/** Size of a file or of a block device, in bytes. */
async function sizeOf(file: FileHandle): Promise<number> {
  const stat = await file.stat();
  if (!stat.isBlockDevice()) return stat.size;
  // The end of a block device is where a read gives nothing: found by halving, for Node has no call for it.
  let low = 0, high = 2 ** 46;
  const probe = Buffer.alloc(1);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((await file.read(probe, 0, 1, middle)).bytesRead === 1) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Makes `path` a volume. `bytes`: how long a file that is not there yet is to be; what is there has to be blank unless `force`. */
export async function makeVolume(path: string, options: { bytes?: number; objects?: number; force?: boolean } = {}): Promise<Volume> {
  const file = await open(path, options.bytes === undefined ? 'r+' : 'a+').then(async (handle) => {
    await handle.close();
    return open(path, 'r+');
  });
  try {
    if (options.bytes !== undefined && (await file.stat()).size < options.bytes) await file.truncate(options.bytes);
    const size = await sizeOf(file);
    const volume = planVolume(size, options.objects ?? 0, randomBytes(16));
    if (volume === undefined) throw invalid(path, `${size} bytes are too few, or too few for so many objects`);
    const state = readVolume(await readAt(file, 0, recordsOffset), size);
    if (state !== 'blank' && state !== 'torn' && options.force !== true) {
      throw new ShoalError('VOLUME_INVALID', `${path} holds something already`, { hint: 'Give --force to write over it.' });
    }
    if (options.force === true) await file.write(Buffer.alloc(recordsOffset), 0, recordsOffset, 0);
    const bytes = writeVolume(volume);
    await file.write(bytes, 0, bytes.length, secondCopyOffset);
    await file.sync();
    await file.write(bytes, 0, bytes.length, 0);
    await file.sync();
    return volume;
  } finally {
    await file.close();
  }
}

export interface Finding {
  key: string;
  sector: number;
  problem: string;
}

export class ObjectStore {
  readonly volume: Volume;
  readonly #file: FileHandle;
  readonly #records = new Map<string, StoredRecord>();
  readonly #takenChunks: Uint8Array;
  readonly #takenSectors: Uint8Array;
  /** Sound records that do not count: older ones of a key, or whose chunks another has. */
  readonly #stale: StoredRecord[] = [];
  #sequence = 0n;

  private constructor(file: FileHandle, volume: Volume) {
    this.#file = file;
    this.volume = volume;
    this.#takenChunks = new Uint8Array(volume.chunkCount);
    this.#takenSectors = new Uint8Array(volume.recordSectors);
  }

  static async open(path: string, mode: 'r' | 'r+' = 'r'): Promise<ObjectStore> {
    const file = await open(path, mode);
    try {
      const size = await sizeOf(file);
      if (size < recordsOffset) throw invalid(path, 'it is too short');
      const volume = readVolume(await readAt(file, 0, recordsOffset), size);
      if (typeof volume === 'string') throw invalid(path, volume === 'other version' ? 'it is of another version' : `it is ${volume}, not an object store`);
      const store = new ObjectStore(file, volume);
      await store.#readRecords();
      return store;
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  get records(): StoredRecord[] {
    return [...this.#records.values()];
  }

  get freeChunks(): number {
    return this.#takenChunks.reduce((free, taken) => free - taken, this.volume.chunkCount);
  }

  find(key: Uint8Array): StoredRecord | undefined {
    return this.#records.get(Buffer.from(key).toString('hex'));
  }

  async #readRecords(): Promise<void> {
    const area = await readAt(this.#file, recordsOffset, this.volume.recordSectors * sectorBytes);
    const found: StoredRecord[] = [];
    for (let sector = 0; sector < this.volume.recordSectors;) {
      const record = readRecord(this.volume, sector, area.subarray(sector * sectorBytes));
      if (record !== undefined) found.push(record);
      sector += record === undefined ? 1 : sectorsOf(recordBytes(record.extents.length, record.checks.length, record.meta.length));
    }
    for (const record of found.sort((a, b) => (a.sequence < b.sequence ? 1 : -1))) {
      if (record.sequence > this.#sequence) this.#sequence = record.sequence;
      this.#mark(this.#takenSectors, { first: record.sector, count: this.#sectors(record) }, 1);
      const chunks = record.extents.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i));
      if (this.find(record.key) !== undefined || chunks.some((chunk) => this.#takenChunks[chunk] === 1)) {
        this.#stale.push(record);
        continue;
      }
      for (const extent of record.extents) this.#mark(this.#takenChunks, extent, 1);
      this.#records.set(Buffer.from(record.key).toString('hex'), record);
    }
  }

  #sectors(record: StoredRecord): number {
    return sectorsOf(recordBytes(record.extents.length, record.checks.length, record.meta.length));
  }

  #mark(map: Uint8Array, { first, count }: Extent, taken: 0 | 1): void {
    map.fill(taken, first, first + count);
  }

  /** The body, chunk by chunk; throws VOLUME_INVALID at the first that is not what was written. */
  async *body(record: StoredRecord): AsyncGenerator<Buffer> {
    let index = 0;
    for (const { first, count } of record.extents) {
      for (let i = 0; i < count; i++, index++) {
        const length = Math.min(chunkBytes, record.length - index * chunkBytes);
        const bytes = await readAt(this.#file, this.volume.chunksOffset + (first + i) * chunkBytes, length);
        if (checkChunk(this.volume, bytes) !== record.checks[index]) {
          throw new ShoalError('VOLUME_INVALID', `chunk ${index} of ${Buffer.from(record.key).toString('hex')} is not what was written`);
        }
        yield bytes;
      }
    }
  }

  /** Reads everything; what is not as it should be. */
  async verify(): Promise<Finding[]> {
    const findings: Finding[] = this.#stale.map((record) => ({
      key: Buffer.from(record.key).toString('hex'), sector: record.sector, problem: 'an older record, or one whose chunks another has: it does not count',
    }));
    for (const record of this.#records.values()) {
      const hash = createHash('sha256');
      let problem = '';
      try {
        for await (const bytes of this.body(record)) hash.update(bytes);
        if (!hash.digest().equals(record.digest)) problem = 'the body does not have its digest';
      } catch (thrown) {
        problem = (thrown as Error).message;
      }
      if (problem !== '') findings.push({ key: Buffer.from(record.key).toString('hex'), sector: record.sector, problem });
    }
    return findings;
  }

  /** Runs of free units, longest first, that together have `count`. */
  #take(map: Uint8Array, count: number, runsMost: number): Extent[] | undefined {
    const runs: Extent[] = [];
    for (let at = 0; at < map.length; at++) {
      if (map[at] === 1) continue;
      const last = runs.at(-1);
      if (last !== undefined && last.first + last.count === at) last.count++;
      else runs.push({ first: at, count: 1 });
    }
    const fitting = runs.filter((run) => run.count >= count).sort((a, b) => a.count - b.count)[0];
    const taken: Extent[] = [];
    for (const run of fitting === undefined ? runs.sort((a, b) => b.count - a.count) : [fitting]) {
      const rest = count - taken.reduce((sum, extent) => sum + extent.count, 0);
      if (rest === 0 || taken.length === runsMost) break;
      taken.push({ first: run.first, count: Math.min(run.count, rest) });
    }
    return taken.reduce((sum, extent) => sum + extent.count, 0) === count ? taken : undefined;
  }

  /** Stores a body under a key (32 bytes), in place of what had the key. Nothing gives way for it: VOLUME_FULL. */
  async put(key: Uint8Array, meta: Uint8Array, body: Uint8Array): Promise<StoredRecord> {
    const count = chunkCountOf(body.length);
    if (meta.length > metaBytesMost || count > objectChunksMost) throw new ShoalError('VOLUME_FULL', 'body or meta is longer than any volume takes');
    const before = this.find(key);
    if (before === undefined && this.#records.size >= this.volume.objects) throw new ShoalError('VOLUME_FULL', `it has ${this.volume.objects} objects already`);
    const extents = this.#take(this.#takenChunks, count, extentsMost);
    const place = extents && this.#take(this.#takenSectors, sectorsOf(recordBytes(extents.length, count, meta.length)), 1);
    if (extents === undefined || place === undefined) throw new ShoalError('VOLUME_FULL', `no room for ${body.length} bytes`);
    const checks: number[] = [];
    for (const { first, count: run } of extents) {
      for (let i = 0; i < run; i++) {
        const chunk = body.subarray(checks.length * chunkBytes, (checks.length + 1) * chunkBytes);
        checks.push(checkChunk(this.volume, chunk));
        await this.#file.write(chunk, 0, chunk.length, this.volume.chunksOffset + (first + i) * chunkBytes);
      }
    }
    await this.#file.sync();
    const digest = createHash('sha256').update(body).digest();
    const record: StoredRecord = { sector: place[0]!.first, sequence: ++this.#sequence, length: body.length, key, digest, extents, checks, meta };
    const bytes = writeRecord(this.volume, record);
    await this.#file.write(bytes, 0, bytes.length, recordsOffset + record.sector * sectorBytes);
    await this.#file.sync();
    for (const extent of extents) this.#mark(this.#takenChunks, extent, 1);
    this.#mark(this.#takenSectors, place[0]!, 1);
    this.#records.set(Buffer.from(key).toString('hex'), record);
    if (before !== undefined) await this.#erase(before);
    return record;
  }

  async remove(record: StoredRecord): Promise<void> {
    this.#records.delete(Buffer.from(record.key).toString('hex'));
    await this.#erase(record);
  }

  async #erase(record: StoredRecord): Promise<void> {
    await this.#file.write(Buffer.alloc(sectorBytes), 0, sectorBytes, recordsOffset + record.sector * sectorBytes);
    await this.#file.sync();
    for (const extent of record.extents) this.#mark(this.#takenChunks, extent, 0);
    this.#mark(this.#takenSectors, { first: record.sector, count: this.#sectors(record) }, 0);
  }
}

/** The key of a text, as minicache makes it: its SHA-256. */
export const keyOf = (text: string): Uint8Array => Uint8Array.from(createHash('sha256').update(text, 'utf8').digest());
