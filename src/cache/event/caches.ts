/**
 * The caches of one event as they are measured: which of the fleet's VMs there are, which of them answer, what each carries. Each is asked by itself,
 * again and again; one that does not answer takes no viewer from that moment on, and what is under way to it is let go.
 */
import { Agent, get } from 'node:http';
import { between, loadOf, metricsMaxBytes, readMetrics, type Capacity, type Rates, type Reading } from '../route/openmetrics.ts';
import type { CacheView } from '../route/table.ts';
import type { FleetVm } from './fleet-port.ts';

export interface Endpoint {
  /** For viewers: "http://10.64.1.7". */
  url: string;
  /** Of its metrics: "http://10.64.1.7:8081/metrics". */
  metricsUrl: string;
}

export interface Scraper {
  /** Rejects when there is no answer within `timeoutMs`. */
  read(url: string, secret: string, timeoutMs: number): Promise<Reading>;
  close(): void;
}

export function httpScraper(): Scraper {
  const agent = new Agent({ keepAlive: true, maxSockets: 2, maxFreeSockets: 256 });
  return {
    read: (url, secret, timeoutMs) =>
      new Promise((resolve, reject) => {
        const outgoing = get(url, { agent, headers: { authorization: `Bearer ${secret}`, accept: 'application/openmetrics-text' } }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (part: string) => {
            if ((text += part).length > metricsMaxBytes) outgoing.destroy(new Error('the page is too long'));
          });
          response.on('error', reject);
          response.on('end', () => {
            clearTimeout(timer);
            if (response.statusCode === 200) resolve(readMetrics(text));
            else reject(new Error(`status ${response.statusCode}`));
          });
        });
        const timer = setTimeout(() => outgoing.destroy(new Error('late')), timeoutMs);
        outgoing.on('error', (error) => {
          clearTimeout(timer);
          reject(error);
        });
      }),
    close: () => agent.destroy(),
  };
}

/** One cache is asked so often, and given so long. */
export const scrapeEveryMs = 250;
const scrapePatienceMs = 600;
/** Rates are those of the last so long. */
const rateMs = 1_000;

export class Cache {
  readonly id: string;
  readonly tier: string;
  readonly place: string;
  readonly slot: number;
  readonly address: string;
  readonly endpoint: Endpoint;
  /** In the order of time; the last is the newest. */
  #readings: { atMs: number; reading: Reading }[] = [];
  #asking = false;
  #askedAtMs = -Infinity;
  #away = new AbortController();
  answers = false;
  /** It answered once. */
  seen = false;
  load = 0;
  connections = 0;
  rates: Rates | undefined;
  /** Viewers sent here since the last reading. */
  assigned = 0;

  constructor(vm: FleetVm & { address: string }, tier: string, place: string, endpoint: Endpoint) {
    this.id = vm.id;
    this.slot = vm.slot;
    this.address = vm.address;
    this.tier = tier;
    this.place = place;
    this.endpoint = endpoint;
  }

  /** Aborts when the cache stops answering. */
  get signal(): AbortSignal {
    return this.#away.signal;
  }

  /** It did not do what was asked of it: no viewer is sent there until it answers again. */
  suspect(): void {
    this.answers = false;
    this.#away.abort();
    this.#away = new AbortController();
  }

  /** What it carries now, those sent since it was asked included. */
  loadNow(capacity: Capacity): number {
    return this.load + (this.assigned * 1000) / scrapeEveryMs / capacity.requestsPerS;
  }

  async ask(scraper: Scraper, secret: string, capacity: Capacity, now: () => number, on: (rates: Rates) => void): Promise<void> {
    if (this.#asking || now() - this.#askedAtMs < scrapeEveryMs) return;
    this.#asking = true;
    this.#askedAtMs = now();
    try {
      const reading = await scraper.read(this.endpoint.metricsUrl, secret, scrapePatienceMs);
      const atMs = now();
      const last = this.#readings.at(-1);
      on(between(last?.reading, reading, last === undefined ? 0 : atMs - last.atMs));
      this.#readings.push({ atMs, reading });
      while (this.#readings.length > 2 && this.#readings[1]!.atMs <= atMs - rateMs) this.#readings.shift();
      const first = this.#readings[0]!;
      this.rates = between(first.reading, reading, atMs - first.atMs);
      if (first.atMs === atMs) this.rates = { ...this.rates, requestsPerS: 0, bpsOut: 0, bpsIn: 0 };
      // The one that asks is among them.
      this.connections = Math.max(0, (reading.connections ?? 0) - 1);
      this.load = loadOf(this.rates, this.connections, capacity);
      this.assigned = 0;
      this.answers = true;
      this.seen = true;
    } catch {
      if (this.answers) this.suspect();
    } finally {
      this.#asking = false;
    }
  }

  view(active: number): CacheView {
    const { id, address, place, slot, load } = this;
    const state = !this.seen ? 'starting' : !this.answers ? 'suspect' : slot >= active ? 'draining' : 'serving';
    return { id, url: this.endpoint.url, address, place, state, load };
  }
}
