/**
 * How long a cache may keep what the origin serves, by what it is. A segment never changes under its name; a playlist of a live
 * stream is old after half a segment; one of low latency is asked for part by part, with the part in the key.
 */
import { posix } from 'node:path';

export const segmentMaxAgeS = 14 * 86_400;

const types: Readonly<Record<string, string>> = {
  '.m3u8': 'application/vnd.apple.mpegurl',
  '.mpd': 'application/dash+xml',
  '.m4s': 'video/iso.segment',
  '.mp4': 'video/mp4',
  '.ts': 'video/mp2t',
  '.m4a': 'audio/mp4',
  '.aac': 'audio/aac',
  '.vtt': 'text/vtt',
};

/** The media type of a path; undefined where the file's usual one will do. */
export const mediaTypeOf = (path: string): string | undefined => types[posix.extname(path).toLowerCase()];

const segments = new Set(['.m4s', '.ts', '.m4a', '.aac']);

export type Kind = 'segment' | 'playlist' | 'other';

export function kindOf(path: string): Kind {
  const extension = posix.extname(path).toLowerCase();
  if (segments.has(extension) || posix.basename(path).startsWith('init')) return 'segment';
  return extension === '.m3u8' || extension === '.mpd' ? 'playlist' : 'other';
}

/** Cache-Control of a file that does not change while it is served: `segmentS` is the length of a segment, seconds. */
export function cacheControl(path: string, segmentS = 4): string {
  switch (kindOf(path)) {
    case 'segment':
      return `public, max-age=${segmentMaxAgeS}, immutable`;
    case 'playlist':
      return playlistControl(segmentS, false);
    case 'other':
      return 'public, max-age=60';
  }
}

/** Of a playlist: half a segment, never below a second; of low latency one second. Stale is better than none when the origin fails. */
export const playlistControl = (segmentS: number, lowLatency: boolean): string =>
  `public, max-age=${lowLatency ? 1 : Math.max(1, Math.floor(segmentS / 2))}, stale-if-error=${Math.ceil(segmentS * 3)}`;
