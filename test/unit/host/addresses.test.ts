/** Addresses that move between VMs: whose they are, in what order it is said to whom, and an agent that ends at each point of it. */
import test from 'tape';
import type { HostAgent } from '../../../src/host/agent.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import type { Uuid } from '../../../src/model/ids.ts';
import { image, makeRig, type Rig } from './rig.ts';

const signal = new AbortController().signal;
const moved = '10.64.7.7';

async function launch(agent: HostAgent, name: string, ip?: string, also?: string[]): Promise<Uuid> {
  const [result] = await agent.bulk.launchEach([{ name, image, memoryKib: 1024, vifs: [{ network: 'default', ...(ip === undefined ? {} : { ip }), ...(also === undefined ? {} : { also }) }] }], signal);
  if (result!.vm === undefined) throw result!.error!;
  return result!.vm.uuid;
}

const addressesOf = (agent: HostAgent, uuid: Uuid): string[] => agent.fleet.need(uuid).vifs[0]!.ipv4;
const holder = (rig: Rig): Uuid | undefined => {
  const domid = rig.sim.addresses.holders.get(`default/${moved}`);
  return domid === undefined ? undefined : rig.agent.fleet.inDomain(domid)?.uuid;
};

test('addresses: from one VM to another, and on', async (t) => {
  const rig = await makeRig();
  const { agent, sim } = rig;
  const [a, b, c] = [await launch(agent, 'a', moved), await launch(agent, 'b'), await launch(agent, 'c')];
  const ownB = addressesOf(agent, b)[0]!;
  const changed: string[] = [];
  agent.fleet.onChange((change) => change.of === 'vif' && changed.push(agent.fleet.get(change.vm)!.name));
  t.deepEqual(await agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 5000 }]), []);
  t.deepEqual([addressesOf(agent, a), addressesOf(agent, b)], [[], [moved, ownB]], 'the new one has it first, the old one no more');
  t.equal(holder(rig), b, 'the switch knows');
  t.deepEqual(sim.guestAddresses(agent.fleet.need(b).domid!), [moved, ownB].reverse(), 'the guest was given it');
  t.equal(agent.fleet.withAddress('default', moved)?.uuid, b, 'the book too');
  t.deepEqual(changed.sort(), ['a', 'b'], 'both are told of');
  const trail = sim.trail.slice(-4).map((step) => step.split(' ')[0]);
  t.deepEqual(trail, ['readdress', 'move', 'seal', 'seal'], 'the guest first, then the switch, then the records');
  sim.trail.length = 0;
  t.deepEqual(await agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 5000 }]), [], 'done again');
  t.deepEqual([addressesOf(agent, a), addressesOf(agent, b)], [[], [moved, ownB]], 'it changes nothing');
  await agent.runner.destroy(agent.fleet.need(a), true);
  t.deepEqual(await agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 5000 }]), [], 'and still, when the old one is gone');
  t.deepEqual(await agent.addresses.move([{ from: b, to: c, ip: moved, drainMs: 0 }]), []);
  t.deepEqual(addressesOf(agent, b), [ownB]);
  t.deepEqual(await agent.addresses.move([{ from: c, ip: moved, drainMs: 100 }]), [], 'off this host');
  t.equal(agent.fleet.withAddress('default', moved), undefined);
  t.deepEqual(await agent.addresses.move([{ to: b, ip: moved, drainMs: 100 }]), [], 'and onto it');
  t.equal(holder(rig), b);
  await rig.agent.runner.hardReboot(agent.fleet.need(b));
  t.match(sim.cmdline(agent.fleet.need(b).domid!), new RegExp(`ip=${moved}/16 gw=10.64.0.1 ips=${ownB}( |$)`), 'a fresh domain begins with both');
  await rig.close();
  t.end();
});

