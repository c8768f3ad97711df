/** Too much of everything: a store that is full, viewers that do not read, a thousand that say little. */
import test from 'tape';
import { admin, Cache, get, Origin, sleep, until, Viewer } from './rig.ts';

test('a store that is full', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'ram=512', 'connections=400');
  const bodies = Array.from({ length: 100 }, (_, i) => Buffer.alloc(20_000 + i, String.fromCharCode(65 + (i % 26))));
  for (const [i, body] of bodies.entries()) origin.give(`/${i}`, body);
  const large = Buffer.alloc(1_000_000, 'L');
  origin.give('/large', large);
  origin.on('/large-unknown', (_request, response) => void response.writeHead(200, { 'Cache-Control': 'max-age=9', Connection: 'close' }).end(large));
  let wrong = 0;
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(bodies.map((_, i) => get(`/${i}`)));
    wrong += answers.filter((answer, i) => !answer?.body.equals(bodies[i]!)).length;
  }
  t.equal(wrong, 0, 'every body is right while objects come and go');
  t.ok((await get('/large'))?.body.equals(large), 'what does not fit is passed on');
  const unknown = await get('/large-unknown');
  t.ok(unknown === undefined || unknown.body.equals(large), 'what turns out not to fit is whole or cut off');
  const metrics = (await admin('/metrics'))!.body.toString();
  t.ok(Number(/^minicache_evicted_total (\d+)$/m.exec(metrics)![1]) > 50, 'objects were evicted');
  const bytes = Number(/^minicache_store_bytes (\d+)$/m.exec(metrics)![1]);
  t.ok(bytes <= 512 * 1024, `${bytes} bytes are kept`);
  t.equal((await get('/1'))?.body.length, 20_001, 'and it serves on');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('viewers that do not read, and many that are slow', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'connections=1010', 'ram=8192');
  const body = Buffer.alloc(500_000, 'b');
  origin.give('/big', body);
  await get('/big');
  const deaf = Array.from({ length: 20 }, () => new Viewer());
  for (const viewer of deaf) {
    viewer.socket.pause();
    viewer.send('GET /big HTTP/1.1\r\nHost: site\r\n\r\n');
  }
  await sleep(200);
  t.equal((await get('/big'))?.body.length, 500_000, 'beside 20 that do not read');
  for (const viewer of deaf) viewer.close();
  const slow = Array.from({ length: 1000 }, () => new Viewer());
  for (const viewer of slow) viewer.send('GET /big HTTP/1.1\r\n');
  const connections = async () => Number(/^minicache_connections (\d+)$/m.exec((await admin('/metrics'))!.body.toString())![1]);
  let most = 0;
  for (let i = 0; i < 50 && most < 1000; i++, await sleep(100)) most = Math.max(most, await connections());
  t.ok(most >= 1000, `${most} connections at once`);
  t.equal((await get('/big'))?.body.length, 500_000, 'beside 1,000 that are slow');
  t.ok(await until(() => slow.filter(({ ended }) => ended).length > 990) || (await sleep(6000), slow.filter(({ ended }) => ended).length > 990), 'who does not finish a head in time is cut off');
  for (const viewer of slow) viewer.close();
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
