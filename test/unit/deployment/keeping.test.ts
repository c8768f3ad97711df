/** The bare repository's own housekeeping: packing, the record of rollouts, what killed programs left. */
import { spawn } from 'node:child_process';
import { copyFile, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { Guard } from '../../../src/control/deployment/guard.ts';
import { counts, isDue, repack } from '../../../src/control/deployment/pack.ts';
import { looseIds, packsOf, toMerge, type Pack } from '../../../src/control/deployment/packs.ts';
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

test('small packs go into larger ones; each object is written anew only when its pack doubles', (t) => {
  const packs: Pack[] = [];
  let written = 0;
  let most = 0;
  for (let i = 0; i < 1000; i++) {
    packs.sort((a, b) => a.objects - b.objects);
    const merged = packs.splice(0, toMerge(packs, 100));
    const objects = merged.reduce((sum, pack) => sum + pack.objects, 100);
    packs.push({ name: '', family: 'images', objects });
    written += objects;
    most = Math.max(most, packs.length);
  }
  t.equal(packs.reduce((sum, { objects }) => sum + objects, 0), 100_000, 'nothing is lost');
  t.ok(most <= 10, `${most} packs at most after 1,000 times`);
  t.ok(written < 100_000 * 11, `each object was written ${written / 100_000} times`);
  t.equal(toMerge([{ name: '', family: 'images', objects: 9 }], 0), 0, 'one pack and nothing new: it stays');
  t.end();
});

/** Every version that was ever pushed, by its source commit. */
async function readable(repo: Repo, versions: readonly string[]): Promise<string[]> {
  const reader = new DesiredReader(repo.bare);
  const head = (await repo.run(['rev-parse', 'main'], repo.bare)).text.trim();
  const missing: string[] = [];
  for (const version of versions) {
    const [past] = await reader.releasesByCommit(head, sourceOf(version), 'acme', 'ping');
    const parts: Uint8Array[] = [];
    if (past !== undefined) for await (const part of reader.image(past.imageOid)) parts.push(part);
    if (!Buffer.concat(parts).equals(kernel(version).bytes)) missing.push(version);
  }
  await reader.close();
  return missing;
}

test('packing time after time: every image is kept as what it differs by, whatever ref or pack it came with', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  const record = new RolloutRecord(repo.bare);
  const versions: string[] = [];
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 4; i++) {
      versions.push(`r${round}-${i}`);
      await repo.commit(await repo.releaseFiles(versions.length + 1, versions.at(-1)!), 'anna');
    }
    // One push comes as a pack, as those do that are too large to be taken apart.
    if (round === 2) await repo.run(['config', 'receive.unpackLimit', '1'], repo.bare);
    t.ok((await repo.push()).ok);
    if (round === 2) await repo.run(['config', '--unset', 'receive.unpackLimit'], repo.bare);
    await record.append('acme', 'ping', { step: round });
    await repack(repo.bare);
  }
  const packs = await packsOf(repo.bare);
  t.ok(packs.length >= 2 && packs.length <= 6 && packs.every(({ family }) => family !== undefined), `${packs.length} packs, each of one kind`);
  t.equal((await counts(repo.bare)).looseObjects, 0);
  t.deepEqual(await readable(repo, versions), [], 'every version');
  t.equal((await record.last('acme', 'ping', 9)).length, 5);
  t.equal((await repo.run(['fsck', '--full', '--strict'], repo.bare)).code, 0);
  const lines = (await Promise.all(packs.filter(({ family }) => family === 'images').map(({ name }) => repo.run(['verify-pack', '-v', `objects/pack/${name}.idx`], repo.bare)))).map(({ text }) => text).join('\n');
  const whole = lines.split('\n').filter((line) => /^[0-9a-f]{40} blob +\d+ \d+ \d+$/.test(line)).length;
  t.ok(whole < versions.length / 2, `${whole} of ${versions.length} images are whole`);

  // What no ref leads to stays as it is, and does not make packing due again and again.
  const id = (await repo.run(['hash-object', '-w', 'HEAD'], repo.bare)).text.trim();
  await repack(repo.bare);
  t.deepEqual([...(await looseIds(repo.bare))], [id]);
  const left = await counts(repo.bare);
  const bounds = { looseObjects: 0, looseKib: 0, packs: 1 };
  t.ok(isDue(left, { ...bounds, packs: 99 }) && !isDue(left, bounds, left));

  // What somebody fetched in is there twice: the second time a pack comes out that is there already, under its own name.
  const folder = join(repo.bare, 'objects/pack');
  const own = async (): Promise<string[]> => (await packsOf(repo.bare)).map(({ name }) => name).sort();
  const seen: string[][] = [];
  for (let round = 0; round < 3; round++) {
    for (const [i, name] of (await own()).entries()) for (const ending of ['.pack', '.idx']) await copyFile(join(folder, name + ending), join(folder, `pack-${String(i).repeat(40)}${ending}`));
    await repack(repo.bare);
    seen.push(await own());
  }
  t.ok(seen.flat().every((name) => /^pack-(images|others)-/.test(name)), 'what was fetched in is gone');
  t.deepEqual(seen[2], seen[1], 'the same packs come out');
  t.deepEqual(await readable(repo, versions), [], 'and every version is there');
});

