/** The packager's worker threads, by piscina: as many as there are processors to spare, with a bounded queue. */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { ShoalError } from '../../model/errors.ts';
import type { Fragment } from './boxes.ts';
import type { MediaPlaylist } from './playlists.ts';
import type { FragmentTask, WriteTask } from './work.ts';

export interface Workers {
  /** Throws MEDIA_FAILED. */
  fragment(task: FragmentTask): Promise<Fragment>;
  write(task: WriteTask): Promise<string>;
  playlist(list: MediaPlaylist): Promise<string>;
  close(): Promise<void>;
}

/** Tasks that wait; a rendition has one under way at a time, so this is far beyond what one origin asks for. */
const maxQueue = 4096;

export function openWorkers(threads = Math.max(1, Math.min(4, availableParallelism() - 1))): Workers {
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./worker.mjs', import.meta.url)),
    minThreads: 1,
    maxThreads: threads,
    maxQueue,
    idleTimeout: 10_000,
  });
  // A thread that dies is replaced, and its task rejects: nothing more is to be done.
  pool.on('error', () => {});
  const run = async <T>(name: string, task: unknown): Promise<T> => {
    try {
      return (await pool.run(task, { name })) as T;
    } catch (error) {
      // An error that crossed a thread is a plain one.
      const code = (error as { code?: unknown }).code;
      if (code === 'ENOSPC' || code === 'EDQUOT')
        throw new ShoalError('HOST_LIMIT', `The disk of the origin is full: ${(error as Error).message}`, { hint: 'Make room, or give --state another disk.', cause: error });
      throw new ShoalError('MEDIA_FAILED', (error as Error).message, { cause: error });
    }
  };
  return {
    fragment: (task) => run('fragment', task),
    write: (task) => run('write', task),
    playlist: (list) => run('playlist', list),
    close: () => pool.destroy(),
  };
}
