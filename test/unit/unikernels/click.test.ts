/**
 * Click as a Linux process with sanitizers, on two TAP devices: one in a network namespace of this test's own, from which it is also steered, the
 * other in a second namespace behind it. What runs inside is click/inside.ts: its lines are this test's. Needs root, for the namespaces.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { must, runInside } from './inside.ts';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../../..');
const near = `shoal-ck-${process.pid}`;
const far = `${near}-far`;

test('click-linux is steered through its port, forwards, and the sanitizers find nothing', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/click-linux.san'), join(root, 'build/unikernels/echo')], 900_000);
  const inside = ['ip', 'netns', 'exec', near];
  try {
    must(['ip', 'netns', 'add', near]);
    must(['ip', 'netns', 'add', far]);
    must([...inside, 'ip', 'link', 'set', 'lo', 'up']);
    for (const tap of ['tap0', 'tap1']) must([...inside, 'ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr']);
    must([...inside, 'ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'tap0']);
    must([...inside, 'ip', 'link', 'set', 'tap0', 'up']);
    await runInside(t, near, join(here, 'click/inside.ts'), [far], { cwd: root, least: 25 });
  } finally {
    spawnSync('ip', ['netns', 'del', near]);
    spawnSync('ip', ['netns', 'del', far]);
  }
  t.end();
});