test('kill -9 at any moment of packing: every version is there, and the next time it is done', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  const versions: string[] = [];
  const program = `import { repack } from './src/control/deployment/pack.ts';
process.stdout.write('go');
await repack(process.argv[1]);
process.stdout.write('done');`;
  let ended = 0;
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 3; i++) {
      versions.push(`r${round}-${i}`);
      await repo.commit(await repo.releaseFiles(versions.length + 1, versions.at(-1)!), 'anna');
    }
    t.ok((await repo.push()).ok);
    // A group of its own: git goes with it.
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program, repo.bare], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
    let said = '';
    await new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.stdout.on('data', (part: Buffer) => {
        said += part.toString();
        if (said !== 'go') return;
        setTimeout(() => {
          try {
            process.kill(-child.pid!, 'SIGKILL');
          } catch {
            // It had ended before.
          }
        }, round * 8).unref();
      });
    }).catch(() => {});
    if (said.endsWith('done')) ended++;
    t.equal((await repo.run(['fsck', '--full'], repo.bare)).code, 0, `killed after ${round * 8} ms${said.endsWith('done') ? ', and it had ended' : ''}`);
  }
  t.deepEqual(await readable(repo, versions), [], 'every version');
  t.ok(ended < 10, `${10 - ended} of 10 were cut short`);
  await repack(repo.bare);
  t.equal((await counts(repo.bare)).looseObjects, 0);
  t.ok((await packsOf(repo.bare)).every(({ family }) => family !== undefined));
  t.deepEqual(await readable(repo, versions), []);
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
  const pack = join(repo.bare, 'objects/pack');
  await mkdir(pack, { recursive: true });
  for (const name of ['pack-images-1.pack', 'pack-2.pack', 'pack-2.idx', 'tmp_pack_3', 'pack-4.pack']) await writeFile(join(pack, name), '');
  for (const name of ['pack-images-1.pack', 'pack-2.pack', 'pack-2.idx', 'tmp_pack_3']) await utimes(join(pack, name), old, old);
  await writeFile(join(repo.bare, 'hooks/pre-receive'), '#!/bin/sh\nexit 0\n');
  await openRepository(await repo.options());
  t.deepEqual((await readdir(join(repo.bare, 'objects'))).filter((name) => /incoming/.test(name)), []);
  t.deepEqual(await readdir(join(repo.bare, 'refs/heads')), ['young.lock'], 'a lock that may be held stays');
  t.deepEqual((await readdir(pack)).sort(), ['pack-2.idx', 'pack-2.pack', 'pack-4.pack'], 'half a pack goes when it is old');
  for (const name of await readdir(pack)) await rm(join(pack, name));
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

  // Who comes to write stops it, unless it insists.
  const untilStopped = (signal: AbortSignal): Promise<void> => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('stopped'))));
  const stopped = guard.alone(untilStopped);
  await guard.beside(async () => void order.push('written at once'));
  t.equal(await stopped, false);
  let seen: AbortSignal | undefined;
  const insisting = guard.alone((signal) => new Promise((done) => ((seen = signal), (release = done))), true);
  const waiting = guard.beside(async () => void order.push('waited'));
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual([seen?.aborted, order.at(-1)], [false, 'written at once']);
  release();
  t.equal(await insisting, true);
  await waiting;
  t.equal(order.at(-1), 'waited');
  await guard.alone(() => Promise.reject(new Error('broken'))).then(
    () => t.fail('a failure is no giving way'),
    (error: Error) => t.equal(error.message, 'broken'),
  );

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
