/**
 * Events, with a real controller, a real router and caches that are processes: a URL at once, viewers sent near and kept together, a dead cache passed
 * over within a second, growth and its end, tenants apart, and an end that comes even when everybody was away.
 */
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import { Resolver } from 'node:dns/promises';
import test from 'tape';
import { readEvent } from '../../../src/cache/event/spec.ts';
import { parseEventsConfig } from '../../../src/main/events-config.ts';
import { command } from '../../../src/cli/main.ts';
import { untilIn } from '../../../src/cli/verbs/event.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { eventually } from '../control/api-rig.ts';
import { inMs, makeEvents, type EventRig } from './event-rig.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'none';
  } catch (error) {
    return (error as ShoalError).code;
  }
};

interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  body: string;
}
const ask = (url: string, headers: Record<string, string> = {}): Promise<Reply> =>
  new Promise((done, fail) => {
    const outgoing = get(url, { headers, timeout: 5000, agent: false }, (response) => {
      let body = '';
      response.setEncoding('latin1').on('data', (part: string) => (body += part));
      response.on('error', fail);
      response.on('end', () => done({ status: response.statusCode ?? 0, headers: response.headers, body }));
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('late')));
    outgoing.on('error', fail);
  });
/** Follows one redirect. */
const watch = async (url: string): Promise<Reply> => {
  const first = await ask(url);
  return first.status === 302 ? ask(first.headers.location!) : first;
};

