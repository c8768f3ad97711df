/**
 * The console in headless Chromium over a whole controller with hosts in memory. Every request of the page is seen: one that leaves
 * the controller is kept in `strays`, and so is everything the page complains of.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import type { ControllerOptions } from '../../../src/control/controller.ts';
import { buildConsole } from '../../../src/lab/build.ts';
import { makeApi, type ApiRig } from '../control/api-rig.ts';
import { digest } from '../control/rig.ts';

export interface WebRig extends ApiRig {
  url: string;
  browser: Browser;
  /** Where the controller is, or a wire to it. */
  origins: Set<string>;
  /** Requests to anywhere else. */
  strays: string[];
  /** Errors and refusals of the page. */
  complaints: string[];
  /** A page with a session of its own; signed in when a token is given. */
  page(token?: string, hash?: string, options?: BrowserContextOptions): Promise<Page>;
  /** A service that is as wanted. */
  apply(key: string, count: number, more?: object): Promise<void>;
}

export const executablePath = '/usr/bin/chromium';

export async function makeWeb(names: string[], options: Partial<ControllerOptions> = {}): Promise<WebRig> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-console-'));
  const files = join(folder, 'console');
  await buildConsole(files);
  const rig = (await makeApi(names, { console: files, ...options })) as WebRig;
  for (const host of rig.hosts.values()) host.totalKib = 64 * 1024 * 1024;
  rig.browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  rig.url = `https://127.0.0.1:${rig.controller.server.port}`;
  rig.origins = new Set([rig.url]);
  rig.strays = [];
  rig.complaints = [];
  rig.page = async (token, hash = '', more = {}) => {
    const context = await rig.browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 }, ...more });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on('request', (request) => {
      if (!rig.origins.has(new URL(request.url()).origin)) rig.strays.push(request.url());
    });
    page.on('pageerror', (error) => rig.complaints.push(error.message));
    page.on('console', (message) => {
      // What the network says of itself is looked at by the tests that break it.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) rig.complaints.push(message.text());
    });
    await page.goto(`${rig.url}/${hash}`);
    if (token !== undefined) await signIn(page, token);
    return page;
  };
  rig.apply = async (key, count, more = {}) => {
    const { status, text } = await rig.call('PUT', `/v1/services/${key}`, { image: digest, count, memoryKib: 1024, ...more });
    if (status !== 202) throw new Error(text);
    const deadline = Date.now() + 30_000;
    for (;;) {
      const { body } = await rig.call('GET', `/v1/services/${key}`);
      if (body.copies.ready === count && body.copies.total === count) return;
      if (Date.now() > deadline) throw new Error(`waited in vain for ${count} of ${key}: ${JSON.stringify(body.copies)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const close = rig.close;
  rig.close = async () => {
    await rig.browser.close();
    await close();
    await rm(folder, { recursive: true, force: true });
  };
  return rig;
}

export async function signIn(page: Page, token: string): Promise<void> {
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** Cells of the picture, as its model has them. */
export const cells = async (page: Page): Promise<number> => Number(await page.locator('canvas').getAttribute('data-cells'));

/** Polls until the value is the one that is wanted; returns the last one. */
export async function until<T>(value: () => Promise<T>, wanted: T, timeoutMs = 30_000): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const now = await value().catch(() => undefined as T);
    if (now === wanted || Date.now() > deadline) return now;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
