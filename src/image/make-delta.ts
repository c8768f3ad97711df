/**
 * Makes deltas: those of most fixes in this process, for four children that start take longer than all of it (src/image/match.ts); the others
 * with Debian's bsdiff, a child process with a bound on its time and memory: it sorts all of the old image, and whoever asks goes on
 * meanwhile. What it says is taken apart and written anew as docs/formats/delta.md has it. A delta is used only when it makes the new image
 * from the old one here.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { applyDelta, digestOf, formatDelta, type DeltaParts, type Stretch } from './delta.ts';
import { match } from './match.ts';

/** bsdiff takes some 17 times the old image's size; larger ones go whole. */
export const mostDeltaBytes = 64 << 20;

/** Larger images would keep this process from everything else for too long. */
const mostHereBytes = 2 << 20;
/** Of the new image: a delta this small is not worth looking for a smaller one. */
const goodPart = 1 / 64;

export interface MakeOptions {
  /** Milliseconds for bsdiff; 60,000 by default. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * Undefined when a delta is of no use: an image is too large, or the delta would be more than half of the new one. Throws DELTA_FAILED
 * when bsdiff is missing, fails or takes too long.
 */
export async function makeDelta(old: Uint8Array, fresh: Uint8Array, options: MakeOptions = {}): Promise<Buffer | undefined> {
  if (old.length === 0 || fresh.length === 0 || old.length > mostDeltaBytes || fresh.length > mostDeltaBytes) return undefined;
  const here = await madeHere(old, fresh);
  if (here !== undefined && here.length <= fresh.length * goodPart) return here;
  const folder = await mkdtemp(join(tmpdir(), 'shoal-delta-'));
  try {
    const [oldFile, newFile, patchFile] = ['old', 'new', 'patch'].map((name) => join(folder, name)) as [string, string, string];
    await Promise.all([writeFile(oldFile, old), writeFile(newFile, fresh)]);
    await run('bsdiff', [oldFile, newFile, patchFile], options);
    const parts = await partsOf(await readFile(patchFile), fresh.length, options);
    const delta = await formatDelta(old, fresh, parts);
    if (delta === undefined || delta.length > fresh.length / 2) return undefined;
    await applyDelta(old, delta, { to: digestOf(fresh), maxBytes: fresh.length });
    return delta;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function madeHere(old: Uint8Array, fresh: Uint8Array): Promise<Buffer | undefined> {
  if (old.length > mostHereBytes || fresh.length > mostHereBytes) return undefined;
  const parts = match(old, fresh);
  if (parts.fresh.length > fresh.length * goodPart * 4) return undefined;
  const delta = await formatDelta(old, fresh, parts);
  if (delta !== undefined) await applyDelta(old, delta, { to: digestOf(fresh), maxBytes: fresh.length });
  return delta;
}

const failed = (why: string, cause?: unknown): ShoalError => new ShoalError('DELTA_FAILED', `No delta could be made: ${why}.`, { cause });

function run(program: string, words: string[], { timeoutMs = 60_000, signal }: MakeOptions, input?: Uint8Array, maxBytes = 1 << 20): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL', encoding: 'buffer', maxBuffer: maxBytes, ...(signal === undefined ? {} : { signal }) } as const;
    const child = execFile(program, words, options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const why = error.code === 'ENOENT' ? `${program} is not installed` : error.killed === true ? `${program} took longer than ${timeoutMs} ms` : `${program}: ${String(stderr).trim() || error.message}`;
      reject(failed(why, error));
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

/** bsdiff's own file: magic, three lengths of sign and magnitude, and three bzip2 streams. */
async function partsOf(patch: Buffer, newBytes: number, options: MakeOptions): Promise<DeltaParts> {
  if (patch.length < 32 || patch.toString('latin1', 0, 8) !== 'BSDIFF40') throw failed('bsdiff wrote a file of another kind');
  const [controlBytes, differenceBytes] = [signed(patch, 8), signed(patch, 16)];
  const unpack = (from: number, to: number | undefined, most: number): Promise<Buffer> => run('bzip2', ['-dc'], options, patch.subarray(from, to), most + 1);
  const [control, differences, fresh] = await Promise.all([
    unpack(32, 32 + controlBytes, 24 * (newBytes + 2)),
    unpack(32 + controlBytes, 32 + controlBytes + differenceBytes, newBytes),
    unpack(32 + controlBytes + differenceBytes, undefined, newBytes),
  ]);
  const stretches: Stretch[] = [];
  for (let at = 0; at + 24 <= control.length; at += 24) {
    const stretch = { add: signed(control, at), copy: signed(control, at + 8), seek: signed(control, at + 16) };
    const last = stretches.at(-1);
    // A stretch of nothing is only a step.
    if (stretch.add === 0 && stretch.copy === 0 && last !== undefined) last.seek += stretch.seek;
    else stretches.push(stretch);
  }
  return { stretches, differences, fresh };
}

function signed(bytes: Buffer, at: number): number {
  const raw = bytes.readBigUInt64LE(at);
  const magnitude = Number(raw & 0x7fffffffffffffffn);
  return raw >> 63n === 1n ? -magnitude : magnitude;
}
