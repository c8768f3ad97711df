/** The lab's own small C programs: built by make when they are older than their sources. */
import { join } from 'node:path';
import { repositoryRoot } from './paths.ts';
import { must } from './processes.ts';

export const toolsFolder = join(repositoryRoot, 'build/lab');

export async function buildTools(): Promise<string> {
  await must(['make', '-s', '-C', join(repositoryRoot, 'src/lab/native'), `OUT=${toolsFolder}`], { code: 'SETUP_FAILED' });
  return toolsFolder;
}
