/** Runs `./shoal` as an operator would: the script, in a process of its own, with a bound on its time. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { repositoryRoot } from '../../src/lab/paths.ts';

export interface Outcome {
  code: number | null;
  out: string;
  err: string;
  /** The last line of standard output as JSON; undefined when it is none. */
  json: any;
}

export function shoal(argv: readonly string[], timeoutMs = 300_000, onStart: (pid: number) => void = () => {}, env: Record<string, string> = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(join(repositoryRoot, 'shoal'), [...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env, NO_COLOR: '1' },
    });
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.stdout.on('data', (piece: Buffer) => out.push(piece));
    child.stderr.on('data', (piece: Buffer) => err.push(piece));
    if (child.pid !== undefined) onStart(child.pid);
    child.once('close', (code) => {
      clearTimeout(timer);
      const text = Buffer.concat(out).toString();
      let json: unknown;
      try {
        json = JSON.parse(text.trimEnd().split('\n').pop() ?? '');
      } catch {
        json = undefined;
      }
      resolve({ code, out: text, err: Buffer.concat(err).toString(), json });
    });
  });
}
