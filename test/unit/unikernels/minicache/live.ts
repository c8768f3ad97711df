/** What live video asks of a cache: playlists that the origin holds back, for many viewers at once and not for ever; and requests that never end. */
import test from 'tape';
import { Cache, get, Origin, sleep, Viewer } from './rig.ts';

test('a playlist that is held: one question for all, and a bound', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  const port = await origin.listen();
  await cache.start(port, 'fetches=4');
  let version = 0;
  origin.on('/live.m3u8', async (_request, response) => {
    // Long enough for all forty to be there, however busy the machine.
    await sleep(2500);
    const body = `#EXTM3U ${++version}\n`;
    response.writeHead(200, { 'Cache-Control': 'max-age=1', 'Content-Length': body.length }).end(body);
  });
  const path = '/live.m3u8?_HLS_msn=7&_HLS_part=2';
  const began = Date.now();
  const held = await Promise.all(Array.from({ length: 40 }, () => get(path)));
  t.ok(Date.now() - began >= 2450, 'nobody is answered before the origin is');
  t.deepEqual(new Set(held.map((answer) => answer?.body.toString())), new Set(['#EXTM3U 1\n']), 'all forty get the one answer');
  t.equal(origin.count(path), 1, 'the origin was asked once, and by four at the most at once');
  t.equal((await get('/live.m3u8?_HLS_msn=7&_HLS_part=3'))?.body.toString(), '#EXTM3U 2\n', 'the next part is another question');

  const leaving = new Viewer();
  leaving.send(`GET /live.m3u8?_HLS_msn=9 HTTP/1.1\r\nHost: site\r\n\r\n`);
  await sleep(100);
  leaving.close();
  t.match((await get('/live.m3u8?_HLS_msn=9'))?.body.toString() ?? '', /^#EXTM3U/, 'one who leaves takes nothing from the others');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  await cache.start(port, 'hold=2');
  origin.on('/never.m3u8', () => undefined);
  const late = Date.now();
  const given = await Promise.all(Array.from({ length: 3 }, () => get('/never.m3u8?_HLS_msn=8')));
  t.ok(given.every((answer) => answer?.status === 504), `an origin that never answers: ${given.map((answer) => answer?.status).join(' ')}`);
  t.ok(Date.now() - late < 15_000, 'after the time to hold, not for ever');
  origin.give('/never.m3u8', 'now', { 'Cache-Control': 'max-age=1' });
  t.equal((await get('/never.m3u8?_HLS_msn=8'))?.body.toString(), 'now', 'and that is not what is remembered');

  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('requests that do not end, and bodies that are too long', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'idle=1');
  origin.give('/a', 'a');
  const long = new Viewer();
  long.send('POST /a HTTP/1.1\r\nHost: site\r\nContent-Length: 2000000000\r\n\r\n');
  t.equal((await long.answer())?.status, 413, 'a body of two gigabytes');
  const slow = new Viewer();
  slow.send('GET /a HTTP/1.1\r\nHost: si');
  t.equal((await slow.answer())?.status, 408, 'half a head, and then nothing');
  t.equal((await get('/a'))?.body.toString(), 'a', 'others are served');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
