/** Tests that run inside of a network namespace, as a process of their own, whose lines are the outer test's. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Test } from 'tape';

/** Throws with what it said when it ends with anything but 0. */
export function must(argv: readonly string[], timeoutMs = 20_000): void {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`.slice(-3000));
}

/** Runs a test file there; more than `least` of its assertions have to have passed. */
export async function runInside(t: Test, namespace: string, file: string, words: readonly string[], { cwd, least }: { cwd: string; least: number }): Promise<void> {
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, '--import', 'tsx', file, ...words], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  const limit = setTimeout(() => child.kill('SIGKILL'), 240_000);
  const [code] = (await once(child, 'close')) as [number | null];
  clearTimeout(limit);
  for (const line of output.split('\n')) {
    const verdict = /^(ok|not ok) \d+ (.*)$/.exec(line);
    if (verdict?.[1] === 'ok') t.pass(verdict[2]);
    else if (verdict !== null) t.fail(verdict[2]);
  }
  t.equal(code, 0, `it ends without a finding${code === 0 ? '' : `: ${output.slice(-6000)}`}`);
  t.ok(Number(/^# pass +(\d+)$/m.exec(output)?.[1]) > least, 'all of it ran');
}
