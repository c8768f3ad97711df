/**
 * Finds what a new image has of an old one, in this process and in a few milliseconds: for fixes, which leave nearly all in its place or move
 * it as a whole. Stretches are found by blocks of equal bytes and grow over bytes that differ, so code that moved, with its calls changed,
 * is one stretch. What bsdiff finds beyond that it does not find; who wants the smallest compares.
 */
import type { DeltaParts, Stretch } from './delta.ts';

/** Equal bytes by which a place in the old image is found; each block of so many of the old one is known. */
const blockBytes = 16;
/** A stretch ends when it got worse by so many bytes since it was at its best. */
const dropBytes = 96;
/** Of equal over unequal bytes, for a stretch to be worth its twelve bytes. */
const worthBytes = 32;

const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Of bytes looked at, for each byte of the new image: the rest of one that is made to be slow is `fresh`. */
const mostLooks = 32;

/** Always an answer, which may be of no use: then nearly all is `fresh`. Time and memory grow with the images' length. */
export function match(oldBytes: Uint8Array, newBytes: Uint8Array): DeltaParts {
  const [old, fresh] = [view(oldBytes), view(newBytes)];
  const bits = Math.max(8, Math.ceil(Math.log2(old.length / blockBytes + 1)) + 1);
  const places = new Int32Array(1 << bits).fill(-1);
  const slotOf = (bytes: Buffer, at: number): number => {
    let hash = bytes.readInt32LE(at);
    for (let i = 4; i < blockBytes; i += 4) hash = Math.imul(hash ^ bytes.readInt32LE(at + i), 0x9e3779b1) ^ (hash >>> 15);
    return Math.imul(hash, 0x85ebca6b) >>> (32 - bits);
  };
  // Backwards: of blocks that are the same the first is known.
  for (let at = (Math.floor(old.length / blockBytes) - 1) * blockBytes; at >= 0; at -= blockBytes) places[slotOf(old, at)] = at;

  /** How far it is worth to go on from there, and how much better equal bytes are than unequal ones by then. */
  let looks = mostLooks * fresh.length;
  const grown = (from: number, to: number): { length: number; score: number } => {
    const most = Math.min(old.length - from, fresh.length - to);
    let [length, best, score] = [0, 0, 0];
    for (let i = 0; i < most && score > best - dropBytes; i++) {
      score += old[from + i] === fresh[to + i] ? 1 : -1;
      if (score > best) [length, best] = [i + 1, score];
      looks--;
    }
    return { length, score: best };
  };
  const equal = (from: number, to: number): boolean => from >= 0 && from + blockBytes <= old.length && old.compare(fresh, to, to + blockBytes, from, from + blockBytes) === 0;

  const stretches: Stretch[] = [];
  const differences = Buffer.alloc(fresh.length);
  const copied: Buffer[] = [];
  let differing = 0;
  let [from, to] = [0, 0];
  let length = grown(0, 0).length;
  while (to < fresh.length) {
    for (let i = 0; i < length; i++) differences[differing + i] = fresh[to + i]! - old[from + i]!;
    differing += length;
    const [oldEnd, newEnd] = [from + length, to + length];
    let next: { from: number; to: number; length: number } | undefined;
    for (let at = newEnd; next === undefined && looks > 0 && at + blockBytes <= fresh.length; at++) {
      // Where it was going on is better than elsewhere.
      for (const place of [oldEnd + at - newEnd, places[slotOf(fresh, at)]!]) {
        if (!equal(place, at)) continue;
        const ahead = grown(place, at);
        if (ahead.score < worthBytes && at + ahead.length < fresh.length) continue;
        let back = 0;
        while (at - back > newEnd && place - back > 0 && old[place - back - 1] === fresh[at - back - 1]) back++;
        next = { from: place - back, to: at - back, length: ahead.length + back };
        break;
      }
    }
    const copyEnd = next?.to ?? fresh.length;
    copied.push(fresh.subarray(newEnd, copyEnd));
    stretches.push({ add: length, copy: copyEnd - newEnd, seek: next === undefined ? 0 : next.from - oldEnd });
    if (next === undefined) break;
    ({ from, to, length } = next);
  }
  return { stretches, differences: differences.subarray(0, differing), fresh: Buffer.concat(copied) };
}
