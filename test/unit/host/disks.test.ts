/** Disks of a host over the simulator: making, giving to VMs, one writer, and agents that die in between. */
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import test from 'tape';
import type { Disk } from '../../../src/host/disks.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import type { Uuid } from '../../../src/model/ids.ts';
import { codeOf, image, makeRig, type Rig } from './rig.ts';

const never = new AbortController().signal;
const mib = 1024 * 1024;
const make = (rig: Rig, name: string, more = {}): Promise<Disk> => rig.agent.disks.create({ name, sizeBytes: mib, ...more });
const launch = (rig: Rig, name: string, ...disks: { disk: string; readonly?: boolean }[]) =>
  rig.agent.bulk.launch({ name, image, memoryKib: 4096, disks }, never);
const files = (rig: Rig): string[] => readdirSync(join(rig.stateDir, 'disks')).sort();

test('a disk is a sparse file of its length, and a running VM has it', async (t) => {
  const rig = await makeRig();
  const disk = await make(rig, 'a');
  const path = rig.agent.fleet.disks.pathOf(disk);
  t.deepEqual([statSync(path).size, statSync(path).mode & 0o777], [mib, 0o600]);
  const { vms } = await launch(rig, 'vm', { disk: 'a' }, { disk: (await make(rig, 'b')).uuid, readonly: true });
  const { uuid: second } = rig.agent.fleet.disks.need('b');
  t.deepEqual(rig.sim.vbds(vms[0]!.domid), [
    { index: 0, readonly: false, path },
    { index: 1, readonly: true, path: join(rig.stateDir, 'disks', `${second}.img`) },
  ]);
  t.equal(await codeOf(rig.agent.disks.destroy(disk)), 'DISK_IN_USE', 'it stays for as long as a VM has it');
  await rig.agent.runner.destroy(rig.agent.fleet.need(vms[0]!.uuid), true);
  await rig.agent.disks.destroy(disk);
  t.notOk(existsSync(path), 'then it goes with its file');
  t.equal(await codeOf(launch(rig, 'vm', { disk: 'a' })), 'DISK_UNKNOWN');
  await rig.close();
});

test('a disk that cannot be made leaves nothing', async (t) => {
  const rig = await makeRig({}, { makeStore: () => Promise.reject(new ShoalError('VOLUME_INVALID', 'too small')) });
  await make(rig, 'a');
  const before = files(rig);
  t.equal(await codeOf(make(rig, 'a')), 'NAME_IN_USE');
  t.equal(await codeOf(make(rig, '../a')), 'VALUE_NOT_SUPPORTED');
  for (const sizeBytes of [0, 1000, mib + 1, 2 ** 50, Number.NaN, undefined]) t.equal(await codeOf(make(rig, 'b', { sizeBytes })), 'VALUE_NOT_SUPPORTED', `${sizeBytes} bytes`);
  t.equal(await codeOf(make(rig, 'b', { sizeBytes: 2 ** 44 })), 'DISK_FULL', 'more than there is room for');
  t.equal(await codeOf(make(rig, 'b', { format: 'store' })), 'VOLUME_INVALID', 'no store can be made on it');
  for (const device of ['/etc/passwd', '/dev/null', '/dev/../etc/passwd', '/dev/no-such', 'loop0']) t.equal(await codeOf(make(rig, 'b', { device })), 'DISK_UNUSABLE', device);
  const [one, two] = await Promise.all([codeOf(make(rig, 'c')), codeOf(make(rig, 'c'))]);
  t.deepEqual([one, two].sort(), ['NAME_IN_USE', 'none'], 'one of two at once');
  t.equal(files(rig).length, before.length + 1);
  await rig.crash();
  t.deepEqual([...rig.agent.fleet.disks.all()].map(({ name }) => name), ['a', 'c'], 'nor in the journal');
  await rig.close();
});

test('one VM writes, or several read', async (t) => {
  const rig = await makeRig();
  await make(rig, 'a');
  const { vms } = await launch(rig, 'writer', { disk: 'a' });
  for (const readonly of [false, true]) t.equal(await codeOf(launch(rig, 'other', { disk: 'a', readonly })), 'DISK_IN_USE');
  t.equal(await codeOf(launch(rig, 'twice', { disk: 'a' }, { disk: 'a' })), 'DISK_IN_USE');
  const writer = rig.agent.fleet.need(vms[0]!.uuid);
  await rig.agent.runner.hardShutdown(writer);
  t.equal(await codeOf(launch(rig, 'other', { disk: 'a' })), 'DISK_IN_USE', 'a halted one has it too');
  await rig.agent.runner.destroy(writer, false);
  await launch(rig, 'reader', { disk: 'a', readonly: true });
  const many = await rig.agent.bulk.launch({ prefix: 'r', count: 2, image, memoryKib: 4096, disks: [{ disk: 'a', readonly: true }] }, never);
  t.equal(many.vms.length, 2, 'several read it');
  t.equal(await codeOf(launch(rig, 'other', { disk: 'a' })), 'DISK_IN_USE', 'none writes then');
  await make(rig, 'b');
  t.equal(await codeOf(rig.agent.bulk.launch({ prefix: 'w', count: 2, image, memoryKib: 4096, disks: [{ disk: 'b' }] }, never)), 'DISK_IN_USE');
  t.equal([...rig.agent.fleet.all()].length, 3, 'nothing was begun that cannot end');
  await rig.close();
});

