/**
 * Migrations between two agents over TLS, each over a simulator of its own, by a way that can be cut: what arrives, what is refused, and that whoever is
 * killed at whichever moment, exactly one of both runs the VM in the end.
 */
import test from 'tape';
import type { Ticket } from '../../../src/host/departure-link.ts';
import type { Hypervisor, MemoryWriter } from '../../../src/hypervisor/port.ts';
import type { SimOptions } from '../../../src/hypervisor/sim/sim.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { elsewhere, fingerprint, never, shared, World } from './migration-rig.ts';
import { codeOf, image, until } from './rig.ts';

test('a VM moves with its memory, name, uuid and address, and is gone where it was', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const [ip] = vm.vifs[0]!.ipv4;
  const { addresses, downtimeMs, totalMs, passes, connections } = await world.send(vm);
  t.deepEqual([addresses, passes, connections], [[ip], 2, 1], 'in the same subnet the address goes along');
  t.ok(downtimeMs > 0 && downtimeMs <= totalMs);
  const there = world.target.agent.fleet.need(vm.uuid);
  t.deepEqual([there.name, there.power, there.wanted, there.vifs], ['a', 'Running', 'running', vm.vifs.length === 0 ? there.vifs : vm.vifs]);
  t.equal(world.target.sim.page(there.domid!, 3 * 39), 'page 39 of a'.padEnd(4096));
  t.equal(world.source.agent.fleet.size, 0);
  await world.settled(vm.uuid, 'moved');
  await until(() => world.target.agent.arrivals.committed.size === 0, 'nothing is remembered of it');
  await world.killTarget();
  t.equal(world.target.agent.fleet.need(vm.uuid).power, 'Running', 'and it is the next agent\'s');
  await world.close();
});

/** Hypervisors whose calls go through `call` first, told which of both it is. */
const watching = (call: (host: 'source' | 'target', name: string) => Promise<void> | undefined) => {
  let hosts = 0;
  return (sim: Hypervisor): Hypervisor => {
    const host = hosts++ === 0 ? 'source' : 'target';
    return new Proxy(sim, {
      get: (_, name) => {
        const value: unknown = Reflect.get(sim, name);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          const before = call(host, String(name));
          const work = (): unknown => Reflect.apply(value, sim, args);
          return before === undefined ? work() : before.then(work);
        };
      },
    });
  };
};

test('the source hears that its memory is there before the target has named, connected and sealed the domain', async (t) => {
  let heard = (): void => {};
  const filled = new Promise<void>((resolve) => (heard = resolve));
  const order: string[] = [];
  const world = await new World().open({}, {}, watching((host, name) => {
    if (host !== 'target') return undefined;
    if (['sealEarly', 'register', 'seal'].includes(name)) order.push(name);
    return name === 'register' ? filled : undefined;
  }));
  const vm = await world.launch();
  world.hook = (moment) => {
    if (moment !== 'source verify:done') return;
    order.push('heard');
    heard();
  };
  await world.send(vm);
  t.deepEqual(order.slice(0, 4), ['sealEarly', 'register', 'heard', 'seal'], 'a launch that waits for that goes on');
  await world.settled(vm.uuid, 'moved');
  await world.close();
});

test('frames for it wait at the target before it stands still', async (t) => {
  const order: string[] = [];
  const world = await new World().open({}, {}, watching((host, name) => {
    if (host === 'target' && name === 'holdAddress') order.push('wait');
    if (host !== 'source' || name !== 'suspend') return undefined;
    return until(() => order.length > 0, 'they wait', 2_000).catch(() => {}).then(() => void order.push('stands still'));
  }));
  const vm = await world.launch();
  await world.send(vm);
  t.deepEqual(order, ['wait', 'stands still']);
  await world.settled(vm.uuid, 'moved');
  await world.close();
});

