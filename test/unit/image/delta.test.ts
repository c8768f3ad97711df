/** Deltas: the same image or an error, whatever the bytes are and whatever they claim. */
import test from 'tape';
import { applyDelta, digestOf, formatDelta, headerBytes, parseDeltaHeader, type DeltaParts } from '../../../src/image/delta.ts';
import { makeDelta } from '../../../src/image/make-delta.ts';
import { match } from '../../../src/image/match.ts';
import { asShoalError } from '../../../src/model/errors.ts';

/** Bytes that look like code: mostly repeating, and the same for a seed. */
export function codeLike(bytes: number, seed = 1): Buffer {
  const made = Buffer.alloc(bytes);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    made[i] = (state >>> 24) & (i % 3 === 0 ? 0xff : 0x0f);
  }
  return made;
}

const outcome = async (work: Promise<Buffer>): Promise<Buffer | string> => work.catch((error: unknown) => asShoalError(error).code);
const old = codeLike(60_000);
/** A byte changed, some put in, and the end moved. */
const fresh = Buffer.concat([old.subarray(0, 20_000), Buffer.from('one line more'), old.subarray(20_000, 50_000), old.subarray(51_000)]);
fresh[100] = fresh[100]! ^ 1;

test('what bsdiff finds goes and comes back the same', async (t) => {
  for (const [what, a, b] of [
    ['a fix', old, fresh],
    ['back', fresh, old],
    ['the same', old, old],
    ['longer', old, Buffer.concat([old, codeLike(3000, 7)])],
    ['shorter', old, old.subarray(0, 40_000)],
  ] as const) {
    const delta = await makeDelta(a, b);
    if (delta === undefined) return t.fail(`${what}: no delta`);
    const header = parseDeltaHeader(delta);
    t.deepEqual([header.from, header.to, header.newBytes], [digestOf(a), digestOf(b), b.length], what);
    t.ok((await applyDelta(a, delta, { to: digestOf(b), maxBytes: b.length })).equals(b), `${what}: the same bytes`);
    t.ok(delta.length < b.length / 10, `${what}: ${delta.length} bytes for ${b.length}`);
  }
  t.equal(await makeDelta(old, codeLike(60_000, 99)), undefined, 'none for images that have nothing in common');
  t.equal(await makeDelta(Buffer.alloc(0), fresh), undefined, 'none against nothing');
  t.end();
});

test('whatever two images are, what is found of one in the other makes it', async (t) => {
  const parts = [Buffer.alloc(0), old.subarray(0, 1), old.subarray(0, 17), Buffer.alloc(5000), codeLike(5000, 3), old, fresh, Buffer.concat([fresh.subarray(30_000), fresh.subarray(0, 30_000)]), Buffer.concat([old, old])];
  for (const [i, a] of parts.entries())
    for (const [j, b] of parts.entries()) {
      const found = match(a, b);
      const sum = (of: 'add' | 'copy'): number => found.stretches.reduce((all, stretch) => all + stretch[of], 0);
      if (sum('add') !== found.differences.length || sum('copy') !== found.fresh.length || sum('add') + sum('copy') !== b.length) t.fail(`${i} to ${j}: the parts do not make up the image`);
      const delta = await formatDelta(a, b, found);
      if (delta !== undefined && !(await applyDelta(a, delta, { to: digestOf(b), maxBytes: b.length })).equals(b)) t.fail(`${i} to ${j}: another image`);
    }
  const moved = match(old, Buffer.concat([old.subarray(0, 30_016), codeLike(64, 5), old.subarray(30_016)]));
  t.equal(moved.stretches.length, 2, 'what moved as a whole is one stretch');
  t.ok(moved.fresh.length > 32 && moved.fresh.length <= 64, `${moved.fresh.length} bytes are new`);
  const turned = match(old, Buffer.concat([old.subarray(32_000), old.subarray(0, 32_000)]));
  t.ok(turned.fresh.length < 32, 'backwards too');
});

test('images that are made to be compared for ever are not: what is left of them is new', (t) => {
  const block = Buffer.alloc(16, 'A');
  const trap = Buffer.concat([block, old]);
  const tail = old.subarray(10_000, 40_000);
  // Each place of many is one where the block begins, and where nothing follows.
  const made = (places: number): Buffer => Buffer.concat([codeLike(16, 9), Buffer.alloc(places, 'A'), tail]);
  t.ok(match(trap, made(1000)).fresh.length < 2000, 'a thousand such places: what comes after them is found');
  const found = match(trap, made(200_000));
  t.equal(found.fresh.length, 16 + 200_000 + tail.length, 'two hundred thousand: nobody looks any more');
  t.end();
});

test('a fix needs no program beside this one', async (t) => {
  const path = process.env['PATH'];
  t.teardown(() => (process.env['PATH'] = path));
  process.env['PATH'] = '/nonexistent';
  const delta = await makeDelta(old, fresh);
  t.ok(delta !== undefined && delta.length < fresh.length / 64, `${delta?.length} bytes for ${fresh.length}`);
});

