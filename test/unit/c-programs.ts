/** Native code as tests build and run it: `make` of a folder, and C programs that say "ok 1 - …" as we do. */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tape';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const build = join(root, 'build');

/** `folder` below the checkout, `words` for make. Throws when it does not build. */
export function makeIn(folder: string, ...words: string[]): void {
  execFileSync('make', ['-s', '-C', join(root, folder), `OUT=${build}`, ...words], { stdio: 'inherit', timeout: 120_000 });
}

/** Each line of a program in build/ is an assertion of this test; so is that it ends well. */
export function reportProgram(t: Test, program: string): void {
  const run = spawnSync(join(build, program), { encoding: 'utf8', timeout: 60_000 });
  let lines = 0;
  for (const line of run.stdout.split('\n')) {
    const match = /^(not )?ok \d+ - (.*)$/.exec(line);
    if (match === null) continue;
    lines++;
    t.ok(!match[1], match[2]);
  }
  t.ok(lines > 0, `${program} says what it tried`);
  t.equal(run.status, 0, run.stderr || 'ends well');
  t.end();
}
