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
  /** Unix milliseconds of what is decoded so many seconds after the stream's beginning; shared by the renditions of a live stream. */
  clock?: (atS: number) => number;
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

  /** Segment and part that the next fragment becomes, if the encoder keeps to the grid. */
  get next(): { number: number; part: number } {
    const full = this.#open.length > 0 && this.#since(this.#openTime + this.#openTicks) + Cutter.#slackS >= this.#boundaryS();
    return full ? { number: this.#number + 1, part: 0 } : { number: this.#number, part: this.#open.length };
  }

  get hint(): string {
    const { number, part } = this.next;
    return this.partUri(number, part);
  }

  #since(time: number): number {
    return (time - (this.#beganAt ?? time)) / this.#options.track.timescale;
  }

  /** Where the segment that is being made ends, seconds since the stream's beginning. */
  #boundaryS(): number {
    const { segmentS } = this.#options;
    return (Math.floor((this.#since(this.#openTime) + Cutter.#slackS) / segmentS) + 1) * segmentS;
  }

  /** The segment that this fragment ended, if it did. */
  push(fragment: Fragment, bytes: Buffer): MadeSegment | undefined {
    const { track, clock } = this.#options;
    this.#beganAt ??= fragment.decodeTime;
    const atS = this.#since(fragment.decodeTime);
    const ended = this.#open.length > 0 && fragment.independent && atS + Cutter.#slackS >= this.#boundaryS() ? this.#end() : undefined;
    if (this.#open.length === 0) {
      this.#openTime = fragment.decodeTime;
      this.#openTicks = 0;
      this.#openAtMs = clock?.(fragment.decodeTime / track.timescale);
    }
    this.#openTicks += fragment.duration;
    this.#open.push({
      uri: this.partUri(this.#number, this.#open.length),
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
