/** The loop over hosts in memory: what is wanted comes to be, whatever hosts do, and no address is ever on two VMs. */
import test from 'tape';
import { fakeNetwork } from '../../../src/control/links/fake.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { MemoryStore } from '../../../src/control/store.ts';
import { newVmUuid } from '../../../src/model/uuid.ts';
import { until } from '../host/rig.ts';
import { doubles, makeFleet, type FleetRig } from './rig.ts';

const settled = (rig: FleetRig, key: string, count: number) => () =>
  rig.ready(key) === count &&
  rig.fleet.copies.of(key).size === count &&
  rig.vms().filter(({ state }) => state === 'running').length === count;

test('apply, scale, update, delete', async (t) => {
  const rig = await makeFleet(['a', 'b', 'c']);
  const key = rig.apply({ count: 6 });
  await until(settled(rig, key, 6), 'six');
  t.deepEqual(
    ['a', 'b', 'c'].map((h) => rig.hosts.get(h)!.vms.size),
    [2, 2, 2],
    'spread',
  );
  t.deepEqual(doubles(rig), [], 'addresses differ, although each host has the same range');
  rig.apply({ count: 2 });
  await until(settled(rig, key, 2), 'two');
  rig.apply({ count: 4 });
  await until(settled(rig, key, 4), 'four');
  const before = new Set(rig.vms().map(({ name }) => name));
  rig.apply({ count: 4, args: 'new' });
  await until(() => settled(rig, key, 4)() && rig.vms().every(({ name }) => !before.has(name)), 'all replaced');
  t.ok(
    [...rig.hosts.values()].every((h) => [...h.vms.values()].every(({ args }) => args === 'new')),
    'with the new arguments',
  );
  rig.forget(key);
  await until(() => rig.vms().length === 0 && rig.fleet.state.get('service', key) === undefined, 'all gone');
  t.deepEqual(
    [rig.fleet.copies.size, rig.fleet.state.all('copy').size, rig.fleet.copies.addresses.size('default')],
    [0, 0, 0],
    'nothing is left in ledger and addresses',
  );
  await rig.close();
});

test('a VM that dies is started again, later each time; one that is destroyed is made anew; one that was changed is replaced', async (t) => {
  const rig = await makeFleet(['a']);
  const key = rig.apply({ count: 1 });
  await until(settled(rig, key, 1), 'one');
  const host = rig.hosts.get('a')!;
  const vm = () => [...host.vms.values()][0]!;
  const { uuid } = vm();
  const waits: number[] = [];
  for (let i = 0; i < 2; i++) {
    const began = Date.now();
    host.change(uuid, { state: 'halted' });
    await until(() => host.vms.get(uuid)?.state === 'running' && rig.ready(key) === 1, 'runs again');
    waits.push(Date.now() - began);
  }
  t.ok(waits.every((waited, i) => waited >= 15 * 2 ** i), `back-off: ${waits.join(', ')} ms`);
  t.equal(vm().uuid, uuid, 'the same VM');
  host.change(uuid, { state: 'paused' });
  await until(() => host.vms.get(uuid)?.state === 'running', 'a paused one goes on');
  host.remove(uuid);
  await until(settled(rig, key, 1), 'made anew');
  t.notEqual(vm().uuid, uuid);
  const second = vm().uuid;
  host.change(second, { args: 'changed by hand' });
  await until(() => settled(rig, key, 1)() && vm().uuid !== second, 'drift is corrected');
  t.ok(
    rig.log.some((line) => line.includes('changed by someone (arguments)')),
    'and reported',
  );
  host.remove(vm().uuid, true);
  host.disconnect();
  host.connect();
  await until(settled(rig, key, 1), 'one that vanished unheard is missed in the next picture');
  await rig.close();
});

test('a host that vanishes: after the grace period its copies run elsewhere, with other addresses; it comes back without doubles', async (t) => {
  const rig = await makeFleet(['a', 'b']);
  const key = rig.apply({ count: 10 });
  await until(settled(rig, key, 10), 'ten');
  rig.hosts.get('a')!.disconnect();
  const began = Date.now();
  await until(() => rig.ready(key) === 10 && rig.hosts.get('b')!.vms.size === 10, 'all on b');
  t.ok(Date.now() - began >= 180, 'not before the grace period');
  t.equal(rig.hosts.get('a')!.vms.size, 5, 'on a they run on, for all anybody knows');
  t.deepEqual(doubles(rig), [], 'no address is on both');
  rig.hosts.get('a')!.connect();
  await until(settled(rig, key, 10), 'doubles are gone');
  t.equal(rig.hosts.get('a')!.vms.size, 0, 'those on a');
  t.ok(
    rig.log.some((line) => line.includes('second copy')),
    'and reported',
  );
  rig.hosts.get('b')!.disconnect();
  rig.hosts.get('b')!.wipe();
  rig.hosts.get('b')!.connect();
  await until(settled(rig, key, 10), 'a host that comes back with a wiped disk');
  t.deepEqual(doubles(rig), []);
  await rig.close();
});

