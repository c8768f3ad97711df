/**
 * ISO base media boxes (ISO/IEC 14496-12), as far as a packager of fragmented MP4 needs them: cut a stream into top-level boxes, and
 * read of an initialization segment and of a fragment what playlists say about them. Nothing is changed on the way: a part is the
 * bytes the encoder wrote.
 */
import { ShoalError } from '../../model/errors.ts';

/** A fragment of a second at 50 Mb/s has 6 MiB; more than this is no media of ours. */
export const boxMaxBytes = 64 * 1024 * 1024;

export interface Box {
  /** Four characters. */
  type: string;
  /** The whole box, header included. */
  bytes: Buffer;
}

const broken = (why: string): ShoalError => new ShoalError('MEDIA_FAILED', `The encoder's MP4 cannot be read: ${why}.`);

/** Size and type of the box at `at`; undefined when its header is not all there. Throws MEDIA_FAILED. */
function header(bytes: Buffer, at: number): { type: string; size: number; body: number } | undefined {
  if (bytes.length - at < 8) return undefined;
  const type = bytes.toString('latin1', at + 4, at + 8);
  let size = bytes.readUInt32BE(at);
  let body = at + 8;
  if (size === 1) {
    if (bytes.length - at < 16) return undefined;
    const large = bytes.readBigUInt64BE(at + 8);
    if (large > BigInt(boxMaxBytes)) throw broken(`the box ${type} has ${large} bytes`);
    size = Number(large);
    body = at + 16;
  }
  if (size < body - at || size > boxMaxBytes) throw broken(`the box ${JSON.stringify(type)} has ${size} bytes`);
  return { type, size, body };
}

/** Cuts a stream into its top-level boxes, however its bytes come. Holds one box at most. */
export class BoxCutter {
  #held: Buffer[] = [];
  #bytes = 0;
  /** No box can be whole before so many bytes are held. */
  #need = 8;

  /** The boxes that are whole now. Throws MEDIA_FAILED. */
  push(chunk: Buffer): Box[] {
    this.#held.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#need) return [];
    let all = this.#held.length === 1 ? chunk : Buffer.concat(this.#held);
    const boxes: Box[] = [];
    for (;;) {
      const found = header(all, 0);
      this.#need = found?.size ?? (all.length < 8 ? 8 : 16);
      if (found === undefined || all.length < found.size) break;
      boxes.push({ type: found.type, bytes: all.subarray(0, found.size) });
      all = all.subarray(found.size);
    }
    this.#held = all.length === 0 ? [] : [all];
    this.#bytes = all.length;
    return boxes;
  }

  /** Bytes of a box that never became whole. */
  get leftBytes(): number {
    return this.#bytes;
  }
}

/** Boxes directly inside of `bytes`, from `at` on: type and body. Throws MEDIA_FAILED. */
export function children(bytes: Buffer, at = 0): { type: string; body: Buffer }[] {
  const found: { type: string; body: Buffer }[] = [];
  while (at < bytes.length) {
    const next = header(bytes, at);
    if (next === undefined || at + next.size > bytes.length) throw broken('a box ends outside of its parent');
    found.push({ type: next.type, body: bytes.subarray(next.body, at + next.size) });
    at += next.size;
  }
  return found;
}

function down(body: Buffer, path: string): Buffer | undefined {
  let at: Buffer | undefined = body;
  for (const type of path.split('/')) at = at === undefined ? undefined : children(at).find((box) => box.type === type)?.body;
  return at;
}

export interface Track {
  kind: 'video' | 'audio';
  /** Ticks a second. */
  timescale: number;
  /** RFC 6381, "avc1.64001f". */
  codec: string;
  /** Pixels; 0 of audio. */
  width: number;
  height: number;
  /** Of a sample, in ticks, where a fragment says nothing else. */
  defaultDuration: number;
  defaultFlags: number;
}

const hex = (n: number): string => n.toString(16).padStart(2, '0');

/** RFC 6381's name of the first sample entry; `entry` begins behind the entry's own header. */
function codecOf(type: string, entry: Buffer): string {
  if (type === 'avc1' || type === 'avc3') {
    const avcC = children(entry, 78).find((box) => box.type === 'avcC')?.body;
    if (avcC === undefined || avcC.length < 4) throw broken('H.264 without its configuration');
    return `${type}.${hex(avcC[1]!)}${hex(avcC[2]!)}${hex(avcC[3]!)}`;
  }
  // AAC-LC is what the ladder encodes; its object type is 2.
  return type === 'mp4a' ? 'mp4a.40.2' : type;
}

