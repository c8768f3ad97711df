/** `shoal disk …` and `vm create --disk` against a real XenAPI server, with the simulator behind it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { makeVolume, ObjectStore } from '../../../src/cache/store/volume.ts';
import { command } from '../../../src/cli/main.ts';
import { asDomid } from '../../../src/model/ids.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

interface Said {
  code: number;
  out: string;
  err: string;
}

async function withHost(work: (shoal: (...argv: string[]) => Promise<Said>, rig: ServerRig) => Promise<void>): Promise<void> {
  const rig = await makeServer({ agent: { makeStore: async (path) => void (await makeVolume(path)) } });
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), password);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  try {
    await work(async (...argv) => {
      const said = { code: 0, out: '', err: '' };
      const stdout = { write: (text: string) => void (said.out += text) };
      const stderr = { write: (text: string) => void (said.err += text) };
      said.code = await command(argv, { stdout, stderr, env });
      return said;
    }, rig);
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('disks are made, given to VMs, listed and destroyed', (t) =>
  withHost(async (shoal, rig) => {
    t.equal((await shoal('disk', 'create', 'films', '--size', '2M', '--store')).code, 0);
    t.equal((await shoal('disk', 'create', 'plain', '--size', '128K')).code, 0);
    const [films] = JSON.parse((await shoal('disk', 'list', '--json')).out) as { path: string; bytes: number }[];
    t.equal(films!.bytes, 2 * 1024 * 1024);
    const store = await ObjectStore.open(films!.path);
    t.deepEqual([store.records.length, (await store.verify()).length], [0, 0], 'an empty, sound object store');
    await store.close();
    t.equal((await shoal('vm', 'create', 'edge', '--disk', 'films,plain:ro')).code, 0);
    t.deepEqual(rig.sim.vbds(asDomid(1)).map(({ index, readonly }) => [index, readonly]), [[0, false], [1, true]]);
    t.match((await shoal('disk', 'list')).out, /films +2,097,152 .* edge\nplain +131,072 .* edge:ro\n/);
    const refused = await shoal('vm', 'create', 'other', '--disk', 'films');
    t.deepEqual([refused.code, /DISK_IN_USE|cannot be had/.test(refused.err)], [1, true]);
    t.equal((await shoal('disk', 'destroy', 'films')).code, 1, 'not while a VM has it');
    t.equal((await shoal('vm', 'create', 'halted', '--halted', '--disk', 'plain:ro')).code, 0);
    t.match((await shoal('disk', 'list')).out, /edge:ro halted:ro|halted:ro edge:ro/);
    t.equal((await shoal('vm', 'destroy', '--all')).code, 0);
    t.equal((await shoal('disk', 'destroy', 'films', 'plain')).code, 0);
    t.deepEqual(JSON.parse((await shoal('disk', 'list', '--json')).out), []);
  }));

test('words that make no sense change nothing', (t) =>
  withHost(async (shoal, rig) => {
    for (const words of [['a'], ['a', '--size', '1M', '--device', '/dev/loop0'], ['a', '--size', 'much'], ['a', '--device', '/dev/loop0', '--store']])
      t.equal((await shoal('disk', 'create', ...words)).code, 2, words.join(' '));
    t.equal((await shoal('disk', 'create', 'a', '--size', '100')).code, 1, 'too small');
    t.equal((await shoal('disk', 'destroy', 'none')).code, 1);
    t.equal((await shoal('vm', 'create', 'x', '--disk', 'none')).code, 1);
    t.equal((await shoal('vm', 'create', 'x', '--halted', '--disk', 'none')).code, 1);
    t.deepEqual([[...rig.agent.fleet.disks.all()].length, [...rig.agent.fleet.all()].length], [0, 0]);
  }));
