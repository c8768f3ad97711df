/** What else happens to a VM, or to one of its hosts, just while it migrates: whatever it is, one runs in the end, or none where its end was asked for. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { never, World } from './migration-rig.ts';
import { codeOf, image, until } from './rig.ts';

const moments = ['source reserve', 'source reserve:done', 'source copy', 'source suspend', 'source ship', 'target filled', 'source verify', 'source commit', 'target commit', 'target committed', 'source release'];

/** Does `work` once the migration is there, without waiting for its end. */
function at(world: World, moment: string, work: () => Promise<unknown>): Promise<string> {
  return new Promise((resolve) => {
    world.hook = async (now) => {
      if (now !== moment) return;
      world.hook = () => {};
      resolve(codeOf(work()));
      // It has begun, and what it has called off has heard of it.
      await new Promise((turn) => setTimeout(turn, 5));
    };
  });
}

test('a copy of a service is not migrated past its controller: it runs on, and says why', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  vm.otherConfig = { shoal_copy: 'of a service' };
  const ticket = world.ticket();
  t.equal(await codeOf(world.source.agent.departures.send(vm, ticket, {})), 'MIGRATION_REFUSED');
  t.deepEqual([vm.power, vm.leaving], ['Running', undefined]);
  vm.otherConfig = {};
  t.equal(await codeOf(world.source.agent.departures.send(vm, ticket, {})), 'none', 'the order was not used up');
  await world.settled(vm.uuid, 'moved');
  await world.close();
});

test('a target whose processors have less: it runs on where it was', async (t) => {
  const world = await new World().open({ cpuFeatures: new Uint8Array([5, 0]) }, {}, undefined, { cpuFeatures: new Uint8Array([7, 0]) });
  const vm = await world.launch();
  t.equal(await codeOf(world.send(vm)), 'MIGRATION_REFUSED');
  await world.settled(vm.uuid, 'refused');
  t.deepEqual([vm.power, world.target.agent.fleet.size], ['Running', 0]);
  await world.close();
});

test('a way that is cut at each tenth, and stays so: it runs on where it was, nothing is left there', async (t) => {
  const probe = await new World().open();
  let bytes = 0;
  probe.hook = (moment) => void (moment === 'source commit' && (bytes = probe.way.passed));
  await probe.send(await probe.launch());
  await probe.close();
  // Each waits some seconds until its source gives up: all at once.
  await Promise.all(
    Array.from({ length: 10 }, async (_, i) => {
      const tenth = `${i + 0.5} tenths`;
      const world = await new World().open();
      const vm = await world.launch();
      world.way.cutAfter = (bytes * (i + 0.5)) / 10;
      world.way.staysCut = true;
      t.equal(await codeOf(world.send(vm)), 'MIGRATION_FAILED', tenth);
      await world.settled(vm.uuid, tenth);
      await until(() => world.target.agent.arrivals.count === 0, 'the target gave up');
      t.deepEqual([vm.power, (await world.target.sim.list()).length, world.target.agent.fleet.size], ['Running', 0, 0], tenth);
      await world.close();
    }),
  );
});

test('ended for good while it migrates: it is nowhere, or it had gone already and the answer says so', async (t) => {
  for (const moment of moments) {
    const world = await new World().open();
    const vm = await world.launch();
    const ending = at(world, moment, () => world.source.agent.runner.destroy(vm, true));
    const sent = codeOf(world.send(vm));
    const [migrated, ended] = await Promise.all([sent, ending]);
    const here = (await world.source.sim.list()).length;
    await until(() => world.target.agent.arrivals.count === 0, 'the target is done');
    const there = (await world.target.sim.list()).length;
    t.equal(here, 0, `${moment}: nothing is left where it was`);
    if (ended === 'none') t.equal(there, migrated === 'none' ? 1 : 0, `${moment}: ended; the migration says ${migrated}`);
    else {
      t.equal(ended, 'MIGRATION_IN_DOUBT', `${moment}: refused`);
      t.deepEqual([migrated, there], ['none', 1], `${moment}: and it is there`);
    }
    await world.close();
  }
});

test('replaced by a fresh start while it migrates: one runs, here or there', async (t) => {
  for (const moment of moments) {
    const world = await new World().open();
    const vm = await world.launch();
    const rebooted = at(world, moment, () => world.source.agent.runner.hardReboot(vm));
    const [migrated, code] = await Promise.all([codeOf(world.send(vm)), rebooted]);
    await world.settled(vm.uuid, moment);
    t.ok(migrated === 'none' || code === 'none', `${moment}: migration ${migrated}, reboot ${code}: one of both was done`);
    t.notEqual(code, 'INTERNAL_ERROR', `${moment}: refused with a reason, if at all`);
    await world.close();
  }
});

