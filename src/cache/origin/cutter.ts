/**
 * Fragments in, parts and segments out: a segment begins with the first fragment that can be decoded by itself at or after each
 * multiple of the segment's length. Renditions of one source share that grid, so their segments hold the same stretch of time. Pure.
 */
import type { Fragment, Track } from './boxes.ts';
import type { Part, Segment } from './playlists.ts';

export interface CutterOptions {
  track: Track;
  segmentS: number;
  /** In front of every name: names are never used again for other bytes, for caches keep them for days. */
  prefix: string;
  /** Uri of the initialization segment. */
  init: string;
  /** Unix milliseconds of a sample at decode time 0, for live streams. */
  clock?: () => number;
}

export interface MadePart extends Part {
  bytes: Buffer;
}

/** A segment that is whole; `bytes` of its parts in order are its bytes. */
export interface MadeSegment extends Segment {
  parts: MadePart[];
}

export class Cutter {
  readonly #options: CutterOptions;
  #number = 0;
  #beganAt: number | undefined;
  #open: MadePart[] = [];
  #openTime = 0;
  #openTicks = 0;
  #openAtMs: number | undefined;
  /** A hundredth of a second: a frame that is a rounding error early still opens its segment. */
  static readonly #slackS = 0.01;

  constructor(options: CutterOptions) {
    this.#options = options;
  }

  get open(): readonly MadePart[] {
    return this.#open;
  }

  /** Number of the segment that is being made. */
  get number(): number {
    return this.#number;
  }

  partUri(number: number, part: number): string {
    return `${this.#options.prefix}-${number}.${part}.m4s`;
  }

  /** Uri of the part that the next fragment becomes, unless it begins a segment. */
  get hint(): string {
    return this.partUri(this.#number, this.#open.length);
  }

  /** The segment that this fragment ended, if it did. */
  push(fragment: Fragment, bytes: Buffer): MadeSegment | undefined {
    const { track, segmentS, clock } = this.#options;
    this.#beganAt ??= fragment.decodeTime;
    const atS = (fragment.decodeTime - this.#beganAt) / track.timescale;
    const openS = (this.#openTime - this.#beganAt) / track.timescale;
    const boundaryS = (Math.floor((openS + Cutter.#slackS) / segmentS) + 1) * segmentS;
    const ended = this.#open.length > 0 && fragment.independent && atS + Cutter.#slackS >= boundaryS ? this.#end() : undefined;
    if (this.#open.length === 0) {
      this.#openTime = fragment.decodeTime;
      this.#openTicks = 0;
      this.#openAtMs = clock === undefined ? undefined : clock() - (1000 * fragment.duration) / track.timescale;
    }
    this.#openTicks += fragment.duration;
    this.#open.push({
      uri: this.hint,
      durationS: fragment.duration / track.timescale,
      independent: fragment.independent,
      bytes,
    });
    return ended;
  }

  /** The last segment, when the stream is over. */
  finish(): MadeSegment | undefined {
    return this.#open.length === 0 ? undefined : this.#end();
  }

  #end(): MadeSegment {
    const { track, prefix, init } = this.#options;
    const parts = this.#open;
    const segment: MadeSegment = {
      number: this.#number,
      uri: `${prefix}-${this.#number}.m4s`,
      durationS: this.#openTicks / track.timescale,
      decodeTime: this.#openTime,
      duration: this.#openTicks,
      bytes: parts.reduce((sum, part) => sum + part.bytes.length, 0),
      atMs: this.#openAtMs,
      init,
      parts,
    };
    this.#number++;
    this.#open = [];
    return segment;
  }
}
