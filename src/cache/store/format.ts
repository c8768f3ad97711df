/**
 * The object store's format on a block device (docs/formats/object-store.md): pure functions over bytes. The same as
 * unikernels/apps/minicache/disk_format.c; both are held to test/vectors/object-store.
 */
import { siphash24 } from './siphash.ts';

export const version = 1;
export const chunkBytes = 16384;
export const sectorBytes = 512;
export const volumeBytes = 512;
export const secondCopyOffset = 4096;
export const recordsOffset = 8192;
export const recordBytesMost = 65536;
export const recordHeadBytes = 104;
export const extentsMost = 64;
export const objectsMost = 65536;
export const metaBytesMost = 8192;
const recordSectorsMost = 1048576;
const chunkCountMost = 0x7fffffff;
/** The longest object. */
export const objectChunksMost = Math.floor((recordBytesMost - recordHeadBytes - extentsMost * 8 - metaBytesMost - 8) / 4);

export interface Volume {
  deviceBytes: number;
  recordSectors: number;
  /** Most objects. */
  objects: number;
  chunksOffset: number;
  chunkCount: number;
  /** 16 bytes: the key of every check. */
  key: Uint8Array;
}

export interface Extent {
  first: number;
  count: number;
}

export interface StoredRecord {
  /** Sector of the record area it begins at. */
  sector: number;
  sequence: bigint;
  /** Of the body, in bytes. */
  length: number;
  /** SHA-256 of the cache key, and of the body. */
  key: Uint8Array;
  digest: Uint8Array;
  extents: Extent[];
  /** One a chunk. */
  checks: number[];
  meta: Uint8Array;
}

const magicOf = (text: string): Buffer => Buffer.from(text, 'latin1');
const volumeMagic = magicOf('SHOALOBJ');
const recordMagic = magicOf('SHOALREC');
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** Sizes for a device of so many bytes; undefined when it is too small. `objects` 0: as many as suit it. */
export function planVolume(deviceBytes: number, objects: number, key: Uint8Array): Volume | undefined {
  if (deviceBytes < 1 << 20) return undefined;
  const most = Math.min(Math.floor(deviceBytes / chunkBytes), chunkCountMost);
  const slots = objects === 0 ? Math.min(Math.max(Math.floor(most / 4), 64), objectsMost) : objects;
  if (slots > objectsMost) return undefined;
  const recordSectors = Math.max(slots * 4, (2 * recordBytesMost) / sectorBytes);
  const chunksOffset = Math.ceil((recordsOffset + recordSectors * sectorBytes) / chunkBytes) * chunkBytes;
  if (chunksOffset + 4 * chunkBytes > deviceBytes) return undefined;
  const chunkCount = Math.min(Math.floor((deviceBytes - chunksOffset) / chunkBytes), chunkCountMost);
  return { deviceBytes, recordSectors, objects: slots, chunksOffset, chunkCount, key };
}

/** The volume's description: 512 bytes, to be written at 4,096 first and then at 0. */
export function writeVolume(volume: Volume): Buffer {
  const bytes = Buffer.alloc(volumeBytes);
  volumeMagic.copy(bytes);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(chunkBytes, 12);
  bytes.writeBigUInt64LE(BigInt(volume.deviceBytes), 16);
  bytes.writeBigUInt64LE(BigInt(recordsOffset), 24);
  bytes.writeUInt32LE(volume.recordSectors, 32);
  bytes.writeUInt32LE(volume.objects, 36);
  bytes.writeBigUInt64LE(BigInt(volume.chunksOffset), 40);
  bytes.writeUInt32LE(volume.chunkCount, 48);
  bytes.set(volume.key, 56);
  writeCheck(volume.key, bytes, volumeBytes);
  return bytes;
}

function writeCheck(key: Uint8Array, bytes: Buffer, length: number): void {
  const [low, high] = siphash24(key, bytes.subarray(0, length - 8));
  bytes.writeUInt32LE(low, length - 8);
  bytes.writeUInt32LE(high, length - 4);
}

function hasCheck(key: Uint8Array, bytes: Buffer, length: number): boolean {
  const [low, high] = siphash24(key, bytes.subarray(0, length - 8));
  return bytes.readUInt32LE(length - 8) === low && bytes.readUInt32LE(length - 4) === high;
}

function readCopy(bytes: Buffer, deviceBytes: number): Volume | undefined {
  const key = Uint8Array.from(bytes.subarray(56, 72));
  if (!bytes.subarray(0, 8).equals(volumeMagic) || bytes.readUInt32LE(8) !== version || !hasCheck(key, bytes, volumeBytes)) return undefined;
  const volume: Volume = {
    deviceBytes: Number(bytes.readBigUInt64LE(16)),
    recordSectors: bytes.readUInt32LE(32),
    objects: bytes.readUInt32LE(36),
    chunksOffset: Number(bytes.readBigUInt64LE(40)),
    chunkCount: bytes.readUInt32LE(48),
    key,
  };
  const { recordSectors, objects, chunksOffset, chunkCount } = volume;
  const sound =
    bytes.readUInt32LE(12) === chunkBytes && bytes.readBigUInt64LE(24) === BigInt(recordsOffset) && volume.deviceBytes <= deviceBytes &&
    objects > 0 && objects <= objectsMost && recordSectors > 0 && recordSectors <= recordSectorsMost &&
    chunkCount > 0 && chunkCount <= chunkCountMost && chunksOffset % chunkBytes === 0 &&
    chunksOffset >= recordsOffset + recordSectors * sectorBytes && chunkCount * chunkBytes + chunksOffset <= volume.deviceBytes;
  return sound ? volume : undefined;
}

