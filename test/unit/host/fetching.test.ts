/** A host fetches an image by itself: from servers that are cut, lie, stall, or are not who they should be. */
import { readdir, writeFile, mkdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import test from 'tape';
import { Capabilities } from '../../../src/image/capability.ts';
import { makeDelta } from '../../../src/image/make-delta.ts';
import { blobPath, serveFile, type Shelf } from '../../../src/image/serving.ts';
import { asShoalError } from '../../../src/model/errors.ts';
import { cert } from '../xenapi/certificate.ts';
import { bytes, codeOf, digest, fingerprint, giving, inStore, oldBytes, oldDigest, serve } from './fetching-rig.ts';
import { chunks, digestOf, until } from './rig.ts';

test('a link that is cut at each tenth goes on where it ended', async (t) => {
  await inStore(async ({ images, fetch, folder }) => {
    const server = await serve(giving(bytes, 10_000));
    const report = await fetch([{ url: `${server.url}/x`, fingerprint }]);
    t.deepEqual([report.how, report.source, report.bytes], ['whole', 0, bytes.length], 'each byte came once');
    t.equal(server.asked.length, 10, 'ten connections');
    t.equal(server.asked[3], 'bytes=30000-');
    t.ok(Buffer.from(await images.bytes(digest)).equals(bytes));
    t.deepEqual(await readdir(join(folder, 'partial')), [], 'nothing is left');
    t.equal((await fetch([])).how, 'had');
    await server.close();
  });
});

test('an agent that was killed goes on with what had arrived, from another source', async (t) => {
  await inStore(async (rig) => {
    let connections = 0;
    const cut = await serve((request, response) => (++connections > 1 ? void response.writeHead(404).end() : giving(bytes, 40_000)(request, response)));
    t.equal(await codeOf(rig.fetch([{ url: `${cut.url}/x`, fingerprint }])), 'FETCH_FAILED');
    await rig.reopen();
    const server = await serve(giving(bytes));
    const report = await rig.fetch([{ url: `${server.url}/x`, fingerprint }]);
    t.match(server.asked.join(), /^bytes=[1-9]\d{3,}-$/, 'only the rest');
    t.ok(report.bytes < bytes.length, `${report.bytes} bytes were left`);
    t.ok(rig.images.has(digest));
    await cut.close();
    await server.close();
  });
});

test('damage: the next source gives all of it', async (t) => {
  await inStore(async ({ images, fetch }) => {
    const bad = Buffer.from(bytes);
    bad[70_000] = bad[70_000]! ^ 1;
    const liar = await serve(giving(bad));
    const good = await serve(giving(bytes));
    const report = await fetch([{ url: liar.url, fingerprint }, { url: good.url, fingerprint }]);
    t.deepEqual([report.source, report.failures.map(({ code }) => code)], [1, ['IMAGE_DIGEST_MISMATCH']]);
    t.deepEqual(good.asked, ['all'], 'nothing of the liar is kept');
    t.ok(Buffer.from(await images.bytes(digest)).equals(bytes));
    await liar.close();
    await good.close();
  });
});

test('deltas: used when the old image is there, passed over when it is not, and never trusted', async (t) => {
  const delta = (await makeDelta(oldBytes, bytes))!;
  const server = await serve(giving(delta, 80));
  const whole = await serve(giving(bytes));
  const fromUrl = { url: server.url, fingerprint, from: oldDigest };
  const last = { url: whole.url, fingerprint };
  await inStore(async ({ fetch }) => {
    const report = await fetch([fromUrl, { delta: delta.toString('base64'), from: oldDigest }, last]);
    t.deepEqual([report.how, report.source, report.failures], ['whole', 2, []], 'without the old image');
    t.equal(server.asked.length, 0, 'nothing was asked for in vain');
  });
  await inStore(async ({ images, fetch }) => {
    await images.put(oldDigest, chunks(oldBytes));
    const report = await fetch([fromUrl, last]);
    t.deepEqual([report.how, report.bytes], ['delta', delta.length], `${delta.length} bytes for ${bytes.length}, in parts`);
    t.ok(Buffer.from(await images.bytes(digest)).equals(bytes));
  });
  await inStore(async ({ images, fetch }) => {
    await images.put(oldDigest, chunks(oldBytes));
    t.equal((await fetch([{ delta: delta.toString('base64'), from: oldDigest }])).how, 'delta', 'inside of the order');
  });
  await inStore(async ({ images, fetch }) => {
    await images.put(oldDigest, chunks(oldBytes));
    const damaged = Buffer.from(delta);
    damaged[delta.length - 5] = damaged[delta.length - 5]! ^ 4;
    const report = await fetch([{ delta: damaged.toString('base64'), from: oldDigest }, last]);
    t.deepEqual([report.how, report.failures.map(({ code }) => code)], ['whole', ['DELTA_INVALID']], 'a damaged one');
  });
  // Each byte of it: what it says of itself, what it makes.
  await inStore(async ({ images, fetch }) => {
    await images.put(oldDigest, chunks(oldBytes));
    for (let at = 0; at < delta.length; at++) {
      const damaged = Buffer.from(delta);
      damaged[at] = damaged[at]! ^ 0x10;
      const code = await codeOf(fetch([{ delta: damaged.toString('base64'), from: oldDigest }]));
      // A bit that brotli does not look at changes nothing.
      if (code !== 'FETCH_FAILED') t.ok(code === 'done' && Buffer.from(await images.bytes(digest)).equals(bytes), `byte ${at}: the right image all the same`);
      if (images.has(digest)) await images.remove(digest);
    }
    t.deepEqual(images.list().map((image) => image.digest), [oldDigest], 'nothing wrong was kept');
  });
  await inStore(async ({ images, fetch, folder }) => {
    await images.put(oldDigest, chunks(oldBytes));
    const spoilt = Buffer.from(oldBytes);
    spoilt[70_000] = spoilt[70_000]! ^ 1;
    await writeFile(join(folder, `${oldDigest.slice(7)}.elf`), spoilt);
    const report = await fetch([{ delta: delta.toString('base64'), from: oldDigest }, last]);
    t.deepEqual([report.how, report.failures.map(({ code }) => code)], ['whole', ['DELTA_INVALID']], 'the image here is damaged on disk');
    t.ok(Buffer.from(await images.bytes(digest)).equals(bytes));
  });
  await server.close();
  await whole.close();
});

test('bounds: too much, too little, too slow, nobody there, not who it should be', async (t) => {
  await inStore(async ({ fetch, folder, images }) => {
    const larger = await serve(giving(Buffer.concat([bytes, Buffer.from('x')])));
    const endless = await serve((request, response) => {
      if (request.headers.range === undefined) response.writeHead(200, { 'content-length': bytes.length }).write('x');
    });
    const chunked = await serve((_, response) => void response.writeHead(200).end(bytes));
    const messages: string[] = [];
    for (const [what, source, code] of [
      ['larger than announced', { url: larger.url, fingerprint }, 'REQUEST_TOO_LARGE'],
      ['stalling', { url: endless.url, fingerprint }, 'CONNECTION_FAILED'],
      ['of no length', { url: chunked.url, fingerprint }, 'FETCH_FAILED'],
      ['nobody', { url: 'https://127.0.0.1:1/x', fingerprint }, 'CONNECTION_FAILED'],
      ['another certificate', { url: larger.url, fingerprint: 'ab'.repeat(32) }, 'CERTIFICATE_MISMATCH'],
    ] as const) {
      const error = await fetch([source]).then(() => undefined, asShoalError);
      t.equal(error?.code, 'FETCH_FAILED', what);
      t.equal((error?.data['failures'] as { code: string }[])[0]!.code, code, `${what}: ${code}`);
      messages.push(error!.message);
    }
    t.equal(endless.asked.length, 1, 'one that stands still is not asked again: another source may be there');
    t.equal(larger.asked.length, 1, 'the address was not shown to who has another certificate');
    t.ok(messages.every((message) => message.includes('source 0')), 'each says which source');
    t.equal(await codeOf(fetch([{ url: endless.url, fingerprint }], { timeoutMs: 100 })), 'TIMEOUT', 'all of it has an end');
    t.equal(await codeOf(fetch([], { sizeBytes: 2 ** 40 })), 'REQUEST_TOO_LARGE');
    t.deepEqual(images.list(), []);
    t.ok((await readdir(join(folder, 'partial'))).length <= 1);
    for (const server of [larger, endless, chunked]) await server.close();
  });
});

test('sixteen images are fetched at once, no more; one that ends makes room', async (t) => {
  await inStore(async ({ fetch }) => {
    const waiting: ServerResponse[] = [];
    const server = await serve((_, response) => void waiting.push(response));
    const order = (i: number): Promise<string> => codeOf(fetch([{ url: server.url, fingerprint }], { digest: digestOf(Buffer.from(`image ${i}`)) }));
    const orders = Array.from({ length: 16 }, (_, i) => order(i));
    t.equal(await order(16), 'HOST_LIMIT', 'the seventeenth');
    t.equal(await order(17), 'HOST_LIMIT', 'and the next, for none has ended');
    await until(() => waiting.length >= 16, 'sixteen are asked for');
    for (const response of waiting) response.writeHead(404).end();
    t.deepEqual(new Set(await Promise.all(orders)), new Set(['FETCH_FAILED']));
    const next = order(18);
    await until(() => waiting.length >= 17, 'another is asked for');
    waiting.at(-1)!.writeHead(404).end();
    t.equal(await next, 'FETCH_FAILED', 'was tried');
    await server.close();
  });
});

test('two orders for one image are one transfer; old beginnings are cleared', async (t) => {
  await inStore(async ({ fetch, folder }) => {
    await mkdir(join(folder, 'partial'));
    for (let i = 0; i < 20; i++) await writeFile(join(folder, 'partial', `${i}`.padStart(64, '0')), 'x');
    const server = await serve(giving(bytes));
    const sources = [{ url: server.url, fingerprint }];
    const [a, b] = await Promise.all([fetch(sources), fetch(sources)]);
    t.equal(a, b);
    t.equal(server.asked.length, 1);
    t.ok((await readdir(join(folder, 'partial'))).length < 8, 'at most eight are kept');
    await server.close();
  });
});

test('files are served with the right to them only, whole or from an offset', async (t) => {
  await inStore(async ({ images }) => {
    await images.put(digest, chunks(bytes));
    let nowMs = 1_000_000;
    const capabilities = new Capabilities(() => nowMs);
    const shelf: Shelf = { capabilities, blob: (wanted) => images.file(wanted) };
    const server = await serve((request, response) => {
      const url = new URL(request.url!, 'https://x');
      if (!serveFile(shelf, request, response, url.pathname, url.searchParams)) response.writeHead(418).end();
    });
    const get = async (path: string, range?: string): Promise<{ status: number; body: Buffer }> => {
      const { request } = await import('node:https');
      return new Promise((resolve, reject) => {
        const outgoing = request(`${server.url}${path}`, { ca: cert, headers: range === undefined ? {} : { range } }, (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('end', () => resolve({ status: response.statusCode!, body: Buffer.concat(parts) }));
        });
        outgoing.on('error', reject).end();
      });
    };
    const path = blobPath(digest);
    const good = capabilities.grant(path, 60_000);
    const whole = await get(good);
    t.deepEqual([whole.status, whole.body.equals(bytes)], [200, true]);
    const rest = await get(good, 'bytes=99990-');
    t.deepEqual([rest.status, rest.body.equals(bytes.subarray(99_990))], [206, true]);
    t.equal((await get(good, 'bytes=100000-')).status, 416);
    t.equal((await get(path)).status, 403, 'without the right');
    t.equal((await get(good.replace(digest.slice(7), oldDigest.slice(7)))).status, 403, 'for another file');
    t.equal((await get(good.replace(/until=\d+/, 'until=99999999999'))).status, 403, 'for longer');
    t.equal((await get(capabilities.grant(blobPath(oldDigest)))).status, 404, 'a file that is not there');
    t.equal((await get(new Capabilities(() => nowMs).grant(path))).status, 403, 'of another server');
    t.equal((await get('/blobs/sha256/../../etc/passwd')).status, 418, 'no path leads elsewhere');
    nowMs += 61_000;
    t.equal((await get(good)).status, 403, 'after its end');
    await server.close();
  });
});
