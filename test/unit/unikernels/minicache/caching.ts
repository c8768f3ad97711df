/** RFC 9111 as a viewer sees it: freshness, validation, variants, invalidation, purging, looking ahead, metrics. */
import test from 'tape';
import { admin, Cache, get, Origin, sleep, until } from './rig.ts';

test('what is kept, for how long, and for whom', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  await cache.start(await origin.listen());
  const twice = async (path: string, one: Record<string, string> = {}, two = one) => {
    await get(path, one);
    await get(path, two);
    return origin.count(path);
  };
  const control = (path: string, value: string, more: Record<string, string> = {}) => origin.give(path, path, { 'Cache-Control': value, ...more });
  control('/fresh', 'max-age=100');
  t.equal(await twice('/fresh'), 1, 'max-age');
  control('/no-store', 'no-store, max-age=100');
  t.equal(await twice('/no-store'), 2, 'no-store');
  control('/private', 'private, max-age=100');
  t.equal(await twice('/private'), 2, 'private');
  control('/shared', 'max-age=0, s-maxage=100');
  t.equal(await twice('/shared'), 1, 's-maxage before max-age');
  control('/cdn', 'max-age=100', { 'CDN-Cache-Control': 'no-store' });
  t.equal(await twice('/cdn'), 2, 'CDN-Cache-Control before Cache-Control');
  control('/broken', 'max-age=100', { 'CDN-Cache-Control': 'no-store, =' });
  t.equal(await twice('/broken'), 1, 'but not when it is malformed');
  control('/secret', 'max-age=100');
  t.equal(await twice('/secret', { Authorization: 'Basic x' }), 2, 'an answer to Authorization');
  control('/secret-public', 'max-age=100, public');
  t.equal(await twice('/secret-public', { Authorization: 'Basic x' }), 1, 'unless it is public');
  control('/star', 'max-age=100', { Vary: '*' });
  t.equal(await twice('/star'), 2, 'Vary: *');
  origin.give('/gone', 'x', {}, 404);
  t.equal(await twice('/gone'), 1, '404 is kept shortly');
  await sleep(3100);
  await get('/gone');
  t.equal(origin.count('/gone'), 2, 'and then not any more');
  t.equal((await get('/not-here', { 'Cache-Control': 'only-if-cached' }))?.status, 504, 'only-if-cached');

  origin.on('/vary', (request, response) => {
    const language = String(request.headers['accept-language']);
    response.writeHead(200, { 'Cache-Control': 'max-age=100', Vary: 'Accept-Language', 'Content-Length': language.length }).end(language);
  });
  for (let i = 0; i < 2; i++) {
    for (const language of ['de', 'en, fr', 'it']) {
      const answer = await get('/vary', { 'Accept-Language': language });
      if (answer?.body.toString() !== language) t.fail(`variant ${language}: ${answer?.body.toString()}`);
    }
  }
  await get('/vary', { 'Accept-Language': 'EN,fr' });
  t.equal(origin.count('/vary'), 3, 'each variant once, whatever its blanks and case');

  origin.on('/validated', (request, response) => {
    if (request.headers['if-none-match'] === '"v1"') response.writeHead(304, { ETag: '"v1"', 'Cache-Control': 'max-age=100', 'X-New': 'yes' }).end();
    else response.writeHead(200, { ETag: '"v1"', 'Cache-Control': 'max-age=0', 'Content-Length': 3 }).end('one');
  });
  await get('/validated');
  const validated = await get('/validated');
  t.ok(validated?.body.toString() === 'one' && validated.headers['x-new'] === 'yes', 'a 304 freshens what is kept, fields and all');
  await get('/validated');
  t.equal(origin.count('/validated'), 2, 'and then it is fresh');

  let version = 0;
  origin.on('/swr', (_request, response) => {
    const text = `v${++version}`;
    response.writeHead(200, { 'Cache-Control': 'max-age=1, stale-while-revalidate=60', 'Content-Length': text.length }).end(text);
  });
  await get('/swr');
  await sleep(2100);
  t.equal((await get('/swr'))?.body.toString(), 'v1', 'stale-while-revalidate: the old one at once');
  t.ok(await until(() => version === 2), 'and a fetch behind it');
  await sleep(50);
  t.equal((await get('/swr'))?.body.toString(), 'v2', 'then the new one');

  let broken = false;
  origin.on('/sie', (_request, response) => {
    if (broken) response.writeHead(503, { 'Content-Length': 0 }).end();
    else response.writeHead(200, { 'Cache-Control': 'max-age=1, stale-if-error=60', 'Content-Length': 4 }).end('good');
  });
  origin.on('/must', (_request, response) => {
    if (broken) response.destroy();
    else response.writeHead(200, { 'Cache-Control': 'max-age=1, must-revalidate', ETag: '"x"', 'Content-Length': 4 }).end('good');
  });
  await get('/sie');
  await get('/must');
  broken = true;
  await sleep(2100);
  t.equal((await get('/sie'))?.body.toString(), 'good', 'stale-if-error');
  t.equal((await get('/must'))?.status, 504, 'must-revalidate is 504 without an origin');

  origin.on('/thing', (request, response) => {
    if (request.method === 'PUT') response.writeHead(204).end();
    else response.writeHead(200, { 'Cache-Control': 'max-age=100', 'Content-Length': 1 }).end('x');
  });
  await get('/thing');
  const put = await get('/thing', {}, { method: 'PUT', body: 'something' });
  t.equal(put?.status, 204, 'PUT goes through');
  t.equal(await origin.asked.find(({ method }) => method === 'PUT')!.body, 'something', 'with its body');
  await get('/thing');
  t.equal(origin.asked.filter(({ method, url }) => method === 'GET' && url === '/thing').length, 2, 'and what was kept is invalid');

  for (const name of ['a', 'b', 'c']) origin.give(`/tag/${name}`, name, { 'Cache-Control': 'max-age=100', 'Surrogate-Key': name === 'c' ? 'other' : `event-1 ${name}` });
  for (const name of ['a', 'b', 'c']) await get(`/tag/${name}`);
  t.equal((await get('/tag/a'))?.headers['surrogate-key'], undefined, 'tags are not for viewers');
  t.equal((await get('/purge?key=event-1', {}, { method: 'POST', port: 8081 }))?.status, 401, 'no purge without the secret');
  t.equal((await admin('/purge?key=event-1', 'POST'))?.body.toString(), '{"purged":2}\n', 'purge by tag');
  for (const name of ['a', 'b', 'c']) await get(`/tag/${name}`);
  t.deepEqual(['a', 'b', 'c'].map((name) => origin.count(`/tag/${name}`)), [2, 2, 1], 'of those that have it');
  t.equal((await admin('/purge?url=site%2Ftag%2Fa', 'POST'))?.body.toString(), '{"purged":1}\n', 'purge by URL');
  await get('/tag/a');
  t.equal(origin.count('/tag/a'), 3, 'is gone');
  origin.give('/soft', 'soft', { 'Cache-Control': 'max-age=100, stale-if-error=60', ETag: '"s"' });
  await get('/soft');
  await admin('/purge?url=site/soft&soft=1', 'POST');
  origin.on('/soft', (_request, response) => response.destroy());
  t.equal((await get('/soft'))?.body.toString(), 'soft', 'purged softly it still stands in for an origin that fails');
  t.equal(origin.count('/soft') > 1, true, 'which was asked first');

  origin.give('/video/seg009.ts', 'nine');
  origin.give('/video/seg010.ts', 'ten');
  await get('/video/seg009.ts');
  t.ok(await until(() => origin.count('/video/seg010.ts') === 1), 'the next segment is asked for ahead');
  await sleep(100);
  t.equal((await get('/video/seg010.ts'))?.body.toString(), 'ten');
  t.equal(origin.count('/video/seg010.ts'), 1, 'and is there when it is wanted');
  t.ok(await until(() => origin.count('/video/seg011.ts') === 1), 'and so is the one after it');

  const metrics = (await admin('/metrics'))!.body.toString();
  t.ok(metrics.endsWith('# EOF\n') && /^minicache_hits_total [1-9]/m.test(metrics), 'OpenMetrics');
  const objects = JSON.parse((await admin('/objects'))!.body.toString()) as { objects: { url: string; hits: number; misses: number; reached: number[] }[] };
  const fresh = objects.objects.find(({ url }) => url === 'site/fresh');
  t.ok(fresh?.hits === 1 && fresh.misses === 1 && fresh.reached[4] === 2, 'counters of an object');
  t.match((await admin('/log'))!.body.toString(), / 200 hit \d+ \d+ms GET \/fresh\n/, 'the access log');
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
