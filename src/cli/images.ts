/** Images as the verbs see them: a word that means one (a digest, its beginning, a file), and the upload. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { Client } from './client.ts';

export interface ImageView {
  digest: Digest;
  fileBytes: number;
  memoryBytes?: number;
  /** VMs that use it. */
  vms: number;
}

export const listImages = (client: Client): Promise<ImageView[]> => client.plugin('images');

export function digestOf(bytes: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

export function readImage(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ShoalError('USAGE', `The image cannot be read: ${(error as Error).message}.`, {
      hint: 'Check the path.',
      cause: error,
    });
  }
}

/** Sends the bytes unless the host has them. */
export async function putImage(client: Client, bytes: Uint8Array): Promise<{ digest: Digest; sent: boolean }> {
  const digest = digestOf(bytes);
  if ((await listImages(client)).some((image) => image.digest === digest)) return { digest, sent: false };
  await client.resource('PUT', `/image/${digest}`, {}, bytes);
  return { digest, sent: true };
}

const digestStart = /^(sha256:)?[0-9a-f]{4,64}$/;

/** A digest that the host has: by its beginning (with or without "sha256:"); the only one there is when `word` is undefined. */
export async function findImage(client: Client, word: string | undefined): Promise<Digest> {
  if (word !== undefined && isDigest(word)) return word;
  const images = await listImages(client);
  if (word === undefined) {
    if (images.length === 1) return images[0]!.digest;
    throw new ShoalError(
      'USAGE',
      images.length === 0 ? 'The host has no images.' : `The host has ${images.length} images: --image must say which.`,
      {
        hint: images.length === 0 ? 'Upload one: shoal image put FILE.' : 'See `shoal image list`.',
      },
    );
  }
  const start = word.startsWith('sha256:') ? word : `sha256:${word}`;
  const found = digestStart.test(word) ? images.filter((image) => image.digest.startsWith(start)) : [];
  if (found.length === 1) return found[0]!.digest;
  throw new ShoalError(
    'IMAGE_UNKNOWN',
    found.length === 0 ? `The host has no image "${word}".` : `"${word}" is the beginning of ${found.length} images.`,
    {
      hint: 'See `shoal image list`; upload one with `shoal image put FILE`.',
    },
  );
}