test('copies of a VM that writes to a disk are refused, halted or running', async (t) => {
  const rig = await makeRig();
  await make(rig, 'a');
  await make(rig, 'shared');
  const { vms } = await launch(rig, 'vm', { disk: 'a' });
  const vm = rig.agent.fleet.need(vms[0]!.uuid);
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'copy', clone: vm.uuid }, never)), 'DISK_IN_USE');
  t.notOk(rig.sim.trail.some((step) => step.startsWith('snapshot')), 'it was not even suspended');
  await rig.agent.runner.hardShutdown(vm);
  t.equal(await codeOf(rig.agent.definitions.clone(vm, 'copy')), 'DISK_IN_USE');
  const reader = (await launch(rig, 'reader', { disk: 'shared', readonly: true })).vms[0]!;
  await rig.agent.runner.hardShutdown(rig.agent.fleet.need(reader.uuid));
  const copy = await rig.agent.definitions.clone(rig.agent.fleet.need(reader.uuid), 'copy');
  t.deepEqual(copy.vbds, [{ index: 0, disk: rig.agent.fleet.disks.need('shared').uuid, readonly: true }], 'what only reads is copied');
  await rig.close();
});

test('disks come and go while a VM is halted', async (t) => {
  const rig = await makeRig();
  const { uuid } = await make(rig, 'a');
  const { definitions } = rig.agent;
  const vm = await definitions.create({ name: 'vm', image, memoryKib: 4096, network: 'default' });
  const vbd = await definitions.addVbd(vm, undefined, uuid, false);
  t.equal(vbd.index, 0);
  t.equal(await codeOf(definitions.addVbd(vm, 0, uuid, false)), 'DEVICE_ALREADY_EXISTS');
  for (const index of [4, -1, 0.5, Number.NaN]) t.equal(await codeOf(definitions.addVbd(vm, index, uuid, true)), 'VALUE_NOT_SUPPORTED', String(index));
  await rig.agent.runner.start(vm, false);
  t.equal(await codeOf(definitions.removeVbd(vm, vbd)), 'VM_BAD_POWER_STATE');
  await rig.agent.runner.hardShutdown(vm);
  await definitions.removeVbd(vm, vbd);
  await rig.crash();
  t.deepEqual(rig.agent.fleet.need(vm.uuid).vbds, [], 'kept in the journal');
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 's', image, memoryKib: 4096, backend: 'switch', disks: [{ disk: 'a' }] }, never)), 'VALUE_NOT_SUPPORTED', 'no disks beside the switch');
  await rig.close();
});

test('after a kill disks and their VMs are as they were', async (t) => {
  const rig = await makeRig();
  const disk = await make(rig, 'a', { description: 'films' });
  const { vms } = await launch(rig, 'vm', { disk: 'a' });
  const shape = rig.agent.fleet.need(vms[0]!.uuid).vbds;
  for (const _ of [1, 2]) await rig.crash();
  t.deepEqual(rig.agent.fleet.disks.need('a'), disk);
  t.deepEqual(rig.agent.fleet.need(vms[0]!.uuid).vbds, shape);
  t.equal(await codeOf(launch(rig, 'other', { disk: 'a' })), 'DISK_IN_USE', 'and it is still taken');
  await rig.close();
});

test('a kill while a disk is made or removed', async (t) => {
  const rig = await makeRig();
  const [gone, whole] = [await make(rig, 'gone'), await make(rig, 'whole')];
  const folder = join(rig.stateDir, 'disks');
  rmSync(join(folder, `${gone.uuid}.img`));
  writeFileSync(join(folder, `${randomUUID()}.img.part`), 'half');
  await rig.crash();
  t.deepEqual([...rig.agent.fleet.disks.all()].map(({ name }) => name), ['whole'], 'what has no file was never made, or was removed');
  t.deepEqual(files(rig), [`${whole.uuid}.img`], 'nothing half made stays');
  t.equal((await make(rig, 'gone')).name, 'gone', 'its name is free');
  await rig.close();
});

test('the journal is lost: files stay, and a VM that runs keeps its disk', async (t) => {
  const rig = await makeRig();
  const disk = await make(rig, 'a');
  const { vms } = await launch(rig, 'vm', { disk: 'a' });
  rig.agent.runner.close();
  await rig.agent.fleet.journal!.close();
  renameSync(join(rig.stateDir, 'agent.journal'), join(rig.stateDir, 'lost'));
  rig.agent.fleet.journal = { close: async () => {} } as never;
  await rig.crash();
  const found = rig.agent.fleet.disks.get(disk.uuid);
  t.deepEqual([found?.name, found?.sizeBytes], [`found-${disk.uuid}`, mib]);
  const vm = rig.agent.fleet.need(vms[0]!.uuid as Uuid);
  t.deepEqual(vm.vbds, [{ index: 0, disk: disk.uuid, readonly: false }], 'by its sealed record');
  t.equal(await codeOf(rig.agent.disks.destroy(found!)), 'DISK_IN_USE');
  await rig.close();
});
