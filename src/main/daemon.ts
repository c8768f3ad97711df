/** What every composition root of a daemon does alike: a log with times, files that are needed, one orderly end, and one line when it cannot start. */
import { readFileSync } from 'node:fs';
import { asShoalError, ShoalError } from '../model/errors.ts';

export const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);

/** Throws CONFIG_INVALID. `what`: for people, for example "certificate". */
export function readNeeded(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ShoalError('CONFIG_INVALID', `The ${what} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** At the first SIGTERM or SIGINT the daemon is closed, and its process ends. */
export function closeOnSignal(close: () => Promise<unknown>): void {
  let ending = false;
  const end = (): void => {
    if (ending) return;
    ending = true;
    void close().finally(() => process.exit(0));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

/** A daemon that cannot start says why in one line and ends with 1. */
export function runDaemon(main: () => Promise<void>, say: (line: string) => void = log): void {
  // One may log for as long as it lives; a reader that went away must not end it.
  process.stderr.on('error', () => {});
  main().catch((thrown: unknown) => {
    const { code, message, hint } = asShoalError(thrown);
    say(`${code}: ${message} ${hint}`);
    process.exit(1);
  });
}
