/** A heap as small as that of a guest of 5 MiB: a hundred viewers at once, however slow, get all of it or a clean end; the one too many is told to come again. */
import test from 'tape';
import { admin, Cache, get, Origin, sleep, until, Viewer } from './rig.ts';

/** What minicache finds in a guest of 5 MiB once its network device has its buffers, and half of it for objects, as there. */
const guest = ['heap-kib=4000', 'ram=2200', 'connections=100'];
const gauge = async (name: string): Promise<number> => Number(new RegExp(`^minicache_${name} (\\d+)$`, 'm').exec((await admin('/metrics'))!.body.toString())![1]);

test('a hundred viewers in the memory of 5 MiB', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  const body = Buffer.from(Uint8Array.from({ length: 600_000 }, (_, i) => i * 31 + (i >> 8)));
  origin.give('/big', body);
  origin.give('/private', body, { 'Cache-Control': 'no-store' });
  await cache.start(await origin.listen(), ...guest);
  t.notOk(/too little memory/.test(cache.output), 'it finds the memory enough for them');
  t.ok((await get('/big'))?.body.equals(body));

  const many = await Promise.all(Array.from({ length: 99 }, () => get('/big')));
  t.equal(many.filter((answer) => answer?.body.equals(body)).length, 99, '99 at once, all whole');

  /* Those that do not read: each asks, and holds what was sent. One place is for whoever looks at the numbers. */
  const deaf = Array.from({ length: 90 }, () => new Viewer());
  for (const viewer of deaf) {
    viewer.socket.pause();
    viewer.send('GET /big HTTP/1.1\r\nHost: site\r\n\r\n');
  }
  await sleep(500);
  const free = await gauge('memory_free_bytes');
  t.ok(free > 100_000, `${free} bytes are free beside 90 that do not read`);
  t.ok((await gauge('queued_bytes')) > 0, 'what they hold is counted');
  const beside = await Promise.all(Array.from({ length: 8 }, () => get('/big')));
  t.equal(beside.filter((answer) => answer?.body.equals(body)).length, 8, 'eight are served beside them');
  for (const viewer of deaf) viewer.socket.resume();
  const late = await Promise.all(deaf.map((viewer) => viewer.answer()));
  t.equal(late.filter((answer) => answer?.body.equals(body)).length, 90, 'and they get all of it when they read at last');
  for (const viewer of deaf) viewer.close();
  for (let i = 0; i < 50 && (await gauge('connections')) > 1; i++) await sleep(100);
  t.equal(await gauge('queued_bytes'), 0, 'nothing is held when they have gone');

  /* What may not be kept is copied on its way. */
  const relayed = await Promise.all(Array.from({ length: 40 }, () => get('/private')));
  t.deepEqual(relayed.filter((answer) => !answer?.body.equals(body)).map((answer) => answer?.status), [], 'forty at once, each with an answer of its own from the origin');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('one viewer too many', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  origin.give('/a', 'a');
  await cache.start(await origin.listen(), 'connections=10');
  const taken = Array.from({ length: 10 }, () => new Viewer());
  for (const viewer of taken) viewer.send('GET /a HTTP/1.1\r\n'); // heads that do not end: no place is idle
  await sleep(200);
  const next = await get('/a');
  t.equal(next?.status, 503, 'is told so');
  t.equal(next?.headers['retry-after'], '1');
  const silent = Array.from({ length: 40 }, () => new Viewer());
  t.ok(await until(() => silent.filter(({ ended }) => ended).length >= 24), 'those beyond what can be told are cut off');
  for (let i = 0; i < 50 && silent.some(({ ended }) => !ended); i++) await sleep(100);
  t.ok(silent.every(({ ended }) => ended), 'and those who ask nothing soon after');
  for (const viewer of [...taken, ...silent]) viewer.close();
  for (let i = 0; i < 50 && (await get('/a'))?.status !== 200; i++) await sleep(100);
  t.equal((await get('/a'))?.status, 200, 'there is place again');
  const kept = Array.from({ length: 10 }, () => new Viewer());
  for (const viewer of kept) viewer.send('GET /a HTTP/1.1\r\nHost: a\r\n\r\n');
  t.ok(await until(() => kept.every(({ received }) => received > 0)), 'ten are answered, and keep their connections');
  await sleep(300);
  const others = [await get('/a'), await get('/a'), await get('/a')];
  t.deepEqual(others.map((answer) => answer?.status), [200, 200, 200], 'who has been answered gives way to the next');
  for (const viewer of kept) viewer.close();
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('more connections than memory', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  const port = await origin.listen();
  await cache.start(port, 'heap-kib=4000', 'ram=2200', 'connections=150');
  t.match(cache.output, /too little memory for 150 connections at once: ram= has to be \d+ KiB less/, 'it says what it lacks');
  t.equal(await cache.stop(), '');
  await cache.start(port, 'heap-kib=4000', 'ram=2200', 'connections=1000').catch(() => undefined);
  t.match(cache.output, /not enough memory/, 'or that it cannot begin');
  await cache.stop();
  origin.close();
  t.end();
});
