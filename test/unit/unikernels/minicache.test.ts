/**
 * Minicache as a Linux process with sanitizers, on a TAP device in a network namespace of this test's own. What runs inside of the namespace
 * (origin, viewers, checks) is minicache/inside.ts: its lines are this test's. Needs root, for the namespace.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { must, runInside } from './inside.ts';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../../..');
const namespace = `shoal-mc-${process.pid}`;

test('minicache-linux serves, caches and withstands, and the sanitizers find nothing', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/minicache-linux.san')], 600_000);
  const inside = ['ip', 'netns', 'exec', namespace];
  try {
    must(['ip', 'netns', 'add', namespace]);
    must([...inside, 'ip', 'link', 'set', 'lo', 'up']);
    must([...inside, 'ip', 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap', 'vnet_hdr']);
    must([...inside, 'ip', 'addr', 'add', '10.0.0.1/24', 'dev', 'tap0']);
    must([...inside, 'ip', 'addr', 'add', 'fd00::1/64', 'dev', 'tap0', 'nodad']);
    must([...inside, 'ip', 'link', 'set', 'tap0', 'up']);
    await runInside(t, namespace, join(here, 'minicache/inside.ts'), [], { cwd: root, least: 100 });
  } finally {
    spawnSync('ip', ['netns', 'del', namespace]);
  }
  t.end();
});