test('its address is moved to another VM while it migrates: nobody has it twice', async (t) => {
  for (const moment of moments) {
    const world = await new World().open();
    const vm = await world.launch();
    const other = await world.launch('b');
    const ip = vm.vifs[0]!.ipv4[0]!;
    const moved = at(world, moment, async () => {
      const [failed] = await world.source.agent.addresses.move([{ from: vm.uuid, to: other.uuid, ip, drainMs: 0 }]);
      if (failed !== undefined) throw failed.error;
    });
    const [migrated, code] = await Promise.all([codeOf(world.send(vm)), moved]);
    const holders = [world.source, world.target].flatMap(({ agent }) => agent.fleet.withAddress('default', ip)?.name ?? []);
    t.equal(holders.length, 1, `${moment}: the migration says ${migrated}, the move ${code}: it is ${holders.join(' and ')}'s`);
    t.equal(holders[0], code === 'none' ? 'b' : 'a', `${moment}: as the move said`);
    await world.close();
  }
});

test('nor does another VM at the target get it while it arrives', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const { uuid } = (await world.target.agent.bulk.launch({ name: 'b', image, memoryKib: 1024, ip: '10.64.9.9' }, never)).vms[0]!;
  const ip = vm.vifs[0]!.ipv4[0]!;
  const moved = at(world, 'target filled', async () => {
    const [failed] = await world.target.agent.addresses.move([{ from: vm.uuid, to: uuid, ip, drainMs: 0 }]);
    if (failed !== undefined) throw failed.error;
  });
  t.equal(await codeOf(world.send(vm)), 'none');
  t.equal(await moved, 'OTHER_OPERATION_IN_PROGRESS');
  t.equal(world.target.agent.fleet.withAddress('default', ip)?.uuid, vm.uuid);
  await world.close();
});

test('its name is taken at the target from the first moment on, and free again when it did not come', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const launch = (): Promise<unknown> => world.target.agent.bulk.launch({ name: 'a', image, memoryKib: 1024 }, never);
  const taken = at(world, 'source copy', launch);
  world.target.sim.failStep('writeEnd', new ShoalError('SAVED_VM_INVALID', 'as arranged'));
  t.equal(await codeOf(world.send(vm)), 'SAVED_VM_INVALID');
  t.equal(await taken, 'NAME_IN_USE', 'held');
  await until(() => world.target.agent.arrivals.count === 0, 'ended there');
  t.equal(await codeOf(launch()), 'none', 'free');
  await world.close();
});

test('clocks that are hours apart: a guest that reboots by itself after it moved comes back', async (t) => {
  for (const hours of [-5, 5]) {
    const now = (): number => Date.now() + hours * 3_600_000;
    const world = await new World().open({}, { now });
    const vm = await world.launch();
    vm.startedMs = Date.now() - 60_000;
    t.equal(await codeOf(world.send(vm)), 'none', `${hours} hours: it moves`);
    await world.settled(vm.uuid, 'moved');
    const there = world.target.agent.fleet.need(vm.uuid);
    const before = there.domid!;
    world.target.sim.reboot(before);
    await until(() => there.domid !== undefined && there.domid !== before && there.power === 'Running', 'a fresh domain runs');
    await world.close();
  }
});

test('the order is good for ten minutes of the clock of the target, whatever the source\'s says', async (t) => {
  let nowMs = Date.now() - 7 * 3_600_000;
  const world = await new World().open({}, { now: () => nowMs });
  const vm = await world.launch();
  t.equal(await codeOf(world.send(vm)), 'none');
  const late = await world.launch('b');
  const ticket = world.ticket();
  nowMs += 601_000;
  t.equal(await codeOf(world.source.agent.departures.send(late, ticket, {})), 'MIGRATION_REFUSED');
  await world.close();
});

test('the disk of the source is full: it stays, or it is gone, and does not stop for ever', async (t) => {
  for (const [state, lands, says] of [['reserve', 'here', 'HOST_LIMIT'], ['undo', 'here', 'SAVED_VM_INVALID'], ['release', 'there', 'none']] as const) {
    const world = await new World().open();
    const vm = await world.launch();
    const { journal } = world.source.agent.fleet;
    const append = journal!.append.bind(journal);
    let full = state === 'reserve';
    journal!.append = (entry) => (full ? Promise.reject(new ShoalError('HOST_LIMIT', 'full')) : append(entry));
    world.hook = (now) => void (now === `source ${state === 'undo' ? 'ship' : 'commit:committed'}` && (full = true));
    if (state === 'undo') world.target.sim.failStep('writeEnd', new ShoalError('SAVED_VM_INVALID', 'as arranged'));
    t.equal(await codeOf(world.send(vm)), says, `${state}: why it is so`);
    const { running } = await world.count(vm.uuid);
    t.equal(running, 1, `${state}: one runs while the disk is full`);
    t.equal((await world.source.sim.list()).length, lands === 'here' ? 1 : 0, `${state}: ${lands}`);
    full = false;
    await world.killSource();
    await world.settled(vm.uuid, `${state}: with room again, after a restart`);
    await world.close();
  }
});