/** Answers everything, and counts. */
async function makeOrigin(): Promise<{ server: Server; url: string; asked: Map<string, number> }> {
  const asked = new Map<string, number>();
  const server = createServer((request, response) => {
    asked.set(request.url!, (asked.get(request.url!) ?? 0) + 1);
    const playlist = request.url!.includes('.m3u8');
    response.writeHead(200, { 'content-type': playlist ? 'application/vnd.apple.mpegurl' : 'video/iso.segment', 'cache-control': `public, max-age=${playlist ? 1 : 1000}` });
    response.end(playlist ? '#EXTM3U\n' : request.url!.padEnd(20_000, '.'));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { server, url: `http://127.0.0.1:${(server.address() as { port: number }).port}`, asked };
}

test('what an event may be: all that is wrong at once', (t) => {
  const good = { tenant: 'acme', name: 'final', origin: 'http://10.0.0.5:8080', until: inMs(60_000) };
  const spec = readEvent(good, Date.now());
  t.deepEqual([spec.min, spec.max, spec.shield, spec.path, spec.memoryKib], [1, 10, true, '/index.m3u8', 16 * 1024]);
  t.equal(readEvent({ ...good, hosts: ['place=a', 'place=b'] }, Date.now()).min, 2, 'a cache in each place');
  let reasons: { path: string }[] = [];
  try {
    readEvent({ ...good, origin: 'https://x/', name: 'UPPER', min: 5, max: 2, hosts: ['berlin', 'a=b', 'a=b'], until: 'now', colour: 1 }, Date.now());
  } catch (error) {
    reasons = (error as ShoalError).data['reasons'] as { path: string }[];
  }
  for (const path of ['colour', 'name', 'min', 'hosts/0', 'hosts/2', 'origin', 'until']) t.ok(reasons.some((r) => r.path === path), path);
  for (const change of [{ until: inMs(-1) }, { until: inMs(40 * 86_400_000) }, { origin: 'http://a/path' }, { origin: 'http://u:p@a' }, { path: 'no-slash' }, { max: 1, hosts: ['a=b', 'c=d'] }])
    t.equal(codeOf(() => readEvent({ ...good, ...change }, Date.now())), 'SPEC_INVALID', JSON.stringify(change));
  t.equal(codeOf(() => readEvent(null, 0)), 'SPEC_INVALID');
  t.equal(untilIn('2h30m', 0), '1970-01-01T02:30:00.000Z');
  t.equal(codeOf(() => untilIn('soon', 0)), 'USAGE');
  const config = { certFile: 'a', keyFile: 'b', stateDir: 's', controller: { caFile: 'c', tokenFile: 't' } };
  t.equal(parseEventsConfig(JSON.stringify(config)).denied.length, 3, 'loopback is no origin unless it is said');
  for (const change of [{ colour: 1 }, { places: [{ cidr: 'x', place: 'y' }] }, { denied: ['x'] }, { ports: { viewers: 0 } }, { tls: false, api: { host: '0.0.0.0' }, certFile: undefined, keyFile: undefined }])
    t.equal(codeOf(() => parseEventsConfig(JSON.stringify({ ...config, ...change }))), 'CONFIG_INVALID', JSON.stringify(change));
  t.end();
});

async function withEvents(config: object, work: (rig: EventRig, origin: Awaited<ReturnType<typeof makeOrigin>>) => Promise<void>): Promise<void> {
  const origin = await makeOrigin();
  const rig = await makeEvents(config);
  try {
    await work(rig, origin);
  } finally {
    await rig.close();
    origin.server.closeAllConnections();
    await new Promise((done) => origin.server.close(done));
  }
}
const serving = async (rig: EventRig, id: string, least: number): Promise<void> =>
  eventually(async () => (await rig.call('GET', `/v1/video-events/${id}`)).body.caches?.serving >= least, `${least} caches of ${id}`, 40_000);

test('a URL at once; viewers redirected with the path kept, near, together; the tiers; a dead cache passed over; the end', (t) =>
  withEvents({ places: [{ cidr: '127.0.0.0/8', place: 'berlin' }], capacity: { mbps: 100_000, requestsPerS: 1_000_000, connections: 100_000 } }, async (rig, origin) => {
    const asked = Date.now();
    const made = await rig.call('POST', '/v1/video-events', { tenant: 'acme', name: 'final', origin: origin.url, hosts: ['place=berlin', 'place=paris'], min: 4, max: 6, until: inMs(600_000) });
    const tookMs = Date.now() - asked;
    t.equal(made.status, 201, JSON.stringify(made.body));
    t.ok(tookMs < 1000, `the URL after ${tookMs} ms`);
    t.ok(made.body.url.endsWith('/e/acme/final/index.m3u8'));
    const early = await ask(made.body.url);
    t.equal(early.status, 200, 'a viewer who comes at once waits for the first cache and gets his playlist');
    await serving(rig, 'acme/final', 4);
    const services = (await rig.controller.call('GET', '/v1/services?tenant=acme')).body.items as { id: string; spec: { count: number; placement: { labels: object } } }[];
    t.deepEqual(services.map(({ id, spec }) => [id, spec.count]), [['acme/ev-final-e0', 2], ['acme/ev-final-e1', 2], ['acme/ev-final-s', 1]]);
    t.deepEqual(services[0]!.spec.placement.labels, { place: 'berlin' });

    const one = await ask(rig.viewers('/e/acme/final/v720/s-1.m4s?a=1&b=%20'));
    t.equal(one.status, 302);
    t.ok(one.headers.location!.endsWith('/v720/s-1.m4s?a=1&b=%20'), 'path and query are kept');
    t.equal((await ask(one.headers.location!)).body.slice(0, 24), '/v720/s-1.m4s?a=1&b=%20.', 'and the cache has it');
    const berlin = new Set([...rig.caches.values()].filter(({ address }) => address.split('.')[2] === '1').map(({ address }) => address));
    const places = new Map<string, Set<string>>();
    await eventually(async () => {
      places.clear();
      for (let i = 0; i < 60; i++) {
        const { location } = (await ask(rig.viewers(`/e/acme/final/v720/s-${i % 20}.m4s`))).headers;
        const key = `s-${i % 20}`;
        places.set(key, (places.get(key) ?? new Set()).add(new URL(location!).hostname));
      }
      return new Set([...places.values()].flatMap((set) => [...set])).size === 2 && [...places.values()].every((set) => set.size === 1);
    }, 'two near caches, a segment on one of them');
    t.ok([...places.values()].every((set) => set.size === 1), 'each segment has one cache');
    t.ok(new Set([...places.values()].flatMap((set) => [...set])).size === 2, 'and segments are on both caches of the place');
    t.ok([...places.values()].every((set) => [...set].every((address) => berlin.has(address))), 'which is the near one');

    origin.asked.clear();
    await Promise.all(Array.from({ length: 200 }, (_, i) => watch(rig.viewers(`/e/acme/final/hot-${i % 4}.m4s`))));
    t.ok([...origin.asked.values()].every((n) => n === 1), `200 viewers, ${origin.asked.size} segments, the origin was asked once for each`);
    const playlists = await Promise.all(Array.from({ length: 50 }, () => ask(rig.viewers('/e/acme/final/many/index.m3u8'))));
    t.ok(playlists.every((r) => r.status === 200 && r.body === '#EXTM3U\n'), 'playlists are handed through, not redirected');
    t.equal(origin.asked.get('/many/index.m3u8'), 1, 'fifty at once are one request');

    // Those at once were misses that joined; those who come later are hits.
    await Promise.all(Array.from({ length: 200 }, (_, i) => watch(rig.viewers(`/e/acme/final/hot-${i % 4}.m4s`))));
    await eventually(async () => (await rig.call('GET', '/v1/video-events/acme/final')).body.statistics.totalHitRatio > 0.3, 'a hit ratio');
    const view = (await rig.call('GET', '/v1/video-events/acme/final')).body;
    t.ok(view.statistics.viewers >= 1 && view.statistics.bytesSaved > 0, `${view.statistics.viewers} viewer(s), ${view.statistics.bytesSaved} bytes saved`);

    for (const path of ['/e/acme/final/../../other/x', '/e/acme/final/%2e%2e/x', '/e/acme/none/x', '/e/acme']) {
      const raw = await new Promise<number>((done) => get({ host: '127.0.0.1', port: rig.router.viewers, path }, (r) => done(r.resume().statusCode ?? 0)));
      t.equal(raw, 404, path);
    }
    const resolver = new Resolver({ timeout: 2000, tries: 1 });
    resolver.setServers([`127.0.0.1:${rig.router.dns}`]);
    // On a machine that is busy with other things a cache may be late for a moment, and is left out for that moment.
    await eventually(async () => {
      const named = await resolver.resolve4('final.acme.cdn.example');
      return named.length === 4 && named.slice(0, 2).every((address) => berlin.has(address));
    }, 'the near ones first, by name');
    t.pass('by name: the near ones first');

    // One edge dies: only segments are asked for, so that nothing but its silence tells the router.
    const near = [...rig.caches.values()].filter(({ address }) => [...places.values()].some((set) => set.has(address)));
    const [dead, last] = near;
    const lost = [...places].filter(([, set]) => set.has(dead!.address)).map(([key]) => key);
    await rig.kill(dead!.child);
    let elsewhereMs = -1;
    const killed = Date.now();
    while (Date.now() - killed < 3000) {
      const { location } = (await ask(rig.viewers(`/e/acme/final/v720/${lost[0]}.m4s`))).headers;
      if (new URL(location!).hostname !== dead!.address) {
        elsewhereMs = Date.now() - killed;
        break;
      }
      await sleep(10);
    }
    t.ok(elsewhereMs >= 0 && elsewhereMs < 1000, `the next request went elsewhere after ${elsewhereMs} ms`);
    const others = await Promise.all(lost.map((key) => watch(rig.viewers(`/e/acme/final/v720/${key}.m4s`))));
    t.ok(others.every((r) => r.status === 200), 'all that it had is served by others');
    // The last one near dies: its viewers get their playlists from afar, at that very moment.
    await rig.kill(last!.child);
    const during = await Promise.all(Array.from({ length: 20 }, (_, i) => ask(rig.viewers(`/e/acme/final/after/${i}.m3u8`))));
    t.ok(during.every((r) => r.status === 200), 'playlists right after its death');

    t.equal((await rig.call('DELETE', '/v1/video-events/acme/final')).status, 202);
    t.equal((await ask(rig.viewers('/e/acme/final/index.m3u8'))).status, 410, 'viewers are told that it is over');
    await eventually(async () => (await rig.call('GET', '/v1/video-events/acme/final')).body.state === 'ended', 'its end', 40_000);
    t.deepEqual([(await rig.controller.call('GET', '/v1/services')).body.items, (await rig.controller.call('GET', '/v1/vms')).body.items], [[], []], 'nothing of it is left');
  }));

test('a crowd: grows within two seconds, no viewer sees an error, and shrinks when it has gone', (t) =>
  withEvents({ capacity: { mbps: 1000, requestsPerS: 40, connections: 1000 }, scale: { holdMs: 1500, drainMs: 1000 } }, async (rig, origin) => {
    await rig.call('POST', '/v1/video-events', { tenant: 'acme', name: 'crowd', origin: origin.url, min: 1, max: 5, until: inMs(600_000) });
    await serving(rig, 'acme/crowd', 1);
    let errors = 0;
    let requests = 0;
    let watching = true;
    const began = Date.now();
    let grewMs = -1;
    const viewer = async (n: number): Promise<void> => {
      for (let i = 0; watching; i++) {
        const reply = await watch(rig.viewers(`/e/acme/crowd/s-${i % 50}.m4s?viewer=${n % 4}`)).catch(() => undefined);
        requests++;
        if (reply?.status !== 200) errors++;
        await sleep(200);
      }
    };
    const all: Promise<void>[] = [];
    for (let n = 0; n < 40; n++) {
      all.push(viewer(n));
      await sleep(50);
      if (grewMs < 0 && rig.caches.size > 2) grewMs = Date.now() - began;
    }
    await eventually(async () => rig.caches.size >= 5, 'four more caches', 40_000);
    t.ok(grewMs >= 0 && grewMs <= 2000, `the first further cache was asked for after ${grewMs} ms`);
    watching = false;
    await Promise.all(all);
    t.equal(errors, 0, `${requests} requests of 40 viewers`);
    await eventually(async () => rig.caches.size === 2, 'edge and shield alone again', 40_000);
    t.pass('it is as small as before');
  }));

test('tenants: their own events only, their quota, and pages that need their key', (t) =>
  withEvents({ quota: { events: 2, caches: 8 } }, async (rig, origin) => {
    const [acme, beta, viewer] = [await rig.controller.tokenFor('tenant', 'acme'), await rig.controller.tokenFor('tenant', 'beta'), await rig.controller.tokenFor('viewer', 'acme')];
    const event = (name: string, more: object = {}) => ({ name, origin: origin.url, max: 3, until: inMs(600_000), ...more });
    const made = await rig.call('POST', '/v1/video-events', event('one'), acme);
    t.deepEqual([made.status, made.body.id], [201, 'acme/one'], "the token's own tenant");
    t.equal((await rig.call('POST', '/v1/video-events', event('one'), acme)).body.code, 'CONFLICT');
    t.equal((await rig.call('POST', '/v1/video-events', event('x', { tenant: 'acme' }), beta)).body.code, 'SPEC_INVALID', 'not in the name of another');
    t.deepEqual([(await rig.call('GET', '/v1/video-events/acme/one', undefined, beta)).status, (await rig.call('DELETE', '/v1/video-events/acme/one', undefined, beta)).status], [404, 404]);
    t.deepEqual((await rig.call('GET', '/v1/video-events', undefined, beta)).body.items, []);
    t.equal((await rig.call('POST', '/v1/video-events', event('two'), viewer)).body.code, 'FORBIDDEN');
    t.equal((await rig.call('DELETE', '/v1/video-events/acme/one', undefined, viewer)).body.code, 'FORBIDDEN');
    t.equal((await rig.call('GET', '/v1/video-events', undefined, 'shoal_00000000_x')).status, 401);
    t.equal((await rig.call('POST', '/v1/video-events', event('two', { max: 6 }), acme)).body.code, 'QUOTA_EXCEEDED', 'nine caches of eight');
    const both = await Promise.all([event('two'), event('two')].map((each) => rig.call('POST', '/v1/video-events', each, acme)));
    t.deepEqual(both.map((r) => r.status).sort(), [201, 409], 'two at once make one');
    t.equal((await rig.call('POST', '/v1/video-events', event('three', { max: 1 }), acme)).body.code, 'QUOTA_EXCEEDED', 'three events of two');
    const impossible = await rig.call('POST', '/v1/video-events', { ...event('far'), hosts: ['place=nowhere'] }, beta);
    t.ok([201, 422].includes(impossible.status), `a place without hosts: ${impossible.body.code ?? 'is waited for'}`);
    const page = new URL(made.body.page);
    const numbers = page.pathname + 'numbers';
    t.equal((await ask(page.origin + page.pathname)).status, 200, 'the page itself is no secret');
    t.equal((await ask(page.origin + numbers)).status, 404, 'its numbers are');
    t.equal((await ask(page.origin + numbers, { authorization: 'Bearer wrong' })).status, 404);
    const opened = await ask(page.origin + numbers, { authorization: `Bearer ${page.hash.slice(1)}` });
    t.deepEqual([opened.status, JSON.parse(opened.body).id, JSON.parse(opened.body).page], [200, 'acme/one', undefined]);
    t.equal((await ask(`${page.origin}/pages/acme/two/numbers`, { authorization: `Bearer ${page.hash.slice(1)}` })).status, 404, 'nor does one key open another page');
    const shoal = async (...words: string[]): Promise<{ code: number; out: any; said: string }> => {
      let out = '';
      let said = '';
      const world = { stdout: { write: (text: string) => (out += text) }, stderr: { write: (text: string) => (said += text) }, env: {} };
      const where = ['--events', `https://127.0.0.1:${rig.router.api}`, '--controller-ca', `${rig.folder}/cert.pem`, '--token-file', `${rig.folder}/token`, '--json'];
      const code = await command([...words, ...where], world);
      return { code, out: out === '' ? undefined : JSON.parse(out), said };
    };
    const created = await shoal('event', 'create', 'typed', '--tenant', 'gamma', '--origin', origin.url, '--until', '1h', '--max', '2', '--hosts', 'place=berlin');
    t.deepEqual([created.code, created.out.id, created.out.max, created.out.hosts], [0, 'gamma/typed', 2, ['place=berlin']], created.said);
    t.deepEqual((await shoal('event', 'list', '--tenant', 'gamma')).out.items.map((e: { id: string }) => e.id), ['gamma/typed']);
    t.ok((await shoal('event', 'describe', 'gamma/typed')).out.page.includes('/pages/gamma/typed/#'));
    t.equal((await shoal('event', 'end', 'gamma/typed')).out.state, 'ending');
    t.deepEqual([(await shoal('event', 'describe', 'gamma/none')).out.error.code, (await shoal('event', 'create', 'x')).code], ['NOT_FOUND', 2], 'what is wrong is said');
    const args = [...rig.caches.values()].map((c) => c.args.get('secret'));
    t.ok(new Set(args).size <= 4 && !JSON.stringify(made.body).includes(args[0]!), "the caches' secret is told to nobody");
  }));

test('kill -9 of the router, and a controller that is away at the end: the event goes on, then ends whole', (t) =>
  withEvents({}, async (rig, origin) => {
    const until = Date.now() + 15_000;
    await rig.call('POST', '/v1/video-events', { tenant: 'acme', name: 'short', origin: origin.url, min: 2, max: 4, until: new Date(until).toISOString() });
    await serving(rig, 'acme/short', 2);
    const before = [...rig.caches.keys()].sort();
    await rig.kill(rig.router.child);
    await rig.startRouter();
    await serving(rig, 'acme/short', 2);
    t.deepEqual([...rig.caches.keys()].sort(), before, 'the next life has the same caches');
    t.equal((await ask(rig.viewers('/e/acme/short/index.m3u8'))).status, 200, 'and sends viewers to them');

    // Both are away when its time is over: the router dead, the controller closed.
    await rig.kill(rig.router.child);
    await rig.controller.controller.close();
    rig.controller.controller.close = async () => {};
    await sleep(Math.max(0, until - Date.now() + 200));
    await rig.startRouter();
    t.equal((await ask(rig.viewers('/e/acme/short/index.m3u8'))).status, 410, 'over at once for viewers');
    await sleep(1500);
    t.equal(rig.caches.size, 3, 'without a controller nobody can end its caches');
    await rig.controller.reopen();
    await eventually(async () => rig.caches.size === 0, 'its end', 40_000);
    await eventually(async () => rig.router.log().includes('nothing of it is left'), 'the record', 40_000);
    t.equal((await rig.call('GET', '/v1/video-events/acme/short')).body.state, 'ended', 'when it is back they are ended');
  }));
