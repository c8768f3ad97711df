/**
 * One live stream: what its encoder writes is in the playlists as soon as a part of it is whole. Finished segments are files; parts and
 * playlists are in memory, for they live for seconds. A viewer may ask for what comes next and is held until it is there, with bounds
 * on how long, how far ahead and how many.
 *
 * A stream that begins anew has another name in front of its segments, and forgets the ones of the stream before: what a cache keeps under a
 * name is always what the name meant.
 */
import { mkdir, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Track } from './boxes.ts';
import type { Cutter, MadePart, MadeSegment } from './cutter.ts';
import { encode, partSeconds, probe, shown, type Encoder, type Progress } from './ffmpeg.ts';
import { ladderOf, type Rendition, type Source } from './ladder.ts';
import { dashManifest, multivariantPlaylist, type DashTrack, type MediaPlaylist, type Segment } from './playlists.ts';
import { cutRendition } from './rendition.ts';
import { Waiting } from './waiting.ts';
import type { Workers } from './workers.ts';

export interface LiveOptions {
  name: string;
  input: string;
  /** A file, played again and again in real time. */
  loop: boolean;
  /** Segments of this stream are in FOLDER/NAME. */
  folder: string;
  segmentS: number;
  partS: number;
  /** Segments in a playlist. */
  window: number;
  renditions: number;
  workers: Workers;
  onProgress?: (progress: Progress) => void;
  log?: (line: string) => void;
}

/** Segments at the end of a playlist that are told with their parts. */
const segmentsWithParts = 3;
/** A source that sends nothing for so many segments is gone. */
const patienceSegments = 5;
/** … but at the beginning it has this long: whoever joins a stream waits for its next key frame first, and a source that was looked at has to connect again. */
const beginMs = 20_000;

class LiveRendition {
  readonly rendition: Rendition;
  readonly waiting: Waiting;
  track: Track | undefined;
  init: string | undefined;
  initBytes: Buffer | undefined;
  segments: Segment[] = [];
  /** By uri. */
  readonly parts = new Map<string, Buffer>();
  cutter: Cutter | undefined;
  peakBps = 0;
  text = '';

  constructor(rendition: Rendition, waiting: Waiting) {
    this.rendition = rendition;
    this.waiting = waiting;
  }
}

export type LiveState = 'starting' | 'live' | 'ended' | 'failed';

export class LiveStream {
  readonly #options: LiveOptions;
  readonly #prefix: string;
  readonly #folder: string;
  #source: Source | undefined;
  #renditions = new Map<string, LiveRendition>();
  #encoder: Encoder | undefined;
  #beganMs = 0;
  #done: Promise<void> | undefined;
  #silence: NodeJS.Timeout | undefined;
  #silent = false;
  state: LiveState = 'starting';
  error: ShoalError | undefined;

  constructor(options: LiveOptions) {
    this.#options = options;
    this.#prefix = Date.now().toString(36);
    this.#folder = join(options.folder, options.name);
  }

  get name(): string {
    return this.#options.name;
  }

