/** Which renditions a source is encoded into: a pure function of what the source is. */

export interface Source {
  /** Pixels; undefined when there is no video. */
  video: { width: number; height: number; framesPerSecond: number } | undefined;
  audio: boolean;
  /** Seconds; undefined of a live source. */
  durationS: number | undefined;
}

export interface Rendition {
  /** Folder and name: "v720", "audio". */
  name: string;
  kind: 'video' | 'audio';
  width: number;
  height: number;
  /** Bits a second that the encoder aims at. */
  bitrateBps: number;
}

/** Height, and bits a second that H.264 needs there for what moves; between them what a viewer notices. */
const steps: readonly (readonly [height: number, bitrateBps: number])[] = [
  [2160, 14_000_000],
  [1440, 8_000_000],
  [1080, 5_000_000],
  [720, 2_800_000],
  [480, 1_400_000],
  [360, 800_000],
  [240, 400_000],
  [144, 160_000],
];
const audioBps = 128_000;

/**
 * Highest first, never larger than the source, at most `most` of video; a source smaller than every step is encoded as it is. 4:2:0 needs
 * even numbers.
 */
export function ladderOf({ video, audio }: Source, most = 4): Rendition[] {
  const renditions: Rendition[] = [];
  if (video !== undefined) {
    const even = (n: number): number => Math.max(2, 2 * Math.round(n / 2));
    const fitting = steps.filter(([height]) => height <= video.height);
    const taken = fitting.length === 0 ? ([[video.height, steps.at(-1)![1]]] as const) : fitting.slice(0, Math.max(1, most));
    for (const [height, bitrateBps] of taken)
      renditions.push({
        name: `v${even(height)}`,
        kind: 'video',
        width: even((video.width * height) / video.height),
        height: even(height),
        bitrateBps,
      });
  }
  if (audio) renditions.push({ name: 'audio', kind: 'audio', width: 0, height: 0, bitrateBps: audioBps });
  return renditions;
}
