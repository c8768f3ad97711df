/**
 * Where things are: the checkout, the cache of everything that is built, and the run-time state of a lab. One place, so that no
 * other file guesses; the same answer whether it runs from the sources or from the bundle in dist/.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ShoalError } from '../model/errors.ts';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new ShoalError('SETUP_FAILED', 'the checkout of Shoal was not found around this program');
    folder = parent;
  }
  return folder;
}

/** The checkout: the folder of package.json. */
export const repositoryRoot = findRoot();

/** Everything that can be built again; `$SHOAL_CACHE`, by default `.cache` in the checkout. Made when missing. */
export function cacheFolder(...parts: string[]): string {
  const folder = join(process.env.SHOAL_CACHE ?? join(repositoryRoot, '.cache'), ...parts);
  mkdirSync(folder, { recursive: true });
  return folder;
}

const labNameForm = /^[a-z][a-z0-9]{0,11}$/;

/** A lab's name becomes part of namespace and folder names. */
export function checkLabName(name: string): string {
  if (!labNameForm.test(name)) {
    throw new ShoalError('USAGE', `"${name}" is no name for a lab`, {
      hint: 'Use 1 to 12 lower-case letters and digits, a letter first.',
    });
  }
  return name;
}

/**
 * Run-time state of all labs of this machine: one folder each, gone after a restart of the machine like the processes it names.
 */
export const runFolder = '/run/shoal';

/** Run-time state of a lab; not made here. */
export const labFolder = (name: string): string => join(runFolder, `lab-${checkLabName(name)}`);