test('addresses: refused, each for itself', async (t) => {
  const rig = await makeRig();
  const { agent } = rig;
  const [a, b, c] = [await launch(agent, 'a', moved), await launch(agent, 'b'), await launch(agent, 'c')];
  const code = async (...specs: Parameters<HostAgent['addresses']['move']>[0][number][]): Promise<string[]> =>
    (await agent.addresses.move(specs)).map(({ index, error }) => `${index} ${error.code}`);
  t.deepEqual(await code({ from: b, to: c, ip: moved, drainMs: 0 }), ['0 ADDRESS_IN_USE'], "somebody else's");
  t.deepEqual(await code({ to: c, ip: moved, drainMs: 0 }), ['0 ADDRESS_IN_USE']);
  t.deepEqual(await code({ from: a, to: '5a0a15e4-0000-8000-8000-000000000000', ip: moved, drainMs: 0 }), ['0 UUID_INVALID']);
  t.deepEqual(await code({ from: '5a0a15e4-0000-8000-8000-000000000000', ip: moved, drainMs: 0 }), ['0 UUID_INVALID']);
  t.deepEqual(await code({ ip: moved, drainMs: 0 }), ['0 VALUE_NOT_SUPPORTED']);
  t.deepEqual(await code({ to: c, ip: '10.9.9.9', drainMs: 0 }), ['0 ADDRESS_INVALID'], 'not of the network');
  await agent.runner.hardShutdown(agent.fleet.need(c));
  t.deepEqual(await code({ from: a, to: c, ip: moved, drainMs: 0 }), ['0 VM_BAD_POWER_STATE'], 'one that does not run takes none');
  t.deepEqual(await code({ from: a, to: c, ip: moved, drainMs: 0 }, { from: a, to: b, ip: moved, drainMs: 0 }), ['0 VM_BAD_POWER_STATE'], 'the others of a call are done');
  t.equal(holder(rig), b);
  t.deepEqual(await code({ from: b, to: a, ip: moved, drainMs: 0 }, { from: b, to: a, ip: moved, drainMs: 0 }), ['1 CONFLICT']);
  for (let i = 1; i <= 6; i++) t.deepEqual(await code({ to: b, ip: `10.64.8.${i}`, drainMs: 0 }), []);
  t.deepEqual(await code({ to: b, ip: '10.64.8.8', drainMs: 0 }), []);
  t.deepEqual(await code({ to: b, ip: '10.64.8.9', drainMs: 0 }), ['0 VALUE_NOT_SUPPORTED'], 'eight are the most');
  agent.fleet.need(a).vifs[0]!.backend = 'netback';
  t.deepEqual(await code({ from: a, to: b, ip: moved, drainMs: 0 }), ['0 VALUE_NOT_SUPPORTED'], 'not from a guest on netback');
  await rig.close();
  t.end();
});

test('addresses: configured from the start', async (t) => {
  const rig = await makeRig();
  const { agent, sim } = rig;
  const [a, b] = [await launch(agent, 'a', moved), await launch(agent, 'b', undefined, [moved])];
  t.match(sim.cmdline(agent.fleet.need(b).domid!), new RegExp(`ips=${moved}( |$)`), 'the guest has it');
  t.equal(agent.fleet.withAddress('default', moved)?.uuid, a, 'and it is not its own yet');
  sim.failStep('readdress', new ShoalError('VALUE_NOT_SUPPORTED', 'An old kernel.'), { times: 9 });
  t.deepEqual(await agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 0 }]), [], 'it moves without a word to the guest');
  t.deepEqual((await agent.addresses.move([{ from: b, to: a, ip: moved, drainMs: 0 }])).map(({ error }) => error.code), ['VALUE_NOT_SUPPORTED'], 'which another would need');
  t.equal(holder(rig), b);
  const code = await launch(agent, 'c', undefined, ['192.168.1.1']).catch((error: ShoalError) => error.code);
  t.equal(code, 'ADDRESS_INVALID', 'only of its network');
  await rig.close();
  t.end();
});

