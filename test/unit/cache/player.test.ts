/**
 * A real player: hls.js in headless Chromium plays a film and a live stream through the router and the edges, changes renditions, and goes on when the edge
 * it reads from is killed in the middle of a segment. The event's page shows it, light and dark, narrow and wide, and asks for nothing from elsewhere.
 */
import { chromium, type Browser, type Page } from 'playwright-core';
import test from 'tape';
import { openOrigin, type Origin } from '../../../src/cache/origin/origin.ts';
import { inMs, makeEvents, type EventRig } from './event-rig.ts';
import { film, folder, gone } from './media.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until<T>(what: string, work: () => Promise<T | undefined | false>, timeoutMs = 40_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await work();
    if (found !== undefined && found !== false) return found as T;
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await sleep(50);
  }
}

interface World {
  rig: EventRig;
  origin: Origin;
  browser: Browser;
}

async function inWorld(live: boolean, work: (world: World) => Promise<void>): Promise<void> {
  const state = await folder();
  const origin = await openOrigin({
    inputs: [film()], live, host: '127.0.0.1', port: 0, stateFolder: state, segmentS: live ? 1 : 2, partS: 0.25, window: 6, renditions: 2, ts: false, keepGoing: false, log: () => {},
  });
  const rig = await makeEvents();
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--mute-audio', '--autoplay-policy=no-user-gesture-required'] });
  try {
    await work({ rig, origin, browser });
  } finally {
    await browser.close();
    await rig.close();
    await origin.close();
    await gone(state);
  }
}

const videoOf = (page: Page): Promise<{ at: number; ended: boolean; height: number }> =>
  page.evaluate("(() => { const v = document.getElementById('video'); return { at: v.currentTime, ended: v.ended, height: v.videoHeight }; })()");
const stateOf = (page: Page): Promise<{ edge: string; level: number; levels: number; lastError?: string }> =>
  page.evaluate('({ edge: shoalEvent.edge, level: shoalEvent.hls?.currentLevel ?? -1, levels: shoalEvent.hls?.levels.length ?? 0, lastError: shoalEvent.lastError })');

async function openPage({ rig, origin, browser }: World, name: string, edges: number): Promise<{ page: Page; problems: string[]; hosts: Set<string>; url: string }> {
  const made = await rig.call('POST', '/v1/video-events', { tenant: 'acme', name, origin: `http://127.0.0.1:${origin.port}`, path: '/film/index.m3u8', min: edges, max: edges + 1, until: inMs(600_000) });
  await until(`${edges} edges`, async () => (await rig.call('GET', `/v1/video-events/acme/${name}`)).body.caches.serving >= edges);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const problems: string[] = [];
  const hosts = new Set<string>();
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => /Content Security Policy|Refused to/.test(message.text()) && problems.push(message.text()));
  page.on('request', (request) => /^https?:/.test(request.url()) && hosts.add(new URL(request.url()).hostname));
  await page.goto(made.body.page);
  return { page, problems, hosts, url: made.body.page };
}

/** Kills the edge that a segment is just being read from. */
async function killMidSegment(rig: EventRig, page: Page): Promise<string> {
  const address = await new Promise<string>((done) => {
    page.on('request', (request) => {
      const { hostname, pathname } = new URL(request.url());
      if (/\/v\d+\/.*\.m4s$/.test(pathname) && [...rig.caches.values()].some((cache) => cache.address === hostname)) done(hostname);
    });
  });
  await sleep(150);
  await rig.kill([...rig.caches.values()].find((cache) => cache.address === address)!.child);
  return address;
}