test('live: what changes while it is copied arrives as it was last', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const domid = vm.domid!;
  let told = 0;
  world.hook = (moment) => {
    if (moment !== 'source suspend') return;
    told++;
    world.source.sim.writePage(domid, 6, 'written at the last moment');
  };
  const { passes } = await world.send(vm, { live: true });
  t.equal(told, 1);
  t.ok(passes >= 2, `${passes} passes`);
  const there = world.target.agent.fleet.need(vm.uuid);
  t.deepEqual([world.target.sim.page(there.domid!, 6), world.target.sim.page(there.domid!, 9)], ['written at the last moment', 'page 3 of a'.padEnd(4096)]);
  await world.settled(vm.uuid, 'moved');
  await world.close();
});

test('what was sent ahead is laid in before the VM stands still, and then only what changed', async (t) => {
  let pieces = 0;
  const counted = (sim: Hypervisor): Hypervisor =>
    new Proxy(sim, {
      get: (_, name) => {
        const value: unknown = Reflect.get(sim, name);
        if (typeof value !== 'function') return value;
        if (name !== 'writeMemory') return (...args: unknown[]): unknown => Reflect.apply(value, sim, args);
        return (...args: Parameters<Hypervisor['writeMemory']>): MemoryWriter => {
          const writer = sim.writeMemory(...args);
          return { piece: (bytes) => (pieces++, writer.piece(bytes)), end: (state, whole) => writer.end(state, whole), close: () => writer.close() };
        };
      },
    });
  const world = await new World().open({}, {}, counted);
  const vm = await world.launch();
  const domid = vm.domid!;
  let ahead = 0;
  world.hook = (moment) => {
    if (moment !== 'source suspend') return;
    ahead = pieces;
    world.source.sim.writePage(domid, 6, 'written at the last moment');
  };
  await world.send(vm);
  t.deepEqual([ahead, pieces], [40, 41]);
  t.equal(world.target.sim.page(world.target.agent.fleet.need(vm.uuid).domid!, 6), 'written at the last moment');
  await world.close();
});

test('a guest that cannot be looked at while it runs moves all the same', async (t) => {
  for (const live of [false, true]) {
    const world = await new World().open();
    const vm = await world.launch();
    world.source.sim.failStep('readMemory', new ShoalError('HYPERCALL_FAILED', 'as an old kernel'));
    const { passes, phases } = await world.send(vm, { live });
    t.equal('look' in phases.here, live, live ? 'live it is suspended once before' : 'it is copied when it stands still');
    t.ok(live ? passes >= 2 : passes === 1, `${passes} passes`);
    t.equal(world.target.sim.page(world.target.agent.fleet.need(vm.uuid).domid!, 3 * 39), 'page 39 of a'.padEnd(4096));
    await world.settled(vm.uuid, 'moved');
    await world.close();
  }
});

test('within a subnet whose hosts have ranges of their own the address goes along, is nobody else\'s where it came from, and comes back', async (t) => {
  const world = await new World().open({}, { networks: [shared(1)] }, undefined, {}, { networks: [shared(0)] });
  const vm = await world.launch();
  const [mac] = vm.vifs.map((vif) => vif.mac);
  t.deepEqual((await world.send(vm)).addresses, ['10.64.1.0'], 'of the source\'s range');
  await world.settled(vm.uuid, 'moved');
  const there = world.target.agent.fleet.need(vm.uuid);
  t.deepEqual([there.vifs[0]!.ipv4, there.vifs[0]!.mac], [['10.64.1.0'], mac]);
  await world.killTarget();
  t.equal(world.target.agent.fleet.withAddress('default', '10.64.1.0')?.uuid, vm.uuid, 'the next agent there has it, too');
  await world.killSource();
  const others = await Promise.all(Array.from({ length: 9 }, (_, i) => world.launch(`other-${i}`)));
  t.notOk(others.some((each) => each.vifs[0]!.ipv4.includes('10.64.1.0')), 'the source, started afresh, does not give it to another');
  t.equal(await codeOf(world.launch('one-more')), 'ADDRESSES_EXHAUSTED');
  await world.killSource();
  t.equal(await codeOf(world.launch('one-more')), 'ADDRESSES_EXHAUSTED', 'nor does the one after it');
  t.deepEqual([...world.source.agent.fleet.keptEntries()].find((entry) => 'away' in entry), { away: [{ network: 'default', ip: '10.64.1.0' }] }, 'nor one whose journal was written anew');
  await world.close();
});

