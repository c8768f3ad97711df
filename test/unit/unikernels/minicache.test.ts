/**
 * Minicache as a Linux process with sanitizers, on a TAP device in a network namespace of this test's own. What runs inside of the namespace
 * (origin, viewers, checks) is minicache/inside.ts: its lines are this test's. Needs root, for the namespace.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../../..');
const namespace = `shoal-mc-${process.pid}`;

function must(argv: string[], timeoutMs = 20_000): void {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`.slice(-3000));
}

test('minicache-linux serves, caches and withstands, and the sanitizers find nothing', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/minicache-linux.san')], 600_000);
  const inside = ['ip', 'netns', 'exec', namespace];
  let output = '';
  try {
    must(['ip', 'netns', 'add', namespace]);
    must([...inside, 'ip', 'link', 'set', 'lo', 'up']);
    must([...inside, 'ip', 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap', 'vnet_hdr']);
    must([...inside, 'ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'tap0']);
    must([...inside, 'ip', 'addr', 'add', 'fd00::1/64', 'dev', 'tap0', 'nodad']);
    must([...inside, 'ip', 'link', 'set', 'tap0', 'up']);
    const words = [...inside.slice(1), process.execPath, '--import', 'tsx', join(here, 'minicache/inside.ts')];
    const child = spawn(inside[0]!, words, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
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
    t.ok(Number(/^# pass +(\d+)$/m.exec(output)?.[1]) > 100, 'all of it ran');
  } finally {
    spawnSync('ip', ['netns', 'del', namespace]);
  }
  t.end();
});
