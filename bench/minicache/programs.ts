/** The programs of the benchmark: ours built, others from Debian, http-cache-tests from the npm registry into the cache. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';

export const minicacheProgram = join(repositoryRoot, 'build/unikernels/minicache-linux');
const testsVersion = '0.4.5';
const testsHome = join(repositoryRoot, `.cache/http-cache-tests-${testsVersion}`);
export const testsFolder = join(testsHome, 'node_modules/http-cache-tests');

/** Runs to its end; its standard output. */
export function run(argv: readonly string[], timeoutMs: number): Promise<string> {
  return must([...argv], { code: 'SETUP_FAILED', timeoutMs });
}

export async function preparePrograms(): Promise<void> {
  for (const [program, packaged] of [['wrk', 'wrk'], ['nginx', 'nginx-light'], ['varnishd', 'varnish'], ['taskset', 'util-linux'], ['curl', 'curl']] as const) {
    const found = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].some((folder) => existsSync(join(folder, program)));
    if (!found) throw new ShoalError('SETUP_FAILED', `${program} is missing.`, { hint: `apt-get install --no-install-recommends ${packaged}` });
  }
  await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels'), minicacheProgram], 600_000);
  if (existsSync(testsFolder)) return;
  mkdirSync(testsHome, { recursive: true });
  await run(['npm', 'install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', testsHome, `http-cache-tests@${testsVersion}`], 300_000);
}
