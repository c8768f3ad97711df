/** SR, VDI and VBD as clients see them. */
import test from 'tape';
import { image } from '../host/rig.ts';
import { failureOf, makeServer } from './rig.ts';

const mib = 1024 * 1024;

test('a disk is made, given to a VM, started with it, taken back, destroyed', async (t) => {
  const rig = await makeServer();
  const [sr] = await rig.as('SR.get_all');
  t.equal(await rig.as('pool.get_default_SR', rig.api.refs.pool), sr);
  const vdi = await rig.as('VDI.create', { name_label: 'd', name_description: 'x', SR: sr, virtual_size: mib, type: 'user', other_config: {} });
  const record = await rig.as('VDI.get_record', vdi);
  t.deepEqual([record.name_label, record.virtual_size, record.SR, record.VBDs, record.allowed_operations], ['d', mib, sr, [], ['destroy']]);
  t.deepEqual(await rig.as('SR.get_VDIs', sr), [vdi]);
  const vm = await rig.as('VM.create', { name_label: 'v', PV_kernel: image, memory_static_max: 4 * mib });
  const vbd = await rig.as('VBD.create', { VM: vm, VDI: vdi, userdevice: 'autodetect', mode: 'RW', type: 'Disk', empty: false, bootable: false });
  t.deepEqual(await rig.as('VM.get_VBDs', vm), [vbd]);
  t.deepEqual(await rig.as('VDI.get_VBDs', vdi), [vbd]);
  t.equal((await failureOf(rig.as('VDI.destroy', vdi)))[0], 'DISK_IN_USE');
  await rig.as('VM.start', vm, false, false);
  const running = Object.values(await rig.as('VBD.get_all_records')) as Record<string, unknown>[];
  t.deepEqual(running.map(({ VM, VDI, device, userdevice, mode, currently_attached: attached }) => [VM, VDI, device, userdevice, mode, attached]), [[vm, vdi, 'xvda', '0', 'RW', true]]);
  t.equal((await failureOf(rig.as('VBD.destroy', vbd)))[0], 'VM_BAD_POWER_STATE');
  await rig.as('VM.hard_shutdown', vm);
  await rig.as('VBD.destroy', vbd);
  await rig.as('VDI.destroy', vdi);
  t.deepEqual([await rig.as('VM.get_VBDs', vm), await rig.as('VDI.get_all')], [[], []]);
  await rig.close();
});

test('what makes no sense is refused by name', async (t) => {
  const rig = await makeServer();
  const vdi = await rig.as('VDI.create', { name_label: 'd', virtual_size: mib });
  const vm = await rig.as('VM.create', { name_label: 'v', PV_kernel: image, memory_static_max: 4 * mib });
  const code = async (...words: [string, unknown]): Promise<string> => (await failureOf(rig.as(...words)))[0] ?? 'none';
  t.equal(await code('VDI.create', { name_label: 'd', virtual_size: mib }), 'NAME_IN_USE');
  t.equal(await code('VDI.create', { name_label: 'e', virtual_size: 100 }), 'VALUE_NOT_SUPPORTED');
  t.equal(await code('VDI.create', { name_label: 'e', virtual_size: mib, SR: 'OpaqueRef:x' }), 'HANDLE_INVALID');
  t.equal(await code('VDI.create', { name_label: 'e', virtual_size: mib, sm_config: { format: 'ext4' } }), 'VALUE_NOT_SUPPORTED');
  t.equal(await code('VDI.create', { name_label: 'e', virtual_size: mib, sm_config: { vendor: '1' } }), 'VALUE_NOT_SUPPORTED');
  t.equal(await code('VDI.create', { name_label: 'e', sm_config: { device: '/etc/shadow' } }), 'DISK_UNUSABLE');
  t.equal(await code('VBD.create', { VM: vm, VDI: 'OpaqueRef:x' }), 'HANDLE_INVALID');
  t.equal(await code('VBD.create', { VM: vm, VDI: vdi, mode: 'WO' }), 'VALUE_NOT_SUPPORTED');
  t.equal(await code('VBD.create', { VM: vm, VDI: vdi, userdevice: '9' }), 'VALUE_NOT_SUPPORTED');
  t.equal(await code('VBD.create', { VM: vm, VDI: vdi, type: 'CD' }), 'VALUE_NOT_SUPPORTED');
  t.deepEqual([(await rig.as('VDI.get_all')).length, await rig.as('VBD.get_all')], [1, []], 'and nothing came of it');
  await rig.close();
});

test('events tell of disks; the plugin launches with them', async (t) => {
  const rig = await makeServer();
  const vdi = await rig.as('VDI.create', { name_label: 'd', virtual_size: mib });
  const { token } = await rig.as('event.from', ['*'], '', 0.001);
  const spec = { name: 'v', image, memoryKib: 4096, disks: [{ disk: 'd' }] };
  const { vms } = await rig.plugin('launch', { spec: JSON.stringify(spec) });
  const { events } = await rig.as('event.from', ['vbd', 'vdi'], token, 5);
  t.deepEqual((events as Record<string, string>[]).map((event) => [event['class'], event['operation']]).sort(), [['vbd', 'add'], ['vdi', 'mod']]);
  t.deepEqual(rig.sim.vbds(vms[0].domid).map(({ index, readonly }) => [index, readonly]), [[0, false]]);
  for (const disks of ['d', [{}], [{ disk: 'd', readonly: 'no' }], [{ disk: 'd', mode: 'ro' }], Array(5).fill({ disk: 'd' })]) {
    t.equal((await failureOf(rig.plugin('launch', { spec: JSON.stringify({ ...spec, name: 'w', disks }) })))[0], 'FIELD_TYPE_ERROR', JSON.stringify(disks));
  }
  t.equal((await failureOf(rig.plugin('launch', { spec: JSON.stringify({ ...spec, name: 'w' }) })))[0], 'DISK_IN_USE');
  await rig.plugin('destroy', { vms: 'all' });
  t.deepEqual(await rig.as('VBD.get_all'), []);
  t.deepEqual((await rig.as('VDI.get_record', vdi)).allowed_operations, ['destroy']);
  await rig.close();
});
