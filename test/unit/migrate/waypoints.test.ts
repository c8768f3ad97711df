/** Waypoints as VMs of two host agents over simulated hypervisors, and the coordinator killed in each state: in the end one of it runs, at one address. */
import { Readable } from 'node:stream';
import test from 'tape';
import { MemoryMoves } from '../../../bench/migration/moving.ts';
import { PathCoordinator } from '../../../src/migrate/paths.ts';
import type { MoveRecord } from '../../../src/migrate/paths-journal.ts';
import { isEnd, nextState, whenFound, type MoveKind, type MoveState } from '../../../src/migrate/paths-table.ts';
import { VmWaypoints, type WaypointHost } from '../../../src/migrate/waypoints.ts';
import { parseIpv4 } from '../../../src/host/networks.ts';
import { PathAgent } from '../../../src/mptcp/agent.ts';
import { SimulatedMptcp } from '../../../src/mptcp/simulated.ts';
import { codeOf, image, makeRig, network, type Rig } from '../host/rig.ts';

const never = new AbortController().signal;
const [w1, w2] = ['10.64.9.1', '10.65.9.1'];
const there = { ...network, subnet: { prefix: 16, gateway: parseIpv4('10.65.0.1')!, first: parseIpv4('10.65.1.0')!, last: parseIpv4('10.65.250.255')! } };
const kinds: MoveKind[] = ['make-before-break', 'break-before-make'];

/** The agent itself, without XenAPI between. */
function hostOf(rig: Rig): WaypointHost {
  const need = (uuid: string) => rig.agent.fleet.need(uuid);
  return {
    vm: async (named) => {
      const vm = rig.agent.fleet.named(named) ?? rig.agent.fleet.get(named);
      return vm && { uuid: vm.uuid, name: vm.name, state: vm.power.toLowerCase(), addresses: vm.vifs.flatMap(({ ipv4 }) => ipv4), image: vm.image };
    },
    hasImage: async (digest) => digest === image,
    suspend: (uuid) => rig.agent.suspender.suspend(need(uuid)),
    resume: async (uuid) => void (await rig.agent.suspender.resume(need(uuid), false)),
    unpause: (uuid) => rig.agent.runner.unpause(need(uuid)),
    destroy: (uuid) => rig.agent.runner.destroy(need(uuid), true),
    save: async (uuid, take) => {
      const { bytes, chunks } = await rig.agent.suspender.save(need(uuid));
      await take(Readable.from(chunks), bytes);
    },
    restore: async (content, _, { name, ip }) => void (await rig.agent.suspender.restore(content as AsyncIterable<Uint8Array>, { name, ipv4: ip, copy: true })),
    bury: async (uuid) => void (await rig.agent.tombstones.bury(need(uuid))),
    unbury: async (of) => void (await rig.agent.tombstones.unbury(of)),
    hold: (ip, ms) => rig.agent.addresses.hold('default', ip, ms),
  };
}

async function make() {
  const rigs = [await makeRig(), await makeRig({}, { networks: [there] })] as const;
  const { uuid, domid } = (await rigs[0].agent.bulk.launch({ name: 'nat', image, memoryKib: 4096, ip: w1 }, never)).vms[0]!;
  rigs[0].sim.writePage(domid, 7, 'flows');
  const port = new SimulatedMptcp();
  for (const last of [1, 2]) port.connect({ address: w1, port: 443 }, { address: `10.0.0.${last}`, port: 40_000 }, 'joins');
  const agent = new PathAgent({ port, policy: { addresses: undefined, maxSubflows: 4 }, log: () => {}, leaveMs: 5 });
  const store = new MemoryMoves();
  const waypoints = new VmWaypoints(hostOf(rigs[0]), hostOf(rigs[1]), () => {});
  const coordinator = (): PathCoordinator => new PathCoordinator({ sides: [agent], waypoints, store, log: () => {}, now: () => performance.now(), joinMs: 200, tellMs: 0, drainMs: 60, patienceMs: 100, lookMs: 2 });
  const close = async (): Promise<void> => {
    for (const rig of rigs) await rig.close();
  };
  /** Names, addresses and states of all VMs of both hosts. */
  const all = (): string[] => rigs.flatMap((rig, host) => [...rig.agent.fleet.all()].map(({ name, power, vifs }) => `${host} ${name} ${power} ${vifs[0]!.ipv4.join()}`)).sort();
  const sides = [agent];
  return { rigs, uuid, store, port, sides, waypoints, coordinator, close, all, wanted: (kind: MoveKind) => ({ id: 'm', kind, from: w1, to: w2, about: { uuid, name: 'nat' } }) };
}

const moved = [`0 tombstone-${w1} Running ${w1}`, `1 nat Running ${w2}`];
const stayed = [`0 nat Running ${w1}`];

for (const kind of kinds)
  test(`waypoints: ${kind} leaves a copy with the memory there, and a tombstone here`, async (t) => {
    const m = await make();
    const { record } = await m.coordinator().move(m.wanted(kind));
    t.equal(record.state, 'moved', record.why);
    t.deepEqual(m.all(), moved);
    const vm = m.rigs[1].agent.fleet.named('nat')!;
    t.equal(m.rigs[1].sim.page(vm.domid!, 7), 'flows');
    t.match(m.rigs[1].sim.cmdline(vm.domid!), /ip=10\.65\.9\.1\/16 gw=10\.65\.0\.1/, 'it has its words of there');
    await m.close();
  });

