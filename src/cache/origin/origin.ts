/**
 * An origin put together: which of its inputs are folders to serve, files to package, and live sources; its state folder, which one process
 * uses; and what is done with an input that is broken, which is to say so and publish nothing of it.
 */
import { mkdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { removeStaging, nameOf, packageFile } from './package.ts';
import { LiveStream } from './live.ts';
import { serveOrigin, type OriginServer } from './server.ts';
import { openWorkers, type Workers } from './workers.ts';
import type { Progress } from './ffmpeg.ts';

export interface OriginOptions {
  inputs: readonly string[];
  /** Files are played as live streams, again and again. */
  live: boolean;
  host: string;
  port: number;
  stateFolder: string;
  segmentS: number;
  partS: number;
  window: number;
  renditions: number;
  ts: boolean;
  threads?: number;
  /** Goes on without inputs that are broken, as long as one is good. */
  keepGoing: boolean;
  log: (line: string) => void;
  onProgress?: (name: string, part: number | undefined, progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Published {
  name: string;
  kind: 'folder' | 'vod' | 'live';
  input: string;
  /** Below the origin's address. */
  path: string;
  error?: ShoalError;
}

export interface Origin {
  port: number;
  published: readonly Published[];
  close(): Promise<void>;
}

const isUrl = (input: string): boolean => /^(rtmps?|srt|udp|rtp|rtsp|https?):\/\//.test(input);

/** Throws the first input's error, unless `keepGoing` and another is good. */
export async function openOrigin(options: OriginOptions): Promise<Origin> {
  const { stateFolder, log, signal } = options;
  const vod = join(stateFolder, 'vod');
  const liveFolder = join(stateFolder, 'live');
  await mkdir(vod, { recursive: true, mode: 0o755 });
  await mkdir(liveFolder, { recursive: true });
  await removeStaging(vod);
  const workers: Workers = openWorkers(options.threads);
  const folders = new Map<string, string>();
  const streams = new Map<string, LiveStream>();
  const published: Published[] = [];
  const close = async (): Promise<void> => {
    await Promise.all([...streams.values()].map((stream) => stream.close()));
    await server?.close();
    await workers.close();
  };
  let server: OriginServer | undefined;
  try {
    const taken = new Set<string>();
    const free = (name: string): string => {
      let one = name;
      for (let n = 2; taken.has(one); n++) one = `${name}-${n}`;
      taken.add(one);
      return one;
    };
    for (const input of options.inputs) {
      signal?.throwIfAborted();
      const facts = isUrl(input) ? undefined : await stat(input).catch(() => undefined);
      if (facts?.isDirectory() === true) {
        const name = free(nameOf(basename(resolve(input))));
        folders.set(name, resolve(input));
        published.push({ name, kind: 'folder', input, path: `/${name}/` });
        continue;
      }
      const kind = options.live || isUrl(input) ? 'live' : 'vod';
      const name = free(nameOf(isUrl(input) ? new URL(input).pathname || 'live' : input));
      try {
        if (kind === 'live') {
          const stream = new LiveStream({
            name,
            input,
            loop: !isUrl(input),
            folder: liveFolder,
            segmentS: options.segmentS,
            partS: options.partS,
            window: options.window,
            renditions: options.renditions,
            workers,
            log,
            onProgress: (progress) => options.onProgress?.(name, undefined, progress),
          });
          await stream.start();
          streams.set(name, stream);
        } else {
          const made = await packageFile({
            input,
            folder: vod,
            name,
            segmentS: options.segmentS,
            renditions: options.renditions,
            ts: options.ts,
            workers,
            onProgress: (part, progress) => options.onProgress?.(name, part, progress),
            ...(signal === undefined ? {} : { signal }),
          });
          folders.set(name, made.folder);
          log(`${name}: ${made.found ? 'was packaged before' : `packaged as ${made.renditions.join(', ')}`}`);
        }
        published.push({ name, kind, input, path: `/${name}/index.m3u8` });
      } catch (thrown) {
        const error = asShoalError(thrown);
        if (!options.keepGoing || error.code === 'TASK_CANCELLED') throw error;
        log(`${error.code}: ${error.message}`);
        published.push({ name, kind, input, path: '', error });
      }
    }
    if (folders.size + streams.size === 0) throw published.find((p) => p.error !== undefined)?.error ?? new ShoalError('USAGE', 'There is nothing to serve.');
    server = await serveOrigin({ host: options.host, port: options.port, segmentS: options.segmentS, folders, streams, liveFolder, log });
    return { port: server.port, published, close };
  } catch (error) {
    await close();
    throw error;
  }
}
