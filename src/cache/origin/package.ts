/**
 * A file becomes a folder that is streamed from: HLS with fMP4 and with TS, and a DASH manifest over the same segments. All of it is
 * made beside its place and moved there at the end, in one rename: what is published is whole, whatever ends this process.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, extname, join, resolve } from 'node:path';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Track } from './boxes.ts';
import { encode, Gathered, probe, reasonOf, type Progress } from './ffmpeg.ts';
import { ladderOf, type Rendition, type Source } from './ladder.ts';
import { dashManifest, multivariantPlaylist, type DashTrack, type Segment } from './playlists.ts';
import { cutRendition } from './rendition.ts';
import type { Workers } from './workers.ts';

const stagingPrefix = '.staging-';
/** Bytes of a folder that is served, by path inside of it; also the mark that a folder is one of ours. */
export const digestsFile = 'digests.json';

export interface PackageOptions {
  input: string;
  /** Folder of all packages; the one of this input is made in it. */
  folder: string;
  name: string;
  segmentS: number;
  /** Video renditions at most. */
  renditions: number;
  /** TS beside fMP4. */
  ts: boolean;
  workers: Workers;
  onProgress?: (part: number, progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Packaged {
  name: string;
  folder: string;
  renditions: string[];
  /** It was there already. */
  found: boolean;
}

/** A word that can stand in a URL: the file's name without its kind. */
export function nameOf(path: string): string {
  const word = basename(path, extname(path)).toLowerCase().replace(/[^a-z0-9-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 60);
  return word === '' ? 'video' : word;
}

/** Another file, or a file that was changed, has another one: it is in the names of segments, which caches keep for days. */
async function identityOf(input: string, options: PackageOptions): Promise<string> {
  const { size, mtimeMs, ino } = await stat(input).catch((error: NodeJS.ErrnoException) => {
    throw new ShoalError('MEDIA_UNREADABLE', `${input}: ${error.code === 'ENOENT' ? 'No such file' : error.message}`, { cause: error });
  });
  const facts = [resolve(input), size, mtimeMs, ino, options.segmentS, options.renditions, options.ts];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 10);
}

/** What an origin that was killed left unfinished. */
export async function removeStaging(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => []))
    if (name.startsWith(stagingPrefix)) await rm(join(folder, name), { recursive: true, force: true });
}

interface Made {
  rendition: Rendition;
  track: Track | undefined;
  segments: Segment[];
}

/** Throws MEDIA_UNREADABLE, MEDIA_FAILED, TASK_CANCELLED, HOST_LIMIT; then nothing of it is in the folder. */
export async function packageFile(options: PackageOptions): Promise<Packaged> {
  const { input, folder, name, workers, signal } = options;
  const id = await identityOf(input, options);
  const place = join(folder, name);
  const before = await readDigests(place);
  if (before?.id === id) return { name, folder: place, renditions: before.renditions, found: true };
  const source = await probe(input);
  const renditions = ladderOf(source, options.renditions);
  const staging = join(folder, `${stagingPrefix}${name}-${randomBytes(4).toString('hex')}`);
  await mkdir(staging, { recursive: true });
  try {
    const digests: Record<string, string> = {};
    const keep = async (path: string, parts: readonly Uint8Array[]): Promise<void> => {
      digests[path] = await workers.write({ path: join(staging, path), parts, durable: true });
    };
    const made = await encodeInto(options, source, renditions, id, keep);
    signal?.throwIfAborted();
    await writePlaylists(options, source, made, keep);
    if (options.ts) await writeTs(options, staging, made, id, keep);
    await keep(digestsFile, [Buffer.from(JSON.stringify({ id, renditions: renditions.map((r) => r.name), digests }))]);
    await publish(staging, place);
  } catch (error) {
    if (signal?.aborted === true) throw new ShoalError('TASK_CANCELLED', `${input}: packaging was stopped.`, { cause: error });
    throw asShoalError(error);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return { name, folder: place, renditions: renditions.map((r) => r.name), found: false };
}

async function encodeInto(
  options: PackageOptions,
  source: Source,
  renditions: readonly Rendition[],
  id: string,
  keep: (path: string, parts: readonly Uint8Array[]) => Promise<void>,
): Promise<Made[]> {
  const { input, segmentS, workers, onProgress, signal } = options;
  const encoder = encode({ input, source, renditions, segmentS, partS: 0.25, loop: false }, (progress) =>
    onProgress?.(source.durationS === undefined ? 0 : Math.min(1, progress.doneS / source.durationS), progress),
  );
  const stop = (): void => encoder.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const made: Made[] = renditions.map((rendition) => ({ rendition, track: undefined, segments: [] }));
    const cutting = made.map((each, i) =>
      cutRendition(encoder.pipes[i]!, workers, { segmentS, prefix: id, init: `init-${id}.mp4` }, {
        init: async (track, bytes) => {
          each.track = track;
          await keep(`${each.rendition.name}/init-${id}.mp4`, [bytes]);
        },
        part: async () => {},
        segment: async ({ parts, ...segment }) => {
          await keep(`${each.rendition.name}/${segment.uri}`, parts.map((part) => part.bytes));
          each.segments.push({ ...segment, parts: [] });
        },
      }).catch((error: unknown) => {
        encoder.stop();
        throw error;
      }),
    );
    const outcomes = await Promise.allSettled([encoder.done, ...cutting]);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    const empty = made.find(({ segments }) => segments.length === 0);
    if (empty !== undefined) throw new ShoalError('MEDIA_UNREADABLE', `${input}: nothing of it could be decoded`);
    return made;
  } finally {
    signal?.removeEventListener('abort', stop);
    encoder.stop();
  }
}

