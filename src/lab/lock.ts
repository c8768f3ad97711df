/**
 * Mutual exclusion between processes of this machine: an abstract Unix socket has one listener, and the kernel takes it away
 * with the process, however that ends. So there is never a stale lock.
 */
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';

/** Runs `work` while holding the lock `name`; waits for it at most `timeoutMs`, telling `onWait` once when it has to. */
export async function locked<T>(name: string, timeoutMs: number, onWait: () => void, work: () => Promise<T>): Promise<T> {
  const start = Date.now();
  for (let told = false; ;) {
    const server = createServer((socket) => socket.destroy());
    const held = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(`\0shoal-${name}`, () => resolve(true));
    });
    if (held) {
      try {
        return await work();
      } finally {
        await new Promise((resolve) => server.close(resolve));
      }
    }
    if (!told) onWait();
    told = true;
    if (Date.now() - start > timeoutMs)
      throw new ShoalError('TIMEOUT', `another process has been at work on ${name} for too long`);
    await sleep(100);
  }
}
