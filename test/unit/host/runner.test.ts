/**
 * What becomes of VMs: power states, guests that end by themselves, one thing at a time, and finding the way back after a crash.
 */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { newVmUuid } from '../../../src/model/uuid.ts';
import { codeOf, image, makeRig, until, type Rig } from './rig.ts';

const never = new AbortController().signal;

async function running(rig: Rig, name = 'a') {
  await rig.agent.bulk.launch({ name, image, memoryKib: 4096 }, never);
  return rig.agent.fleet.named(name)!;
}

test('pause, unpause, shut down, start again, destroy', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  const { runner } = rig.agent;
  await runner.pause(vm);
  t.equal((await rig.sim.get(vm.domid!))?.state, 'paused');
  t.equal(await codeOf(runner.pause(vm)), 'VM_BAD_POWER_STATE', 'paused twice');
  t.equal(await codeOf(runner.cleanShutdown(vm, 100)), 'VM_BAD_POWER_STATE', 'a paused guest hears nothing');
  await runner.unpause(vm);
  await runner.cleanShutdown(vm, 1000);
  t.deepEqual([vm.power, vm.domid, (await rig.sim.list()).length], ['Halted', undefined, 0]);
  t.equal(await codeOf(runner.hardShutdown(vm)), 'VM_BAD_POWER_STATE', 'ended twice');
  await runner.start(vm, true);
  t.equal(vm.power, 'Paused', 'a start can stay paused');
  t.equal(await codeOf(runner.destroy(vm, false)), 'VM_BAD_POWER_STATE', 'only halted VMs are destroyed');
  await runner.hardShutdown(vm);
  await runner.destroy(vm, false);
  t.equal(rig.agent.fleet.size, 0);
  await rig.close();
});

test('reboots give a fresh domain', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  const first = vm.domid;
  await rig.agent.runner.cleanReboot(vm, 1000);
  t.ok(vm.power === 'Running' && vm.domid !== first, 'asked for');
  const second = vm.domid;
  await rig.agent.runner.hardReboot(vm);
  t.ok(vm.power === 'Running' && vm.domid !== second, 'forced');
  t.equal((await rig.sim.list()).length, 1, 'one domain');
  rig.sim.guest = 'ignores';
  await rig.agent.runner.hardReboot(vm);
  t.equal(await codeOf(rig.agent.runner.cleanReboot(vm, 20)), 'TIMEOUT', 'a guest that does not react');
  rig.sim.powerOff(vm.domid!);
  await until(() => vm.power === 'Halted', 'a later power-off is no reboot');
  t.equal((await rig.sim.list()).length, 0);
  await rig.close();
});

test('a guest that does not react keeps running; a cancelled wait ends at once', async (t) => {
  const rig = await makeRig({ guest: 'ignores' });
  const vm = await running(rig);
  t.equal(await codeOf(rig.agent.runner.cleanShutdown(vm, 20)), 'TIMEOUT');
  t.equal(vm.power, 'Running');
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 10);
  t.equal(await codeOf(rig.agent.runner.cleanShutdown(vm, 60_000, abort.signal)), 'TASK_CANCELLED');
  await rig.close();
});

test('a guest that powers off is halted; one that crashes leaves its last words', async (t) => {
  const rig = await makeRig();
  const [vm, other] = [await running(rig), await running(rig, 'b')];
  rig.sim.powerOff(vm.domid!);
  await until(() => vm.power === 'Halted', 'halted');
  t.equal(vm.otherConfig['last_crash'], undefined, 'no crash is reported');
  const { domid } = other;
  rig.sim.print(domid!, 'x'.repeat(5000));
  rig.sim.crash(domid!, '\r\nPage fault at \x1b[1m0x10\0\n');
  await until(() => other.power === 'Halted', 'halted');
  const words = other.otherConfig['last_crash']!;
  t.ok(words.endsWith('\nPage fault at  [1m0x10 \n'), 'the last words, readable');
  t.ok(words.length < 2048 + 100, 'bounded');
  t.equal((await rig.sim.list()).length, 0, 'the domain is gone');
  t.equal((await rig.agent.readConsole(other, 0)).text, words, 'the console of a crashed VM is its last words');
  await rig.agent.runner.start(other, false);
  t.equal(other.power, 'Running', 'it can be started again');
  await rig.close();
});

test('a crash at boot, before the launch has returned', async (t) => {
  const rig = await makeRig({ guest: 'crashes-at-boot' });
  await rig.agent.bulk.launch({ prefix: 'c', count: 20, image, memoryKib: 4096 }, never);
  const vms = [...rig.agent.fleet.all()];
  await until(() => vms.every((vm) => vm.power === 'Halted'), 'all halted');
  t.ok(
    vms.every((vm) => vm.otherConfig['last_crash']?.includes('Page fault')),
    'each with its last words',
  );
  t.equal((await rig.sim.list()).length, 0, 'no domain is left');
  await rig.close();
});

