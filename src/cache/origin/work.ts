/**
 * What the packager's worker threads do: hash, write, read fragments, put playlists together. Each task is a function of what it is
 * given; the file it writes is there whole or not at all.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readFragment, type Fragment, type TrackDefaults } from './boxes.ts';
import { mediaPlaylist, type MediaPlaylist } from './playlists.ts';

export interface FragmentTask {
  moof: Uint8Array;
  track: TrackDefaults;
}

/** Throws MEDIA_FAILED. */
export const fragment = ({ moof, track }: FragmentTask): Fragment => readFragment(Buffer.from(moof.buffer, moof.byteOffset, moof.byteLength), track);

export interface WriteTask {
  path: string;
  parts: readonly Uint8Array[];
  /** Synced to the disk before it has its name. */
  durable: boolean;
}

/** SHA-256 of the file, in hex. */
export async function write({ path, parts, durable }: WriteTask): Promise<string> {
  const hash = createHash('sha256');
  const part = `${path}.part`;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(part, 'w', 0o644);
  try {
    for (const bytes of parts) {
      hash.update(bytes);
      await file.writeFile(bytes);
    }
    if (durable) await file.datasync();
  } finally {
    await file.close();
  }
  await rename(part, path);
  return hash.digest('hex');
}

/** The text of a media playlist. */
export const playlist = (list: MediaPlaylist): string => mediaPlaylist(list);
