/** `shoal build`: everything the demo, the lab and the tests need, from source. What is up to date is not built again. */
import { join } from 'node:path';
import { buildAgent, buildController, buildStored, buildTools } from '../../lab/build.ts';
import { repositoryRoot } from '../../lab/paths.ts';
import { must } from '../../lab/processes.ts';
import type { Verb } from '../arguments.ts';
import { duration } from '../format.ts';
import type { Terminal } from '../terminal.ts';

/** A first build compiles lwIP and fetches its source; later ones take a second. */
const timeoutMs = 600_000;

const make = (folder: string) => (): Promise<unknown> =>
  must(['make', '-s', '-j2', '-C', join(repositoryRoot, folder)], { code: 'SETUP_FAILED', timeoutMs });

const steps = {
  unikernels: make('unikernels'),
  'Xen adapter': make('src/hypervisor/xen/native'),
  'host agent': buildAgent,
  controller: buildController,
  'store daemon': buildStored,
  'lab tools': buildTools,
  'UDP addon': make('src/cache/native'),
} satisfies Record<string, () => Promise<unknown>>;

export type Part = keyof typeof steps;
const everything = Object.keys(steps) as Part[];

/** Image that demo and benchmarks boot, once it is built. */
export const pingImage = join(repositoryRoot, 'build/unikernels/ping.elf');
/** The calls of a launch from C and nothing else, which the benchmark stands beside; built with the Xen adapter. */
export const floorProgram = join(repositoryRoot, 'build/floor');

/** One part after the other: two cores are soon full. Throws SETUP_FAILED with the compiler's last words. */
export async function build(terminal: Terminal, parts: readonly Part[] = everything): Promise<void> {
  try {
    for (const part of parts) {
      terminal.status(`building: ${part}`);
      await steps[part]();
    }
  } finally {
    terminal.status('');
  }
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