test('addresses: what the switch refuses stays; what it was not asked is asked again', async (t) => {
  const rig = await makeRig();
  const [a, b] = [await launch(rig.agent, 'a', moved), await launch(rig.agent, 'b')];
  rig.sim.failStep('move', new ShoalError('SWITCH_REFUSED', 'no', { data: { errno: 'EBUSY' } }));
  t.deepEqual((await rig.agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 0 }])).map(({ error }) => error.code), ['SWITCH_REFUSED']);
  t.deepEqual(addressesOf(rig.agent, a), [moved], 'it is where it was');
  await rig.crash();
  t.deepEqual(addressesOf(rig.agent, a), [moved], 'for the next agent, too');
  rig.sim.failStep('move', new ShoalError('SWITCH_UNAVAILABLE', 'away'));
  t.deepEqual((await rig.agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 700 }])).map(({ error }) => error.code), ['SWITCH_UNAVAILABLE']);
  t.deepEqual([addressesOf(rig.agent, a), addressesOf(rig.agent, b)[0]], [[], moved], 'where nobody knows, it was decided');
  t.equal(holder(rig), undefined);
  rig.sim.trail.length = 0;
  await rig.crash();
  t.ok(rig.sim.trail.some((step) => step.startsWith('move')), 'the next agent tells the switch');
  t.equal(holder(rig), b);
  rig.sim.trail.length = 0;
  await rig.crash();
  t.notOk(rig.sim.trail.some((step) => step.startsWith('move')), 'once');
  rig.sim.failStep('move', new ShoalError('SWITCH_UNAVAILABLE', 'away'));
  await rig.agent.addresses.move([{ from: b, to: a, ip: moved, drainMs: 700 }]);
  t.deepEqual(await rig.agent.addresses.move([{ from: b, to: a, ip: moved, drainMs: 700 }]), [], 'or whoever asks again');
  t.equal(holder(rig), a);
  await rig.close();
  t.end();
});

test('addresses: an agent that ends at each write of the journal', async (t) => {
  for (let stopAt = 1; ; stopAt++) {
    const rig = await makeRig();
    const [a, b] = [await launch(rig.agent, 'a', moved), await launch(rig.agent, 'b')];
    const journal = rig.agent.fleet.journal!;
    const append = journal.append.bind(journal);
    let writes = 0;
    const never = new Promise<never>(() => {});
    // What comes after that write never happens.
    journal.append = async (entry) => (++writes > stopAt ? never : append(entry).then(() => (writes === stopAt ? never : undefined)));
    const done = await Promise.race([rig.agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 50 }]).then(() => true), new Promise((resolve) => setTimeout(() => resolve(false), 100))]);
    await rig.crash();
    const [ofA, ofB] = [addressesOf(rig.agent, a), addressesOf(rig.agent, b)];
    t.equal([...ofA, ...ofB].filter((ip) => ip === moved).length, 1, `after write ${stopAt} one has it`);
    t.equal(holder(rig) ?? a, ofA.includes(moved) ? a : b, 'and the switch is told the same');
    t.deepEqual(await rig.agent.addresses.move([{ from: a, to: b, ip: moved, drainMs: 50 }]), [], 'and it can be moved');
    t.equal(holder(rig), b);
    await rig.close();
    if (done === true) {
      t.ok(stopAt > 2, `there are some (${stopAt - 1})`);
      break;
    }
  }
  t.end();
});

test('addresses: many at once; held, counted', async (t) => {
  const rig = await makeRig();
  const { agent, sim } = rig;
  const pairs: [Uuid, Uuid, string][] = [];
  for (let i = 0; i < 150; i++) {
    const ip = `10.64.9.${i + 1}`;
    pairs.push([await launch(agent, `old-${i}`, ip), await launch(agent, `new-${i}`), ip]);
  }
  t.deepEqual(await agent.addresses.move(pairs.map(([from, to, ip]) => ({ from, to, ip, drainMs: 1 }))), []);
  t.ok(pairs.every(([, to, ip]) => agent.fleet.withAddress('default', ip)?.uuid === to && sim.addresses.holders.get(`default/${ip}`) === agent.fleet.need(to).domid), 'all 150');
  const back = rig.crash();
  await back;
  t.ok(pairs.every(([, to, ip]) => rig.agent.fleet.withAddress('default', ip)?.uuid === to), 'for the next agent, too');
  await rig.agent.addresses.hold('default', '10.64.20.1', 500);
  t.equal((await rig.agent.addresses.traffic('default', '10.64.20.1'))?.held, true);
  t.equal(await rig.agent.addresses.traffic('default', '10.64.20.2'), undefined);
  t.equal(await rig.agent.addresses.hold('default', '192.0.2.1', 500).catch((error: ShoalError) => error.code), 'ADDRESS_INVALID', 'only what a VM could have');
  t.equal(await rig.agent.addresses.hold('nowhere', '10.64.20.1', 500).catch((error: ShoalError) => error.code), 'NETWORK_UNKNOWN');
  await rig.close();
  t.end();
});