/** A field that lies beyond its box is the file's fault. */
function bounded<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof RangeError ? broken('a box is shorter than its fields') : error;
  }
}

/** The one track of an initialization segment (`moov`, whole). Throws MEDIA_FAILED when there is not exactly one. */
export const readTrack = (moov: Buffer): Track => bounded(() => trackOf(moov));

function trackOf(moov: Buffer): Track {
  const boxes = children(moov, 8);
  const traks = boxes.filter((box) => box.type === 'trak');
  if (traks.length !== 1) throw broken(`${traks.length} tracks where one was asked for`);
  const mdia = down(traks[0]!.body, 'mdia');
  const mdhd = mdia === undefined ? undefined : down(mdia, 'mdhd');
  const hdlr = mdia === undefined ? undefined : down(mdia, 'hdlr');
  const stsd = mdia === undefined ? undefined : down(mdia, 'minf/stbl/stsd');
  if (mdhd === undefined || hdlr === undefined || stsd === undefined || stsd.length < 16) throw broken('a track without its description');
  const entry = children(stsd, 8)[0];
  if (entry === undefined) throw broken('a track without a sample entry');
  const kind = hdlr.toString('latin1', 8, 12) === 'soun' ? 'audio' : 'video';
  const trex = boxes.filter((box) => box.type === 'mvex').flatMap((box) => children(box.body)).find((box) => box.type === 'trex')?.body;
  return {
    kind,
    timescale: mdhd.readUInt32BE(mdhd[0] === 1 ? 20 : 12),
    codec: codecOf(entry.type, entry.body),
    width: kind === 'video' ? entry.body.readUInt16BE(24) : 0,
    height: kind === 'video' ? entry.body.readUInt16BE(26) : 0,
    defaultDuration: trex?.readUInt32BE(12) ?? 0,
    defaultFlags: trex?.readUInt32BE(20) ?? 0,
  };
}

export interface Fragment {
  /** Ticks since the beginning of the stream. */
  decodeTime: number;
  /** Ticks. */
  duration: number;
  samples: number;
  /** It can be decoded without any before it. */
  independent: boolean;
}

const nonSync = 0x10000;
export type TrackDefaults = Pick<Track, 'kind' | 'defaultDuration' | 'defaultFlags'>;

/** What a `moof` (whole) says of its one track. Throws MEDIA_FAILED. */
export const readFragment = (moof: Buffer, track: TrackDefaults): Fragment => bounded(() => fragmentOf(moof, track));

function fragmentOf(moof: Buffer, track: TrackDefaults): Fragment {
  const traf = children(moof, 8).find((box) => box.type === 'traf');
  if (traf === undefined) throw broken('a fragment without a track');
  let decodeTime = 0;
  let duration = 0;
  let samples = 0;
  let each = track.defaultDuration;
  let flagsEach = track.defaultFlags;
  let independent: boolean | undefined;
  for (const { type, body } of children(traf.body)) {
    const flags = body.length >= 4 ? body.readUIntBE(1, 3) : 0;
    if (type === 'tfhd') {
      let at = 8 + (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
      if (flags & 8) [each, at] = [body.readUInt32BE(at), at + 4];
      if (flags & 0x10) at += 4;
      if (flags & 0x20) flagsEach = body.readUInt32BE(at);
    } else if (type === 'tfdt') {
      decodeTime = body[0] === 1 ? Number(body.readBigUInt64BE(4)) : body.readUInt32BE(4);
    } else if (type === 'trun') {
      const count = body.readUInt32BE(4);
      let at = 8 + (flags & 1 ? 4 : 0);
      let first = flagsEach;
      if (flags & 4) [first, at] = [body.readUInt32BE(at), at + 4];
      const size = (flags & 0x100 ? 4 : 0) + (flags & 0x200 ? 4 : 0) + (flags & 0x400 ? 4 : 0) + (flags & 0x800 ? 4 : 0);
      if (at + size * count > body.length) throw broken('a run of samples that is longer than its box');
      if ((flags & 0x404) === 0x400 && count > 0) first = body.readUInt32BE(at + (flags & 0x100 ? 4 : 0) + (flags & 0x200 ? 4 : 0));
      independent ??= count > 0 ? (first & nonSync) === 0 : undefined;
      if (flags & 0x100) for (let i = 0; i < count; i++) duration += body.readUInt32BE(at + i * size);
      else duration += count * each;
      samples += count;
    }
  }
  return { decodeTime, duration, samples, independent: track.kind === 'audio' || independent === true };
}