test('a domain that another toolstack destroyed', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  rig.sim.lose(vm.domid!);
  await until(() => vm.power === 'Halted', 'halted');
  const again = await running(rig, 'b');
  rig.sim.lose(again.domid!, true);
  t.equal(await codeOf(rig.agent.runner.pause(again)), 'HYPERCALL_FAILED', 'found out by an operation');
  t.equal(again.power, 'Halted', 'which settles it');
  await rig.close();
});

test('one operation at a time; one that ends the VM goes first', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 50 } });
  const vm = await rig.agent.definitions.create({ name: 'a', image, memoryKib: 4096, network: 'default' });
  const start = codeOf(rig.agent.runner.start(vm, false));
  t.equal(await codeOf(rig.agent.runner.start(vm, false)), 'OTHER_OPERATION_IN_PROGRESS');
  t.equal(await codeOf(rig.agent.runner.destroy(vm, false)), 'OTHER_OPERATION_IN_PROGRESS');
  t.equal(await codeOf(rig.agent.runner.hardShutdown(vm)), 'none', 'a hard shutdown stops the start');
  t.deepEqual([await start, vm.power, (await rig.sim.list()).length], ['TASK_CANCELLED', 'Halted', 0]);
  const again = codeOf(rig.agent.runner.start(vm, false));
  t.equal(await codeOf(rig.agent.runner.destroy(vm, true)), 'none', 'so does a forced destroy');
  t.deepEqual([await again, rig.agent.fleet.size, rig.agent.fleet.imageInUse(image)], ['TASK_CANCELLED', 0, 0]);
  await rig.close();
});

test('a bulk launch and a bulk destroy at once end with nothing', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 1 } });
  const launch = rig.agent.bulk.launch({ prefix: 'w', count: 50, image, memoryKib: 4096 }, never).catch(() => undefined);
  await until(() => rig.agent.fleet.size > 5, 'some are there');
  t.deepEqual((await rig.agent.bulk.destroy('all', never)).failed, [], 'none is in the way of another');
  await launch;
  await rig.agent.bulk.destroy('all', never);
  t.deepEqual([rig.agent.fleet.size, rig.agent.fleet.imageInUse(image), (await rig.sim.list()).length], [0, 0, 0]);
  await rig.close();
});

test('a launch that fails and a forced destroy take the same VM away once', async (t) => {
  let destroyed: Promise<unknown> | undefined;
  const rig = await makeRig(
    {},
    {
      hook: (moment) => {
        if (moment === 'unpause') destroyed ??= rig.agent.bulk.destroy('all', never);
      },
    },
  );
  const other = await rig.agent.definitions.create({ name: 'other', image, memoryKib: 4096 });
  rig.sim.failStep('unpause', new ShoalError('HYPERCALL_FAILED', 'as arranged'));
  await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never).catch(() => undefined);
  await destroyed;
  t.deepEqual(
    [rig.agent.fleet.size, rig.agent.fleet.imageInUse(image), rig.agent.fleet.get(other.uuid)],
    [0, 0, undefined],
    'the image is used by nobody',
  );
  await rig.close();
});

test('what another toolstack destroyed leaves no devices behind', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  const { domid } = vm;
  rig.sim.lose(domid!);
  await until(() => vm.power === 'Halted', 'halted');
  t.ok(rig.sim.trail.includes(`destroy ${domid}`), 'its devices are cleaned up');
  await rig.close();
});

test('bulk stop names those that did not stop', async (t) => {
  const rig = await makeRig();
  await running(rig);
  rig.sim.guest = 'ignores';
  const deaf = await running(rig, 'deaf');
  const gone = newVmUuid();
  const result = await rig.agent.bulk.stop([...[...rig.agent.fleet.all()].map((vm) => vm.uuid), gone], false, 30, never);
  t.deepEqual(
    [result.done, result.failed.map(({ uuid, error }) => [uuid, error.code])],
    [
      1,
      [
        [gone, 'UUID_INVALID'],
        [deaf.uuid, 'TIMEOUT'],
      ],
    ],
  );
  t.equal((await rig.agent.bulk.stop('all', true, 0, never)).done, 2, 'with force they do');
  t.equal((await rig.sim.list()).length, 0);
  await rig.close();
});