for (const kind of kinds) {
  const way: MoveState[] = [];
  for (let at = nextState('planned', kind === 'break-before-make' ? 'break' : 'done'); !isEnd(at); at = nextState(at, 'done')) way.push(at);
  for (const state of way)
    for (const when of ['before', 'after'] as const)
      test(`waypoints: ${kind}, the coordinator is killed ${when} ${state} is done`, async (t) => {
        const m = await make();
        const save = m.store.save.bind(m.store);
        const killed = new Error('killed');
        m.store.save = async (record: MoveRecord) => {
          const before = m.store.open()[0]?.state;
          if (when === 'after' && before === state) throw killed;
          await save(record);
          if (when === 'before' && record.state === state) throw killed;
        };
        await m.coordinator().move(m.wanted(kind)).then(() => t.fail('it went on'), (error: unknown) => t.equal(error, killed));
        m.store.save = save;
        // What runs there already has gone on meanwhile.
        const begun = m.rigs[1].agent.fleet.named('nat')?.domid;
        if (begun !== undefined) m.rigs[1].sim.writePage(begun, 7, 'later');
        const [outcome] = await m.coordinator().resume();
        t.equal(outcome?.record.state, whenFound(state) === 'abort' ? 'stayed' : 'moved', outcome?.record.why);
        t.deepEqual(m.all(), outcome?.record.state === 'moved' ? moved : stayed);
        t.equal(m.store.open().length, 0);
        if (begun !== undefined && outcome?.record.state === 'moved') t.equal(m.rigs[1].sim.page(m.rigs[1].agent.fleet.named('nat')!.domid!, 7), 'later', 'it was not begun anew');
        await m.close();
      });

  for (const state of way.filter((one) => one !== 'releasing'))
    test(`waypoints: ${kind}, asked to stop while ${state}`, async (t) => {
      const m = await make();
      const coordinator = m.coordinator();
      const save = m.store.save.bind(m.store);
      m.store.save = async (record: MoveRecord) => {
        await save(record);
        if (record.state === state) coordinator.abort('m');
      };
      t.equal((await coordinator.move(m.wanted(kind))).record.state, 'stayed');
      t.deepEqual(m.all(), stayed);
      t.equal(m.rigs[0].sim.page(m.rigs[0].agent.fleet.named('nat')!.domid!, 7), 'flows');
      await m.close();
    });
}

test('waypoints: back to where a tombstone is', async (t) => {
  for (const kind of kinds) {
    const m = await make();
    await m.coordinator().move(m.wanted('make-before-break'));
    const about = { uuid: m.rigs[1].agent.fleet.named('nat')!.uuid, name: 'nat' };
    const back = new VmWaypoints(hostOf(m.rigs[1]), hostOf(m.rigs[0]), () => {});
    const coordinator = new PathCoordinator({ sides: m.sides, waypoints: back, store: m.store, log: () => {}, now: () => performance.now(), joinMs: 200, tellMs: 0, drainMs: 60, patienceMs: 100, lookMs: 2 });
    const { record } = await coordinator.move({ id: 'back', kind, from: w2, to: w1, about });
    t.equal(record.state, 'moved', record.why);
    t.deepEqual(m.all(), [`0 nat Running ${w1}`, `1 tombstone-${w2} Running ${w2}`], `${kind}: it made room`);
    await m.close();
  }
});

test('waypoints: the target is full, and nothing has changed', async (t) => {
  const m = await make();
  await m.rigs[1].crash({ networks: [there], memoryReserveKib: 1 << 30 });
  const { record } = await m.coordinator().move(m.wanted('make-before-break'));
  t.equal(record.state, 'stayed');
  t.match(record.why ?? '', /HOST_NOT_ENOUGH_FREE_MEMORY/);
  t.deepEqual(m.all(), stayed);
  await m.close();
});

test('waypoints: an agent is killed between two states', async (t) => {
  for (const [host, state] of [[0, 'burying'], [1, 'announcing'], [0, 'releasing'], [1, 'releasing']] as const) {
    const m = await make();
    const save = m.store.save.bind(m.store);
    m.store.save = async (record: MoveRecord) => {
      await save(record);
      if (record.state === state) await m.rigs[host].crash(host === 1 ? { networks: [there] } : {});
    };
    t.equal((await m.coordinator().move(m.wanted('make-before-break'))).record.state, 'moved', `of host ${host}, ${state}`);
    t.deepEqual(m.all(), moved);
    await m.close();
  }
});

test('waypoints: what can be said before is said before', async (t) => {
  const m = await make();
  t.equal((await m.waypoints.check('nat', w2)).from, w1);
  t.equal(await codeOf(m.waypoints.check('nobody', w2)), 'HANDLE_INVALID');
  t.equal(await codeOf(m.waypoints.check('nat', w1)), 'REQUEST_INVALID');
  await m.rigs[1].agent.bulk.launch({ name: 'nat', image, memoryKib: 4096 }, never);
  t.equal(await codeOf(m.waypoints.check('nat', w2)), 'NAME_IN_USE');
  const { record } = await m.coordinator().move(m.wanted('make-before-break'));
  t.match(record.why ?? '', /NAME_IN_USE/, 'and again when it is done');
  t.equal(m.all().length, 2, 'the other VM of that name was not touched');
  await m.rigs[0].agent.suspender.suspend(m.rigs[0].agent.fleet.need(m.uuid));
  t.equal(await codeOf(m.waypoints.check('nat', w2)), 'VM_BAD_POWER_STATE');
  t.equal(await codeOf(m.waypoints.suspend({ ...m.wanted('make-before-break'), state: 'suspending', leave: false, about: {} })), 'STATE_UNREADABLE');
  await m.close();
});
