/** Minicache with its objects on a disk, which is a file here: what it serves after it was killed, and what it does when the disk is no good. */
import { copyFileSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { makeVolume, ObjectStore } from '../../../../src/cache/store/volume.ts';
import { admin, Cache, get, Origin, sleep, until } from './rig.ts';

const mib = 1024 * 1024;

async function metric(name: string): Promise<number> {
  const text = (await admin('/metrics'))?.body.toString() ?? '';
  return Number(new RegExp(`^minicache_${name} (\\d+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
}

async function settled(): Promise<void> {
  for (let i = 0; i < 500 && (await metric('store_settled')) !== 1; i++) await sleep(10);
}

async function findings(path: string): Promise<number> {
  const store = await ObjectStore.open(path);
  try {
    return (await store.verify()).length;
  } finally {
    await store.close();
  }
}

async function withDisk(bytes: number, work: (path: string, origin: Origin, start: (...words: string[]) => Promise<Cache>) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-mc-disk-'));
  const origin = new Origin();
  const port = await origin.listen();
  const path = join(folder, 'disk');
  writeFileSync(path, '');
  truncateSync(path, bytes);
  try {
    await work(path, origin, async (...words) => {
      const cache = new Cache();
      await cache.start(port, `disk=${path}`, ...words, 'ram=4096'); // the first of a word counts
      return cache;
    });
  } finally {
    origin.close();
    rmSync(folder, { recursive: true });
  }
}

const serves = (cache: Cache): Promise<boolean> => until(() => cache.output.includes('serving on port'));

test('on a disk: what was whole is there after a kill, without the origin; what was not is fetched anew', (t) =>
  withDisk(16 * mib, async (path, origin, start) => {
    await makeVolume(path);
    const bodies = [randomBytes(1_500_000), randomBytes(10), randomBytes(16_384), randomBytes(0)];
    for (const [i, body] of bodies.entries()) origin.give(`/${i}`, body);
    const half = randomBytes(600_000);
    origin.on('/half', (_request, response) => {
      response.writeHead(200, { 'Content-Length': half.length, 'Cache-Control': 'max-age=1000' });
      response.write(half.subarray(0, 400_000));
    });
    const first = await start();
    t.ok(await serves(first), 'it mounts and serves');
    for (const [i, body] of bodies.entries()) t.ok((await get(`/${i}`))?.body.equals(body), `body ${i}`);
    void get('/half');
    await settled();
    await sleep(100);
    await first.kill();
    t.equal(await findings(path), 0, 'the volume is sound after kill -9 in the middle of a fill');
    origin.give('/half', half);
    const second = await start();
    t.ok(await serves(second), `again: ${second.output}`);
    t.match(second.output, /4 objects on the disk/);
    for (const [i, body] of bodies.entries()) {
      const answer = await get(`/${i}`);
      t.ok(answer?.body.equals(body), `body ${i} from the disk`);
      t.match(answer?.headers['cache-status'] ?? '', /hit/);
      t.equal(origin.count(`/${i}`), 1);
    }
    t.ok((await get('/1', { Range: 'bytes=2-4' }))?.body.equals(bodies[1]!.subarray(2, 5)), 'a part');
    t.ok((await get('/half'))?.body.equals(half), 'nothing partial is served');
    t.equal(origin.count('/half'), 2);
    t.equal((await admin('/purge?url=site/0', 'POST'))?.status, 200);
    await settled();
    t.equal(await second.stop(), '', 'the sanitizers found nothing');
    const third = await start();
    t.ok(await serves(third));
    await get('/0');
    t.equal(origin.count('/0'), 2, 'what was purged stays away');
    t.equal(await third.stop(), '');
  }));

test('on a disk: it is full', (t) =>
  withDisk(2 * mib, async (path, origin, start) => {
    const cache = await start();
    t.ok(await serves(cache), 'a blank disk becomes a volume');
    const bodies = Array.from({ length: 40 }, (_, i) => randomBytes(100_000 + i));
    for (const [i, body] of bodies.entries()) origin.give(`/${i}`, body);
    const large = randomBytes(5 * mib);
    origin.give('/large', large);
    let wrong = 0;
    for (let round = 0; round < 2; round++) for (const [i, body] of bodies.entries()) if (!(await get(`/${i}`))?.body.equals(body)) wrong++;
    t.equal(wrong, 0, 'every body is right while objects come and go');
    t.ok((await metric('evicted_total')) > 20);
    t.ok((await get('/large'))?.body.equals(large), 'what does not fit is passed on');
    await settled();
    t.equal(await cache.stop(), '', 'the sanitizers found nothing');
    t.equal(await findings(path), 0);
  }));

test('on a disk: bytes that changed are served to nobody', (t) =>
  withDisk(16 * mib, async (path, origin, start) => {
    const bodies = Array.from({ length: 8 }, () => randomBytes(400_000));
    for (const [i, body] of bodies.entries()) origin.give(`/${i}`, body);
    const first = await start();
    await serves(first);
    for (const i of bodies.keys()) await get(`/${i}`);
    await settled();
    await first.kill();
    const file = openSync(path, 'r+');
    for (let at = 2 * mib; at < 4 * mib; at += 100_000) writeSync(file, Buffer.from('changed'), 0, 7, at);
    const second = await start();
    await serves(second);
    const cut: number[] = [];
    for (const [i, body] of bodies.entries()) {
      const answer = await get(`/${i}`);
      if (answer === undefined) cut.push(i);
      else t.ok(answer.body.equals(body), `body ${i} is right`);
    }
    t.ok(cut.length > 0, `${cut.length} were cut off where the disk lied`);
    for (const i of cut) t.ok((await get(`/${i}`))?.body.equals(bodies[i]!), `${i} is fetched anew`);
    t.equal(await second.stop(), '', 'the sanitizers found nothing');
  }));

test('on a disk: it holds something else, or is not there', (t) =>
  withDisk(16 * mib, async (path, _origin, start) => {
    writeFileSync(path, Buffer.alloc(mib, 'somebody\'s file system'));
    copyFileSync(path, `${path}.before`);
    const cache = await start();
    t.ok(await until(() => cache.output.includes('holds something that is no object store')), 'it says so');
    t.notOk(cache.output.includes('serving'), 'and does not serve');
    t.equal(await cache.stop(), '');
    rmSync(path);
    const none = await start();
    t.ok(await until(() => none.output.includes('no disk came up')), 'nor without one');
    t.equal(await none.stop(), '');
    writeFileSync(path, '');
    truncateSync(path, 512 * mib);
    const small = await start('ram=512');
    t.ok(await until(() => /do not hold the index|not enough memory/.test(small.output)), `too little memory for its index: ${small.output.slice(-200)}`);
    t.equal(await small.stop(), '');
  }));
