/** The plugin's captures, and what facts say of the switch. */
import test from 'tape';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import { image } from '../host/rig.ts';
import { failureOf, makeServer } from './rig.ts';

test('a capture is begun, read and ended', async (t) => {
  const rig = await makeServer();
  const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image, memoryKib: 4096 }) });
  const { capture } = await rig.plugin('capture', { vm: vms[0].uuid });
  rig.sim.frame(vms[0].domid, 0, Buffer.alloc(60, 5));
  let bytes = Buffer.alloc(0);
  for (let answer; bytes.length < 24 + 76; bytes = Buffer.concat([bytes, Buffer.from(answer.data, 'base64')])) {
    answer = await rig.plugin('capture-read', { capture, waitMs: '1000' });
    t.deepEqual([answer.dropped, answer.ended], [0, false]);
  }
  t.ok(bytes.readUInt32LE(0) === 0xa1b23c4d && bytes.subarray(40).equals(Buffer.alloc(60, 5)), 'it is a pcap file');
  t.deepEqual(await rig.plugin('capture-end', { capture }), {});
  t.deepEqual(await rig.plugin('capture-read', { capture }), { data: '', frames: 1, dropped: 0, ended: true });
  t.equal((await failureOf(rig.plugin('capture-read', { capture })))[0], 'HANDLE_INVALID');
  await rig.close();
});

test('what is not understood is refused', async (t) => {
  const rig = await makeServer();
  const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'a', image, memoryKib: 4096, backend: 'netback' }) });
  const wrong: [string, Record<string, string>, string][] = [
    ['capture', {}, 'UUID_INVALID'],
    ['capture', { vm: vms[0].uuid, handle: '8' }, 'FIELD_TYPE_ERROR'],
    ['capture', { vm: vms[0].uuid }, 'VALUE_NOT_SUPPORTED'],
    ['capture', { vm: vms[0].uuid, file: '/etc/passwd' }, 'XENAPI_PLUGIN_FAILURE'],
    ['capture-read', { capture: '../x' }, 'HANDLE_INVALID'],
    ['capture-read', { capture: 'x', waitMs: '-1' }, 'FIELD_TYPE_ERROR'],
    ['capture-read', { capture: 'x', waitMs: '5001' }, 'FIELD_TYPE_ERROR'],
    ['capture-end', {}, 'HANDLE_INVALID'],
  ];
  for (const [fn, args, code] of wrong) t.equal((await failureOf(rig.plugin(fn, args)))[0], code, `${fn} ${JSON.stringify(args)}`);
  await rig.close();
});

test('facts carry what the switch counts, where there is one', async (t) => {
  const rig = await makeServer();
  t.equal((await rig.plugin('facts')).switch, null, 'the simulator has none');
  const totals = { vifs: 3, frames: 4, bytes: 5, turns: 6, copies: 7, dropped: 8, memoryKib: 9 };
  (rig.sim as Hypervisor).switchTotals = async () => totals;
  t.deepEqual((await rig.plugin('facts')).switch, totals);
  await rig.close();
});