test('within a subnet: killed after the commit, the source that comes after it does not give the address away', async (t) => {
  const world = await new World().open({}, { networks: [shared(1)] }, undefined, {}, { networks: [shared(0)] });
  const vm = await world.launch();
  let killed: Promise<unknown> | undefined;
  world.hook = (moment) => (moment === 'source commit:committed' && killed === undefined ? ((killed = world.killSource()), new Promise(() => {})) : undefined);
  void world.send(vm).catch(() => {});
  await until(() => killed !== undefined, 'the source is killed');
  await killed;
  await world.settled(vm.uuid, 'moved');
  await until(() => world.source.agent.fleet.size === 0, 'the source knows');
  t.notEqual((await world.launch('other')).vifs[0]!.ipv4[0], '10.64.1.0');
  await world.close();
});

test('within a subnet: frames wait at the target while it stands still, and where it goes on is said, there or here', async (t) => {
  const world = await new World().open({}, { networks: [shared(1)] }, undefined, {}, { networks: [shared(0)] });
  const vm = await world.launch();
  const { mac } = vm.vifs[0]!;
  const [here, there] = [world.source.sim.addresses.told, world.target.sim.addresses.told];
  world.hook = (moment) => {
    if (moment === 'source verify') throw new ShoalError('MIGRATION_FAILED', 'for the test');
  };
  t.equal(await codeOf(world.send(vm)), 'MIGRATION_FAILED');
  await until(() => here.length > 0 && there.length === 2, 'told');
  t.deepEqual([there, here[0]], [[`hold 10.64.1.0 ${mac}`, 'give-up 10.64.1.0'], 'announce 10.64.1.0'], 'it goes on here');
  there.splice(0);
  world.hook = () => {};
  await world.send(vm);
  await until(() => there.includes('announce 10.64.1.0'), 'announced there');
  t.equal(there[0], `hold 10.64.1.0 ${mac}`);
  t.notOk(there.includes('give-up 10.64.1.0'));
  await world.close();
});

test('to another subnet nobody waits for its old address there', async (t) => {
  const world = await new World().open({}, { networks: [elsewhere] });
  const vm = await world.launch();
  await world.send(vm);
  const { told } = world.target.sim.addresses;
  await until(() => told.length > 0, 'told');
  t.ok(told.every((each) => each === 'announce 10.65.1.0'), told.join());
  await world.close();
});

test('to another subnet it gets an address there; the image goes along', async (t) => {
  const world = await new World().open({}, { networks: [elsewhere] });
  await world.target.agent.images.remove(image);
  const vm = await world.launch();
  const { addresses } = await world.send(vm);
  t.deepEqual(addresses, ['10.65.1.0']);
  const there = world.target.agent.fleet.need(vm.uuid);
  t.match(world.target.sim.cmdline(there.domid!), /^name=a ip=10\.65\.1\.0\/16 gw=10\.65\.0\.1/);
  t.ok(world.target.agent.images.has(image));
  const other = await world.launch('b');
  t.deepEqual((await world.send(other, { ip: '10.65.9.9' })).addresses, ['10.65.9.9'], 'or the one that was kept for it');
  await world.close();
});

