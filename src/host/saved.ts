/**
 * A saved VM as bytes (docs/formats/saved-vm.md): a record that says what it is, its memory in pieces, its state, and a digest over all of
 * that. The same bytes are a file, an HTTP body and what a migration ships. Both directions work on a stream, with one block in memory.
 */
import { createHash } from 'node:crypto';
import type { MemoryReader, MemoryWriter } from '../hypervisor/port.ts';
import { mostPieceBytes } from '../hypervisor/port.ts';
import { ShoalError } from '../model/errors.ts';

const magic = 'SHOALSVM';
const version = 1;
const headerBytes = 16;
const blockHeadBytes = 8;
const digestBytes = 32;
export const mostRecordBytes = 64 * 1024;
const mostStateBytes = 64 * 1024;
const mostAddresses = 8;

const blocks = { piece: 1, state: 2, end: 3 } as const;

export interface SavedVif {
  handle: number;
  mac: string;
  network: string;
  /** Of the network it was on, "10.64.0.0/16 10.64.0.1": prefix and gateway; "" where guests ask DHCP. */
  subnet: string;
  ipv4: string[];
  also?: string[];
  backend?: 'switch' | 'netback';
  rateKbit?: number;
  lockingMode?: 'unlocked';
}

export interface SavedRecord {
  uuid: string;
  name: string;
  description: string;
  image: string;
  memoryKib: number;
  args: string;
  vifs: SavedVif[];
  otherConfig: Record<string, string>;
  startedMs: number;
  /** Hexadecimal; see Hypervisor.cpuFeatures. */
  cpuFeatures: string;
  /** For people. */
  hypervisor: string;
}

export const invalidSaved = (why: string): ShoalError => new ShoalError('SAVED_VM_INVALID', `This is no saved VM that can be used: ${why}.`);

export class SavedEncoder {
  readonly #hash = createHash('sha256');

  header(record: SavedRecord): Buffer {
    const json = Buffer.from(JSON.stringify(record));
    if (json.length > mostRecordBytes) throw new ShoalError('REQUEST_TOO_LARGE', `The record of the VM would have ${json.length} bytes.`);
    const head = Buffer.alloc(headerBytes);
    head.write(magic, 0, 'latin1');
    head.writeUInt32LE(version, 8);
    head.writeUInt32LE(json.length, 12);
    return this.#hashed(Buffer.concat([head, json]));
  }

  /** The block's head, and the bytes themselves. */
  piece(bytes: Uint8Array): [Buffer, Buffer] {
    return [this.#hashed(blockHead(blocks.piece, bytes.length)), this.#hashed(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))];
  }

  state(bytes: Uint8Array): Buffer {
    return this.#hashed(block(blocks.state, bytes));
  }

  end(): Buffer {
    return block(blocks.end, this.#hash.digest());
  }

  #hashed(bytes: Buffer): Buffer {
    this.#hash.update(bytes);
    return bytes;
  }
}

function blockHead(kind: number, length: number): Buffer {
  const head = Buffer.allocUnsafe(blockHeadBytes);
  head.writeUInt32LE(length, 0);
  head.writeUInt32LE(kind, 4);
  return head;
}

const block = (kind: number, bytes: Uint8Array): Buffer => Buffer.concat([blockHead(kind, bytes.length), bytes]);

/** All of a suspended domain. */
export function* encodeSaved(record: SavedRecord, reader: MemoryReader): Generator<Buffer> {
  const encoder = new SavedEncoder();
  yield encoder.header(record);
  for (let piece = reader.piece(false); piece !== undefined; piece = reader.piece(false)) yield* encoder.piece(piece);
  yield encoder.state(reader.state());
  yield encoder.end();
}

/** Takes a stream apart, in order: `record` first, then what `fill` hands to a writer. Nothing is believed before `fill` came back. */
export class SavedSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #ends: boolean;
  readonly #hash = createHash('sha256');
  #held: Buffer = Buffer.alloc(0);
  /** Bytes read so far. */
  bytes = 0;