test('a film: plays through, changes its rendition, survives the edge that is killed mid-segment', (t) =>
  inWorld(false, async (world) => {
    world.rig.rate = 60_000;
    const { page, problems, hosts, url } = await openPage(world, 'film', 2);
    await until('the first picture', async () => (await videoOf(page)).at > 0.2);
    t.equal((await stateOf(page)).levels, 2, 'two renditions to choose from');
    const dead = await killMidSegment(world.rig, page);
    t.pass(`killed ${dead} in the middle of a segment`);
    await page.selectOption('#level', '0');
    await until('the end of the film', async () => (await videoOf(page)).ended, 40_000);
    t.ok((await videoOf(page)).at > 7.5, 'played to its end');
    const height = (await videoOf(page)).height;
    await page.evaluate("document.getElementById('video').currentTime = 0");
    await page.selectOption('#level', height === 144 ? '1' : '0');
    await page.evaluate("document.getElementById('video').play().catch(() => {})");
    const other = await until('the other rendition', async () => {
      const now = (await videoOf(page)).height;
      return now !== height && now > 0 ? now : undefined;
    });
    t.ok([144, 240].includes(other), `${height} lines, then ${other}`);
    t.notEqual((await stateOf(page)).edge.split(':')[0], dead, 'from another edge');
    const number = (name: string): Promise<string> => page.evaluate(`document.querySelector('[data-number="${name}"]')?.textContent ?? ''`);
    await until('a viewer in the numbers', async () => Number(await number('viewers')) >= 1);
    await until('a hit ratio in the numbers', async () => /\d/.test(await number('hit ratio')));
    t.ok(/\d/.test(await number('bytes saved')) && /\d/.test(await number('throughput')), 'numbers are there');
    const own = new Set(['127.0.0.1', ...[...world.rig.caches.values()].map((c) => c.address)]);
    t.deepEqual([...hosts].filter((host) => !own.has(host)), [], 'nothing was asked of anybody else');
    t.deepEqual(problems, [], 'no error, nothing that the policy refused');

    for (const [scheme, ground] of [['light', 'rgb(251, 251, 250)'], ['dark', 'rgb(20, 23, 26)']] as const) {
      await page.emulateMedia({ colorScheme: scheme });
      t.equal(await page.evaluate('getComputedStyle(document.body).backgroundColor'), ground, scheme);
      if (process.env['SHOAL_SHOTS'] !== undefined) await page.screenshot({ path: `${process.env['SHOAL_SHOTS']}-${scheme}.png`, fullPage: true });
    }
    await page.setViewportSize({ width: 390, height: 800 });
    t.ok(((await page.evaluate('document.documentElement.scrollWidth')) as number) <= 390, 'no scrolling sideways at 390');
    if (process.env['SHOAL_SHOTS'] !== undefined) await page.screenshot({ path: `${process.env['SHOAL_SHOTS']}-narrow.png`, fullPage: true });
    const wrong = await page.context().newPage();
    await wrong.goto(url.replace(/#.*/, '#wrong'));
    await until('the reason', async () => /key of this page is wrong/.test((await wrong.textContent('#state')) ?? ''));
    t.pass('a wrong key says so');
  }));

test('live: plays with low latency, and goes on when its edge is killed', (t) =>
  inWorld(true, async (world) => {
    const { page, problems } = await openPage(world, 'live', 2);
    await until('the picture', async () => (await videoOf(page)).at > 0 && (await stateOf(page)).edge !== '');
    const begin = (await videoOf(page)).at;
    await until('two seconds more', async () => (await videoOf(page)).at > begin + 2);
    const latency = (await page.evaluate('shoalEvent.hls.latency')) as number;
    t.ok(latency > 0 && latency < 6, `${latency.toFixed(1)} s behind`);
    const dead = await killMidSegment(world.rig, page);
    const at = (await videoOf(page)).at;
    const killed = Date.now();
    await until('five seconds more', async () => (await videoOf(page)).at > at + 5, 30_000);
    t.pass(`killed ${dead}; five seconds of video took ${((Date.now() - killed) / 1000).toFixed(1)} s`);
    t.notEqual((await stateOf(page)).edge.split(':')[0], dead);
    t.deepEqual(problems, []);
  }));
