/**
 * What turns one image into another (docs/formats/delta.md): for each stretch of the new image, the bytes of the old one it resembles
 * and what is to be added to each of them, then bytes that the old one has not. The idea is bsdiff's; the three parts are one brotli
 * stream, which Node unpacks by itself, so that an agent needs no program beside it.
 *
 * A delta is never trusted: nothing in it makes `applyDelta` take more memory than `maxBytes` calls for, and what comes out is the image
 * with the digest asked for, or an error.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompress, constants } from 'node:zlib';
import { ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';

/** In the order of the new image: bytes that are the old one's plus a difference, bytes that are new, then a step in the old one. */
export interface Stretch {
  add: number;
  copy: number;
  /** Bytes, forwards or backwards, from behind what `add` read. */
  seek: number;
}

export interface DeltaParts {
  stretches: readonly Stretch[];
  /** As many bytes as all `add` together. */
  differences: Uint8Array;
  /** As many bytes as all `copy` together. */
  fresh: Uint8Array;
}

export interface DeltaHeader {
  oldBytes: number;
  newBytes: number;
  stretchBytes: number;
  differenceBytes: number;
  freshBytes: number;
  bodyBytes: number;
  from: Digest;
  to: Digest;
}

const magic = Buffer.from('SHOALDLT', 'latin1');
const version = 1;
export const headerBytes = 100;
const bytesAStretch = 12;
/** Unpacked at once; what is larger comes in several. */
const mostChunkBytes = 1 << 20;

const compress = promisify(brotliCompress);
const decompress = promisify(brotliDecompress);

export const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;

const invalid = (why: string): ShoalError => new ShoalError('DELTA_INVALID', `The delta cannot be used: ${why}.`);

/** Undefined when the parts would be larger than the new image itself: then a delta is of no use. */
export async function formatDelta(old: Uint8Array, fresh: Uint8Array, parts: DeltaParts): Promise<Buffer | undefined> {
  const stretches = Buffer.alloc(parts.stretches.length * bytesAStretch);
  parts.stretches.forEach(({ add, copy, seek }, i) => {
    stretches.writeUInt32LE(add, i * bytesAStretch);
    stretches.writeUInt32LE(copy, i * bytesAStretch + 4);
    stretches.writeInt32LE(seek, i * bytesAStretch + 8);
  });
  if (stretches.length > mostStretchBytes(fresh.length)) return undefined;
  const plain = Buffer.concat([stretches, parts.differences, parts.fresh]);
  const body = await compress(plain, {
    params: {
      // The highest takes up to a hundred times as long for a few per cent less (docs/design/0062-images.md).
      [constants.BROTLI_PARAM_QUALITY]: 9,
      // No more than there is: a large window is cleared first.
      [constants.BROTLI_PARAM_LGWIN]: Math.min(constants.BROTLI_MAX_WINDOW_BITS, Math.max(16, Math.ceil(Math.log2(plain.length + 1)))),
      [constants.BROTLI_PARAM_SIZE_HINT]: plain.length,
    },
  });
  const header = Buffer.alloc(headerBytes);
  magic.copy(header);
  const numbers = [version, old.length, fresh.length, stretches.length, parts.differences.length, parts.fresh.length, body.length];
  numbers.forEach((number, i) => header.writeUInt32LE(number, 8 + 4 * i));
  header.write(digestOf(old).slice(7), 36, 'hex');
  header.write(digestOf(fresh).slice(7), 68, 'hex');
  return Buffer.concat([header, body]);
}

/** A delta with more of them is larger than what it stands for. */
const mostStretchBytes = (newBytes: number): number => newBytes + 1024;

/** Reads and checks what the header says of itself. Throws DELTA_INVALID. */
export function parseDeltaHeader(bytes: Uint8Array): DeltaHeader {
  const delta = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (delta.length < headerBytes || !delta.subarray(0, 8).equals(magic)) throw invalid('it does not begin as a delta');
  const number = (i: number): number => delta.readUInt32LE(8 + 4 * i);
  if (number(0) !== version) throw invalid(`it is of version ${number(0)}, not ${version}`);
  const header: DeltaHeader = {
    oldBytes: number(1),
    newBytes: number(2),
    stretchBytes: number(3),
    differenceBytes: number(4),
    freshBytes: number(5),
    bodyBytes: number(6),
    from: `sha256:${delta.toString('hex', 36, 68)}` as Digest,
    to: `sha256:${delta.toString('hex', 68, 100)}` as Digest,
  };
  if (header.bodyBytes !== delta.length - headerBytes) throw invalid(`it says ${header.bodyBytes} bytes and has ${delta.length - headerBytes}`);
  if (header.differenceBytes + header.freshBytes !== header.newBytes) throw invalid('its parts do not make up the image');
  if (header.stretchBytes % bytesAStretch !== 0 || header.stretchBytes > mostStretchBytes(header.newBytes)) throw invalid('it has no whole number of stretches, or too many');
  return header;
}