const peakOf = (segments: readonly Segment[]): number => Math.max(0, ...segments.map((s) => (8 * s.bytes) / Math.max(0.1, s.durationS)));

async function writePlaylists(
  { workers }: PackageOptions,
  source: Source,
  made: readonly Made[],
  keep: (path: string, parts: readonly Uint8Array[]) => Promise<void>,
): Promise<void> {
  const tracks: DashTrack[] = [];
  for (const { rendition, track, segments } of made) {
    const targetS = Math.max(...segments.map((s) => s.durationS));
    const list = { segments, open: [], hint: undefined, targetS, partTargetS: 0, init: segments[0]!.init, ended: true, vod: true };
    await keep(`${rendition.name}/index.m3u8`, [Buffer.from(await workers.playlist(list))]);
    const { codec, timescale } = track!;
    tracks.push({ rendition, codec, timescale, segments, peakBps: peakOf(segments), uri: `${rendition.name}/index.m3u8`, folder: `${rendition.name}/` });
  }
  const framesPerSecond = source.video?.framesPerSecond ?? 0;
  await keep('index.m3u8', [Buffer.from(multivariantPlaylist(tracks, framesPerSecond))]);
  await keep('manifest.mpd', [Buffer.from(dashManifest(tracks, framesPerSecond, undefined))]);
}

/** The same pictures and sound as MPEG transport streams, for players without fMP4: not encoded again. */
async function writeTs(
  { segmentS, signal }: PackageOptions,
  staging: string,
  made: readonly Made[],
  id: string,
  keep: (path: string, parts: readonly Uint8Array[]) => Promise<void>,
): Promise<void> {
  const audio = made.find(({ rendition }) => rendition.kind === 'audio');
  const pictures = made.filter(({ rendition }) => rendition.kind === 'video');
  const variants = [];
  for (const each of pictures.length > 0 ? pictures : made) {
    const { rendition, segments, track } = each;
    const withAudio = audio !== undefined && rendition.kind === 'video';
    const folder = `ts-${rendition.name}`;
    await mkdir(join(staging, folder));
    const words = ['-hide_banner', '-nostdin', '-loglevel', 'error', '-i', join(staging, rendition.name, 'index.m3u8')];
    if (withAudio) words.push('-i', join(staging, audio.rendition.name, 'index.m3u8'), '-map', '0:v', '-map', '1:a');
    words.push('-c', 'copy', '-f', 'hls', '-hls_time', String(segmentS), '-hls_playlist_type', 'vod', '-hls_flags', 'independent_segments');
    words.push('-hls_segment_filename', join(staging, folder, `${id}-%d.ts`), join(staging, folder, 'index.m3u8'));
    await runFfmpeg(words, signal);
    for (const file of await readdir(join(staging, folder))) {
      // Written again, whole, synced and with its digest.
      await keep(`${folder}/${file}`, [await readFile(join(staging, folder, file))]);
    }
    const codec = track!.codec;
    variants.push({
      rendition: withAudio ? { ...rendition, bitrateBps: rendition.bitrateBps + audio.rendition.bitrateBps } : rendition,
      codec: withAudio ? `${codec},${audio.track!.codec}` : codec,
      // Packets of 188 bytes and their tables take about a tenth.
      peakBps: 1.1 * (peakOf(segments) + (withAudio ? peakOf(audio.segments) : 0)),
      uri: `${folder}/index.m3u8`,
    });
  }
  await keep('ts.m3u8', [Buffer.from(multivariantPlaylist(variants, 0).replaceAll(',FRAME-RATE=0.000', ''))]);
}

function runFfmpeg(words: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const child = spawn('ffmpeg', words, { stdio: ['ignore', 'ignore', 'pipe'], ...(signal === undefined ? {} : { signal }) });
  const said = new Gathered(child.stderr);
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code) => (code === 0 ? done() : fail(new ShoalError('MEDIA_FAILED', `TS could not be written: ${reasonOf(said.text)}`))));
  });
}

/** One rename; what was there under the name before goes out of the way first, and is removed after. */
async function publish(staging: string, place: string): Promise<void> {
  const old = `${staging}.old`;
  const had = await rename(place, old).then(
    () => true,
    () => false,
  );
  await rename(staging, place);
  const parent = await open(join(place, '..'), 'r');
  await parent.sync().finally(() => parent.close());
  if (had) await rm(old, { recursive: true, force: true });
}

/** What a folder says of itself; undefined when it is none of ours. */
export async function readDigests(folder: string): Promise<{ id: string; renditions: string[]; digests: Record<string, string> } | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, digestsFile), 'utf8')) as { id: string; renditions: string[]; digests: Record<string, string> };
  } catch {
    return undefined;
  }
}

