/** The pool of shells over the simulator: demand, refilling, giving way, races, kills. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import type { LaunchSpec } from '../../../src/host/bulk.ts';
import { codeOf, image, makeRig, until, type Rig } from './rig.ts';

const never = new AbortController().signal;
const spec = (name: string, more: Partial<LaunchSpec> = {}): LaunchSpec => ({ name, image, memoryKib: 4096, ...more });
const ready = (rig: Rig): number => rig.agent.runner.starter.shells.list().reduce((sum, kind) => sum + kind.ready, 0);
/** Shells are made by a timer that keeps no process alive. */
const awake = async <T>(work: Promise<T>): Promise<T> => {
  const timer = setInterval(() => {}, 50);
  try {
    return await work;
  } finally {
    clearInterval(timer);
  }
};
const domains = async (rig: Rig): Promise<number> => (await rig.sim.list()).length;

test('a start asks for shells, and the next ones take them', async (t) => {
  const rig = await makeRig({}, { shells: 8 });
  const first = await rig.agent.bulk.launch(spec('a'), never);
  t.deepEqual(Object.keys(first.vms[0]!.steps), ['create', 'build', 'register', 'attachVif', 'seal', 'unpause'], 'the first is built for itself');
  await awake(until(() => ready(rig) === 2, 'two shells are ready'));
  t.equal(await domains(rig), 3);
  const second = await rig.agent.bulk.launch(spec('b'), never);
  t.deepEqual(Object.keys(second.vms[0]!.steps), ['register', 'attachVif', 'seal', 'unpause'], 'the second finds a shell');
  const facts = (await rig.sim.list()).find(({ uuid }) => uuid === second.vms[0]!.uuid);
  t.deepEqual([facts?.state, facts?.sealed], ['running', true], 'which has its identity now');
  t.match(rig.sim.cmdline(facts!.domid), /^name=b /, 'and its command line');
  await rig.close();
});

test('shells are of one shape: another size, or another image, finds none', async (t) => {
  const rig = await makeRig({}, { shells: 8 });
  await rig.agent.bulk.launch(spec('a'), never);
  await awake(until(() => ready(rig) === 2, 'two shells are ready'));
  const other = await rig.agent.bulk.launch(spec('b', { memoryKib: 8192 }), never);
  t.ok('create' in other.vms[0]!.steps);
  t.equal((await rig.sim.list()).find(({ uuid }) => uuid === other.vms[0]!.uuid)?.memoryKib, 8192);
  await rig.close();
});

test('two starts race for the last shell: one gets it, the other is built', async (t) => {
  const rig = await makeRig({ delaysMs: { register: 5 } }, { shells: 1, launches: 2 });
  await rig.agent.bulk.launch(spec('a'), never);
  await awake(until(() => ready(rig) === 1, 'the one shell is ready'));
  const both = await Promise.all([rig.agent.bulk.launch(spec('b'), never), rig.agent.bulk.launch(spec('c'), never)]);
  const built = both.map(({ vms }) => 'create' in vms[0]!.steps);
  t.deepEqual(built.sort(), [false, true]);
  t.notEqual(both[0]!.vms[0]!.domid, both[1]!.vms[0]!.domid);
  await rig.close();
});

test('no more shells than allowed, and they go when nobody starts that shape any more', async (t) => {
  const rig = await makeRig({}, { shells: 3 });
  const vm = (await rig.agent.bulk.launch(spec('a'), never)).vms[0]!;
  t.equal(await rig.agent.runner.starter.prepare(rig.agent.fleet.need(vm.uuid), 10), 3);
  t.equal(await domains(rig), 4);
  await rig.agent.runner.starter.shells.drain();
  t.equal(await domains(rig), 1, 'drained');
  await rig.close();
  t.equal(await domains(rig), 1, 'and none is left when the agent ends');
});

test('a shape is given as many shells as it had starts lately, and none once it had none for two windows', async (t) => {
  const rig = await makeRig({}, { shells: 32, shellWindowMs: 300 });
  await rig.agent.bulk.launch({ prefix: 'a', count: 5, image, memoryKib: 4096 }, never);
  await awake(until(() => ready(rig) === 5, 'as many as were started'));
  await awake(until(() => ready(rig) === 0, 'nobody starts that shape any more'));
  await awake(until(() => rig.sim.trail.filter((line) => line.startsWith('destroy')).length === 5, 'the shells are gone'));
  t.equal(await domains(rig), 5, 'the VMs are not');
  await rig.close();
});