export type VolumeState = 'blank' | 'torn' | 'foreign' | 'other version';

/** The volume that the first 8,192 bytes of a device describe, or why there is none. */
export function readVolume(bytes: Buffer, deviceBytes: number): Volume | VolumeState {
  const first = bytes.subarray(0, volumeBytes);
  const second = bytes.subarray(secondCopyOffset, secondCopyOffset + volumeBytes);
  const volume = readCopy(first, deviceBytes) ?? readCopy(second, deviceBytes);
  if (volume !== undefined) return volume;
  if (first.subarray(0, 8).equals(volumeMagic) && first.readUInt32LE(8) !== version) return 'other version';
  if (!isZero(bytes.subarray(0, secondCopyOffset)) || !isZero(bytes.subarray(secondCopyOffset + volumeBytes, recordsOffset))) return 'foreign';
  if (isZero(second)) return 'blank';
  let prefix = 0;
  while (prefix < 8 && second[prefix] === volumeMagic[prefix]) prefix++;
  return prefix === 8 || isZero(second.subarray(prefix)) ? 'torn' : 'foreign';
}

/** The check of a chunk's bytes. */
export const checkChunk = (volume: Volume, bytes: Uint8Array): number => siphash24(volume.key, bytes)[0];

export const chunkCountOf = (length: number): number => Math.ceil(length / chunkBytes);
export const recordBytes = (extents: number, chunks: number, meta: number): number => recordHeadBytes + 8 * extents + 4 * chunks + meta + 8;
export const sectorsOf = (bytes: number): number => Math.ceil(bytes / sectorBytes);

/** The record's bytes, padded to whole sectors. */
export function writeRecord(volume: Volume, record: StoredRecord): Buffer {
  const length = recordBytes(record.extents.length, record.checks.length, record.meta.length);
  const bytes = Buffer.alloc(sectorsOf(length) * sectorBytes);
  recordMagic.copy(bytes);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt16LE(record.extents.length, 12);
  bytes.writeUInt16LE(record.meta.length, 14);
  bytes.writeBigUInt64LE(record.sequence, 16);
  bytes.writeBigUInt64LE(BigInt(record.length), 24);
  bytes.set(record.key, 32);
  bytes.set(record.digest, 64);
  bytes.writeUInt32LE(record.sector, 96);
  let at = recordHeadBytes;
  for (const { first, count } of record.extents) {
    bytes.writeUInt32LE(first, at);
    bytes.writeUInt32LE(count, at + 4);
    at += 8;
  }
  for (const check of record.checks) at = bytes.writeUInt32LE(check, at);
  bytes.set(record.meta, at);
  writeCheck(volume.key, bytes, length);
  return bytes;
}

/** The record that begins at `sector`, whose bytes come first in `bytes`; undefined when there is no whole and sound one. */
export function readRecord(volume: Volume, sector: number, bytes: Buffer): StoredRecord | undefined {
  if (bytes.length < sectorBytes || !bytes.subarray(0, 8).equals(recordMagic)) return undefined;
  const length = bytes.readUInt32LE(8);
  const extentCount = bytes.readUInt16LE(12), metaLength = bytes.readUInt16LE(14), bodyLength = bytes.readBigUInt64LE(24);
  if (length > bytes.length || length > recordBytesMost || extentCount > extentsMost || metaLength > metaBytesMost) return undefined;
  if (bodyLength > BigInt(objectChunksMost * chunkBytes)) return undefined;
  const chunks = chunkCountOf(Number(bodyLength));
  if (length !== recordBytes(extentCount, chunks, metaLength) || bytes.readUInt32LE(96) !== sector || !hasCheck(volume.key, bytes, length)) {
    return undefined;
  }
  let at = recordHeadBytes;
  const extents: Extent[] = [];
  for (let i = 0; i < extentCount; i++, at += 8) extents.push({ first: bytes.readUInt32LE(at), count: bytes.readUInt32LE(at + 4) });
  if (extents.some(({ first, count }) => count === 0 || first + count > volume.chunkCount)) return undefined;
  if (extents.reduce((sum, { count }) => sum + count, 0) !== chunks) return undefined;
  const checks: number[] = [];
  for (let i = 0; i < chunks; i++, at += 4) checks.push(bytes.readUInt32LE(at));
  const part = (from: number, count: number): Uint8Array => Uint8Array.from(bytes.subarray(from, from + count));
  return { sector, sequence: bytes.readBigUInt64LE(16), length: Number(bodyLength), key: part(32, 32), digest: part(64, 32), extents, checks, meta: part(at, metaLength) };
}
