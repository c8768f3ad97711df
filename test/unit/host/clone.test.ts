/** Copies of running VMs over the simulator: identity, failure, an agent that dies in between. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { codeOf, image, makeRig, until } from './rig.ts';

const never = new AbortController().signal;

test('copies have the shape and words of the original, and a name and an address of their own', async (t) => {
  const rig = await makeRig();
  const original = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096, args: 'warm=1' }, never)).vms[0]!;
  rig.sim.print(original.domid, 'warmed up\n');
  const { vms, error } = await rig.agent.bulk.launch({ prefix: 'copy', count: 3, clone: original.uuid }, never);
  t.equal(error, undefined);
  t.deepEqual(vms.map(({ name }) => name), ['copy-1', 'copy-2', 'copy-3']);
  t.equal(new Set([original, ...vms].map(({ ip }) => ip)).size, 4, 'four addresses');
  for (const { uuid, domid, name } of vms) {
    const vm = rig.agent.fleet.need(uuid);
    t.deepEqual([vm.image, vm.memoryKib, vm.args, vm.power], [image, 4096, 'warm=1', 'Running']);
    t.match(rig.sim.cmdline(domid), new RegExp(`^name=${name} .*warm=1$`), 'its own command line');
    t.match(Buffer.from((await rig.sim.readConsole(domid, 0)).text).toString(), /warmed up/, 'it is a copy, not a start');
  }
  t.equal(rig.sim.trail.filter((line) => line.startsWith('snapshot')).length, 1, 'one look at the original for all of them');
  await rig.close();
});

test('many of one launch have the addresses they are given, and one that is taken ends it', async (t) => {
  const rig = await makeRig();
  const ips = ['10.64.1.9', '10.64.1.7', '10.64.1.8'];
  const { vms } = await rig.agent.bulk.launch({ prefix: 'a', count: 3, image, memoryKib: 4096, ips }, never);
  t.deepEqual(vms.map(({ name, ip }) => [name, ip]).sort(), [['a-1', ips[0]], ['a-2', ips[1]], ['a-3', ips[2]]]);
  const again = await rig.agent.bulk.launch({ prefix: 'b', count: 2, clone: vms[0]!.uuid, ips: ['10.64.1.10', '10.64.1.7'] }, never);
  t.deepEqual([again.vms.map(({ ip }) => ip), again.error?.code], [['10.64.1.10'], 'LAUNCH_INCOMPLETE']);
  await rig.close();
});

test('a copy never takes a shell: that has memory of its own', async (t) => {
  const rig = await makeRig({}, { shells: 4 });
  const { uuid, domid } = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never)).vms[0]!;
  t.equal(await rig.agent.runner.starter.prepare(rig.agent.fleet.need(uuid), 2), 2);
  rig.sim.print(domid, 'warmed up\n');
  const { vms } = await rig.agent.bulk.launch({ name: 'copy', clone: uuid }, never);
  t.ok('build' in vms[0]!.steps, 'it was built');
  t.match(Buffer.from((await rig.sim.readConsole(vms[0]!.domid, 0)).text).toString(), /warmed up/, 'from the snapshot');
  await rig.close();
});

test('only a running VM can be copied, and one at a time is done to it', async (t) => {
  const rig = await makeRig({ delaysMs: { snapshot: 20 } });
  const { uuid } = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never)).vms[0]!;
  const first = codeOf(rig.agent.bulk.launch({ name: 'b', clone: uuid }, never));
  t.equal(await codeOf(rig.agent.runner.pause(rig.agent.fleet.need(uuid))), 'OTHER_OPERATION_IN_PROGRESS');
  t.equal(await first, 'none');
  await rig.agent.runner.pause(rig.agent.fleet.need(uuid));
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'c', clone: uuid }, never)), 'VM_BAD_POWER_STATE');
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'c', clone: uuid.replace(/.$/, (x) => (x === '0' ? '1' : '0')) }, never)), 'UUID_INVALID');
  t.deepEqual(rig.agent.fleet.named('c'), undefined, 'nothing is left of what was refused');
  await rig.close();
});

test('a copy that fails is taken away again, and the original is as it was', async (t) => {
  const rig = await makeRig();
  const { uuid, domid } = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never)).vms[0]!;
  rig.sim.failStep('seal', new ShoalError('XENSTORE_FAILED', 'as arranged'), { skip: 1 });
  const { vms, error } = await rig.agent.bulk.launch({ prefix: 'b', count: 3, clone: uuid, concurrency: 1 }, never);
  t.deepEqual([vms.length, error?.code], [1, 'LAUNCH_INCOMPLETE']);
  t.equal((await rig.sim.list()).length, 2);
  t.equal((await rig.sim.get(domid))?.state, 'running');
  rig.sim.failStep('snapshot', new ShoalError('TIMEOUT', 'as arranged'));
  t.equal(await codeOf(rig.agent.bulk.launch({ name: 'd', clone: uuid }, never)), 'TIMEOUT');
  await rig.close();
});

test('an agent that dies while the original is suspended: the next one lets it go on', async (t) => {
  const rig = await makeRig();
  const { uuid, domid } = (await rig.agent.bulk.launch({ name: 'a', image, memoryKib: 4096 }, never)).vms[0]!;
  rig.agent.runner.close();
  rig.sim.suspend(domid);
  await rig.crash();
  await until(() => rig.agent.fleet.need(uuid).power === 'Running', 'it runs');
  t.equal((await rig.sim.get(domid))?.state, 'running', 'in the same domain');
  t.ok(rig.sim.trail.includes(`resume ${domid}`));
  await rig.close();
});