  /** `ends`: the chunks end where the VM does. */
  constructor(chunks: AsyncIterable<Uint8Array>, ends = true) {
    this.#ends = ends;
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** Throws SAVED_VM_INVALID. */
  async record(): Promise<SavedRecord> {
    const head = await this.#take(headerBytes, true);
    if (head.toString('latin1', 0, 8) !== magic) throw invalidSaved('it does not begin as one');
    if (head.readUInt32LE(8) !== version) throw invalidSaved(`it has version ${head.readUInt32LE(8)}, this host reads ${version}`);
    const length = head.readUInt32LE(12);
    if (length > mostRecordBytes) throw invalidSaved('its record is too long');
    return parseRecord(await this.#take(length, true));
  }

  /** All that follows the record. The domain may run only when this has come back. Throws SAVED_VM_INVALID, and as the writer. */
  async fill(writer: MemoryWriter): Promise<void> {
    let state: Buffer | undefined;
    for (;;) {
      const head = await this.#take(blockHeadBytes, false);
      const [length, kind] = [head.readUInt32LE(0), head.readUInt32LE(4)];
      if (kind === blocks.end) {
        if (length !== digestBytes || state === undefined) throw invalidSaved('its end is not where it should be');
        if (!(await this.#take(length, false)).equals(this.#hash.digest())) throw invalidSaved('it was changed: its digest is another');
        await this.#nothingMore();
        return writer.end(state);
      }
      this.#hash.update(head);
      if (length > (kind === blocks.piece ? mostPieceBytes : mostStateBytes)) throw invalidSaved('a block is too long');
      const bytes = await this.#take(length, true);
      if (kind === blocks.piece && state === undefined) writer.piece(bytes);
      else if (kind === blocks.state && state === undefined) state = Buffer.from(bytes);
      else throw invalidSaved('a block is of no kind that has its place there');
    }
  }

  /** Ends the stream where it is. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #take(length: number, hashed: boolean): Promise<Buffer> {
    if (this.#held.length < length) {
      const parts = this.#held.length === 0 ? [] : [this.#held];
      for (let have = this.#held.length; have < length; ) {
        const { value, done } = await this.#chunks.next();
        if (done === true) throw invalidSaved(`it was cut after ${this.bytes + have} bytes`);
        parts.push(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
        have += value.byteLength;
      }
      // Most often one chunk is all that is wanted, and copying is not cheap.
      this.#held = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    }
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    this.bytes += length;
    if (hashed) this.#hash.update(taken);
    return taken;
  }

  async #nothingMore(): Promise<void> {
    if (this.#held.length === 0 && (!this.#ends || (await this.#chunks.next()).done === true)) return;
    throw invalidSaved('something follows its end');
  }
}

const isText = (v: unknown): v is string => typeof v === 'string';
const isTexts = (v: unknown): v is string[] => Array.isArray(v) && v.every(isText);

/** Shapes only: what a value may be is checked where the VM is made. */
export function parseRecord(bytes: Uint8Array): SavedRecord {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw invalidSaved('its record is no JSON');
  }
  if (typeof value !== 'object' || value === null) throw invalidSaved('its record is no object');
  const r = value as Record<string, unknown>;
  const other = r['otherConfig'];
  const good =
    ['uuid', 'name', 'description', 'image', 'args', 'cpuFeatures', 'hypervisor'].every((key) => isText(r[key])) &&
    ['memoryKib', 'startedMs'].every((key) => Number.isSafeInteger(r[key])) &&
    /^([0-9a-f]{2})*$/.test(r['cpuFeatures'] as string) &&
    typeof other === 'object' && other !== null && !Array.isArray(other) && Object.values(other).every(isText) &&
    Array.isArray(r['vifs']) && r['vifs'].every(isVif);
  if (!good) throw invalidSaved('its record lacks something');
  return value as SavedRecord;
}

function isVif(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const v = value as Record<string, unknown>;
  const { backend, rateKbit, also, lockingMode } = v;
  return (
    Number.isInteger(v['handle']) && isText(v['mac']) && isText(v['network']) && isText(v['subnet']) && isTexts(v['ipv4']) && v['ipv4'].length <= mostAddresses &&
    (also === undefined || (isTexts(also) && also.length <= mostAddresses)) &&
    (backend === undefined || backend === 'switch' || backend === 'netback') && (rateKbit === undefined || Number.isSafeInteger(rateKbit)) &&
    (lockingMode === undefined || lockingMode === 'unlocked')
  );
}
