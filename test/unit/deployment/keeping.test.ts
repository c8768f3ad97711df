/** The bare repository's own housekeeping: packing, the record of rollouts, what killed programs left. */
import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { Guard } from '../../../src/control/deployment/guard.ts';
import { counts, isDue, repack } from '../../../src/control/deployment/pack.ts';
import { RolloutRecord } from '../../../src/control/deployment/record.ts';
import { openRepository } from '../../../src/control/deployment/repository.ts';
import { Turns } from '../../../src/control/deployment/backend.ts';
import { DesiredReader } from '../../../src/desired/desired.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { kernel, Repo, sourceOf } from '../desired/rig.ts';

test('packing puts images and everything else into a pack each; every version is as readable as before, and a second time changes nothing', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  for (let i = 2; i < 12; i++) await repo.commit(await repo.releaseFiles(i, `v${i}`), 'anna');
  t.ok((await repo.push()).ok);
  const before = await counts(repo.bare);
  t.ok(before.looseObjects > 50 && before.packs === 0, 'a push arrives loose');
  t.notOk(isDue(before));
  t.ok(isDue(before, { looseObjects: 10, looseKib: 1e9, packs: 9 }));
  const reader = new DesiredReader(repo.bare);
  const head = await repo.head();
  const state = await reader.at(head);
  await repack(repo.bare);
  const after = await counts(repo.bare);
  t.deepEqual([after.looseObjects, after.packs], [0, 2]);
  t.deepEqual(await reader.at(head), state, 'read the same');
  const past = await reader.releasesByCommit(head, sourceOf('v5').slice(0, 6), 'acme', 'ping');
  t.equal(past.length, 1);
  const parts: Uint8Array[] = [];
  for await (const part of reader.image(past[0]!.imageOid)) parts.push(part);
  t.deepEqual(Buffer.concat(parts), kernel('v5').bytes, 'an old image');
  await repack(repo.bare);
  t.deepEqual(await counts(repo.bare), after, 'again: the same');
  t.equal((await repo.run(['fsck', '--full', '--strict'], repo.bare)).code, 0);
  await repo.commit(await repo.releaseFiles(12, 'v12'));
  t.ok((await repo.push()).ok, 'and pushed to');
  await repack(repo.bare);
  t.equal((await reader.at(await repo.head())).services[0]!.release.counter, 12, 'packs that changed are read anew');
  await reader.close();
});

test('the record of a rollout is a line of commits a service; what is written together is all there, in order', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  const record = new RolloutRecord(repo.bare);
  await Promise.all([...Array(20).keys()].map((i) => record.append('acme', i % 2 === 0 ? 'ping' : 'pong', { step: i, event: 'gate', state: 'canary' })));
  await record.append('acme', 'ping', { step: 20, text: 'ü\n"' });
  t.deepEqual((await record.last('acme', 'ping', 3)).map((entry) => (entry as { step: number }).step), [20, 18, 16]);
  t.equal((await repo.run(['rev-list', '--count', 'refs/rollout/acme/ping'], repo.bare)).text.trim(), '11');
  t.equal((await repo.run(['log', '-1', '--skip=1', '--format=%s', 'refs/rollout/acme/ping'], repo.bare)).text.trim(), 'acme/ping gate canary');
  t.deepEqual(await record.last('acme', 'none', 3), []);
  await record.append('acme', 'large', { text: 'x'.repeat(70_000) }).then(
    () => t.fail('too large'),
    (error: ShoalError) => t.equal(error.code, 'REQUEST_TOO_LARGE'),
  );
});

test('what a killed git left is taken away when it is old; settings are put right at each start', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  const old = new Date(Date.now() - 120_000);
  for (const name of ['objects/incoming-abc', 'objects/tmp_objdir-incoming-x']) {
    await mkdir(join(repo.bare, name));
    await utimes(join(repo.bare, name), old, old);
  }
  for (const name of ['refs/heads/main.lock', 'packed-refs.lock', 'refs/heads/young.lock']) await writeFile(join(repo.bare, name), '');
  for (const name of ['refs/heads/main.lock', 'packed-refs.lock']) await utimes(join(repo.bare, name), old, old);
  await writeFile(join(repo.bare, 'hooks/pre-receive'), '#!/bin/sh\nexit 0\n');
  await openRepository(await repo.options());
  t.deepEqual((await readdir(join(repo.bare, 'objects'))).filter((name) => /incoming/.test(name)), []);
  t.deepEqual(await readdir(join(repo.bare, 'refs/heads')), ['young.lock'], 'a lock that may be held stays');
  t.ok((await repo.push()).ok, 'it can be pushed to');
  await repo.commit(await repo.releaseFiles(2, 'two'), 'eve');
  t.notOk((await repo.push()).ok, 'the hook is back');
});

test('packing goes alone, and only when nobody writes; pushes wait their turn, and too many are turned away', async (t) => {
  const guard = new Guard();
  const leave = await guard.enter();
  t.equal(await guard.alone(async () => t.fail('somebody writes')), false);
  leave();
  leave();
  const order: string[] = [];
  let release!: () => void;
  const packing = guard.alone(() => new Promise<void>((done) => (release = () => (order.push('packed'), done()))));
  const writing = guard.beside(async () => void order.push('written'));
  release();
  t.equal(await packing, true);
  await writing;
  t.deepEqual(order, ['packed', 'written']);

  const turns = new Turns(1, 1);
  const first = await turns.take();
  const second = turns.take();
  await turns.take().then(
    () => t.fail('one too many'),
    (error: ShoalError) => t.equal(error.code, 'HOST_LIMIT'),
  );
  first();
  first();
  (await second)();
  (await turns.take())();
});
