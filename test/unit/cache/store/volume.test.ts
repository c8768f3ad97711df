/** Object stores as the tool makes and reads them: vectors shared with C, damage, a kill between any two writes, C and TypeScript on one volume. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, copyFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { planVolume, readRecord, readVolume, writeRecord, writeVolume, type Volume } from '../../../../src/cache/store/format.ts';
import { siphash24 } from '../../../../src/cache/store/siphash.ts';
import { keyOf, makeVolume, ObjectStore } from '../../../../src/cache/store/volume.ts';
import { isShoalError } from './errors.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
const vectors = readFileSync(join(root, 'test/vectors/object-store/format.txt'), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => line.split(' '));
const bytesOf = (text: string): Buffer => (text === '-' ? Buffer.alloc(0) : Buffer.from(text, 'hex'));

/** Runs `work` with a fresh folder. */
async function inFolder(work: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-store-'));
  try {
    await work((name) => join(folder, name));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Bytes that no two bodies share. */
function body(seed: string, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 32) createHash('sha256').update(`${seed} ${at}`).digest().copy(bytes, at);
  return bytes;
}

async function withStore<T>(path: string, mode: 'r' | 'r+', work: (store: ObjectStore) => Promise<T>): Promise<T> {
  const store = await ObjectStore.open(path, mode);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

async function bodyOf(store: ObjectStore, key: Uint8Array): Promise<Buffer | undefined> {
  const record = store.find(key);
  if (record === undefined) return undefined;
  const parts: Buffer[] = [];
  for await (const part of store.body(record)) parts.push(part);
  return Buffer.concat(parts);
}

test('the format is that of the vectors', (t) => {
  let volume: Volume | undefined;
  let lines = 0;
  for (const [kind, ...words] of vectors) {
    lines++;
    if (kind === 'siphash') {
      const [low, high] = siphash24(bytesOf(words[0]!), bytesOf(words[1]!));
      t.equal(((BigInt(high) << 32n) | BigInt(low)).toString(16).padStart(16, '0'), words[2], 'siphash');
    } else if (kind === 'volume') {
      volume = planVolume(Number(words[0]), Number(words[1]), bytesOf(words[2]!))!;
      t.ok(writeVolume(volume).equals(bytesOf(words[3]!)), `volume of ${words[0]}`);
      const first = Buffer.alloc(8192);
      bytesOf(words[3]!).copy(first, 4096);
      const read = readVolume(first, volume.deviceBytes);
      t.deepEqual(typeof read === 'string' ? read : read.chunkCount, volume.chunkCount, 'and read, from its second copy');
      t.equal(typeof readVolume(first, volume.deviceBytes - 1), 'string', 'not on a device that is shorter');
    } else if (kind === 'record') {
      const record = readRecord(volume!, Number(words[0]), bytesOf(words[7]!))!;
      t.ok(writeRecord(volume!, record).equals(bytesOf(words[7]!)), `record at ${words[0]}`);
      t.deepEqual([String(record.sequence), String(record.length)], [words[1], words[2]]);
      t.ok(Buffer.from(record.meta).equals(bytesOf(words[6]!)));
      t.ok(record.checks.every((check, i) => check === Math.imul(0x01000193, i + 1) >>> 0), 'checks');
      t.equal(readRecord(volume!, Number(words[0]) + 1, bytesOf(words[7]!)), undefined, 'not at another place');
    } else {
      t.equal(readRecord(volume!, Number(words[1]), bytesOf(words[2]!)), undefined, `bad: ${words[0]}`);
    }
  }
  t.ok(lines > 20, `${lines} vectors`);
  t.end();
});

test('what is put is there after a restart; what is damaged is said and never given out', (t) =>
  inFolder(async (path) => {
    const file = path('v');
    await makeVolume(file, { bytes: 8 << 20 });
    const long = body('long', 300_001);
    await withStore(file, 'r+', async (store) => {
      await store.put(keyOf('/a'), Buffer.from('first'), body('a1', 50_000));
      await store.put(keyOf('/long'), Buffer.alloc(0), long);
      await store.put(keyOf('/empty'), Buffer.from('nothing'), Buffer.alloc(0));
      await store.put(keyOf('/a'), Buffer.from('second'), body('a2', 70_000));
      const gone = await store.put(keyOf('/gone'), Buffer.alloc(0), body('gone', 10));
      await store.remove(gone);
    });
    await withStore(file, 'r', async (store) => {
      t.equal(store.records.length, 3);
      t.ok((await bodyOf(store, keyOf('/a')))!.equals(body('a2', 70_000)), 'the later of a key');
      t.equal(Buffer.from(store.find(keyOf('/a'))!.meta).toString(), 'second');
      t.ok((await bodyOf(store, keyOf('/long')))!.equals(long));
      t.equal((await bodyOf(store, keyOf('/empty')))!.length, 0);
      t.deepEqual(await store.verify(), []);
    });
    const { volume, at } = await withStore(file, 'r', async (store) => ({ volume: store.volume, at: store.find(keyOf('/long'))!.extents[0]!.first }));
    const bytes = readFileSync(file);
    bytes[volume.chunksOffset + (at + 2) * 16384 + 77]! ^= 4;
    writeFileSync(file, bytes);
    await withStore(file, 'r', async (store) => {
      t.equal((await store.verify()).length, 1, 'found');
      t.ok(await isShoalError(bodyOf(store, keyOf('/long')), 'VOLUME_INVALID'), 'not given out');
    });
    t.ok(await isShoalError(makeVolume(file), 'VOLUME_INVALID'), 'not made over what is there');
    writeFileSync(path('other'), body('other', 1 << 20));
    t.ok(await isShoalError(ObjectStore.open(path('other')), 'VOLUME_INVALID'), 'not a store');
    await makeVolume(file, { force: true });
    await withStore(file, 'r+', async (store) => {
      t.equal(store.records.length, 0, 'made anew: nothing of before is found');
      const free = store.freeChunks;
      t.ok(await isShoalError(store.put(keyOf('/x'), Buffer.alloc(0), Buffer.alloc((free + 1) * 16384)), 'VOLUME_FULL'));
      t.equal(store.freeChunks, free, 'and nothing is taken by it');
      t.ok(await isShoalError(store.put(keyOf('/x'), Buffer.alloc(8193), Buffer.alloc(1)), 'VOLUME_FULL'), 'meta too long');
    });
  }).then(() => t.end()));

test('a record that was torn at any sector leaves what was there before', (t) =>
  inFolder(async (path) => {
    const file = path('v');
    await makeVolume(file, { bytes: 4 << 20 });
    await withStore(file, 'r+', (store) => store.put(keyOf('/a'), Buffer.alloc(3000, 'o'), body('old', 40_000)));
    const before = readFileSync(file);
    await withStore(file, 'r+', (store) => store.put(keyOf('/a'), Buffer.alloc(3000, 'n'), body('new', 60_000)));
    const after = readFileSync(file);
    const changed: number[] = [];
    for (let at = 8192; at < 139_264; at += 512) if (!before.subarray(at, at + 512).equals(after.subarray(at, at + 512))) changed.push(at);
    t.ok(changed.length >= 7, `${changed.length} sectors of records changed`);
    for (const lost of changed) {
      // All of it but one sector, the older record not erased yet.
      const torn = Buffer.from(after);
      before.copy(torn, 8192, 8192, 8704);
      before.copy(torn, lost, lost, lost + 512);
      writeFileSync(file, torn);
      await withStore(file, 'r', async (store) => {
        const found = await bodyOf(store, keyOf('/a'));
        const isErasure = lost === 8192;
        t.ok(found!.equals(isErasure ? body('new', 60_000) : body('old', 40_000)), `sector at ${lost}`);
      });
    }
  }).then(() => t.end()));

test('minicache reads what the tool wrote, and the tool what minicache wrote', (t) =>
  inFolder(async (path) => {
    const program = join(root, 'build/unikernels/test/disk_format');
    const make = spawnSync('make', ['-s', '-C', join(root, 'unikernels'), program], { encoding: 'utf8', timeout: 300_000 });
    t.equal(make.status, 0, make.stderr.slice(-2000));
    const c = (...words: string[]) => spawnSync(program, words, { encoding: 'utf8', timeout: 60_000 });
    const file = path('v');
    await makeVolume(file, { bytes: 16 << 20 });
    const bodies = new Map([['/a', body('a', 100_000)], ['/b', body('b', 16384)], ['/none', Buffer.alloc(0)]]);
    await withStore(file, 'r+', async (store) => {
      for (const [key, bytes] of bodies) await store.put(keyOf(key), Buffer.from(`meta of ${key}`), bytes);
    });
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
    const expected = [...bodies].map(([key, bytes]) => `${hex(keyOf(key))} ${createHash('sha256').update(bytes).digest('hex')} ${bytes.length} meta of ${key}`);
    t.deepEqual(c(file, 'list').stdout.trim().split('\n').sort(), expected.sort(), 'C lists it, bodies whole');
    writeFileSync(path('body'), body('from C', 1_234_567));
    t.equal(c(file, 'put', hex(keyOf('/c')), path('body')).status, 0, 'C puts one');
    t.equal(c(file, 'put', hex(keyOf('/b')), path('body')).status, 0, 'and replaces one');
    await withStore(file, 'r', async (store) => {
      t.equal(store.records.length, 4);
      t.ok((await bodyOf(store, keyOf('/c')))!.equals(body('from C', 1_234_567)));
      t.ok((await bodyOf(store, keyOf('/b')))!.equals(body('from C', 1_234_567)));
      t.ok((await bodyOf(store, keyOf('/a')))!.equals(bodies.get('/a')!));
      t.equal(Buffer.from(store.find(keyOf('/c'))!.meta).toString(), 'from C');
    });
    writeFileSync(path('blank'), Buffer.alloc(4 << 20));
    t.equal(c(path('blank'), 'put', hex(keyOf('/c')), path('body')).status, 0, 'C makes a blank file a volume');
    await withStore(path('blank'), 'r', async (store) => t.ok((await bodyOf(store, keyOf('/c')))!.equals(body('from C', 1_234_567)), 'which the tool reads'));
    copyFileSync(path('body'), path('foreign'));
    t.equal(c(path('foreign'), 'list').status, 3, 'a file that is something else is left alone');
    t.ok(readFileSync(path('foreign')).equals(readFileSync(path('body'))));
  }).then(() => t.end()));
