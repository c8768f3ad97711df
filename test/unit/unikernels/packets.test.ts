/**
 * The guest that makes and counts packets for the benchmark of middleboxes, as a Linux process with sanitizers: both of its devices on one bridge of a
 * namespace, told what to do by the program that dom0 has for it. Needs root, for the namespace.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { must } from './inside.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const space = `shoal-pk-${process.pid}`;
const mac = '02:00:00:00:09:01';

test('packets-linux sends what it is told to, and counts and judges what comes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-packets-'));
  const program = join(root, 'build/unikernels/packets-linux.san');
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), program], 900_000);
  must(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', join(folder, 'ask'), join(root, 'bench/click/ask.c')]);
  const inside = ['ip', 'netns', 'exec', space];
  const ask = (...words: string[]): Record<string, number> => {
    const { stdout, stderr } = spawnSync('ip', ['netns', 'exec', space, join(folder, 'ask'), 'br0', mac, ...words], { encoding: 'utf8', timeout: 60_000 });
    return stdout === '' ? { failed: stderr.length } : (JSON.parse(stdout) as Record<string, number>);
  };
  try {
    must(['ip', 'netns', 'add', space]);
    must([...inside, 'ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0', 'mcast_snooping', '0']);
    for (const tap of ['tap0', 'tap1']) {
      must([...inside, 'ip', 'tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr']);
      must([...inside, 'ip', 'link', 'set', tap, 'master', 'br0', 'up']);
    }
    must([...inside, 'ip', 'link', 'set', 'br0', 'up']);
    const guest = spawn('ip', ['netns', 'exec', space, program, 'tap0,tap1', 'name=source', `mac=${mac}`], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [guest.stdout, guest.stderr]) stream.on('data', (piece: Buffer) => (said += piece.toString()));
    try {
      // The bridge knows nobody of that address, and hands its frames to the other device.
      const right = ask('0.5', '64', '300', '02:00:00:00:77:01', '10.0.0.0/24');
      t.ok(right['received']! > 1000 && right['sent']! >= right['received']! && right['perS']! > 0, `packets go round: ${JSON.stringify(right)}`);
      t.ok(right['lookedAt']! > 10 && right['wrong'] === 0, 'and are right');
      const wrong = ask('0.3', '64', '300', '02:00:00:00:77:01', '10.9.0.0/16');
      t.ok(wrong['lookedAt']! > 10 && wrong['wrong'] === wrong['lookedAt'], 'those that are from elsewhere than was said are wrong');
      must([...inside, 'ip', 'link', 'set', 'tap1', 'nomaster']);
      const lost = ask('0.5', '64', '300', '02:00:00:00:77:01', '10.0.0.0/24');
      t.ok(lost['received'] === 0 && lost['sent']! >= 128 && lost['sent']! <= 64 * 10, `where nothing comes it gives up a window now and then, and goes on: ${JSON.stringify(lost)}`);
    } finally {
      guest.kill('SIGTERM');
      await once(guest, 'exit');
    }
    t.doesNotMatch(said, /ERROR|runtime error/, 'the sanitizers find nothing');
  } finally {
    spawnSync('ip', ['netns', 'del', space]);
    rmSync(folder, { recursive: true });
  }
  t.end();
});
