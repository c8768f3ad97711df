/** `shoal host shells` against a real XenAPI server, with the simulator behind it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import { image, imageBytes } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

interface Said {
  code: number;
  out: string;
  err: string;
}

async function withHost(work: (shells: (...argv: string[]) => Promise<Said>, rig: ServerRig, folder: string) => Promise<void>): Promise<void> {
  const rig = await makeServer({ agent: { shells: 4 } });
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), password);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  const sink = () => ({
    text: '',
    write(piece: string) {
      this.text += piece;
    },
  });
  try {
    await work(
      async (...argv) => {
        const [stdout, stderr] = [sink(), sink()];
        return { code: await command(['host', 'shells', ...argv], { stdout, stderr, env }), out: stdout.text, err: stderr.text };
      },
      rig,
      folder,
    );
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('shells are made, listed and ended', (t) =>
  withHost(async (shells, rig, folder) => {
    t.deepEqual(await shells(), { code: 0, out: '', err: 'No shells: nothing was started lately.\n' });
    const file = join(folder, 'kernel.elf');
    writeFileSync(file, imageBytes);
    t.deepEqual(await shells('--prepare', '3', '--image', file, '--memory-kib', '2048'), { code: 0, out: '3 shells ready\n', err: '' });
    t.match((await shells()).out, /^IMAGE +MEMORY +READY +WANTED\nsha256:[0-9a-f]{12} +2 MiB +3 +3\n$/);
    t.deepEqual(JSON.parse((await shells('--json')).out), [{ image, memoryKib: 2048, ready: 3, wanted: 3 }]);
    t.deepEqual(JSON.parse((await shells('--drain', '--json')).out), { ended: 3 });
    t.equal((await rig.sim.list()).length, 0);
  }));

test('fewer than asked for is a failure that says why', (t) =>
  withHost(async (shells) => {
    const { code, out, err } = await shells('--prepare', '9', '--memory-kib', '2048', '--network', '');
    t.deepEqual([code, out], [1, '4 shells ready\n']);
    t.match(err, /limit of shells/);
  }));

test('words that contradict each other are not understood', (t) =>
  withHost(async (shells, rig) => {
    for (const words of [
      ['--prepare', '3', '--memory-kib', '2048', '--drain'],
      ['--prepare', '3'],
      ['--image', image],
      ['--drain', '--memory-kib', '2048'],
      ['--prepare', '0', '--memory-kib', '2048'],
    ])
      t.equal((await shells(...words)).code, 2, words.join(' '));
    t.equal((await rig.sim.list()).length, 0);
  }));
