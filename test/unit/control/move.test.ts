/** Addresses that go from copy to copy: the service keeps its own, on whatever image. */
import test from 'tape';
import { until } from '../host/rig.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { doubles } from './rig.ts';
import { makeRollouts, policy, push, type RolloutRig } from './rollout-rig.ts';

const list = [1, 2, 3, 4].map((i) => `10.64.9.${i}`);
const listed = { count: 4, networks: [{ name: 'default', addresses: { from: 'list', list } }] };
const move = policy({ mode: 'hot-fix', replace: { address: 'move', drainMs: 60 } });
const done = (rig: RolloutRig, phase: string, images: string) => () => rig.phase() === phase && rig.images() === images;
const firsts = (rig: RolloutRig): string[] => rig.vms().map(({ ip }) => ip ?? '').sort();
/** Which of the listed addresses no running VM has. */
const unserved = (rig: RolloutRig): string[] => {
  const served = new Set([...rig.hosts.values()].flatMap((host) => [...host.vms.values()].filter(({ state }) => state === 'running').flatMap((vm) => vm.addresses.map(({ ip }) => ip))));
  return list.filter((ip) => !served.has(ip));
};

test('listed addresses: each is always on one VM, over three releases and a rollback', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  await rig.rollouts.begin(push(1, 'a', listed, move));
  await until(done(rig, 'done', 'aaaa'), 'one');
  t.deepEqual(firsts(rig), list);
  const missed = new Set<string>();
  const watch = setInterval(() => [...unserved(rig), ...doubles(rig)].forEach((ip) => missed.add(ip)), 1);
  await rig.rollouts.begin(push(2, 'b', listed, move));
  await until(done(rig, 'done', 'bbbb'), 'two', 8000);
  t.deepEqual(firsts(rig), list, 'the same addresses');
  t.equal([...rig.hosts.values()].reduce((sum, host) => sum + host.moved.length, 0), 4, 'moved once each');
  t.deepEqual([...rig.fleet.copies.all()].map(({ addresses }) => addresses.length), [2, 2, 2, 2], 'and each keeps the one it began with');
  await rig.rollouts.begin(push(3, 'c', listed, move));
  await until(done(rig, 'done', 'cccc'), 'three', 8000);
  t.deepEqual(firsts(rig), list, 'those it began with are not handed on');
  await rig.rollouts.act('t/s', 'rollback', 'me', 1);
  await until(done(rig, 'rolled-back', 'aaaa'), 'back to one', 8000);
  clearInterval(watch);
  t.deepEqual(firsts(rig), list);
  t.deepEqual([...missed], [], 'at no moment an address was on no VM, or on two');
  t.equal(rig.fleet.copies.addresses.size('default'), 8, 'four, and four they began with, are held');
  await rig.services.remove('t/s');
  await until(() => rig.images() === '' && rig.fleet.copies.addresses.size('default') === 0, 'nothing is held any more');
  await rig.close();
});

test('the old copy keeps its connections for its time, and no longer; the new one is asked before it gets the address', async (t) => {
  const rig = await makeRollouts(['a']);
  const slow = policy({ mode: 'hot-fix', replace: { address: 'move', drainMs: 400 } });
  await rig.rollouts.begin(push(1, 'a', { ...listed, count: 1 }, slow));
  await until(done(rig, 'done', 'a'), 'one');
  rig.bad.add('b');
  await rig.rollouts.begin(push(2, 'b', { ...listed, count: 1 }, slow));
  await until(done(rig, 'rolled-back', 'a'), 'back');
  t.equal(rig.hosts.get('a')!.moved.length, 0, 'a bad one never got the address');
  rig.bad.clear();
  await rig.rollouts.begin(push(3, 'b', { ...listed, count: 1 }, slow));
  await until(() => rig.hosts.get('a')!.moved.length === 1, 'moved');
  const beganMs = Date.now();
  await until(() => rig.phase() === 'done', 'done');
  t.equal(rig.images(), 'ab', 'the old one is still there');
  await rig.crash();
  await until(() => rig.images() === 'b', 'until its time is over, also under the next controller');
  t.ok(Date.now() - beganMs >= 350, 'not sooner');
  await rig.close();
});