test('drain moves all, one after the other; a host that is full, one that lies, one whose answer is lost', async (t) => {
  const rig = await makeFleet(['a', 'b']);
  const key = rig.apply({ count: 6 });
  await until(settled(rig, key, 6), 'six');
  const { state, units } = rig.fleet;
  const set = (name: string, change: object) => {
    const record = { ...state.get('host', name)!, ...change };
    void state.write([state.set('host', name, record)]);
    units.get(name)!.record = record;
    rig.fleet.poke(key);
  };
  let least = 6;
  const watch = setInterval(() => (least = Math.min(least, rig.vms().filter((vm) => vm.state === 'running').length)), 1);
  set('a', { drained: true });
  await until(() => settled(rig, key, 6)() && rig.hosts.get('a')!.vms.size === 0, 'a is empty');
  clearInterval(watch);
  t.equal(least, 6, 'six ran all the time');
  set('a', { drained: false });

  const b = rig.hosts.get('b')!;
  b.refuse = () => new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'full');
  rig.apply({ count: 10, placement: { strategy: 'pack' } });
  await until(settled(rig, key, 10), 'a takes what b refuses');
  b.refuse = () => undefined;

  const a = rig.hosts.get('a')!;
  a.lies = true;
  b.lies = true;
  rig.apply({ count: 12, restart: { firstMs: 20, maxMs: 50 } });
  await until(() => rig.log.some((line) => line.includes('has not got it')), 'the lie is found out', 8000);
  a.lies = false;
  b.lies = false;
  await until(settled(rig, key, 12), 'and made good', 8000);

  a.loseAnswers = 3;
  b.loseAnswers = 3;
  rig.apply({ count: 20 });
  await until(settled(rig, key, 20), 'launches whose answers were lost are found');
  t.equal(new Set(a.launched).size, a.launched.length, 'none was done twice');
  t.deepEqual(doubles(rig), []);
  await rig.close();
});

test('the controller is killed at any moment: the next one goes on', async (t) => {
  const rig = await makeFleet(['a', 'b', 'c'], { launchMs: 2 });
  let key = '';
  for (let i = 0; i < 12; i++) {
    key = rig.apply({ count: 5 + ((i * 7) % 20), ...(i % 4 === 3 ? { args: `v${i}` } : {}) });
    await new Promise((resolve) => setTimeout(resolve, 5 + ((i * 13) % 40)));
    await rig.crash();
    if (doubles(rig).length > 0) t.fail(`doubles after crash ${i}`);
  }
  rig.apply({ count: 9 });
  await until(settled(rig, key, 9), 'nine', 8000);
  t.deepEqual([rig.fleet.state.all('copy').size, rig.fleet.copies.addresses.size('default')], [9, 9], 'nothing leaked');
  // Away while the next controller begins: what runs there is not forgotten.
  rig.hosts.get('a')!.disconnect();
  const held = rig.hosts.get('a')!.vms.size;
  await rig.crash();
  await until(() => rig.ready(key) === 9, 'nine without a');
  t.ok(held > 0 && rig.vms().length === 9 + held, 'those on a may still run');
  t.deepEqual(doubles(rig), [], 'so their addresses are not used');
  rig.hosts.get('a')!.connect();
  await until(settled(rig, key, 9), 'back');
  await rig.close();
});