test('a new agent finds everything again', async (t) => {
  const rig = await makeRig();
  const uuid = rig.agent.uuid;
  const vm = await running(rig, 'runs');
  await rig.agent.definitions.setOtherConfig(vm, { owner: 'me' });
  await rig.agent.runner.pause(await running(rig, 'paused'));
  await rig.agent.definitions.create({ name: 'halted', image, memoryKib: 8192, network: 'default', description: 'd', args: 'x' });
  await running(rig, 'lost');
  await running(rig, 'crashed');
  await running(rig, 'off');
  const { domid: lost } = rig.agent.fleet.named('lost')!;
  const { domid: crashed } = rig.agent.fleet.named('crashed')!;
  const { domid: off } = rig.agent.fleet.named('off')!;
  const addresses = new Map(
    [...rig.agent.fleet.all()].map((each) => [each.name, each.vifs.map((vif) => [vif.mac, ...vif.ipv4])]),
  );
  rig.agent.runner.close();
  rig.sim.lose(lost!);
  rig.sim.crash(crashed!, 'oh no');
  rig.sim.powerOff(off!);
  const foreign = rig.sim.addForeign('11111111-2222-4333-8444-555555555555', 4096);
  const foreignSealed = rig.sim.addForeign('21111111-2222-4333-8444-555555555555', 4096);
  await rig.sim.seal(foreignSealed, '{"v":1}');

  const agent = await rig.crash();
  const states = Object.fromEntries([...agent.fleet.all()].map((each) => [each.name, each.power]));
  t.equal(agent.fleet.named('lost')!.wanted, 'halted', 'nobody wants a lost domain to run any more');
  t.deepEqual(states, { runs: 'Running', paused: 'Paused', halted: 'Halted', lost: 'Halted', crashed: 'Halted', off: 'Halted' });
  t.deepEqual(
    new Map([...agent.fleet.all()].map((each) => [each.name, each.vifs.map((vif) => [vif.mac, ...vif.ipv4])])),
    addresses,
    'with their addresses',
  );
  t.equal(agent.uuid, uuid, 'the host is the same');
  t.equal(agent.fleet.named('runs')!.otherConfig['owner'], 'me', 'what was set is kept');
  t.ok(agent.fleet.named('crashed')!.otherConfig['last_crash']?.includes('oh no'), 'a crash meanwhile is reported');
  t.deepEqual(
    (await rig.sim.list()).map((d) => d.domid).filter((d) => d === foreign || d === foreignSealed),
    [foreign, foreignSealed],
    'domains of others are left alone',
  );
  t.equal((await rig.sim.list()).length, 4, 'runs, paused and two of others');
  await agent.runner.unpause(agent.fleet.named('paused')!);
  await agent.runner.cleanShutdown(agent.fleet.named('runs')!, 1000);
  t.equal(
    await codeOf(agent.bulk.launch({ name: 'new', image, memoryKib: 4096, ip: addresses.get('halted')![0]![1]! }, never)),
    'ADDRESS_IN_USE',
    'a halted VM keeps its address',
  );
  await rig.close();
});

test('without its journal, the agent adopts running VMs from Xen', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  await rig.agent.runner.start(await rig.agent.definitions.create({ name: 'p', image, memoryKib: 4096 }), true);
  const { rm } = await import('node:fs/promises');
  await rm(`${rig.stateDir}/agent.journal`);
  const agent = await rig.crash();
  const found = agent.fleet.get(vm.uuid)!;
  t.deepEqual(
    [found.name, found.power, found.memoryKib, found.vifs, found.startedMs],
    ['a', 'Running', 4096, vm.vifs, vm.startedMs],
  );
  t.equal(agent.fleet.named('p')!.power, 'Paused', 'a start that was to stay paused stays paused');
  await agent.bulk.destroy('all', never);
  t.equal((await rig.sim.list()).length, 0, 'and can end them');
  const last = await rig.crash();
  t.equal(last.fleet.size, 0, 'destroyed VMs do not come back');
  await rig.close();
});

test('a sealed record of another version is left alone', async (t) => {
  const rig = await makeRig();
  const domid = rig.sim.addForeign(newVmUuid(), 4096);
  await rig.sim.seal(domid, '{"v":7}');
  const agent = await rig.crash();
  t.deepEqual([agent.fleet.size, (await rig.sim.list()).length], [0, 1]);
  t.ok(
    rig.log.some((line) => line.includes('another version')),
    'and it is said',
  );
  await rig.close();
});

test('killed between the two halves of a reboot: halted, with nothing left behind', async (t) => {
  const rig = await makeRig();
  const vm = await running(rig);
  rig.sim.failStep('create', new ShoalError('HOST_LIMIT', 'as arranged'));
  t.equal(await codeOf(rig.agent.runner.cleanReboot(vm, 1000)), 'HOST_LIMIT');
  t.deepEqual([vm.power, vm.wanted, (await rig.sim.list()).length], ['Halted', 'halted', 0]);
  await rig.close();
});

test('200 create/destroy cycles leave the agent as it was', async (t) => {
  const rig = await makeRig();
  const before = await rig.sim.facts();
  for (let i = 0; i < 200; i++) {
    await running(rig);
    await rig.agent.bulk.destroy('all', never);
  }
  t.deepEqual(await rig.sim.facts(), before);
  t.deepEqual([rig.agent.fleet.size, rig.agent.runner.lanes.busy, rig.agent.fleet.imageInUse(image)], [0, 0, 0]);
  t.ok(
    (await import('node:fs')).statSync(`${rig.stateDir}/agent.journal`).size < 300_000,
    'the journal does not grow without end',
  );
  await rig.close();
});