test('a copy that runs takes its address while others of the same call are still being launched', async (t) => {
  const nine = [...Array(9).keys()].map((i) => `10.64.9.${i + 1}`);
  const many = { count: 9, networks: [{ name: 'default', addresses: { from: 'list', list: nine } }] };
  const rig = await makeRollouts(['a']);
  await rig.rollouts.begin(push(1, 'a', many, move));
  await until(done(rig, 'done', 'a'.repeat(9)), 'one');
  const host = rig.hosts.get('a')!;
  host.launchMs = 600;
  await rig.rollouts.begin(push(2, 'b', many, move));
  // The canary's, and one of the others.
  await until(() => host.moved.length > 1, 'the first has its address', 8000);
  t.ok(host.launched.length - 9 <= 3, `${host.launched.length - 9} of 9 were launched then`);
  await until(done(rig, 'done', 'b'.repeat(9)), 'two', 8000);
  t.deepEqual(firsts(rig), nine);
  await rig.close();
});

test('what is replaced after the rollout keeps its addresses too: on a host that was away, and on a restart', async (t) => {
  const rig = await makeRollouts(['a', 'b'], { graceMs: 60_000 });
  await rig.rollouts.begin(push(1, 'a', listed, move));
  await until(done(rig, 'done', 'aaaa'), 'one');
  const missed = new Set<string>();
  const watch = setInterval(() => [...unserved(rig), ...doubles(rig)].forEach((ip) => missed.add(ip)), 1);
  rig.hosts.get('b')!.disconnect();
  await rig.rollouts.begin(push(2, 'b', listed, move));
  await until(done(rig, 'done', 'aabb'), 'done without the host that is away', 8000);
  rig.hosts.get('b')!.connect();
  await until(done(rig, 'done', 'bbbb'), 'it is back', 8000);
  const before = new Set(rig.vms().map(({ name }) => name));
  await rig.services.restart('t/s');
  await until(() => rig.images() === 'bbbb' && rig.vms().every(({ name }) => !before.has(name)), 'restarted', 8000);
  clearInterval(watch);
  t.deepEqual(firsts(rig), list);
  t.deepEqual([...missed], [], 'at no moment an address was on no VM, or on two');
  await rig.close();
});

test('aborted while nobody knows who has the address: it goes back first', async (t) => {
  const rig = await makeRollouts(['a']);
  await rig.rollouts.begin(push(1, 'a', { ...listed, count: 1 }, move));
  await until(done(rig, 'done', 'a'), 'one');
  const host = rig.hosts.get('a')!;
  let gaps = 0;
  const notOnOne = (): boolean => unserved(rig).length !== 3 || doubles(rig).length > 0;
  const told = host.remove.bind(host);
  // Looked at in the very moment when a VM goes.
  host.remove = (uuid, silently) => {
    told(uuid, silently);
    if (notOnOne()) gaps++;
  };
  for (const crashes of [false, true]) {
    host.moved.length = 0;
    host.loseMoves = 1_000_000;
    await rig.rollouts.begin(push(crashes ? 3 : 2, 'b', { ...listed, count: 1 }, move));
    await until(() => host.moved.length === 1, 'moved, and the answer lost');
    if (crashes) await rig.crash();
    await rig.rollouts.act('t/s', 'abort', 'me');
    host.loseMoves = 0;
    await until(done(rig, 'rolled-back', 'a'), 'back', 8000);
    t.deepEqual(firsts(rig), list.slice(0, 1), 'the good one has it again');
    t.equal(rig.fleet.copies.addresses.size('default'), 1);
  }
  t.equal(gaps, 0, 'before the other one goes');
  // One that vanishes before anybody knows what it had.
  host.loseMoves = 1_000_000;
  host.moved.length = 0;
  await rig.rollouts.begin(push(4, 'b', { ...listed, count: 1 }, { ...move, failuresAllowed: 0 }));
  await until(() => host.moved.length === 1, 'moved, and the answer lost');
  const taker = [...host.vms.values()].find(({ image }) => image.includes('bb'))!;
  await rig.rollouts.act('t/s', 'pause', 'me');
  host.loseMoves = 0;
  host.remove(taker.uuid);
  await until(() => unserved(rig).length === 3 && rig.images() === 'a', 'it came back to the one it was taken from');
  await rig.rollouts.act('t/s', 'resume', 'me');
  await until(done(rig, 'done', 'b'), 'and the next one takes it', 8000);
  t.deepEqual(firsts(rig), list.slice(0, 1));
  await rig.close();
});