test('a launch of a dead controller that still goes on holds its address, although nobody wants its VM any more', async (t) => {
  // Four addresses for both hosts together: one that is given back too early is taken at once.
  const rig = await makeFleet(['a', 'b'], { networks: [fakeNetwork('10.64.0.0', '10.64.1.1', '10.64.1.4')] });
  const a = rig.hosts.get('a')!;
  a.launchMs = 150;
  const key = rig.apply({ count: 4, placement: { labels: {} } });
  await until(() => rig.hosts.get('b')!.vms.size === 2 && a.isHeld('t.s.0.1'), 'b is done, a is at it');
  await rig.crash();
  rig.forget(key);
  const other = rig.apply({ name: 'other', count: 2, restart: { firstMs: 10, maxMs: 20 } });
  const seen: string[] = [];
  const end = Date.now() + 900;
  while (Date.now() < end) {
    seen.push(...doubles(rig));
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  t.deepEqual(seen, [], 'at no time on two VMs');
  t.deepEqual(a.launched.filter((name) => name.startsWith('t.s.')).length, 2, 'the old launches did go on');
  await until(
    () => rig.ready(other) === 2 && rig.vms().length === 2 && rig.fleet.copies.size === 2,
    'and in the end only what is wanted',
    8000,
  );
  await rig.close();
});

test('a disk that is full: what cannot be written down is not asked for, and is when there is room again', async (t) => {
  const store = new MemoryStore();
  const rig = await makeFleet(['a'], { store });
  const write = store.write.bind(store);
  let full = false;
  store.write = (changes) =>
    full && changes.some(({ key }) => key.startsWith('copy/')) ? Promise.reject(new Error('no space left')) : write(changes);
  const key = rig.apply({ count: 2 });
  await until(settled(rig, key, 2), 'two');
  full = true;
  rig.apply({ count: 4 });
  await until(() => rig.log.some((line) => line.includes('no space left')), 'it is said');
  t.deepEqual([rig.vms().length, rig.fleet.copies.size], [2, 2], 'no VM that nobody would know of');
  full = false;
  rig.fleet.poke(key);
  await until(settled(rig, key, 4), 'four');
  await rig.close();
});

test('what belongs to others is left alone', async (t) => {
  const rig = await makeFleet(['a']);
  const a = rig.hosts.get('a')!;
  const other = {
    uuid: newVmUuid(),
    name: 'theirs',
    copy: undefined,
    state: 'running' as const,
    memoryKib: 4096,
    image: '',
    args: '',
    addresses: [{ network: 'default', ip: '10.64.1.1' }],
  };
  a.put(other);
  const stranger = {
    ...other,
    uuid: newVmUuid(),
    name: 't.s.0.1',
    copy: { fleet: 'ffffffff', tenant: 't', service: 's', slot: 0, serial: 1, revision: '0000000a' },
    addresses: [],
  };
  a.put(stranger);
  const key = rig.apply({ count: 3 });
  await until(() => rig.ready(key) === 3, 'three of ours');
  t.deepEqual(doubles(rig), [], 'the address of a foreign VM is not used');
  const one = [...rig.fleet.copies.of(key)][0]!;
  a.put({ ...other, uuid: newVmUuid(), name: 'clone', copy: one.record.id, addresses: [] });
  rig.forget(key);
  await until(() => rig.fleet.copies.size === 0, 'ours are gone');
  t.deepEqual(
    [...a.vms.values()].map(({ name }) => name).sort(),
    ['clone', 't.s.0.1', 'theirs'],
    'foreign VMs, those of another fleet, and a clone that someone made stay',
  );
  await rig.close();
});

test('10,000 copies on 50 hosts from scratch, one host lost, and what the controller remembers', async (t) => {
  const names = Array.from({ length: 50 }, (_, i) => `h${i}`);
  const rig = await makeFleet(names, { graceMs: 50 });
  const keys = Array.from({ length: 20 }, (_, i) => rig.apply({ name: `s${i}`, count: 500 }));
  const began = Date.now();
  const ready = () => keys.reduce((sum, key) => sum + rig.ready(key), 0);
  await until(() => ready() === 10_000, '10,000 running', 60_000);
  t.comment(`all running after ${Date.now() - began} ms, last plan ${rig.fleet.stats.planMs.toFixed(1)} ms`);
  t.deepEqual(doubles(rig), []);
  rig.hosts.get('h7')!.disconnect();
  const lost = Date.now();
  await until(
    () => [...rig.fleet.copies.on('h7')].length === 200 && ready() === 10_000 && rig.fleet.copies.size === 10_200,
    'made elsewhere',
    60_000,
  );
  t.comment(`after a host was lost: ${Date.now() - lost} ms`);
  rig.hosts.get('h7')!.connect();
  await until(() => rig.vms().length === 10_000 && rig.fleet.copies.size === 10_000, 'no doubles', 60_000);
  t.deepEqual(doubles(rig), []);
  await rig.close();
});
