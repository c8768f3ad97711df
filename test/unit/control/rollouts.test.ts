/** Rollouts in the controller over hosts in memory: what is pushed comes to run, or what ran before does. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import type { Probes } from '../../../src/control/gates.ts';
import { Rollouts } from '../../../src/control/rollouts.ts';
import { until } from '../host/rig.ts';
import { doubles } from './rig.ts';
import { imageOf, makeRollouts, policy, push, type RolloutRig } from './rollout-rig.ts';

const at = (rig: RolloutRig, phase: string, images: string) => () => rig.phase() === phase && rig.images() === images;
const first = async (rig: RolloutRig, spec: object = {}, rollout = policy()): Promise<void> => {
  await rig.rollouts.begin(push(1, 'a', spec, rollout));
  await until(at(rig, 'done', 'aaaaaa'), 'the first release runs');
};

test('a push: canary, waves, done; the same again and the same digest roll nothing; the record says it', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  t.equal(rig.rollouts.status('t', 's').state, 'idle');
  await first(rig);
  const seen = new Set<number>();
  const watch = setInterval(() => seen.add(rig.images().split('b').length - 1), 1);
  await rig.rollouts.begin(push(2, 'b'));
  t.equal(rig.rollouts.status('t', 's').state, 'rolling');
  await until(at(rig, 'done', 'bbbbbb'), 'the second', 8000);
  clearInterval(watch);
  t.ok(seen.has(1) && seen.has(3), `canary and half were seen: ${[...seen].join(' ')}`);
  t.deepEqual(rig.rollouts.status('t', 's'), { release: 2, state: 'done' });
  t.equal(rig.fleet.state.get('service', 't/s')!.spec.image, imageOf('b'), 'the service is at rest with it');
  const launched = rig.vms().map(({ name }) => name).sort();
  await rig.rollouts.begin(push(2, 'b'));
  await rig.rollouts.begin(push(3, 'b'));
  await until(() => rig.rollouts.status('t', 's').release === 3, 'release 3');
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.deepEqual(rig.vms().map(({ name }) => name).sort(), launched, 'the same digest: nothing rolls');
  await until(() => rig.entries.at(-1)?.release === 3, 'recorded');
  t.deepEqual(rig.entries.map(({ number }) => number), rig.entries.map((_, i) => i + 1), 'each step once, in order');
  t.deepEqual(
    rig.entries.filter(({ rollout }) => rollout === 2).map(({ event, phase, wave }) => `${event} ${phase} ${wave}`),
    [
      'begin replacing 0',
      'progress gating 0',
      'gates-passed observing 0',
      'tick replacing 1',
      'progress gating 1',
      'gates-passed observing 1',
      'tick replacing 2',
      'progress gating 2',
      'gates-passed observing 2',
      'tick done 2',
    ],
  );
  t.equal(rig.audited.length, rig.entries.length, 'and in the audit log');
  rig.rollouts.close();
  const early = new Rollouts({ fleet: rig.fleet, services: rig.services, probes: {} as Probes, tickMs: 5 });
  await early.begin(push(4, 'b'));
  await new Promise((resolve) => setTimeout(resolve, 50));
  const late: number[] = [];
  early.record = async (_tenant, _name, entry) => void late.push(entry.release);
  early.open();
  await until(() => late.includes(4), 'what was begun before it was open is recorded when it is');
  early.close();
  t.deepEqual(doubles(rig), []);
  await rig.close();
});

for (const [what, how] of [
  ['answers 500', 'bad'],
  ['does not answer', 'mute'],
] as const)
  test(`an image that ${what}: the canary alone was ever bad, every copy is back on the good one`, async (t) => {
    for (const mode of ['waves', 'hot-fix'] as const) {
      const rig = await makeRollouts(['a', 'b']);
      await first(rig);
      rig[how].add('b');
      await rig.rollouts.begin(push(2, 'b', {}, policy({ mode })));
      await until(at(rig, 'rolled-back', 'aaaaaa'), 'back', 8000);
      t.ok(rig.most('b') <= 1, `${mode}: ${rig.most('b')} were bad`);
      const status = rig.rollouts.status('t', 's');
      t.ok(status.state === 'rolled-back' && /http:/.test(status.reason ?? ''), status.reason);
      await rig.rollouts.begin(push(2, 'b', {}, policy({ mode })));
      t.equal(rig.phase(), 'rolled-back', 'asked for again it is not tried again');
      rig[how].clear();
      await rig.rollouts.begin(push(3, 'b', {}, policy({ mode })));
      await until(at(rig, 'done', 'bbbbbb'), 'under a new number', 8000);
      await rig.close();
    }
  });

test('pause, resume, abort in full promotion, promote over a sick stable version, rollback by number', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  await first(rig);
  await rig.rollouts.begin(push(2, 'b', {}, policy({ observeMs: 3_600_000 })));
  await until(at(rig, 'observing', 'aaaaab'), 'the canary is watched');
  // Its signer is removed, say: a commit that says nothing of this service, whose release was taken when it was pushed.
  await rig.rollouts.begin({ ...push(2, 'b', {}, policy({ observeMs: 3_600_000 })), commit: 'd'.repeat(40) });
  t.deepEqual([rig.phase(), rig.images(), rig.rollouts.view('t/s').commit], ['observing', 'aaaaab', 'd'.repeat(40)], 'another commit changes nothing of it');
  await rig.rollouts.act('t/s', 'pause', 'me');
  rig.skippedMs += 86_400_000;
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.equal(rig.phase(), 'paused', 'a day later it is paused still');
  t.equal(rig.images(), 'aaaaab');
  t.deepEqual(rig.rollouts.status('t', 's').state, 'paused');
  await rig.rollouts.act('t/s', 'resume', 'me');
  rig.skippedMs += 86_400_000;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.deepEqual([rig.phase(), rig.images()], ['observing', 'aaaaab'], 'a clock that jumps ends no watch');
  // All of the stable version die, and die again.
  for (const host of rig.hosts.values())
    for (const vm of [...host.vms.values()]) if (vm.image === imageOf('a')) host.change(vm.uuid, { state: 'halted' });
  await rig.rollouts.act('t/s', 'promote', 'me');
  await until(at(rig, 'done', 'bbbbbb'), 'promoted');
  await rig.rollouts.begin(push(3, 'c', {}, policy({ budget: 1 })));
  await until(() => rig.images().includes('c'), 'c begins');
  await rig.rollouts.act('t/s', 'promote', 'me');
  await until(() => rig.images().split('c').length > 3 || rig.phase() === 'done', 'in full promotion');
  await rig.rollouts.act('t/s', 'abort', 'me').catch(() => rig.rollouts.act('t/s', 'rollback', 'me'));
  await until(at(rig, 'rolled-back', 'bbbbbb'), 'aborted');
  await rig.rollouts.act('t/s', 'rollback', 'me', 1);
  await until(at(rig, 'rolled-back', 'aaaaaa'), 'back to release 1');
  await rig.rollouts.act('t/s', 'rollback', 'me', 9).then(
    () => t.fail('release 9 never was'),
    (error: Error) => t.match(error.message, /none that passed/),
  );
  t.ok(rig.entries.some(({ text }) => text.includes('by me')), 'who did it is in the record');
  await rig.close();
});

test('two pushes in a row, a push during a rollback, a service applied by hand, one that is deleted while it rolls', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  const key = rig.apply({ count: 6, image: imageOf('a') });
  await until(() => rig.ready(key) === 6, 'by hand');
  const slow = policy({ observeMs: 3_600_000 });
  await rig.rollouts.begin(push(2, 'b', {}, slow));
  await until(at(rig, 'observing', 'aaaaab'), 'over what was applied by hand');
  rig.bad.add('b');
  await rig.rollouts.begin(push(3, 'c', {}, slow));
  await until(at(rig, 'observing', 'aaaaac'), 'the newer takes over');
  await rig.rollouts.act(key, 'abort', 'me');
  await rig.rollouts.begin(push(4, 'd'));
  await until(at(rig, 'done', 'dddddd'), 'during a rollback', 8000);
  t.ok(rig.most('b') <= 1 && rig.most('c') <= 1, 'those before it never went past their canary');

  await rig.rollouts.begin(push(5, 'e', {}, slow));
  await until(at(rig, 'observing', 'ddddde'), 'five');
  await rig.services.apply([{ tenant: 't', name: 's', image: imageOf('f'), memoryKib: 4096, count: 4 }], undefined);
  await until(at(rig, 'done', 'ffff'), 'applied by hand: it takes over', 8000);
  await rig.rollouts.begin(push(5, 'e', {}, slow));
  t.equal(rig.phase(), 'done', 'the push before it does not undo that');
  t.deepEqual(rig.rollouts.status('t', 's'), { release: 5, state: 'rolled-back', reason: 'another version was applied by hand' });
  await rig.services.scale(key, 6);
  await rig.rollouts.begin(push(5, 'e', {}, slow));
  await rig.rollouts.begin({ ...push(5, 'e', {}, slow), commit: 'f'.repeat(40) });
  t.equal(rig.fleet.state.get('service', key)!.spec.count, 6, 'nor does one that says nothing new of this service undo a scaling by hand');
  await rig.rollouts.begin({ ...push(5, 'e', { count: 5 }, slow), commit: 'f'.repeat(40) });
  await until(() => rig.images() === 'fffff', 'one that says another number does');
  await rig.services.scale(key, 6);
  await rig.rollouts.begin(push(6, 'a', { count: 6 }, slow));
  await until(at(rig, 'observing', 'afffff'), 'the next push rolls');
  await rig.services.scale(key, 8);
  await until(() => rig.images() === 'afffffff', 'scaled while it rolls: on the good one');
  await rig.services.remove(key);
  await until(() => rig.images() === '' && rig.phase() === 'none', 'deleted while it rolls');
  t.deepEqual([rig.fleet.copies.size, rig.fleet.state.all('copy').size], [0, 0]);
  await rig.rollouts.begin(push(7, 'b'));
  rig.bad.delete('b');
  await until(at(rig, 'done', 'bbbbbb'), 'pushed anew', 8000);
  await rig.rollouts.begin({ commit: 'e'.repeat(40), services: [] });
  await until(() => rig.images() === '' && rig.phase() === 'none', 'taken out of the repository');
  await rig.close();
});

test('a first release that is bad has nothing to go back to; one that expired or cannot be is not begun', async (t) => {
  const rig = await makeRollouts(['a']);
  rig.bad.add('a');
  await rig.rollouts.begin(push(1, 'a'));
  await until(() => rig.phase() === 'failed', 'failed');
  t.ok(rig.most('a') <= 1, 'the canary alone');
  rig.bad.clear();
  await rig.rollouts.begin(push(2, 'b'));
  await until(at(rig, 'done', 'bbbbbb'), 'the next', 8000);
  await rig.rollouts.begin(push(3, 'c', {}, policy(), '2026-01-01T00:00:00Z'));
  t.match(rig.rollouts.status('t', 's').reason ?? '', /expired/);
  await rig.rollouts.begin(push(4, 'c', { placement: { labels: { no: 'such' } } }));
  t.equal(rig.rollouts.status('t', 's').state, 'failed');
  t.match(rig.rollouts.status('t', 's').reason ?? '', /label/);
  t.equal(rig.images(), 'bbbbbb', 'nothing was touched');
  await rig.services.changeHost('a', { labels: { no: 'such' } });
  await until(at(rig, 'done', 'cccccc'), 'begun as soon as it can be', 12_000);
  await rig.rollouts.begin(push(2, 'b'));
  t.match(rig.rollouts.status('t', 's').reason ?? '', /asked for already/, 'an older one');
  t.equal(rig.images(), 'cccccc');
  await rig.close();
});

test('drain while it rolls; a host that misses ten releases and comes back', async (t) => {
  const rig = await makeRollouts(['a', 'b', 'c'], { graceMs: 100 });
  await first(rig);
  await rig.rollouts.begin(push(2, 'b'));
  await until(() => rig.images().includes('b'), 'it rolls');
  await rig.services.drain('a');
  await until(() => at(rig, 'done', 'bbbbbb')() && rig.hosts.get('a')!.vms.size === 0, 'both came to be', 8000);
  await rig.services.changeHost('a', { drained: false });
  const away = rig.hosts.get('c')!;
  const had = away.vms.size;
  t.ok(had > 0, 'it has copies');
  away.disconnect();
  for (let i = 0; i < 10; i++) {
    const letter = 'cdefabcdef'[i]!;
    await rig.rollouts.begin(push(3 + i, letter, {}, policy({ mode: 'hot-fix', observeMs: 0, budget: 6 })));
    await until(() => rig.phase() === 'done' && rig.rollouts.status('t', 's').release === 3 + i, `release ${3 + i}`, 8000);
  }
  t.equal(away.vms.size, had, 'what it ran it runs, for all anybody knows');
  t.deepEqual(doubles(rig), [], 'and no address of it is anywhere else');
  away.connect();
  await until(at(rig, 'done', 'ffffff'), 'it has caught up');
  await rig.close();
});

test('what was planned for the wave before says nothing of this one', async (t) => {
  const rig = await makeRollouts(['a']);
  await first(rig);
  await rig.rollouts.begin(push(2, 'b', {}, policy({ observeMs: 200 })));
  await until(at(rig, 'observing', 'aaaaab'), 'the canary is watched');
  const { progress, state } = rig.fleet;
  await until(() => progress.get('t/s')?.of?.phase === 'observing', 'planned');
  const stale = progress.get('t/s')!;
  rig.hosts.get('a')!.refuse = () => new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'full');
  await until(() => state.get('rollout', 't/s')?.wave === 1, 'the next wave');
  progress.set('t/s', stale);
  progress.set = () => progress;
  rig.fleet.poke('t/s');
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.deepEqual([rig.phase(), state.get('rollout', 't/s')?.wave, stale.missing], ['replacing', 1, 0]);
  await rig.close();
});

test('a copy that goes bad while it is watched is found out', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  await first(rig);
  await rig.rollouts.begin(push(2, 'b', {}, policy({ observeMs: 3000 })));
  await until(at(rig, 'observing', 'aaaaab'), 'the canary is watched');
  rig.bad.add('b');
  await until(at(rig, 'rolled-back', 'aaaaaa'), 'back', 8000);
  t.match(rig.rollouts.status('t', 's').reason ?? '', /answers 500/);
  t.equal(rig.most('b'), 1, 'the canary alone');
  await rig.close();
});

test('gates of a whole wave: a command that says no, one that says yes; old and new side by side', async (t) => {
  const rig = await makeRollouts(['a', 'b']);
  await first(rig);
  const gates = [...policy().gates, { kind: 'compare', windowMs: 60, maxErrorRate: 0, maxLatencyRatio: 100 } as const, { kind: 'command', name: 'smoke', timeoutMs: 100 } as const];
  rig.commandSays = () => 'no';
  await rig.rollouts.begin(push(2, 'b', {}, policy({ gates })));
  await until(at(rig, 'rolled-back', 'aaaaaa'), 'refused');
  t.equal(rig.rollouts.status('t', 's').reason, 'no');
  const facts = JSON.parse(rig.commands[0]!.input) as { wave: number; release: number; copies: { isNew: boolean }[] };
  t.deepEqual([facts.wave, facts.release, facts.copies.filter(({ isNew }) => isNew).length, facts.copies.length], [0, 2, 1, 6]);
  rig.commandSays = () => undefined;
  await rig.rollouts.begin(push(3, 'c', {}, policy({ gates })));
  await until(at(rig, 'done', 'cccccc'), 'passed', 8000);
  t.equal(rig.commands.length, 4, 'once a wave');
  await rig.close();
});

test('hosts that have copies are given the image when the rollout begins, not when they launch', async (t) => {
  const rig = await makeRollouts(['a', 'b', 'c']);
  await rig.rollouts.begin(push(1, 'a', { count: 2 }));
  await until(() => rig.phase() === 'done', 'one');
  const with1 = [...new Set([...rig.fleet.copies.all()].map(({ host }) => host))].sort();
  const brought: string[] = [];
  rig.fleet.bringer = { has: () => true, bring: async (unit, image) => void brought.push(`${unit.record.name} ${image.slice(7, 8)}`) };
  await rig.rollouts.begin(push(2, 'b', { count: 2 }));
  t.deepEqual(brought.sort(), with1.map((host) => `${host} b`), 'those and no others');
  await rig.rollouts.begin(push(2, 'b', { count: 2 }));
  t.equal(brought.length, with1.length, 'asked for again it is not brought again');
  await until(() => rig.phase() === 'done', 'two');
  await rig.close();
});