test('answers that are lost, a host that moves nothing, one without room, one that dies before it took over', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  await rig.rollouts.begin(push(1, 'a', listed, move));
  await until(done(rig, 'done', 'aaaa'), 'one');
  for (const host of rig.hosts.values()) host.loseMoves = 2;
  await rig.rollouts.begin(push(2, 'b', listed, move));
  await until(done(rig, 'done', 'bbbb'), 'lost answers', 8000);
  t.deepEqual(firsts(rig), list);
  for (const host of rig.hosts.values()) host.moves = false;
  await rig.rollouts.begin(push(3, 'c', listed, move));
  await until(done(rig, 'done', 'cccc'), 'hosts that move nothing: stopped first', 8000);
  t.deepEqual(firsts(rig), list);
  const own = { count: 4, name: 'own' };
  await rig.rollouts.begin({ ...push(3, 'c', listed, move), services: [...push(3, 'c', listed, move).services, ...push(1, 'a', own, move).services] });
  await until(() => rig.phase('t/own') === 'done', 'another one');
  await rig.rollouts.begin({ ...push(3, 'c', listed, move), services: [...push(3, 'c', listed, move).services, ...push(2, 'b', own, move).services] });
  await until(() => rig.phase('t/own') === 'done' && rig.images() === 'bbbbcccc', 'addresses of the host: each has its own', 8000);
  await rig.close();

  const full = await makeRollouts(['a'], { totalKib: 64 * 1024 + 16 * 1024 + 4 * (4096 + 512) + 2048 });
  await full.rollouts.begin(push(1, 'a', listed, move));
  await until(done(full, 'done', 'aaaa'), 'a full host');
  await full.rollouts.begin(push(2, 'b', listed, move));
  await until(done(full, 'done', 'bbbb'), 'without room beside: stopped first', 8000);
  t.deepEqual(firsts(full), list);
  await full.close();

  const dying = await makeRollouts(['a']);
  await dying.rollouts.begin(push(1, 'a', listed, move));
  await until(done(dying, 'done', 'aaaa'), 'one');
  const host = dying.hosts.get('a')!;
  let killed = 0;
  const watch = setInterval(() => {
    for (const vm of [...host.vms.values()])
      if (vm.image.includes('bb') && !vm.addresses.some(({ ip }) => list.includes(ip)) && killed < 3) {
        killed++;
        host.remove(vm.uuid);
      }
  }, 1);
  await dying.rollouts.begin(push(2, 'b', listed, { ...move, failuresAllowed: 10 }));
  await until(done(dying, 'done', 'bbbb'), 'those that vanish are made again', 8000);
  clearInterval(watch);
  t.ok(killed > 0, `${killed} were killed`);
  t.deepEqual(firsts(dying), list);
  host.refuse = () => new ShoalError('IMAGE_NOT_ELF', 'no ELF');
  await dying.rollouts.begin(push(3, 'c', listed, move));
  await until(done(dying, 'rolled-back', 'bbbb'), 'an image no host takes');
  t.deepEqual(firsts(dying), list);
  await dying.close();
});