test('the format is what the page says', async (t) => {
  const parts: DeltaParts = { stretches: [{ add: 3, copy: 2, seek: -1 }, { add: 1, copy: 0, seek: 0 }], differences: Buffer.from([0, 1, 255, 2]), fresh: Buffer.from('xy') };
  const before = Buffer.from('abcd');
  const after = Buffer.from('acbxye');
  const delta = (await formatDelta(before, after, parts))!;
  t.equal(delta.toString('latin1', 0, 8), 'SHOALDLT');
  t.deepEqual(
    [0, 1, 2, 3, 4, 5, 6].map((i) => delta.readUInt32LE(8 + 4 * i)),
    [1, 4, 6, 24, 4, 2, delta.length - 100],
    'version, lengths',
  );
  t.equal(`sha256:${delta.toString('hex', 36, 68)}`, digestOf(before));
  t.ok((await applyDelta(before, delta, { to: digestOf(after), maxBytes: 6 })).equals(after), 'differences wrap around, seeks go back');
  t.end();
});

test('a delta for another pair, or a larger image than asked for, is refused', async (t) => {
  const delta = (await makeDelta(old, fresh))!;
  const want = { to: digestOf(fresh), maxBytes: fresh.length };
  t.equal(await outcome(applyDelta(fresh, delta, want)), 'DELTA_INVALID', 'another old image');
  t.equal(await outcome(applyDelta(old, delta, { ...want, to: digestOf(old) })), 'DELTA_INVALID', 'another new image');
  t.equal(await outcome(applyDelta(old, delta, { ...want, maxBytes: fresh.length - 1 })), 'DELTA_INVALID', 'too large');
  t.end();
});

test('no damage gives a wrong image', async (t) => {
  const small = codeLike(3000);
  const smallFresh = Buffer.concat([small.subarray(0, 1000), Buffer.from('fix'), small.subarray(1010)]);
  const delta = (await makeDelta(small, smallFresh))!;
  const want = { to: digestOf(smallFresh), maxBytes: smallFresh.length };
  const counts: Record<string, number> = {};
  const check = async (bytes: Buffer): Promise<void> => {
    const got = await outcome(applyDelta(small, bytes, want));
    const what = typeof got === 'string' ? got : got.equals(smallFresh) ? 'the image' : 'a wrong image';
    counts[what] = (counts[what] ?? 0) + 1;
  };
  for (let i = 0; i < delta.length; i++) {
    for (const flip of [1, 0x80, 0xff]) {
      const bad = Buffer.from(delta);
      bad[i] = bad[i]! ^ flip;
      await check(bad);
    }
    await check(delta.subarray(0, i));
  }
  await check(Buffer.concat([delta, Buffer.from([0])]));
  t.deepEqual(Object.keys(counts).filter((what) => what !== 'the image'), ['DELTA_INVALID'], JSON.stringify(counts));
  t.ok((counts['the image'] ?? 0) < delta.length / 10, 'damage is nearly always seen in the delta itself');
  t.end();
});

test('what a header claims takes no memory', async (t) => {
  const delta = (await makeDelta(old, fresh))!;
  const want = { to: digestOf(fresh), maxBytes: 64 << 20 };
  const claims: [string, [number, number][]][] = [
    ['a new image of 4 GiB', [[2, 0xffffffff], [4, 0xffffffff]]],
    ['stretches of 4 GiB', [[3, 0xfffffffc]]],
    ['parts that do not add up', [[4, 0xfffffff0]]],
    ['another version', [[0, 2]]],
    ['a longer body', [[6, 0xffffff]]],
  ];
  const before = process.memoryUsage().rss;
  for (const [what, fields] of claims) {
    const bad = Buffer.from(delta);
    for (const [field, value] of fields) bad.writeUInt32LE(value, 8 + 4 * field);
    t.equal(await outcome(applyDelta(old, bad, want)), 'DELTA_INVALID', what);
  }
  // A body that unpacks to far more than the header says: a bomb.
  const bomb = (await formatDelta(old, Buffer.alloc(32 << 20), { stretches: [], differences: Buffer.alloc(0), fresh: Buffer.alloc(32 << 20) }))!;
  t.ok(bomb.length < 1000, `${bomb.length} bytes that unpack to 32 MiB`);
  bomb.writeUInt32LE(1000, 16);
  bomb.writeUInt32LE(1000, 28);
  const refusal = await applyDelta(old, bomb, { to: digestOf(Buffer.alloc(32 << 20)), maxBytes: 64 << 20 }).then(() => undefined, asShoalError);
  t.equal(refusal?.code, 'DELTA_INVALID', 'a bomb');
  t.match(refusal!.message, /damaged/, 'it is stopped while it unpacks, not measured afterwards');
  t.ok(process.memoryUsage().rss - before < 256 << 20, 'memory stays where it was');
  t.equal(headerBytes, 100);
  t.end();
});

test('bsdiff that is missing, or too slow, is an error of its own', async (t) => {
  const path = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  const missing = await makeDelta(old, codeLike(60_000, 99)).catch((error: unknown) => asShoalError(error).code);
  process.env['PATH'] = path;
  t.equal(missing, 'DELTA_FAILED');
  t.equal(await makeDelta(codeLike(4 << 20), codeLike(4 << 20, 3), { timeoutMs: 1 }).catch((error: unknown) => asShoalError(error).code), 'DELTA_FAILED');
  t.end();
});