test('shells give way to real VMs when memory runs out', async (t) => {
  const each = 4096 + 72;
  const rig = await makeRig({ totalKib: 1024 * 1024 + 8192 + 10 * each, dom0Kib: 1024 * 1024 }, { shells: 6 });
  const vm = (await rig.agent.bulk.launch(spec('a'), never)).vms[0]!;
  t.equal(await rig.agent.runner.starter.prepare(rig.agent.fleet.need(vm.uuid), 6), 6);
  // 1 VM and 6 shells: 3 places are free. 8192 KiB finds no shell of its shape, and memory for one.
  const { vms, error } = await rig.agent.bulk.launch({ prefix: 'big', count: 4, image, memoryKib: 8192 }, never);
  t.equal(error, undefined, 'four of double the size start');
  t.equal(vms.length, 4);
  t.ok(ready(rig) < 6, 'because shells gave way');
  t.equal(await codeOf(rig.agent.bulk.launch(spec('more', { memoryKib: 32768 }), never)), 'HOST_NOT_ENOUGH_FREE_MEMORY', 'what fits not even so is refused');
  await rig.close();
});

test('a shell that is no good is thrown away, and the VM starts all the same', async (t) => {
  const rig = await makeRig({}, { shells: 4 });
  await rig.agent.bulk.launch(spec('a'), never);
  await awake(until(() => ready(rig) === 2, 'two shells are ready'));
  rig.sim.failStep('register', new ShoalError('SWITCH_REFUSED', 'as arranged'));
  const { vms } = await rig.agent.bulk.launch(spec('b'), never);
  t.ok('create' in vms[0]!.steps, 'it was built anew');
  await awake(until(() => ready(rig) === 2, 'the pool is full again'));
  t.equal(await domains(rig), 4, 'two VMs, two shells, and nothing of the bad one');
  await rig.close();
});

test('shells that cannot be made are not tried for ever, and nothing is left of them', async (t) => {
  const rig = await makeRig({}, { shells: 4 });
  rig.sim.failStep('build', new ShoalError('HYPERCALL_FAILED', 'as arranged'), { skip: 1, times: 100 });
  await rig.agent.bulk.launch(spec('a'), never);
  await awake(new Promise((resolve) => setTimeout(resolve, 200)));
  t.equal(rig.sim.trail.filter((line) => line.startsWith('build')).length, 2, 'one for the VM, one try');
  t.equal(await domains(rig), 1);
  await rig.close();
});

test('an agent that is killed while it refills leaves no shell', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 10 } }, { shells: 8 });
  const vm = (await rig.agent.bulk.launch(spec('a'), never)).vms[0]!;
  void rig.agent.runner.starter.prepare(rig.agent.fleet.need(vm.uuid), 8).catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 35));
  t.ok((await domains(rig)) > 1, 'some shells are there, one half built');
  const dead = rig.agent;
  rig.sim.failStep('create', new Error('the old agent is dead'), { times: 1000 });
  await new Promise((resolve) => setTimeout(resolve, 25));
  await rig.crash({ shells: 0 });
  t.deepEqual((await rig.sim.list()).map(({ uuid }) => uuid), [vm.uuid], 'only the VM is left');
  void dead;
  await rig.close();
});

test('a guest that reboots by itself comes back in a fresh domain, unless it does so at once', async (t) => {
  let now = 1_000_000;
  const rig = await makeRig({}, { now: () => now });
  const { uuid, domid } = (await rig.agent.bulk.launch(spec('a'), never)).vms[0]!;
  const vm = rig.agent.fleet.need(uuid);
  now += 60_000;
  rig.sim.reboot(domid);
  await until(() => vm.domid !== domid && vm.power === 'Running', 'it runs again');
  t.equal(await domains(rig), 1);
  now += 100;
  rig.sim.reboot(vm.domid!);
  await until(() => vm.power === 'Halted', 'it is halted');
  t.equal(await domains(rig), 0);
  await rig.close();
});