test('what the target lacks: the VM runs on where it was, and nothing is left there', async (t) => {
  const refusals: [string, SimOptions, (world: World) => Promise<void>][] = [
    ['HOST_NOT_ENOUGH_FREE_MEMORY', { totalKib: 1024 * 1024 + 4096 }, async () => {}],
    ['NAME_IN_USE', {}, async ({ target }) => void (await target.agent.bulk.launch({ name: 'a', image, memoryKib: 1024 }, never))],
    ['ADDRESS_IN_USE', {}, async ({ target }) => void (await target.agent.bulk.launch({ name: 'b', image, memoryKib: 1024, ip: '10.64.1.0' }, never))],
    ['HOST_LIMIT', {}, async ({ target }) => target.sim.failStep('create', new ShoalError('HOST_LIMIT', 'as arranged'))],
    ['SAVED_VM_INVALID', {}, async ({ target }) => target.sim.failStep('writeEnd', new ShoalError('SAVED_VM_INVALID', 'as arranged'))],
    ['XENSTORE_FAILED', {}, async ({ target }) => target.sim.failStep('seal', new ShoalError('XENSTORE_FAILED', 'as arranged'), { times: 1 })],
  ];
  for (const [code, sim, prepare] of refusals) {
    const world = await new World().open(sim);
    const vm = await world.launch();
    const domid = vm.domid!;
    await prepare(world);
    const before = (await world.target.sim.list()).length;
    t.equal(await codeOf(world.send(vm)), code);
    t.deepEqual([vm.power, vm.leaving, (await world.source.sim.get(domid))?.state], ['Running', undefined, 'running'], `${code}: it runs on`);
    await until(() => world.target.agent.arrivals.count === 0, 'ended there');
    t.deepEqual([(await world.target.sim.list()).length, world.target.agent.fleet.get(vm.uuid)], [before, undefined], `${code}: nothing is left`);
    await world.close();
  }
});

test('whom the order does not name gets nothing', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const ticket = world.ticket();
  const send = (changed: Partial<Ticket>): Promise<string> => codeOf(world.source.agent.departures.send(vm, { ...ticket, ...changed }, {}));
  t.equal(await send({ fingerprint: fingerprint.replaceAll('A', 'B') }), 'CERTIFICATE_MISMATCH', 'another target');
  t.equal(await send({ token: '0'.repeat(64) }), 'MIGRATION_REFUSED', 'another token');
  t.equal(await send({ id: '00000000-0000-0000-0000-000000000000' }), 'MIGRATION_REFUSED', 'another order');
  t.equal(await codeOf(world.source.agent.departures.send(vm, world.target.agent.arrivals.ticket('', { fingerprint: fingerprint.replaceAll('A', 'B'), url: world.way.url }) as never, {})), 'MIGRATION_REFUSED', 'another source');
  t.equal(await send({}), 'none', 'the order itself');
  const again = await world.launch('b');
  t.equal(await codeOf(world.source.agent.departures.send(again, ticket, {})), 'MIGRATION_REFUSED', 'is good once');
  t.throws(() => world.target.agent.arrivals.ticket('', {}), /fingerprint/);
  await world.close();
});

test('a way that is cut at each tenth: it goes on from there', async (t) => {
  const probe = await new World().open();
  let bytes = 0;
  probe.hook = (moment) => void (moment === 'source commit' && (bytes = probe.way.passed));
  await probe.send(await probe.launch());
  await probe.close();
  for (let tenth = 0; tenth < 10; tenth++) {
    // However busy the machine is.
    const world = await new World().open({}, { migrationPatienceMs: 30_000 });
    const vm = await world.launch();
    world.way.cutAfter = (bytes * (tenth + 0.5)) / 10;
    const { connections } = await world.send(vm);
    t.ok(world.way.cutAfter === Infinity && connections >= 1, `cut at ${tenth + 0.5} tenths of ${bytes} bytes, ${connections} connections`);
    if (tenth > 1) t.equal(connections, 2);
    await world.settled(vm.uuid, 'moved');
    t.equal(world.target.sim.page(world.target.agent.fleet.need(vm.uuid).domid!, 3 * 39), 'page 39 of a'.padEnd(4096));
    await world.close();
  }
});

test('three migrations of one VM at once: one is done', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const codes = await Promise.all([1, 2, 3].map(() => codeOf(world.send(vm))));
  t.deepEqual(codes.sort(), ['OTHER_OPERATION_IN_PROGRESS', 'OTHER_OPERATION_IN_PROGRESS', 'none']);
  await world.settled(vm.uuid, 'moved');
  await world.close();
});

