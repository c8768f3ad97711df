/** `shoal build`: everything the demo, the lab and the tests need, from source. What is up to date is not built again. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { lastLines, run } from '../../lab/processes.ts';
import { repositoryRoot } from '../../lab/paths.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { duration } from '../format.ts';
import type { Terminal } from '../terminal.ts';

interface Step {
  what: string;
  /** Folder of its Makefile. */
  folder?: string;
  argv?: readonly string[];
}

const esbuild = [
  'node_modules/.bin/esbuild', 'src/main/agent.ts', '--bundle', '--platform=node', '--format=cjs', '--target=node20', '--log-level=warning',
  '--outfile=dist/agent.cjs',
];

const steps: readonly Step[] = [
  { what: 'unikernels', folder: 'unikernels' },
  { what: 'Xen adapter', folder: 'src/hypervisor/xen/native' },
  { what: 'store daemon', folder: 'src/hypervisor/xen/stored' },
  { what: 'switch', folder: 'src/hypervisor/xen/switch' },
  { what: 'lab tools', folder: 'src/lab/native' },
  { what: 'raw floor of the benchmark', folder: 'bench/floor' },
  { what: 'host agent', argv: esbuild },
];

/** Image that demo and benchmarks boot, once it is built. */
export const pingImage = join(repositoryRoot, 'build/unikernels/ping.elf');

/** A first build compiles lwIP and fetches its source; later ones take a second. */
const timeoutMs = 600_000;

/** Builds what is out of date, one step after the other: two cores are soon full. Throws SETUP_FAILED with the compiler's words. */
export async function build(terminal: Terminal): Promise<void> {
  for (const { what, folder, argv } of steps) {
    if (folder !== undefined && !existsSync(join(repositoryRoot, folder, 'Makefile'))) continue;
    terminal.status(`building: ${what}`);
    const command = argv ?? ['make', '-s', '-j2', '-C', folder!];
    const result = await run(command, { cwd: repositoryRoot, timeoutMs });
    if (result.code === 0) continue;
    terminal.status('');
    terminal.note(lastLines(result.stderr || result.stdout, 20));
    throw new ShoalError('SETUP_FAILED', `Building ${what} failed with exit code ${result.code}: ${command.join(' ')}`, {
      hint: 'The compiler\'s words are above. `./shoal build` installs packages that are missing.',
    });
  }
  terminal.status('');
}

export const buildVerb: Verb = {
  name: 'build',
  summary: 'build everything from source',
  async run(terminal) {
    const began = performance.now();
    await build(terminal);
    const seconds = (performance.now() - began) / 1000;
    terminal.printJson({ built: true, seconds: Math.round(seconds * 10) / 10 });
    terminal.note(`built in ${duration(seconds)}`);
  },
};
