/**
 * A tenant's video event on two real Xen hosts: caches are unikernels that the controller boots in both places, before an origin that ffmpeg feeds. hls.js in
 * headless Chromium plays a film and a live stream out of them, changes renditions, and goes on when a cache is destroyed in the middle of a segment.
 */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium, type Browser, type Page } from 'playwright-core';
import test from 'tape';
import { openEventLab, outside, type EventLab } from '../../src/cli/event-lab.ts';
import { labDown } from '../../src/lab/lab.ts';
import { enter } from '../../src/lab/network.ts';
import { labFolder, repositoryRoot } from '../../src/lab/paths.ts';
import { routerNamespace } from '../../src/lab/plan.ts';
import { run } from '../../src/lab/processes.ts';
import { film } from '../unit/cache/media.ts';
import { shoal } from './shoal.ts';

const labName = 'tevent';
const minutes = 60_000;
let world: EventLab;
let browser: Browser;

interface Vm {
  name: string;
  host: string;
  service?: string;
  state: string;
  addresses: string[];
}
interface EventView {
  state: string;
  url: string;
  page: string;
  caches: { serving: number; total: number };
  statistics: { hitRatio: number | null; totalHitRatio: number | null; bytesSaved: number; viewers: number };
}

const eventually = async <T>(what: string, look: () => Promise<T | undefined | false>, timeoutMs = minutes): Promise<T> => {
  for (const end = Date.now() + timeoutMs; ; await sleep(100)) {
    const found = await look().catch(() => undefined);
    if (found !== undefined && found !== false) return found as T;
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`);
  }
};
const cli = (...words: string[]) => {
  Object.assign(process.env, world.environment);
  return shoal([...words, '--json'], minutes);
};
const curl = async (...words: string[]): Promise<string> => (await world.lab.inside(['curl', '-sS', '--max-time', '20', ...words], { timeoutMs: 30_000 })).stdout;
const view = (name: string): Promise<EventView> => world.events.call<EventView>('GET', `/v1/video-events/acme/${name}`);
const caches = async (name: string): Promise<Vm[]> => (await world.fleet.list<Vm>('/v1/vms')).filter(({ service }) => service?.startsWith(`ev-${name}-e`));

test('event: two places, an origin and a router; images', { timeout: 20 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  await labDown(labName);
  world = await openEventLab({ name: labName, memoryMib: 2048, scale: { holdMs: 3_000, drainMs: 2_000 } });
  await world.startOrigin(film(), 8080, { segmentMs: 2000, renditions: 2, ts: false });
  await world.startOrigin(film(), 8081, { live: true, segmentMs: 1000, window: 6, renditions: 2, ts: false });
  const program = join(labFolder(labName), 'chromium');
  writeFileSync(program, `#!/bin/sh\nexec ${enter(routerNamespace(labName)).join(' ')} /usr/bin/chromium "$@"\n`);
  chmodSync(program, 0o755);
  browser = await chromium.launch({ executablePath: program, args: ['--no-sandbox', '--mute-audio', '--autoplay-policy=no-user-gesture-required'] });
});

test('event: `event create` gives an URL that serves, from a cache in each place', { timeout: 5 * minutes }, async (t) => {
  const began = performance.now();
  const made = await cli('event', 'create', 'film', '--tenant', 'acme', '--origin', `http://${outside}:8080`, '--path', '/film/index.m3u8', '--hosts', 'place=east,place=west', '--min', '2', '--max', '4', '--until', '1h');
  t.equal(made.code, 0, made.err);
  const playlist = await curl('-f', '--retry', '10', '--retry-all-errors', '-L', made.json.url);
  t.match(playlist, /^#EXTM3U/, `the playlist, ${Math.round(performance.now() - began)} ms after the command began`);
  await eventually('a cache in each place', async () => (await view('film')).caches.serving === 2);
  const vms = await caches('film');
  t.deepEqual(vms.map(({ host }) => host).sort(), ['host0', 'host1'], 'one on each host');
  for (const host of world.lab.hosts) t.match((await host.exec('xl list')).stdout, /acme\.ev-film-e/, `xl sees it on ${host.name}`);
  const bad = await cli('event', 'create', 'bad', '--tenant', 'acme', '--origin', 'http://127.0.0.1:8080', '--until', '1h');
  t.notEqual(bad.code, 0, 'an origin on the router itself is refused');
});

const videoOf = (page: Page): Promise<{ at: number; ended: boolean; height: number }> =>
  page.evaluate("(() => { const v = document.getElementById('video'); return { at: v.currentTime, ended: v.ended, height: v.videoHeight }; })()");
const edgeOf = (page: Page): Promise<string> => page.evaluate('shoalEvent.edge');

interface Viewer {
  page: Page;
  problems: string[];
  edges: Set<string>;
}

/** Reads no faster than so many bytes a second, so that a segment takes a moment. */
async function watch(name: string, bytesPerS: number): Promise<Viewer> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const [problems, edges] = [[] as string[], new Set<string>()];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('requestfinished', (request) => /\.m4s/.test(request.url()) && edges.add(new URL(request.url()).hostname));
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: bytesPerS, uploadThroughput: -1 });
  await page.goto((await view(name)).page);
  return { page, problems, edges };
}

