/**
 * Click as a Linux process with sanitizers, on two TAP devices: one in a network namespace of this test's own, from which it is also steered, the
 * other in a second namespace behind it. What runs inside is click/inside.ts: its lines are this test's. Needs root, for the namespaces.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../../..');
const near = `shoal-ck-${process.pid}`;
const far = `${near}-far`;

function must(argv: string[], timeoutMs = 20_000): void {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`.slice(-3000));
}

test('click-linux is steered through its port, forwards, and the sanitizers find nothing', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/click-linux.san'), join(root, 'build/unikernels/echo')], 900_000);
  const inside = ['ip', 'netns', 'exec', near];
  let output = '';
  try {
    must(['ip', 'netns', 'add', near]);
    must(['ip', 'netns', 'add', far]);
    must([...inside, 'ip', 'link', 'set', 'lo', 'up']);
    for (const tap of ['tap0', 'tap1']) must([...inside, 'ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr']);
    must([...inside, 'ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'tap0']);
    must([...inside, 'ip', 'link', 'set', 'tap0', 'up']);
    const words = [...inside.slice(1), process.execPath, '--import', 'tsx', join(here, 'click/inside.ts'), far];
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
    t.ok(Number(/^# pass +(\d+)$/m.exec(output)?.[1]) > 25, 'all of it ran');
  } finally {
    spawnSync('ip', ['netns', 'del', near]);
    spawnSync('ip', ['netns', 'del', far]);
  }
  t.end();
});