  get renditions(): string[] {
    return [...this.#renditions.keys()];
  }

  /** Resolves when a viewer can begin: each rendition has a segment. Throws MEDIA_UNREADABLE, MEDIA_FAILED, TIMEOUT; then nothing is published. */
  async start(): Promise<void> {
    const { input, segmentS, partS, loop, workers } = this.#options;
    try {
      await rm(this.#folder, { recursive: true, force: true });
      await mkdir(this.#folder, { recursive: true });
      const source = (this.#source = await probe(input));
      const renditions = ladderOf(source, this.#options.renditions);
      this.#beganMs = Date.now();
      const encoder = (this.#encoder = encode(
        { input, source, renditions, segmentS, partS, loop },
        this.#options.onProgress,
      ));
      this.#heard();
      // The first fragment that comes sets the time for all renditions: the same moment has the same time in each.
      let epochMs: number | undefined;
      let begun = (): void => {};
      const first = new Promise<void>((resolve) => (begun = resolve));
      const cutting = renditions.map((rendition, i) => {
        const live = new LiveRendition(rendition, new Waiting(segmentS * 3 * 1000));
        this.#renditions.set(rendition.name, live);
        const init = `init-${this.#prefix}.mp4`;
        return cutRendition(encoder.pipes[i]!, workers, { segmentS, prefix: this.#prefix, init, clock: (atS) => (epochMs ??= Date.now() - 1000 * atS) + 1000 * atS }, {
          init: async (track, bytes, cutter) => {
            Object.assign(live, { track, init, initBytes: bytes, cutter });
            await workers.write({ path: join(this.#folder, rendition.name, init), parts: [bytes], durable: false });
          },
          part: (part) => this.#part(live, part),
          segment: async (segment) => {
            await this.#segment(live, segment);
            if (this.state === 'starting' && [...this.#renditions.values()].every((r) => r.segments.length > 0)) {
              this.state = 'live';
              clearTimeout(this.#silence);
              this.#silence = undefined;
              this.#heard(); // from now on with the shorter patience
              begun();
            }
          },
        }).catch((error: unknown) => {
          encoder.stop();
          throw error;
        });
      });
      this.#done = Promise.allSettled([encoder.done, ...cutting]).then((outcomes) => {
        const failed = outcomes.find((outcome) => outcome.status === 'rejected');
        return this.#end(failed === undefined ? undefined : asShoalError(failed.reason));
      });
      await Promise.race([first, this.#done]);
      if (this.state !== 'live' && this.state !== 'ended') {
        if (this.error === undefined && this.#silent) throw new ShoalError('TIMEOUT', `${shown(input)}: nothing of it could be decoded within ${beginMs} ms.`, { hint: 'Check that the source still sends, and that it sends key frames.' });
        throw this.error ?? new ShoalError('MEDIA_UNREADABLE', `${shown(input)}: it ended before its first segment`);
      }
    } catch (error) {
      this.#encoder?.stop();
      await this.#done;
      this.state = 'failed';
      this.error = asShoalError(error);
      this.#renditions.clear();
      await rm(this.#folder, { recursive: true, force: true });
      throw this.error;
    }
  }

  async #part(live: LiveRendition, part: MadePart): Promise<void> {
    this.#heard();
    live.parts.set(part.uri, part.bytes);
    await this.#tell(live);
  }

  #heard(): void {
    if (this.#silence !== undefined) {
      this.#silence.refresh();
      return;
    }
    const patienceMs = this.#options.segmentS * patienceSegments * 1000;
    const silentMs = this.state === 'starting' ? Math.max(beginMs, patienceMs) : patienceMs;
    this.#silence = setTimeout(() => {
      this.#options.log?.(`${this.name}: the source sent nothing for ${silentMs} ms; the stream ends`);
      this.#silent = true;
      this.#encoder?.stop();
    }, silentMs);
  }

  async #segment(live: LiveRendition, { parts, ...segment }: MadeSegment): Promise<void> {
    const { workers, window } = this.#options;
    await workers.write({ path: join(this.#folder, live.rendition.name, segment.uri), parts: parts.map((p) => p.bytes), durable: false });
    live.peakBps = Math.max(live.peakBps, (8 * segment.bytes) / Math.max(0.1, segment.durationS));
    live.segments.push({ ...segment, parts: parts.map(({ uri, durationS, independent }) => ({ uri, durationS, independent })) });
    const old = live.segments.at(-1 - segmentsWithParts);
    if (old !== undefined) {
      for (const part of old.parts) live.parts.delete(part.uri);
      old.parts = [];
    }
    // A segment outlives its place in the playlist by a window: readers may have an older playlist.
    const gone = live.segments.length > window ? live.segments.shift() : undefined;
    if (gone !== undefined && gone.number >= window)
      await unlink(join(this.#folder, live.rendition.name, `${this.#prefix}-${gone.number - window}.m4s`)).catch(() => {});
    await this.#tell(live);
  }

  async #tell(live: LiveRendition): Promise<void> {
    live.text = await this.#options.workers.playlist(this.#listOf(live));
    const parts = live.cutter!.open.length;
    live.waiting.reached(live.cutter!.number, parts);
  }

  #listOf(live: LiveRendition): MediaPlaylist {
    const { segmentS, partS } = this.#options;
    const cutter = live.cutter!;
    const ended = this.state === 'ended';
    const partTargetS = partSeconds(live.rendition, this.#source!, partS);
    return {
      segments: live.segments,
      open: ended ? [] : cutter.open.map(({ uri, durationS, independent }) => ({ uri, durationS, independent })),
      hint: ended ? undefined : cutter.hint,
      targetS: segmentS + partTargetS,
      partTargetS,
      init: live.init,
      ended,
      vod: false,
    };
  }

  /** A rendition's playlist; with `msn` (and `part`), held until it has that. Undefined when there is none. Throws REQUEST_INVALID, TIMEOUT, HOST_LIMIT. */
  async playlist(rendition: string, msn?: number, part?: number): Promise<string | undefined> {
    const live = this.#shown(rendition);
    if (live === undefined) return undefined;
    if (msn !== undefined && this.state === 'live') await live.waiting.until(msn, part);
    return live.text;
  }

  /** A part; the one that comes next is waited for. */
  async part(rendition: string, uri: string): Promise<Buffer | undefined> {
    const live = this.#shown(rendition);
    const cutter = live?.cutter;
    if (live === undefined || cutter === undefined) return undefined;
    const found = live.parts.get(uri);
    if (found !== undefined || uri !== cutter.hint || this.state !== 'live') return found;
    const next = cutter.next;
    await live.waiting.until(next.number, next.part);
    return live.parts.get(uri);
  }

  #shown(rendition: string): LiveRendition | undefined {
    return this.state === 'live' || this.state === 'ended' ? this.#renditions.get(rendition) : undefined;
  }

  #tracks(): DashTrack[] {
    return [...this.#renditions.values()].map(({ rendition, track, peakBps, segments }) => ({
      rendition,
      codec: track!.codec,
      timescale: track!.timescale,
      // Until a second segment shows what its rate really is.
      peakBps: Math.max(peakBps, rendition.bitrateBps * 1.2),
      uri: `${rendition.name}/index.m3u8`,
      folder: `${rendition.name}/`,
      segments,
    }));
  }

  multivariant(): string | undefined {
    return this.state === 'live' || this.state === 'ended' ? multivariantPlaylist(this.#tracks(), this.#source!.video?.framesPerSecond ?? 0) : undefined;
  }

  manifest(nowMs: number): string | undefined {
    if (this.state !== 'live' && this.state !== 'ended') return undefined;
    return dashManifest(
      this.#tracks(),
      this.#source!.video?.framesPerSecond ?? 0,
      this.state === 'ended' ? undefined : { beganMs: this.#beganMs, nowMs, targetS: this.#options.segmentS },
    );
  }

  async #end(error: ShoalError | undefined): Promise<void> {
    clearTimeout(this.#silence);
    this.error = error;
    if (error !== undefined) this.#options.log?.(`${this.name}: ${error.message}`);
    this.state = this.state === 'live' ? 'ended' : 'failed';
    for (const live of this.#renditions.values()) {
      if (this.state === 'ended' && live.cutter !== undefined) live.text = await this.#options.workers.playlist(this.#listOf(live));
      live.waiting.close();
    }
  }

  /** Ends the encoder; what was published stays until the next start. */
  async close(): Promise<void> {
    this.#encoder?.stop();
    await this.#done;
  }
}