/** Destroys, by xl, the cache that a segment is just being read from. */
async function destroyMidSegment(name: string, page: Page): Promise<string> {
  const vms = await caches(name);
  const [victim, request] = await new Promise<[Vm, { finished: boolean }]>((found) => {
    page.on('request', (asked) => {
      const { hostname, pathname } = new URL(asked.url());
      const vm = vms.find(({ addresses }) => addresses[0] === hostname);
      if (vm === undefined || !/\.m4s$/.test(pathname)) return;
      const state = { finished: false };
      page.on('requestfinished', (other) => other === asked && (state.finished = true));
      found([vm, state]);
    });
  });
  const host = world.lab.hosts.find(({ name: known }) => known === victim.host)!;
  const destroyed = await host.exec(`xl destroy ${victim.name}`);
  if (destroyed.code !== 0) throw new Error(destroyed.stderr);
  return `${victim.name} (${victim.addresses[0]}), its segment ${request.finished ? 'just read' : 'half read'}`;
}

test('event: a film plays through from both places, changes its rendition, survives a cache destroyed mid-segment', { timeout: 5 * minutes }, async (t) => {
  const { page, problems, edges } = await watch('film', 100_000);
  await eventually('the first picture', async () => (await videoOf(page)).at > 0.2);
  t.pass(`destroyed ${await destroyMidSegment('film', page)}`);
  await page.selectOption('#level', '0');
  await eventually('the end of the film', async () => (await videoOf(page)).ended, 90_000);
  t.ok((await videoOf(page)).at > 7.5, 'played to its end');
  await eventually('both caches again', async () => (await view('film')).caches.serving === 2);
  const { height } = await videoOf(page);
  await page.evaluate("document.getElementById('video').currentTime = 0");
  await page.selectOption('#level', height === 144 ? '1' : '0');
  await page.evaluate("document.getElementById('video').play().catch(() => {})");
  const other = await eventually('the other rendition', async () => {
    const now = (await videoOf(page)).height;
    return now !== height && now > 0 ? now : undefined;
  });
  t.deepEqual([height, other].sort(), [144, 240], `${height} lines, then ${other}`);
  await eventually('the end again', async () => (await videoOf(page)).ended, 90_000);
  t.ok(edges.size >= 2, `segments came from ${[...edges].join(', ')}`);
  const shown = await eventually('numbers', async () => {
    const { statistics } = await view('film');
    return (statistics.totalHitRatio ?? 0) > 0 && statistics;
  });
  t.pass(`hit ratio ${shown.totalHitRatio!.toFixed(2)}, ${shown.bytesSaved} bytes saved`);
  t.deepEqual(problems, []);
  if (process.env['SHOAL_SHOTS'] !== undefined) await page.screenshot({ path: `${process.env['SHOAL_SHOTS']}-event.png`, fullPage: true });
  await page.close();
});

test('event: live plays from unikernels, and goes on when its cache is destroyed', { timeout: 5 * minutes }, async (t) => {
  const made = await cli('event', 'create', 'live', '--tenant', 'acme', '--origin', `http://${outside}:8081`, '--path', '/film/index.m3u8', '--hosts', 'place=east,place=west', '--min', '2', '--max', '4', '--until', '1h');
  t.equal(made.code, 0, made.err);
  await eventually('two caches', async () => (await view('live')).caches.serving === 2);
  const { page, problems, edges } = await watch('live', 200_000);
  await eventually('the picture', async () => (await videoOf(page)).at > 0 && (await edgeOf(page)) !== '');
  const begin = (await videoOf(page)).at;
  await eventually('three seconds more', async () => (await videoOf(page)).at > begin + 3);
  t.comment(`${((await page.evaluate('shoalEvent.hls.latency')) as number).toFixed(1)} s behind`);
  t.pass(`destroyed ${await destroyMidSegment('live', page)}`);
  const { at } = await videoOf(page);
  const destroyed = Date.now();
  await eventually('five seconds more', async () => (await videoOf(page)).at > at + 5, 90_000);
  t.pass(`five seconds of video took ${((Date.now() - destroyed) / 1000).toFixed(1)} s`);
  t.ok(edges.size >= 2, `segments came from ${[...edges].join(', ')}`);
  t.deepEqual(problems, []);
  await page.close();
});

test('event: kill -9 of the router: events and viewers go on with the next one', { timeout: 3 * minutes }, async (t) => {
  const before = (await caches('film')).map(({ name }) => name).sort();
  world.router.kill();
  world.router = await world.startRouter();
  await eventually('both caches', async () => (await view('film')).caches.serving === 2);
  t.deepEqual((await caches('film')).map(({ name }) => name).sort(), before, 'the same caches');
  t.match(await curl('-L', (await view('film')).url), /^#EXTM3U/, 'they serve');
});

test('event: `event end` leaves nothing', { timeout: 3 * minutes }, async (t) => {
  for (const name of ['film', 'live']) t.equal((await cli('event', 'end', `acme/${name}`)).code, 0, name);
  await eventually('the end of both', async () => (await Promise.all(['film', 'live'].map(view))).every(({ state }) => state === 'ended'));
  t.deepEqual((await world.fleet.list<Vm>('/v1/vms')).map(({ name }) => name), [], 'the controller knows of none');
  for (const host of world.lab.hosts) t.notOk(/acme\./.test((await host.exec('xl list')).stdout), `none on ${host.name}`);
  t.comment(readFileSync(world.router.logFile, 'utf8').split('\n').slice(-20).join('\n# '));
});

test('event: down', { timeout: 2 * minutes }, async () => {
  await browser.close();
  await world.close();
  await labDown(labName);
});

test.onFinish(() => void labDown(labName));
