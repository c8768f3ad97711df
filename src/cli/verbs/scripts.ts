/**
 * `shoal test` and `shoal bench`: programs of their own, outside of src, because neither belongs to what is shipped. They are run
 * from source, in a process group with this one, so that Ctrl-C reaches them.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repositoryRoot } from '../../lab/paths.ts';
import type { Verb } from '../arguments.ts';
import { build } from './build.ts';

const signals: Partial<Record<NodeJS.Signals, number>> = { SIGINT: 130, SIGTERM: 143, SIGKILL: 137 };

/** Runs a TypeScript program of the checkout with the words given; its exit code. */
const runScript = (path: string, words: readonly string[]): Promise<number> =>
  runNode(['--import', 'tsx', join(repositoryRoot, path), ...words], repositoryRoot);

/** Runs Node in this terminal; its exit code. */
export function runNode(words: readonly string[], cwd: string): Promise<number> {
  const child = spawn(process.execPath, words, { cwd, stdio: 'inherit' });
  // The child hears a Ctrl-C too, and cleans up: this process only waits for it.
  const wait = () => undefined;
  process.on('SIGINT', wait);
  const pass = () => void child.kill('SIGTERM');
  process.once('SIGTERM', pass);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      process.off('SIGINT', wait);
      process.off('SIGTERM', pass);
      resolve(code ?? signals[signal ?? 'SIGKILL'] ?? 1);
    });
  });
}

export const testVerb: Verb = {
  name: 'test',
  summary: 'run the tests, lab tests included',
  operands: '[FILE...] [--unit | --lab]',
  readsItsWords: true,
  notes:
    'Without words: all. FILE: those whose path contains the word. --unit: only those that need no lab.\n' +
    '--lab: only those that do. The last line is "N passed, N failed".',
  async run(terminal, words) {
    await build(terminal);
    return runScript('test/run.ts', words.raw);
  },
};

export const benchVerb: Verb = {
  name: 'bench',
  summary: 'measure a promise in the lab',
  operands: '[NAME] [--quick] [--vms N] [--keep] [--lab NAME]',
  readsItsWords: true,
  notes:
    'Without NAME: the benchmarks there are. --quick: smaller, in a few minutes. --vms: how many VMs, where a benchmark can be had in\n' +
    'several sizes. --keep: series and pictures into docs/bench. With --json the last line is one object.',
  async run(terminal, words) {
    await build(terminal);
    return runScript('bench/run.ts', words.raw);
  },
};
