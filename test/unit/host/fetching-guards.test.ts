/** What must not keep a host from an image, nor give it a wrong one: kills, cuts and lies at each tenth, a disk that is full. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { makeDelta } from '../../../src/image/make-delta.ts';
import { asShoalError } from '../../../src/model/errors.ts';
import { bytes, digest, fingerprint, giving, inStore, oldBytes, oldDigest, serve, type FetchRig } from './fetching-rig.ts';
import { chunks } from './rig.ts';

const tenths = Array.from({ length: 10 }, (_, i) => i + 0.5);
const isWhole = async ({ images }: FetchRig): Promise<boolean> => Buffer.from(await images.bytes(digest)).equals(bytes);

test('killed at each tenth of an image: the next agent takes the rest', async (t) => {
  for (const tenth of tenths)
    await inStore(async (rig) => {
      // What a kill leaves: the first bytes, below the digest, and nobody who knows of them.
      const have = Math.round((bytes.length * tenth) / 10);
      await mkdir(join(rig.folder, 'partial'), { recursive: true });
      await writeFile(join(rig.folder, 'partial', digest.slice(7)), bytes.subarray(0, have));
      await rig.reopen();
      const server = await serve(giving(bytes));
      const report = await rig.fetch([{ url: server.url, fingerprint }]);
      t.deepEqual([server.asked, report.bytes], [[`bytes=${have}-`], bytes.length - have], `${tenth} tenths`);
      t.ok(await isWhole(rig));
      await server.close();
    });
});

test('what was there of it is wrong: the one source there is gives all of it', async (t) => {
  for (const tenth of [...tenths, 10])
    await inStore(async (rig) => {
      // Of the length that was written, without what was: power that failed leaves that.
      const have = Math.round((bytes.length * tenth) / 10);
      await mkdir(join(rig.folder, 'partial'), { recursive: true });
      await writeFile(join(rig.folder, 'partial', digest.slice(7)), Buffer.alloc(have));
      const server = await serve(giving(bytes));
      const report = await rig.fetch([{ url: server.url, fingerprint }]);
      t.deepEqual([server.asked.at(-1), report.source, report.failures], ['all', 0, []], `${tenth} tenths: asked for anew`);
      t.ok(await isWhole(rig));
      t.deepEqual(await readdir(join(rig.folder, 'partial')), []);
      await server.close();
    });
});

test('a source that lies and goes away at each tenth: the next gives all of it, in the same order', async (t) => {
  const wrong = Buffer.alloc(bytes.length, 'wrong');
  for (const tenth of tenths)
    await inStore(async (rig) => {
      let connections = 0;
      const liar = await serve((request, response) =>
        ++connections > 1 ? void response.writeHead(404).end() : giving(wrong, Math.round((bytes.length * tenth) / 10))(request, response));
      const good = await serve(giving(bytes));
      const report = await rig.fetch([{ url: liar.url, fingerprint }, { url: good.url, fingerprint }]);
      t.deepEqual([report.how, report.source, report.failures.length], ['whole', 1, 1], `${tenth} tenths`);
      t.ok(await isWhole(rig));
      await liar.close();
      await good.close();
    });
});

test('a delta that is cut at each tenth goes on there', async (t) => {
  const delta = (await makeDelta(oldBytes, bytes))!;
  const step = Math.ceil(delta.length / 10);
  await inStore(async (rig) => {
    await rig.images.put(oldDigest, chunks(oldBytes));
    const server = await serve(giving(delta, step));
    const report = await rig.fetch([{ url: server.url, fingerprint, from: oldDigest }]);
    t.deepEqual([report.how, report.bytes], ['delta', delta.length], 'each byte once');
    t.deepEqual(server.asked, Array.from({ length: Math.ceil(delta.length / step) }, (_, i) => (i === 0 ? 'all' : `bytes=${i * step}-`)));
    t.ok(await isWhole(rig));
    await server.close();
  });
});

test('a disk that is full says so, and with room again it goes on', async (t) => {
  const small = await mkdtemp(join(tmpdir(), 'shoal-small-'));
  // Room for what arrives, or for the image beside it, but not for all.
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'shoal-test', small]);
  try {
    for (const roomKib of [40, 160])
      await inStore(async (rig) => {
        await writeFile(join(small, 'ballast'), Buffer.alloc((512 - roomKib) * 1024)).catch(() => {});
        const server = await serve(giving(bytes));
        const error = await rig.fetch([{ url: server.url, fingerprint }]).then(() => undefined, asShoalError);
        t.equal(error?.code, 'FETCH_FAILED', `room for ${roomKib} KiB`);
        t.deepEqual((error?.data['failures'] as { code: string }[] | undefined)?.map(({ code }) => code), ['HOST_LIMIT']);
        t.ok(server.asked.length === 1, 'it is not asked again and again for what has no room');
        t.deepEqual(rig.images.list(), []);
        await rm(join(small, 'ballast'));
        const report = await rig.fetch([{ url: server.url, fingerprint }]);
        t.ok(report.how === 'whole' && (await isWhole(rig)), `${report.bytes} bytes were left`);
        await server.close();
      }, small);
  } finally {
    execFileSync('umount', [small]);
    await rm(small, { recursive: true });
  }
});
