/** Tombstones over the simulator: whose the address is, at every moment, and what a killed agent leaves. */
import test from 'tape';
import type { Vm } from '../../../src/host/vm.ts';
import { tombstoneKey } from '../../../src/host/tombstones.ts';
import { codeOf, image, makeRig, type Rig } from './rig.ts';

const never = new AbortController().signal;
const ip = '10.64.9.1';

async function suspended(rig: Rig, more: object = {}): Promise<Vm> {
  const { uuid } = (await rig.agent.bulk.launch({ name: 'nat', image, memoryKib: 4096, ip, args: 'secret=s', ...more }, never)).vms[0]!;
  const vm = rig.agent.fleet.need(uuid);
  await rig.agent.suspender.suspend(vm);
  return vm;
}

const tombsOf = (rig: Rig): Vm[] => [...rig.agent.fleet.all()].filter((vm) => vm.otherConfig[tombstoneKey] !== undefined);

test('a tombstone has the address of the suspended VM and none of its words; without it the VM goes on as it was', async (t) => {
  const rig = await makeRig();
  const vm = await suspended(rig);
  const tomb = await rig.agent.tombstones.bury(vm);
  t.deepEqual([tomb.power, tomb.args, tomb.image, tomb.vifs[0]!.ipv4, vm.vifs[0]!.ipv4], ['Running', '', vm.image, [ip], []]);
  t.equal(rig.agent.fleet.withAddress('default', ip), tomb, 'the address is its');
  t.match(rig.sim.cmdline(tomb.domid!), /^name=tombstone-10\.64\.9\.1 ip=10\.64\.9\.1\/16 gw=10\.64\.0\.1$/);
  t.equal(await rig.agent.tombstones.bury(vm), tomb, 'once more is the same');
  t.equal(await codeOf(rig.agent.suspender.resume(vm, false)), 'CONFLICT', 'the VM does not go on without its address');
  t.ok(await rig.agent.tombstones.unbury({ vm: vm.uuid }));
  t.notOk(await rig.agent.tombstones.unbury({ vm: vm.uuid }), 'there is none any more');
  t.deepEqual([tombsOf(rig).length, vm.vifs[0]!.ipv4], [0, [ip]]);
  await rig.agent.suspender.resume(vm, false);
  t.match(rig.sim.cmdline(vm.domid!), /ip=10\.64\.9\.1\/16/);
  await rig.close();
});

test('a tombstone outlives its VM, and makes room for one that comes back', async (t) => {
  const rig = await makeRig();
  const vm = await suspended(rig);
  t.equal(await codeOf(rig.agent.runner.start((await rig.agent.tombstones.bury(vm)), false)), 'VM_BAD_POWER_STATE');
  await rig.agent.runner.destroy(vm, true);
  t.equal(tombsOf(rig)[0]?.power, 'Running');
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'back', image, memoryKib: 4096, ip }, never)), 'ADDRESS_IN_USE');
  t.notOk(await rig.agent.tombstones.unbury({ ip: '10.64.9.2' }), 'nothing at another address');
  t.ok(await rig.agent.tombstones.unbury({ ip }));
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'back', image, memoryKib: 4096, ip }, never)), 'none');
  t.notOk(await rig.agent.tombstones.unbury({ ip }), 'a VM that is no tombstone is left alone');
  t.equal(rig.agent.fleet.withAddress('default', ip)?.name, 'back');
  await rig.close();
});

test('only what is suspended, and has an address, is buried', async (t) => {
  const rig = await makeRig();
  const { uuid } = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never)).vms[0]!;
  t.equal(await codeOf(rig.agent.tombstones.bury(rig.agent.fleet.need(uuid))), 'VM_BAD_POWER_STATE');
  const bare = (await rig.agent.bulk.launch({ name: 'b', image, memoryKib: 4096, network: '' }, never)).vms[0]!;
  await rig.agent.suspender.suspend(rig.agent.fleet.need(bare.uuid));
  t.equal(await codeOf(rig.agent.tombstones.bury(rig.agent.fleet.need(bare.uuid))), 'VALUE_NOT_SUPPORTED');
  t.equal(tombsOf(rig).length, 0);
  await rig.close();
});

test('an agent killed while a tombstone starts, or while it runs: bury and unbury go on from there', async (t) => {
  let stop = true;
  const rig = await makeRig({}, { hook: (moment) => (moment === 'create' && stop && rig.agent.fleet.named(`tombstone-${ip}`) !== undefined ? new Promise<void>(() => {}) : undefined) });
  const { uuid } = await suspended(rig);
  void rig.agent.tombstones.bury(rig.agent.fleet.need(uuid)).catch(() => {});
  while (rig.agent.fleet.withAddress('default', ip)?.name !== `tombstone-${ip}`) await new Promise((done) => setTimeout(done, 1));
  await new Promise((done) => setTimeout(done, 20));
  stop = false;
  await rig.crash();
  t.deepEqual(tombsOf(rig).map(({ power, vifs }) => [power, vifs[0]!.ipv4]), [['Halted', [ip]]], 'the address is still its');
  const tomb = await rig.agent.tombstones.bury(rig.agent.fleet.need(uuid));
  t.equal(tomb.power, 'Running');
  await rig.crash();
  t.deepEqual(tombsOf(rig).map(({ power }) => power), ['Running'], 'it is known again');
  t.ok(await rig.agent.tombstones.unbury({ vm: uuid }));
  await rig.crash();
  const vm = rig.agent.fleet.need(uuid);
  t.deepEqual([tombsOf(rig).length, vm.power, vm.vifs[0]!.ipv4], [0, 'Suspended', [ip]]);
  await rig.agent.suspender.resume(vm, false);
  t.equal(vm.power, 'Running');
  await rig.close();
});

test('a tombstone that cannot start keeps the address until it is taken back', async (t) => {
  const rig = await makeRig();
  const vm = await suspended(rig);
  await rig.crash({ memoryReserveKib: 1 << 30 });
  t.equal(await codeOf(rig.agent.tombstones.bury(rig.agent.fleet.need(vm.uuid))), 'HOST_NOT_ENOUGH_FREE_MEMORY');
  t.ok(await rig.agent.tombstones.unbury({ vm: vm.uuid }));
  t.deepEqual(rig.agent.fleet.need(vm.uuid).vifs[0]!.ipv4, [ip]);
  await rig.close();
});
