/** Small test media by ffmpeg, made once on this machine; and folders that go away. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const cache = join(tmpdir(), 'shoal-test-media-1');

function made(name: string, words: string[]): string {
  const path = join(cache, name);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  const part = join(cache, `.${process.pid}-${name}`);
  execFileSync('ffmpeg', ['-v', 'error', '-y', ...words, part], { timeout: 60_000 });
  renameSync(part, path);
  return path;
}

const video = (size: string, seconds: number): string[] => ['-f', 'lavfi', '-i', `testsrc=size=${size}:rate=25:duration=${seconds}`];
const tone = (seconds: number): string[] => ['-f', 'lavfi', '-i', `sine=frequency=440:sample_rate=48000:duration=${seconds}`];
const encoded = ['-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p', '-c:a', 'aac', '-b:a', '64k'];

/** 8 s, 426x240, with sound: two renditions. */
export const film = (): string => made('film.mp4', [...video('426x240', 8), ...tone(8), ...encoded]);
/** 4 s, 256x144, without sound. */
export const silent = (): string => made('silent.mp4', [...video('256x144', 4), ...encoded.slice(0, 6)]);
/** A transport stream of 6 s with PCR. */
export const transport = (): string => made('stream.ts', [...video('256x144', 6), ...tone(6), ...encoded, '-f', 'mpegts']);

export const folder = (): Promise<string> => mkdtemp(join(tmpdir(), 'shoal-cache-'));
export const gone = (path: string): Promise<void> => rm(path, { recursive: true, force: true });
