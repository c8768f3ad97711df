/** The HTTP/1.1 server: parsing, limits, smuggling, pipelining, ranges, conditions, signed URLs. */
import test from 'tape';
import { Cache, get, Origin, sleep, Viewer } from './rig.ts';
import { signUrl } from './sign.ts';

const body = Buffer.from(Array.from({ length: 40_000 }, (_, i) => 32 + ((i * 7 + (i >> 8)) % 90)));

test('requests and answers over HTTP/1.1', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'idle=2');
  origin.give('/a', body, { 'Cache-Control': 'max-age=1000', 'Content-Type': 'text/x', 'Last-Modified': 'Sun, 06 Nov 1994 08:49:37 GMT' });
  origin.give('/small', 'hello');
  const first = await get('/a');
  t.ok(first?.body.equals(body), 'a miss brings the whole body');
  const etag = (await get('/a'))!.headers.etag!;
  t.match(etag, /^"[0-9a-f]{32}"$/, 'an ETag of the digest, as the origin gave none');
  t.equal(origin.count('/a'), 1, 'the second came from the cache');
  await get('/small');

  const text = 'GET /small HTTP/1.1\r\nHost: site\r\nX-Long: abcdefghij\r\nConnection: close\r\n\r\n';
  const split = new Viewer();
  for (const c of text) {
    split.send(c);
    await sleep(1);
  }
  t.equal((await split.answer())?.body.toString(), 'hello', 'a request in single bytes');
  for (let at = 1; at < text.length; at += 3) {
    const viewer = new Viewer();
    viewer.send(text.slice(0, at));
    await sleep(1);
    viewer.send(text.slice(at));
    const answer = await viewer.answer();
    if (answer?.status !== 200 || answer.body.toString() !== 'hello') t.fail(`split at ${at}: ${answer?.status}`);
    viewer.close();
  }
  t.pass('split at every third byte');

  const asked = origin.asked.length;
  const refused: [string, number | number[], string][] = [
    ['POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', 400, 'conflicting lengths'],
    ['POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400, 'length and chunked'],
    ['POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello', 400, 'a length with a sign'],
    ['POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n', 400, 'a length beyond all'],
    ['POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n', 501, 'another coding'],
    ['POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n', 400, 'chunked twice'],
    ['POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n', 400, 'chunked in HTTP/1.0'],
    ['GET /small HTTP/1.1\r\nHost: h\r\nX: a\r b\r\n\r\n', 400, 'a bare CR'],
    ['GET /small HTTP/1.1\nHost: h\n\n', 400, 'bare LF'],
    ['GET /small HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n', 400, 'obs-fold'],
    ['GET /small HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n', 400, 'a blank before the colon'],
    ['GET /small HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n', 400, 'a NUL'],
    ['GET /small HTTP/1.1\r\n\r\n', 400, 'no Host'],
    ['GET /small HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400, 'two Hosts'],
    ['GET /small HTTP/2.0\r\nHost: h\r\n\r\n', 505, 'another version'],
    ['GET small HTTP/1.1\r\nHost: h\r\n\r\n', 400, 'a target that is none'],
    ['CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n', 501, 'CONNECT'],
    [`GET /${'a'.repeat(9000)} HTTP/1.1\r\nHost: h\r\n\r\n`, 414, 'a long target'],
    [`GET /small HTTP/1.1\r\nHost: h\r\n${`X: ${'a'.repeat(1000)}\r\n`.repeat(64)}\r\n`, 431, '64 KB of head'],
    [`GET /small HTTP/1.1\r\nHost: h\r\n${'X: a\r\n'.repeat(200)}\r\n`, 431, '200 lines'],
    ['\0\0\0\0\r\n\r\n', 400, 'no HTTP'],
  ];
  for (const [bytes, status, what] of refused) {
    const viewer = new Viewer();
    viewer.send(`${bytes}GET /small HTTP/1.1\r\nHost: h\r\n\r\n`);
    const answer = await viewer.answer();
    t.equal(answer?.status, status, what);
    if (await viewer.answer()) t.fail(`${what}: and what follows is answered`);
    viewer.close();
  }
  t.equal(origin.asked.length, asked, 'nothing of that reached the origin');

  const pipelined = new Viewer();
  pipelined.send(Array.from({ length: 20 }, (_, i) => `GET /${i % 2 ? 'small' : 'a'} HTTP/1.1\r\nHost: site\r\n\r\n`).join(''));
  for (let i = 0; i < 20; i++) {
    const answer = await pipelined.answer();
    if (!answer?.body.equals(i % 2 ? Buffer.from('hello') : body)) t.fail(`pipelined ${i}: ${answer?.status} ${answer?.body.length}`);
  }
  t.pass('20 pipelined requests in order');
  await sleep(3500);
  t.ok(pipelined.ended, 'an idle connection is closed');

  const head = await get('/a', {}, { method: 'HEAD' });
  t.ok(head?.status === 200 && head.headers['content-length'] === '40000', 'HEAD out of a kept GET');
  t.equal((await get('/a', {}, { host: 'fd00::2' }))?.body.length, 40_000, 'over IPv6');

  const range = async (value: string, headers = {}) => get('/a', { Range: value, ...headers });
  const exact: [string, string, number, number][] = [
    ['bytes=0-0', 'bytes 0-0/40000', 0, 1],
    ['bytes=16383-16384', 'bytes 16383-16384/40000', 16383, 16385],
    ['bytes=39999-', 'bytes 39999-39999/40000', 39999, 40000],
    ['bytes=-1', 'bytes 39999-39999/40000', 39999, 40000],
    ['bytes=-99999', 'bytes 0-39999/40000', 0, 40000],
    ['bytes=100-99999', 'bytes 100-39999/40000', 100, 40000],
  ];
  for (const [asks, says, from, to] of exact) {
    const answer = await range(asks);
    t.ok(answer?.status === 206 && answer.headers['content-range'] === says && answer.body.equals(body.subarray(from, to)), asks);
  }
  const none = await range('bytes=40000-');
  t.ok(none?.status === 416 && none.headers['content-range'] === 'bytes */40000', '416 tells the length');
  t.equal((await range('bytes=5-2'))?.status, 200, 'a senseless range is ignored');
  const several = await range('bytes=0-9,20000-20009,-5');
  const boundary = /boundary=(\S+)/.exec(several!.headers['content-type']!)![1]!;
  const parts = several!.body.toString('latin1').split(`--${boundary}`);
  t.equal(parts.length, 5, 'three parts');
  t.ok(parts[2]!.includes('Content-Range: bytes 20000-20009/40000') && parts[2]!.includes('Content-Type: text/x'), 'a part says what it is');
  t.ok(parts[2]!.endsWith(`\r\n\r\n${body.subarray(20000, 20010).toString('latin1')}\r\n`), 'and has its bytes');
  t.equal((await range('bytes=0-9', { 'If-Range': etag }))?.status, 206, 'If-Range that fits');
  t.equal((await range('bytes=0-9', { 'If-Range': '"other"' }))?.status, 200, 'If-Range that does not');

  t.equal((await get('/a', { 'If-None-Match': `"x", W/${etag}` }))?.status, 304, 'If-None-Match, weakly compared');
  t.equal((await get('/a', { 'If-None-Match': '"x"' }))?.status, 200, 'If-None-Match of another');
  t.equal((await get('/a', { 'If-Modified-Since': 'Sun, 06 Nov 1994 08:49:37 GMT' }))?.status, 304, 'If-Modified-Since');
  t.equal((await get('/a', { 'If-Modified-Since': 'Sun, 06 Nov 1994 08:49:36 GMT' }))?.status, 200, 'a second earlier');
  t.equal((await get('/a', { 'If-Match': '"x"' }))?.status, 412, 'If-Match of another');
  const cors = await get('/a', { Origin: 'http://player' });
  t.equal(cors?.headers['access-control-allow-origin'], '*', 'CORS');
  const preflight = await get('/a', { Origin: 'http://player', 'Access-Control-Request-Method': 'GET' }, { method: 'OPTIONS' });
  t.ok(preflight?.status === 204 && preflight.headers['access-control-allow-methods'] !== undefined, 'a preflight');
  t.equal((await get('/a', { Via: '1.1 other, 1.1 minicache' }))?.status, 508, 'a loop is seen');
  t.ok((await get('http://site/small'))?.body.equals(Buffer.from('hello')), 'an absolute target');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});

