/** Origins as they are: slow, lying, breaking off. Each ends in the right status or a clean close, and nothing wrong is kept. */
import test from 'tape';
import { Cache, get, Origin, RawOrigin, sleep, until, Viewer } from './rig.ts';

const whole = 'HTTP/1.1 200 OK\r\nCache-Control: max-age=100\r\n';

test('many viewers, one fetch; each sees the body grow', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen());
  const part = Buffer.alloc(30_000, 'x');
  origin.on('/slow', async (_request, response) => {
    response.writeHead(200, { 'Cache-Control': 'max-age=100' });
    for (let i = 0; i < 5; i++) {
      response.write(part);
      await sleep(100);
    }
    response.end();
  });
  const early = new Viewer();
  early.send('GET /slow HTTP/1.1\r\nHost: site\r\n\r\n');
  t.ok(await until(() => early.received > 30_000), 'the first bytes come before the last are there');
  t.ok(early.received < 140_000, 'not only at the end');
  const others = await Promise.all(Array.from({ length: 20 }, () => get('/slow')));
  t.ok(others.every((answer) => answer?.body.length === 150_000), 'all have it whole');
  t.equal((await early.answer())?.body.length, 150_000);
  const ranged = await get('/slow', { Range: 'bytes=149990-' });
  t.ok(ranged?.status === 206 && ranged.headers['content-range'] === 'bytes 149990-149999/150000', 'and a range of what came without a length');
  t.equal(origin.count('/slow'), 1, 'of one fetch');
  origin.on('/late', async (_request, response) => {
    await sleep(300);
    response.writeHead(200, { 'Cache-Control': 'no-store', 'Content-Length': 2 }).end('ok');
  });
  const start = Date.now();
  const unshared = await Promise.all(Array.from({ length: 8 }, () => get('/late')));
  t.ok(unshared.every((answer) => answer?.body.toString() === 'ok'), 'what is not shared comes to each');
  t.ok(Date.now() - start < 8 * 300, 'without standing in line');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('origins that misbehave', async (t) => {
  const origin = new RawOrigin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'hold=2');
  let asked = 0;
  const answers = (bytes: string, end = true) => {
    asked = 0;
    origin.answer = (socket) => {
      asked++;
      socket.write(Buffer.from(bytes, 'latin1'));
      if (end) socket.end();
    };
  };
  /** The answer to it, and that it was not kept: asked again, the origin is asked again. */
  const check = async (path: string, status: number | undefined, what: string) => {
    const first = await get(path);
    t.equal(first?.status, status, what);
    const before = asked;
    await get(path);
    t.ok(asked > before, `${what}: nothing is kept`);
  };
  answers(`${whole}Content-Length: 100\r\n\r\nshort`);
  await check('/short', undefined, 'a body shorter than its length is cut off, not ended');
  answers(`${whole}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
  await check('/cut', undefined, 'a chunked body that breaks off');
  answers(`${whole}Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n`);
  await check('/malformed', undefined, 'a chunk without a size');
  answers('HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\nCache-Control: max-age=100\r\n\r\nhello');
  await check('/partial', 502, '206 for a full request');
  answers('HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\n\r\n');
  await check('/unasked', 502, '304 nobody asked for');
  answers(`${whole}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`);
  await check('/two-lengths', 502, 'two lengths');
  answers(`${whole}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
  await check('/both', 502, 'length and chunked');
  answers(`${whole}X: ${'a'.repeat(20_000)}\r\n\r\n`);
  await check('/huge', 502, 'a head of 20 KB');
  answers('nonsense\r\n\r\n');
  await check('/nonsense', 502, 'no HTTP');
  answers('');
  await check('/nothing', 502, 'a close without an answer');
  origin.answer = (socket) => {
    asked++;
    socket.resetAndDestroy();
  };
  await check('/reset', 502, 'a reset');
  answers('', false);
  await check('/silent', 504, 'an origin that says nothing');
  origin.answer = (socket) => {
    asked++;
    socket.write(`${whole}Content-Length: 100\r\n\r\nhello`);
    setTimeout(() => socket.resetAndDestroy(), 50);
  };
  await check('/mid', undefined, 'a reset in the middle of a body');

  answers(`${whole}Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`, false);
  t.equal((await get('/more'))?.body.toString(), 'hello', 'more than announced is dropped');
  answers(`${whole}Content-Length: 4\r\n\r\ngood`, false);
  t.equal((await get('/next'))?.body.toString(), 'good', 'and does not answer the next request');
  answers(`${whole}\r\nuntil the end`);
  t.equal((await get('/until-end'))?.body.toString(), 'until the end', 'a body that ends with the connection');
  answers('HTTP/1.1 302 Found\r\nLocation: /ring\r\nContent-Length: 0\r\n\r\n', false);
  const ring = await get('/ring');
  t.ok(ring?.status === 302 && ring.headers.location === '/ring', 'a redirect to itself is passed on, not followed');
  answers(`HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${whole}Content-Length: 2\r\n\r\nok`, false);
  const viewer = new Viewer();
  viewer.send('GET /hints HTTP/1.1\r\nHost: site\r\n\r\n');
  t.equal((await viewer.answer())?.status, 103, 'an interim answer is passed on');
  t.equal((await viewer.answer())?.body.toString(), 'ok', 'before the final one');
  /* A connection that the origin closes while it is idle. */
  origin.answer = (socket) => {
    socket.write(`${whole}Content-Length: 2\r\n\r\nok`);
    setTimeout(() => socket.end(), 30);
  };
  await get('/idle-1');
  await sleep(100);
  t.equal((await get('/idle-2'))?.body.toString(), 'ok', 'an idle connection that was closed is not used');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