test('called off at each moment before the commit: it runs on where it was', async (t) => {
  for (const moment of ['reserve', 'copy', 'suspend', 'ship', 'verify']) {
    const world = await new World().open();
    const vm = await world.launch();
    const abort = new AbortController();
    world.hook = (now) => void (now === `source ${moment}` && abort.abort());
    t.equal(await codeOf(world.send(vm, { live: moment === 'copy' }, abort.signal)), 'TASK_CANCELLED', moment);
    await world.settled(vm.uuid, moment);
    t.equal(vm.power, 'Running');
    await world.close();
  }
});

const states = ['reserve', 'copy', 'suspend', 'ship', 'verify', 'commit', 'release'];
const sourceMoments = [...states.flatMap((state) => [state, `${state}:${state === 'commit' ? 'committed' : 'done'}`])];

test('kill -9 of the source at each moment: one runs', async (t) => {
  for (const moment of sourceMoments) {
    const world = await new World().open();
    const vm = await world.launch();
    const reached = new Promise<void>((resolve) => {
      world.hook = (now) => {
        if (now !== `source ${moment}`) return undefined;
        world.hook = () => {};
        resolve();
        return new Promise<void>(() => {});
      };
    });
    void world.send(vm).catch(() => {});
    await reached;
    await world.killSource();
    await world.settled(vm.uuid, moment);
    const there = world.target.agent.fleet.get(vm.uuid) !== undefined;
    t.equal(there, ['commit:committed', 'release', 'release:done'].includes(moment), `${moment}: ${there ? 'there' : 'here'}`);
    await world.close();
  }
});

test('kill -9 of the target at each moment: one runs', async (t) => {
  const moments = ['source copy', 'source ship', 'target filled', 'source verify', 'source commit', 'target commit', 'target committed', 'source release'];
  for (const moment of moments) {
    const world = await new World().open();
    const vm = await world.launch();
    world.hook = (now) => {
      if (now !== moment) return undefined;
      world.hook = () => {};
      const killed = world.killTarget();
      return moment.startsWith('target') ? new Promise<void>(() => {}) : killed;
    };
    const code = await codeOf(world.send(vm));
    await world.settled(vm.uuid, moment);
    const there = world.target.agent.fleet.get(vm.uuid) !== undefined;
    t.equal(there, ['target committed', 'source release'].includes(moment), `${moment}: ${there ? 'there' : 'here'}`);
    t.equal(code === 'none', there, code);
    await world.close();
  }
});

test('a target that is away after the commit: the VM waits, asks, and the operator may decide', async (t) => {
  for (const where of ['comes back', 'here', 'there'] as const) {
    const world = await new World().open();
    const vm = await world.launch();
    world.hook = (now) => {
      if (now === 'target committed') {
        world.way.down = true;
        world.way.cut();
      }
    };
    const sent = codeOf(world.send(vm));
    await until(() => world.way.down && vm.power === 'Suspended', 'in doubt');
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.equal(await codeOf(world.source.agent.runner.destroy(vm, true)), 'MIGRATION_IN_DOUBT', 'it is not ended meanwhile');
    t.equal((await world.source.sim.get(vm.domid!))?.shutdownReason, 'suspend');
    if (where === 'comes back') world.way.down = false;
    else
      await until(() => {
        try {
          world.source.agent.departures.resolve(vm, where === 'here');
          return true;
        } catch {
          return false;
        }
      }, 'asking');
    t.equal((await sent) === 'none', where !== 'here', where);
    t.equal(world.source.agent.fleet.get(vm.uuid) === undefined, where !== 'here');
    await world.close();
  }
});

test('a target whose disk is full at the commit: it stays', async (t) => {
  const world = await new World().open();
  const vm = await world.launch();
  const { journal } = world.target.agent.fleet;
  const append = journal!.append.bind(journal);
  let refusals = 2;
  journal!.append = (entry) => ((entry['arrived'] !== undefined || entry['arrivalOver'] !== undefined) && refusals-- > 0 ? Promise.reject(new ShoalError('HOST_LIMIT', 'full')) : append(entry));
  t.equal(await codeOf(world.send(vm)), 'HOST_LIMIT');
  await world.settled(vm.uuid, 'disk');
  t.equal(vm.power, 'Running');
  await world.close();
});