export interface Wanted {
  from: Digest;
  to: Digest;
  /** The largest that may come out; some three times as much memory is taken. */
  maxBytes: number;
}

/**
 * The new image. Throws DELTA_INVALID, also when the delta is for another pair of images; what it returns has the digest `to`.
 */
export async function applyDelta(old: Uint8Array, delta: Uint8Array, want: Omit<Wanted, 'from'>): Promise<Buffer> {
  const made = await layDelta(old, delta, { ...want, from: digestOf(old) });
  if (digestOf(made) !== want.to) throw invalid('what it makes has another digest');
  return made;
}

/**
 * What the delta makes of bytes that are said to be the image `from`. It is not looked at: whoever puts it away does, by its digest. Throws
 * DELTA_INVALID.
 */
export async function layDelta(old: Uint8Array, delta: Uint8Array, want: Wanted): Promise<Buffer> {
  const header = parseDeltaHeader(delta);
  if (header.to !== want.to) throw invalid(`it makes ${header.to}, not ${want.to}`);
  if (header.newBytes > want.maxBytes) throw invalid(`it makes ${header.newBytes} bytes; ${want.maxBytes} is the limit`);
  if (header.oldBytes !== old.length || header.from !== want.from) throw invalid(`it is for ${header.from}`);
  const plainBytes = header.stretchBytes + header.newBytes;
  let plain: Buffer;
  try {
    // In one piece, and no larger: what it says is what it unpacks to.
    plain = await decompress(delta.subarray(headerBytes), { maxOutputLength: Math.max(1, plainBytes), chunkSize: Math.min(Math.max(64, plainBytes + 1), mostChunkBytes) });
  } catch (error) {
    throw invalid(`its body is damaged (${(error as Error).message})`);
  }
  if (plain.length !== plainBytes) throw invalid(`its body has ${plain.length} bytes instead of ${plainBytes}`);
  return lay(old, plain, header);
}

function lay(old: Uint8Array, plain: Buffer, { stretchBytes, differenceBytes, newBytes }: DeltaHeader): Buffer {
  const differencesEnd = stretchBytes + differenceBytes;
  const made = Buffer.allocUnsafe(newBytes);
  let difference = stretchBytes;
  let fresh = differencesEnd;
  let from = 0;
  let to = 0;
  for (let at = 0; at < stretchBytes; at += bytesAStretch) {
    const add = plain.readUInt32LE(at);
    const copy = plain.readUInt32LE(at + 4);
    if (add > differencesEnd - difference || copy > plain.length - fresh || add + copy > newBytes - to) throw invalid('a stretch leads out of the image');
    if (add > 0 && (from < 0 || from + add > old.length)) throw invalid('a stretch leads out of the old image');
    addBytes(made, to, old, from, plain, difference, add);
    plain.copy(made, to + add, fresh, fresh + copy);
    difference += add;
    fresh += copy;
    to += add + copy;
    from += add + plain.readInt32LE(at + 8);
  }
  if (to !== newBytes) throw invalid(`its stretches make ${to} of ${newBytes} bytes`);
  return made;
}

/** Most differences are zero: four of them are looked at in one. */
function addBytes(made: Buffer, to: number, old: Uint8Array, from: number, plain: Buffer, at: number, length: number): void {
  if (length === 0) return;
  made.set(old.subarray(from, from + length), to);
  const add = (first: number, end: number): void => {
    for (let i = first; i < end; i++) made[to + i] = made[to + i]! + plain[at + i]!;
  };
  const first = Math.min(length, -(plain.byteOffset + at) & 3);
  const words = new Int32Array(plain.buffer, plain.byteOffset + at + first, (length - first) >> 2);
  add(0, first);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) add(first + 4 * i, first + 4 * i + 4);
  add(first + 4 * words.length, length);
}
