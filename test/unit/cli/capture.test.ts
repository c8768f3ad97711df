/** `shoal vm capture` and the switch in `shoal host show`, against a real XenAPI server with the simulator behind it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import { image, until } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

interface Said {
  code: number;
  out: Buffer;
  err: string;
}

interface Place {
  rig: ServerRig;
  folder: string;
  domid: number;
  shoal(argv: string[], interactive?: boolean): Promise<Said>;
}

async function withVm(work: (place: Place) => Promise<void>): Promise<void> {
  const rig = await makeServer();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), password);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  const sink = (isTTY: boolean) => ({ isTTY, parts: [] as Buffer[], write(piece: string | Uint8Array) { this.parts.push(Buffer.from(piece as string)); } });
  try {
    const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'web', image, memoryKib: 4096 }) });
    const shoal: Place['shoal'] = async (argv, interactive = false) => {
      const [stdout, stderr] = [sink(interactive), sink(false)];
      const code = await command(argv, { stdout, stderr, env });
      return { code, out: Buffer.concat(stdout.parts), err: Buffer.concat(stderr.parts).toString() };
    };
    await work({ rig, folder, domid: vms[0].domid, shoal });
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

const frame = Buffer.alloc(60, 9);

test('frames go to standard output and nothing else does; the VM\'s end is the end', (t) =>
  withVm(async ({ rig, domid, shoal }) => {
    const said = shoal(['vm', 'capture', 'web']);
    await until(() => rig.sim.hasMirror(domid as never, 0), 'the capture');
    for (let n = 0; n < 3; n++) rig.sim.frame(domid as never, 0, frame);
    await rig.plugin('destroy', { vms: 'all' });
    const { code, out, err } = await said;
    t.deepEqual([code, out.length, out.readUInt32LE(0), err], [0, 24 + 3 * 76, 0xa1b23c4d, '3 frames, none dropped\n']);
  }));

test('into a file, for some time', (t) =>
  withVm(async ({ rig, folder, domid, shoal }) => {
    const file = join(folder, 'web.pcap');
    const said = shoal(['vm', 'capture', 'web', '--vif', '0', '--seconds', '1', '--output', file, '--json']);
    await until(() => rig.sim.hasMirror(domid as never, 0), 'the capture');
    rig.sim.frame(domid as never, 0, frame);
    const { code, out } = await said;
    t.deepEqual([code, JSON.parse(out.toString())], [0, { name: 'web', vif: 0, frames: 1, dropped: 0, file }]);
    t.ok(readFileSync(file).subarray(40).equals(frame));
    t.notOk(rig.sim.hasMirror(domid as never, 0), 'it has ended');
  }));

test('refused: a terminal, JSON among frames, a device that is not there, a file that cannot be written', (t) =>
  withVm(async ({ rig, folder, domid, shoal }) => {
    t.equal((await shoal(['vm', 'capture', 'web'], true)).code, 2, 'a terminal');
    t.equal((await shoal(['vm', 'capture', 'web', '--json'])).code, 2);
    t.equal((await shoal(['vm', 'capture', 'web', '--vif', '8'])).code, 2);
    const none = await shoal(['vm', 'capture', 'web', '--vif', '3']);
    t.ok(none.code === 1 && /not on the switch; only such vifs can be captured/.test(none.err) && /tcpdump/.test(none.err), none.err);
    t.equal((await shoal(['vm', 'capture', 'web', '--output', join(folder, 'no/such/folder')])).code, 2);
    t.equal(rig.agent.captures.count, 0, 'and nothing goes on');
    t.notOk(rig.sim.hasMirror(domid as never, 0));
  }));

test('host show tells of the switch', (t) =>
  withVm(async ({ rig, shoal }) => {
    t.notOk(/switch/.test((await shoal(['host', 'show'])).out.toString()), 'where there is one');
    (rig.sim as Hypervisor).switchTotals = async () => ({ vifs: 3, frames: 4000, bytes: 5, turns: 6, copies: 7, dropped: 8, memoryKib: 2048 });
    t.match((await shoal(['host', 'show'])).out.toString(), /switch +3 vifs; 4,000 frames moved, 8 dropped; 2 MiB resident\n/);
  }));
