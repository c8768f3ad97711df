/**
 * When does a guest first answer? Asked of a small program in the router's namespace (native/pinger.c), whose clock is that of
 * `process.hrtime.bigint()`: both read CLOCK_MONOTONIC.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ShoalError } from '../model/errors.ts';
import { namespacePath } from './network.ts';
import { routerNamespace, type HostPlan } from './plan.ts';

export interface Pinger {
  /**
   * Resolves with the CLOCK_MONOTONIC nanoseconds of the first echo reply of an address in the host's subnet. May be called
   * before the guest exists. Rejects with TIMEOUT after `timeoutMs`.
   */
  firstReply(address: string, timeoutMs: number): Promise<bigint>;
  close(): Promise<void>;
}

interface Waiter {
  resolve: (at: bigint) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
}

/** Starts a pinger for a host's VMs on the router's leg towards it. At most `rate` packets a second. */
export async function openPinger(lab: string, { leg, first }: HostPlan, tools: string, rate = 20_000): Promise<Pinger> {
  const child = spawn(join(tools, 'pinger'), [namespacePath(routerNamespace(lab)), leg, first, String(rate)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const waiters = new Map<string, Waiter[]>();
  let said = '';
  let ended = false;
  child.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(-2000)));
  child.stdin.on('error', () => undefined);
  const end = new Promise<void>((resolve) => {
    const finish = () => {
      ended = true;
      for (const list of waiters.values()) {
        for (const { reject, timer } of list) {
          clearTimeout(timer);
          reject(new ShoalError('LAB_FAILED', `the pinger ended: ${said.trim()}`));
        }
      }
      waiters.clear();
      resolve();
    };
    child.on('error', finish);
    child.on('close', finish);
  });
  const lines = createInterface({ input: child.stdout });
  await new Promise<void>((resolve, reject) => {
    lines.once('line', () => resolve());
    void end.then(() => reject(new ShoalError('LAB_FAILED', `the pinger did not start: ${said.trim()}`)));
  });
  lines.on('line', (line) => {
    const [address, at] = line.split(' ') as [string, string];
    for (const { resolve, timer } of waiters.get(address) ?? []) {
      clearTimeout(timer);
      resolve(BigInt(at));
    }
    waiters.delete(address);
  });

  return {
    firstReply(address, timeoutMs) {
      if (ended) return Promise.reject(new ShoalError('LAB_FAILED', `the pinger has ended: ${said.trim()}`));
      return new Promise((resolve, reject) => {
        const list = waiters.get(address) ?? [];
        const waiter: Waiter = {
          resolve,
          reject,
          timer: setTimeout(() => {
            list.splice(list.indexOf(waiter), 1);
            if (list.length === 0) {
              waiters.delete(address);
              child.stdin.write(`-${address}\n`);
            }
            reject(new ShoalError('TIMEOUT', `${address} did not answer within ${timeoutMs} ms`));
          }, timeoutMs),
        };
        list.push(waiter);
        waiters.set(address, list);
        child.stdin.write(`${address}\n`);
      });
    },
    async close() {
      child.stdin.end();
      await end;
    },
  };
}