test('signed URLs', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen(), 'sign=key');
  origin.give('/event/a.m3u8', 'list');
  origin.give('/other/a.m3u8', 'no');
  const now = Math.floor(Date.now() / 1000);
  const token = signUrl('/event', { key: 'key', expiresS: now + 60, depth: 1 });
  t.equal((await get(`${token}/event/a.m3u8`))?.body.toString(), 'list', 'a right one');
  t.equal((await get('/event/a.m3u8'))?.status, 403, 'none');
  t.equal((await get(`${token}/other/a.m3u8`))?.status, 403, 'for another path');
  t.equal((await get(`${token}/event/../other/a.m3u8`))?.status, 403, 'with a way out');
  t.equal((await get(`${token}/event/%2e%2E/other/a.m3u8`))?.status, 403, 'with an escaped way out');
  t.equal((await get(`${signUrl('/event', { key: 'key', expiresS: now - 1, depth: 1 })}/event/a.m3u8`))?.status, 403, 'an expired one');
  t.equal((await get(`${signUrl('/event', { key: 'yek', expiresS: now + 60, depth: 1 })}/event/a.m3u8`))?.status, 403, 'with another key');
  t.equal((await get(`${signUrl('/', { key: 'key', expiresS: now + 61, depth: 0 })}/event/a.m3u8`))?.body.toString(), 'list', 'for everything');
  t.equal(origin.asked.length, 1, 'one fetch for all tokens, and none for the refused');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
