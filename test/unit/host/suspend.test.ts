/** Suspended, checkpointed and saved VMs over the simulator: what they keep, what a kill leaves, what a file that was changed brings about. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import type { Vm } from '../../../src/host/vm.ts';
import { chunks, codeOf, image, makeRig, until, type Rig } from './rig.ts';

const never = new AbortController().signal;

async function one(rig: Rig, name = 'a'): Promise<Vm> {
  const { uuid, domid } = (await rig.agent.bulk.launch({ name, image, memoryKib: 4096, args: 'x=1' }, never)).vms[0]!;
  rig.sim.writePage(domid, 7, 'remember');
  rig.sim.writePage(domid, 1000, 'me');
  return rig.agent.fleet.need(uuid);
}

const files = (rig: Rig): string[] => readdirSync(join(rig.stateDir, 'suspended'));

async function bytesOf(rig: Rig, vm: Vm): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of (await rig.agent.suspender.save(vm)).chunks) parts.push(part);
  return Buffer.concat(parts);
}

test('a suspended VM takes no domain, and goes on with its memory, name and address', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  const { domid: before } = vm;
  const cmdline = rig.sim.cmdline(before!);
  await rig.agent.suspender.suspend(vm);
  t.deepEqual([vm.power, vm.wanted, vm.domid, (await rig.sim.list()).length], ['Suspended', 'suspended', undefined, 0]);
  t.deepEqual(files(rig), [`${vm.uuid}.svm`]);
  t.equal(await codeOf(rig.agent.suspender.suspend(vm)), 'VM_BAD_POWER_STATE');
  t.equal(await codeOf(rig.agent.runner.start(vm, false)), 'VM_BAD_POWER_STATE');
  await rig.agent.suspender.resume(vm, false);
  t.deepEqual([vm.power, vm.wanted], ['Running', 'running']);
  t.deepEqual([rig.sim.page(vm.domid!, 7), rig.sim.page(vm.domid!, 1000), rig.sim.cmdline(vm.domid!)], ['remember', 'me', cmdline]);
  await until(() => files(rig).length === 0, 'the file is gone');
  await rig.close();
});

test('a checkpoint that is called off leaves no file, and the VM runs', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  const stop = new AbortController();
  const suspend = rig.sim.suspend.bind(rig.sim);
  rig.sim.suspend = async (domid) => {
    await suspend(domid);
    stop.abort();
  };
  t.equal(await codeOf(rig.agent.suspender.checkpoint(vm, 'then', stop.signal)), 'TASK_CANCELLED');
  t.deepEqual([files(rig), rig.agent.fleet.size, vm.power, (await rig.sim.get(vm.domid!))?.state], [[], 1, 'Running', 'running']);
  await rig.close();
});

test('a suspended VM is still that after the agent was killed, and its file goes with it', async (t) => {
  const rig = await makeRig();
  const { uuid } = await one(rig);
  await rig.agent.suspender.suspend(rig.agent.fleet.need(uuid));
  writeFileSync(join(rig.stateDir, 'suspended', 'saving-1'), 'left behind');
  await rig.crash();
  const vm = rig.agent.fleet.need(uuid);
  t.deepEqual([vm.power, files(rig)], ['Suspended', [`${uuid}.svm`]]);
  await rig.agent.suspender.resume(vm, true);
  t.equal(vm.power, 'Paused');
  t.equal(rig.sim.page(vm.domid!, 7), 'remember');
  await rig.agent.runner.hardShutdown(vm);
  await rig.agent.runner.start(vm, false);
  await rig.agent.suspender.suspend(vm);
  await rig.agent.runner.destroy(vm, true);
  await until(() => files(rig).length === 0, 'nothing is left');
  await rig.close();
});

test('killed at each step of a suspension and of a resumption: the domain or the file, never none', async (t) => {
  for (const [moment, wantedPower] of [['readMemory', 'Running'], ['destroy', 'Suspended']] as const) {
    const rig = await makeRig();
    const { uuid } = await one(rig);
    const stopped = new Promise<void>((reached) => {
      // The agent stands still there for good, as one that was killed.
      if (moment === 'destroy') rig.sim.delaysMs.destroy = 300;
      const look = setInterval(() => {
        if (!rig.sim.trail.some((line) => line.startsWith('suspend '))) return;
        if (moment === 'destroy' && rig.agent.fleet.need(uuid).power !== 'Suspended') return;
        clearInterval(look);
        reached();
      }, 1);
    });
    if (moment === 'readMemory') {
      // While it runs, and when it stands still.
      rig.sim.failStep('readMemory', new ShoalError('HYPERCALL_FAILED', 'as arranged'), { times: 2 });
      rig.sim.failStep('resume', new ShoalError('HYPERCALL_FAILED', 'as arranged'));
    }
    void rig.agent.suspender.suspend(rig.agent.fleet.need(uuid)).catch(() => {});
    await stopped;
    if (moment === 'readMemory') await rig.agent.runner.lanes.idle();
    delete rig.sim.delaysMs.destroy;
    await rig.crash();
    await until(() => rig.agent.fleet.need(uuid).power === wantedPower, `${moment}: ${wantedPower}`);
    t.equal((await rig.sim.list()).length, wantedPower === 'Running' ? 1 : 0, `${moment}: one of both`);
    t.equal(files(rig).length, wantedPower === 'Running' ? 0 : 1);
    await rig.close();
  }
});

test('a resumption that fails leaves it suspended', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  await rig.agent.suspender.suspend(vm);
  for (const step of ['create', 'writeMemory', 'writeEnd', 'register', 'seal', 'unpause'] as const) {
    rig.sim.failStep(step, new ShoalError('HYPERCALL_FAILED', 'as arranged'));
    t.equal(await codeOf(rig.agent.suspender.resume(vm, false)), 'HYPERCALL_FAILED', step);
    t.deepEqual([vm.power, vm.wanted, vm.domid, (await rig.sim.list()).length], ['Suspended', 'suspended', undefined, 0], step);
  }
  await rig.agent.suspender.resume(vm, false);
  t.equal(rig.sim.page(vm.domid!, 7), 'remember');
  await rig.close();
});

test('a checkpoint is a VM of its own, and its original goes on', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  const made = await rig.agent.suspender.checkpoint(vm, 'b');
  t.deepEqual([vm.power, made.power], ['Running', 'Suspended']);
  t.equal((await rig.sim.get(vm.domid!))?.state, 'running');
  t.notEqual(made.vifs[0]!.ipv4[0], vm.vifs[0]!.ipv4[0]);
  rig.sim.writePage(vm.domid!, 7, 'changed since');
  await rig.agent.suspender.resume(made, false);
  t.equal(rig.sim.page(made.domid!, 7), 'remember');
  t.match(rig.sim.cmdline(made.domid!), /^name=b /);
  t.equal(await codeOf(rig.agent.suspender.checkpoint(vm, 'b')), 'NAME_IN_USE');
  t.equal((await rig.sim.get(vm.domid!))?.state, 'running', 'as it was');
  await rig.close();
});

test('saved and restored: the same VM elsewhere, another one beside it', async (t) => {
  const rig = await makeRig();
  const there = await makeRig();
  const vm = await one(rig);
  const bytes = await bytesOf(rig, vm);
  t.equal(vm.power, 'Running', 'it runs on');
  const { vm: restored } = await there.agent.suspender.restore(chunks(bytes), {});
  t.deepEqual([restored.uuid, restored.name, restored.args, restored.vifs], [vm.uuid, vm.name, vm.args, vm.vifs]);
  t.equal(there.sim.page(restored.domid!, 1000), 'me');
  t.equal(await codeOf(rig.agent.suspender.restore(chunks(bytes), {})), 'NAME_IN_USE');
  const { vm: copy } = await rig.agent.suspender.restore(chunks(bytes), { name: 'c' });
  t.notEqual(copy.uuid, vm.uuid);
  t.notEqual(copy.vifs[0]!.ipv4[0], vm.vifs[0]!.ipv4[0]);
  t.deepEqual(files(rig), []);
  await rig.close();
  await there.close();
});

test('a file that was cut or changed anywhere is refused, and nothing is left of it', async (t) => {
  const rig = await makeRig();
  const there = await makeRig();
  const bytes = await bytesOf(rig, await one(rig));
  const clean = (await there.sim.facts()).freeKib;
  let tried = 0;
  for (let at = 0; at < bytes.length; at += Math.max(1, Math.floor(bytes.length / 200))) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 0x10;
    // In a name or a number of the record a change may make another valid one: the digest tells.
    const code = await codeOf(there.agent.suspender.restore(chunks(changed), {}));
    if (code === 'none' || code === 'INTERNAL_ERROR') t.fail(`byte ${at} changed: ${code}`);
    const cut = await codeOf(there.agent.suspender.restore(chunks(bytes.subarray(0, at)), {}));
    if (cut !== 'SAVED_VM_INVALID') t.fail(`cut at ${at}: ${cut}`);
    tried += 2;
  }
  t.equal(await codeOf(there.agent.suspender.restore(chunks(Buffer.concat([bytes, Buffer.from('x')])), {})), 'SAVED_VM_INVALID', 'something behind it');
  t.deepEqual([(await there.sim.list()).length, there.agent.fleet.size, (await there.sim.facts()).freeKib], [0, 0, clean], `${tried} times nothing is left`);
  t.equal(await codeOf(there.agent.suspender.restore(chunks(bytes), {})), 'none', 'the unchanged one is good');
  await rig.close();
  await there.close();
});

test('what the host lacks is said before anything is taken', async (t) => {
  const rig = await makeRig({ cpuFeatures: new Uint8Array([7, 1]) });
  const bytes = await bytesOf(rig, await one(rig));
  const weak = await makeRig({ cpuFeatures: new Uint8Array([5, 3]) });
  t.equal(await codeOf(weak.agent.suspender.restore(chunks(bytes), {})), 'MIGRATION_REFUSED', 'a processor with less');
  await weak.close();
  const small = await makeRig({ totalKib: 1024 * 1024 + 2048, cpuFeatures: new Uint8Array([7, 1]) });
  t.equal(await codeOf(small.agent.suspender.restore(chunks(bytes), {})), 'HOST_NOT_ENOUGH_FREE_MEMORY');
  t.equal(small.agent.fleet.size, 0);
  await small.close();
  const empty = await makeRig({ cpuFeatures: new Uint8Array([7, 1]) });
  await empty.agent.images.remove(image);
  t.equal(await codeOf(empty.agent.suspender.restore(chunks(bytes), {})), 'IMAGE_UNKNOWN');
  await empty.close();
  await rig.close();
});

test('the file on disk is checked as any other', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  await rig.agent.suspender.suspend(vm);
  const path = join(rig.stateDir, 'suspended', `${vm.uuid}.svm`);
  const bytes = readFileSync(path);
  bytes[bytes.length - 60]! ^= 1;
  writeFileSync(path, bytes);
  t.equal(await codeOf(rig.agent.suspender.resume(vm, false)), 'SAVED_VM_INVALID');
  t.deepEqual([vm.power, (await rig.sim.list()).length], ['Suspended', 0]);
  await rig.close();
});

test('a VM with disks stays where they are', async (t) => {
  const rig = await makeRig();
  const vm = await one(rig);
  vm.vbds = [{ index: 0 } as never];
  t.equal(await codeOf(rig.agent.suspender.suspend(vm)), 'VALUE_NOT_SUPPORTED');
  t.equal(await codeOf(rig.agent.suspender.save(vm)), 'VALUE_NOT_SUPPORTED');
  t.equal((await rig.sim.get(vm.domid!))?.state, 'running', 'and runs on');
  vm.vbds = [];
  await rig.close();
});
