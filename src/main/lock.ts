/** One process a state folder: a file with its id, taken over from one that is gone. */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Makes the folder. The lock is given back at the exit of this process. Throws HOST_LIMIT when another one has it. */
export function lockFolder(folder: string, name: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, name);
  for (let tries = 0; tries < 3; tries++) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, String(process.pid));
      closeSync(file);
      process.on('exit', () => rmSync(path, { force: true }));
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const pid = Number(readFileSync(path, 'utf8'));
      if (pid > 0 && pid !== process.pid && isAlive(pid))
        throw new ShoalError('HOST_LIMIT', `The process ${pid} uses ${folder}.`, { hint: 'End it first, or give this one a folder of its own.' });
      rmSync(path, { force: true });
    }
  }
  throw new ShoalError('HOST_LIMIT', `Another process takes ${folder} at the same time.`);
}
