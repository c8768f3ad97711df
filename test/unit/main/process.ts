/** Our daemons as processes of their own: what can be killed can be tested to survive it. */
import { build } from 'esbuild';
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');

export interface Proc {
  child: ChildProcess;
  /** Where it listens; 0 when it ended before it did. */
  port: number;
  log: () => string;
  exit: Promise<{ code: number | null; signal: string | null }>;
}

/** node with these words; resolves when the program says "ready on 127.0.0.1:PORT", or has ended. */
export async function startProgram(words: readonly string[], env: Record<string, string> = {}): Promise<Proc> {
  const child = spawn(process.execPath, words, { cwd: root, env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr!.on('data', (data: Buffer) => (log += data.toString()));
  const exit = new Promise<{ code: number | null; signal: string | null }>((done) => child.once('exit', (code, signal) => done({ code, signal })));
  const ready = new Promise<number>((done) => {
    child.stderr!.on('data', () => {
      const found = /ready on 127\.0\.0\.1:(\d+)/.exec(log);
      if (found !== null) done(Number(found[1]));
    });
  });
  return { child, port: await Promise.race([ready, exit.then(() => 0)]), log: () => log, exit };
}

/** `src/main/NAME.ts` as the real bundles are made; the path of the script. */
export async function bundleMain(folder: string, name: string): Promise<string> {
  const outfile = join(folder, `${name}.mjs`);
  await build({
    entryPoints: [join(root, 'src/main', `${name}.ts`)],
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'error',
    outfile,
    banner: { js: 'import { createRequire as shoalRequire } from "node:module"; const require = shoalRequire(import.meta.url);' },
  });
  return outfile;
}
