/** From a name to a VM: which version, one boot however many ask, when it is answered, when it is stopped, and what a killed summoner leaves. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { summonedName, targetOf } from '../../../src/summon/names.ts';
import { addressOf, digestOf, makeRig, sourceOf } from './rig.ts';

const web = (commit?: string) => ({ tenant: 'acme', service: 'web', commit });
const name1 = summonedName('web', sourceOf(1));
const key1 = `acme/${name1}`;
const booting = (key: string) => [{ address: addressOf(key), ready: false, held: false, failed: false }];
const tick = (ms = 5): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('summon: names', (t) => {
  t.deepEqual(targetOf(['abcd', 'web', 'acme']), { tenant: 'acme', service: 'web', commit: 'abcd' });
  t.deepEqual(targetOf(['web', 'acme']), { tenant: 'acme', service: 'web', commit: undefined });
  for (const labels of [['acme'], ['abc', 'web', 'acme'], ['abcg', 'web', 'acme'], ['x', 'abcd', 'web', 'acme'], ['w_b', 'acme'], ['abcd', '-web', 'acme'], ['web', 'a'.repeat(17)]])
    t.equal(targetOf(labels), undefined, labels.join('.'));
  t.ok(/^[a-z0-9][a-z0-9-]{0,27}$/.test(name1) && name1 !== summonedName('web2', sourceOf(1)) && name1 !== summonedName('web', sourceOf(2)));
  t.end();
});

test('summon: a past version is booted, once', async (t) => {
  const { fleet, summoner } = await makeRig();
  const answers = await Promise.all(Array.from({ length: 50 }, () => summoner.resolve(web(sourceOf(1).slice(0, 8)))));
  t.ok(answers.every((answer) => answer.is === 'address' && answer.addresses[0] === addressOf(key1)), 'fifty questions, fifty answers');
  t.deepEqual(fleet.log, ['image 1', `apply ${key1}`], 'one boot, its image first');
  t.deepEqual([fleet.specs.get(key1)!.image, fleet.specs.get(key1)!.count], [digestOf(1), 1]);
  t.equal((await summoner.resolve(web(sourceOf(1)))).is, 'address', 'by its whole commit, too');
  t.equal(fleet.log.length, 2);
  t.equal((await summoner.resolve(web('9999'))).is, 'unknown', 'no such commit');
  t.equal((await summoner.resolve({ ...web('1abc'), service: 'other' })).is, 'unknown', 'no such service');
  t.deepEqual(await summoner.resolve(web()), { is: 'address', addresses: [addressOf('acme/web')] }, 'the service that always runs is answered for');
  t.equal((await summoner.resolve({ tenant: 'acme', service: name1, commit: undefined })).is, 'unknown', 'a summoned one is no name of its own');
  fleet.all.get('acme/web')!.push({ counter: 4, source: `1abc1${sourceOf(1).slice(5)}`, digest: digestOf(4) });
  await tick();
  t.equal(await summoner.exists(web(sourceOf(2).slice(0, 6))), true);
  await summoner.close();
  t.end();
});

test('summon: a past version is not kept by the probes of its own health check', async (t) => {
  const { fleet, summoner } = await makeRig();
  const health = { kind: 'http', port: 80, path: '/up', intervalMs: 2000, timeoutMs: 900, healthyAfter: 1, unhealthyAfter: 3, graceMs: 10_000 } as const;
  fleet.specs.set('acme/web', { ...fleet.specs.get('acme/web')!, health });
  for (const [idleS, expected] of [
    [60, { ...health, intervalMs: 120_000 }],
    [0.5, health],
    [7200, { kind: 'icmp', intervalMs: 2000, timeoutMs: 900, healthyAfter: 1, unhealthyAfter: 3, graceMs: 10_000 }],
  ] as const) {
    const { summoner: each } = await makeRig({ fleet, idleS });
    t.equal((await each.resolve(web('1abc'))).is, 'address');
    t.deepEqual(fleet.specs.get(key1)!.health, expected, `idle after ${idleS} s`);
    fleet.specs.delete(key1);
    await each.close();
  }
  await summoner.close();
  t.end();
});

test('summon: a commit that two begin with is none; of two releases of one commit the newest counts', async (t) => {
  const { fleet, summoner } = await makeRig();
  fleet.all.set('acme/web', [
    { counter: 1, source: `abcd1${'0'.repeat(35)}`, digest: digestOf(1) },
    { counter: 3, source: `abcd2${'0'.repeat(35)}`, digest: digestOf(3) },
    { counter: 2, source: `abcd2${'0'.repeat(35)}`, digest: digestOf(2) },
  ]);
  t.equal((await summoner.resolve(web('abcd'))).is, 'unknown');
  t.equal((await summoner.resolve(web('abcd2'))).is, 'address');
  t.ok([...fleet.specs.values()].some(({ image }) => image === digestOf(3)));
  await summoner.close();
  t.end();
});

test('summon: nobody is answered too early', async (t) => {
  const { fleet, summoner } = await makeRig();
  fleet.boots = booting;
  const early: string[] = [];
  const asked = Promise.all([summoner.resolve(web('1abc')).then(({ is }) => early.push(is)), summoner.resolve(web('1abc')).then(({ is }) => early.push(is))]);
  await tick(30);
  const second = summoner.resolve(web('1abc')).then(({ is }) => early.push(is));
  await tick(100);
  t.deepEqual(early, [], 'while it boots, not the second query either');
  fleet.copiesOf.set(key1, [{ address: '10.0.0.9', ready: true, held: false, failed: false }]);
  await Promise.all([asked, second]);
  t.deepEqual(early, ['address', 'address', 'address']);
  t.deepEqual(summoner.summoned(), [{ service: key1, state: 'up', addresses: ['10.0.0.9'] }]);
  await summoner.close();
  t.end();
});

test('summon: where the host holds its frames the address is told at once', async (t) => {
  const { fleet, summoner } = await makeRig();
  fleet.boots = (key) => [{ address: addressOf(key), ready: false, held: true, failed: false }];
  t.equal((await summoner.resolve(web('1abc'))).is, 'address');
  t.equal(summoner.summoned()[0]!.state, 'booting');
  fleet.copiesOf.set(key1, [{ address: addressOf(key1), ready: true, held: false, failed: false }]);
  await tick(300);
  t.equal(summoner.summoned()[0]!.state, 'up');
  await summoner.close();
  t.end();
});

test('summon: ended by somebody else while it boots', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  fleet.policies.set('acme/web', { idleS: 60 });
  await fleet.scale('acme', 'web', 0);
  clock.ms += 2000;
  fleet.boots = (key) => [{ address: addressOf(key), ready: false, held: true, failed: false }];
  t.equal((await summoner.resolve(web())).is, 'address');
  await fleet.scale('acme', 'web', 0);
  await tick(300);
  t.deepEqual(summoner.summoned(), [], 'it is forgotten');
  t.equal((await summoner.resolve(web())).is, 'address');
  t.equal(fleet.log.filter((line) => line === 'scale acme/web 1').length, 2, 'and begun anew');
  await summoner.close();
  t.end();
});

test('summon: a version that does not start', async (t) => {
  const rig = await makeRig({ bootMs: 200, answerMs: 20_000 });
  const { fleet, clock } = rig;
  fleet.boots = booting;
  const asked = rig.summoner.resolve(web('1abc'));
  await tick(30);
  clock.ms += 300;
  t.equal((await asked).is, 'failed', 'is a failure, not silence');
  await tick(20);
  t.ok(fleet.log.includes(`remove ${key1}`), 'and is taken away');
  t.equal((await rig.summoner.resolve(web('1abc'))).is, 'failed');
  t.equal(fleet.log.filter((line) => line.startsWith('apply')).length, 1, 'for a while it is not tried again');
  fleet.boots = (key) => [{ address: addressOf(key), ready: true, held: false, failed: false }];
  clock.ms += 1000;
  t.equal((await rig.summoner.resolve(web('1abc'))).is, 'address', 'then it is');
  fleet.away = true;
  clock.ms += 2000;
  t.equal((await rig.summoner.resolve(web('2abc'))).is, 'failed', 'without the controller: a failure');
  t.equal(await rig.summoner.exists(web('9abc')), undefined);
  clock.ms += 1_000_000;
  t.equal((await rig.summoner.resolve(web('1abc'))).is, 'address', 'what runs is answered for all the same');
  await rig.summoner.close();
  t.end();
});

test('summon: what could not be taken away is taken away later', async (t) => {
  const { fleet, summoner, clock } = await makeRig({ bootMs: 200, answerMs: 20_000 });
  fleet.boots = booting;
  const asked = summoner.resolve(web('1abc'));
  await tick(30);
  fleet.away = true;
  t.equal((await asked).is, 'failed');
  await tick(20);
  t.ok(fleet.specs.has(key1), 'it is still there');
  fleet.away = false;
  clock.ms += 500;
  await summoner.look();
  t.notOk(fleet.specs.has(key1), 'and goes at the next look');
  await summoner.close();
  t.end();
});

test('summon: the second failure waits longer', async (t) => {
  const rig = await makeRig({ bootMs: 100, answerMs: 20_000 });
  rig.fleet.apply = async () => {
    rig.fleet.log.push('tried');
    throw new ShoalError('UNPLACEABLE', 'no room');
  };
  const tries = (): number => rig.fleet.log.filter((line) => line === 'tried').length;
  for (const [waitMs, expected] of [[0, 1], [999, 1], [1, 2], [1999, 2], [1, 3], [3999, 3], [1, 4]] as const) {
    rig.clock.ms += waitMs;
    t.equal((await rig.summoner.resolve(web('1abc'))).is, 'failed');
    await tick(2);
    t.equal(tries(), expected);
  }
  await rig.summoner.close();
  t.end();
});

test('summon: stopped by what is counted, not by who asks', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  await summoner.resolve(web('1abc'));
  const count = (frames: number, idleMs: number): void => void fleet.trafficOf.set(key1, [{ address: addressOf(key1), frames, idleMs }]);
  count(10, 0);
  await summoner.look();
  for (let i = 0; i < 10; i++) {
    clock.ms += 30_000;
    count(10 + i, 100);
    await summoner.look();
  }
  t.equal(summoner.summoned().length, 1, 'a long connection keeps it, and nobody asked');
  clock.ms += 59_000;
  await summoner.look();
  t.equal(summoner.summoned().length, 1);
  for (let i = 0; i < 3; i++) {
    await summoner.resolve(web('1abc'));
    clock.ms += 3_000;
  }
  await summoner.look();
  t.equal(summoner.summoned().length, 1, 'who was just told its address may come');
  clock.ms += 7_000;
  await summoner.look();
  t.equal(summoner.summoned().length, 0, 'asked for again and again, but not used: stopped');
  t.ok(fleet.log.includes(`remove ${key1}`));
  t.equal((await summoner.resolve(web('1abc'))).is, 'address', 'and begun anew');
  fleet.trafficOf.delete(key1);
  clock.ms += 1_000_000;
  await summoner.look();
  t.equal(summoner.summoned().length, 1, 'where nobody counts nothing is stopped');
  fleet.away = true;
  await summoner.look();
  t.equal(summoner.summoned().length, 1, 'nor while nobody knows');
  await summoner.close();
  t.end();
});

test('summon: a service from nothing, and back', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  fleet.add('acme/job', 0);
  clock.ms += 2000;
  t.equal((await summoner.resolve({ tenant: 'acme', service: 'job', commit: undefined })).is, 'unknown', 'one that may not be summoned');
  fleet.policies.set('acme/job', { idleS: 10 });
  clock.ms += 2000;
  t.deepEqual(await summoner.resolve({ tenant: 'acme', service: 'job', commit: undefined }), { is: 'address', addresses: [addressOf('acme/job')] });
  t.ok(fleet.log.includes('scale acme/job 1'));
  fleet.trafficOf.set('acme/job', [{ address: addressOf('acme/job'), frames: 3, idleMs: 11_000 }]);
  await summoner.look();
  clock.ms += 11_000;
  await summoner.look();
  t.ok(fleet.log.includes('scale acme/job 0'), 'its own time counts');
  t.ok(fleet.specs.has('acme/job'), 'it is scaled, never removed');
  await summoner.resolve(web());
  fleet.trafficOf.set('acme/web', [{ address: addressOf('acme/web'), frames: 0, idleMs: 1e9 }]);
  clock.ms += 1e7;
  await summoner.look();
  fleet.copiesOf.delete('acme/web');
  await summoner.look();
  t.notOk(fleet.log.some((line) => line.startsWith('scale acme/web')), 'one that has no such policy is never touched');
  await summoner.close();
  t.end();
});

test('summon: a service that somebody else started is stopped when it is idle', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  fleet.policies.set('acme/job', { idleS: 10 });
  fleet.add('acme/job', 1);
  fleet.trafficOf.set('acme/job', [{ address: '', frames: 1, idleMs: 0 }]);
  for (let i = 0; i < 4; i++) {
    clock.ms += 8_000;
    await summoner.look();
  }
  t.ok(fleet.log.includes('scale acme/job 0'));
  const calls = fleet.calls;
  clock.ms += 2_000;
  await summoner.look();
  t.ok(fleet.calls - calls <= 1, 'those that always run are not asked about each time');
  await summoner.close();
  t.end();
});

test('summon: the service is deleted while a version of it runs', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  await summoner.resolve(web('1abc'));
  fleet.specs.delete('acme/web');
  clock.ms += 2000;
  await summoner.look();
  t.ok(fleet.log.includes(`remove ${key1}`));
  await summoner.exists(web()); // looked up again meanwhile
  await tick();
  t.equal((await summoner.resolve(web('1abc'))).is, 'unknown');
  t.deepEqual(summoner.summoned(), []);
  await summoner.close();
  t.end();
});

test('summon: killed and begun again', async (t) => {
  const rig = await makeRig();
  await rig.summoner.resolve(web('1abc'));
  const summoner = await rig.again();
  t.deepEqual(summoner.summoned(), [{ service: key1, state: 'up', addresses: [addressOf(key1)] }], 'what it had summoned is known');
  t.equal((await summoner.resolve(web('1abc'))).is, 'address');
  t.equal(rig.fleet.log.filter((line) => line.startsWith('apply')).length, 1, 'and not booted again');
  rig.fleet.trafficOf.set(key1, [{ address: '', frames: 0, idleMs: 0 }]);
  rig.clock.ms += 1000;
  await summoner.look();
  rig.clock.ms += 61_000;
  await summoner.look();
  t.deepEqual(summoner.summoned(), [], 'and stopped when it is idle');
  rig.fleet.boots = booting;
  const hanging = rig.summoner.resolve(web('2abc'));
  await tick(20);
  const next = await rig.again();
  t.equal(next.summoned()[0]?.state, 'booting', 'one that was still booting is waited for again');
  const late = next.resolve(web('2abc'));
  await tick(50);
  rig.fleet.copiesOf.set(`acme/${summonedName('web', sourceOf(2))}`, [{ address: '10.0.0.77', ready: true, held: false, failed: false }]);
  t.deepEqual(await late, { is: 'address', addresses: ['10.0.0.77'] }, 'and answered when it is there');
  rig.fleet.specs.delete('acme/web');
  const last = await rig.again();
  rig.clock.ms += 2000;
  await last.look();
  t.notOk([...rig.fleet.specs.keys()].some((key) => key.includes('summoned')), 'what belongs to nobody any more goes');
  await hanging;
  await last.close();
  t.end();
});

test('summon: bounds', async (t) => {
  const { fleet, summoner } = await makeRig({ most: 2 });
  t.deepEqual([(await summoner.resolve(web('1abc'))).is, (await summoner.resolve(web('2abc'))).is, (await summoner.resolve(web('3abc'))).is], ['address', 'address', 'failed']);
  const before = fleet.calls;
  await Promise.all(Array.from({ length: 5000 }, (_, i) => summoner.resolve({ tenant: 'acme', service: `none-${i}`, commit: 'abcd' })));
  t.ok(fleet.calls - before < 5, `5,000 names that do not exist cost the controller ${fleet.calls - before} calls`);
  await summoner.close();
  t.end();
});

test('summon: the service, or what was summoned of it, is deleted while it boots', async (t) => {
  const { fleet, summoner, clock } = await makeRig({ answerMs: 20_000 });
  const summoned = (): string[] => [...fleet.specs.keys()].filter((key) => key !== 'acme/web');
  fleet.boots = booting;
  const never = summoner.resolve(web('1abc'));
  await tick(30);
  fleet.specs.delete('acme/web');
  clock.ms += 2000;
  await summoner.look();
  clock.ms += 2000;
  t.equal((await never).is, 'failed', 'who waits for what never comes up is told');
  await tick(20);
  t.deepEqual(summoned(), [], 'and it is taken away');

  fleet.add('acme/web');
  clock.ms += 200_000;
  await summoner.look();
  const late = summoner.resolve(web('3abc'));
  await tick(30);
  fleet.specs.delete('acme/web');
  fleet.copiesOf.set(summoned()[0]!, [{ address: '10.0.0.3', ready: true, held: false, failed: false }]);
  t.equal((await late).is, 'address', 'one that comes up all the same answers');
  clock.ms += 2000;
  await summoner.look();
  t.deepEqual(summoned(), [], 'and ends with the next look');

  fleet.add('acme/web');
  clock.ms += 200_000;
  const ended = summoner.resolve(web('1abc'));
  await tick(30);
  await fleet.remove('acme', name1);
  t.equal((await ended).is, 'failed', 'what boots is deleted itself');
  clock.ms += 200_000;
  fleet.boots = (key) => [{ address: addressOf(key), ready: true, held: false, failed: false }];
  t.equal((await summoner.resolve(web('1abc'))).is, 'address', 'and begun anew when asked for');
  await summoner.close();
  t.end();
});

test('summon: a service that was deleted since it was last asked for', async (t) => {
  const { fleet, summoner, clock } = await makeRig();
  await summoner.resolve(web('1abc'));
  clock.ms += 3_600_000;
  fleet.specs.delete('acme/web');
  t.notEqual((await summoner.resolve(web('2abc'))).is, 'address', 'no version of it is told, though it was known');
  await tick(20);
  t.notOk([...fleet.specs.keys()].includes(`acme/${summonedName('web', sourceOf(2))}`), 'nor left running');
  t.equal((await summoner.resolve(web('3abc'))).is, 'unknown');
  await summoner.close();
  t.end();
});
