/** Other hosts as seen from here: how long a round trip to each takes, measured every minute, and what past migrations to it were like. */
import { connect } from 'node:net';
import { learned, type Past, type Way } from '../migrate/estimate.ts';

export interface Neighbour {
  /** https://host:port of its agent. */
  url: string;
  /** Median of the last measurements; undefined when none of them came through. */
  rttMs: number | undefined;
  measuredMs: number;
  migrations: number;
}

interface Known {
  rtts: number[];
  rttMs: number | undefined;
  measuredMs: number;
  past: Past[];
}

const everyMs = 60_000;
const firstMs = 1_000;
const waitMs = 3_000;
const tries = 3;
const mostNeighbours = 1024;
const mostPast = 32;
/** Connections under way at once. */
const atOnce = 16;

export class Neighbours {
  readonly #known = new Map<string, Known>();
  #timer: NodeJS.Timeout | undefined;
  #first: NodeJS.Timeout | undefined;

  /** From now on this host is measured; one more than there may be takes the place of the one that was named first. */
  name(url: string): void {
    const origin = originOf(url);
    if (origin === undefined) return;
    if (!this.#known.has(origin)) {
      if (this.#known.size >= mostNeighbours) this.#known.delete(this.#known.keys().next().value!);
      this.#known.set(origin, { rtts: [], rttMs: undefined, measuredMs: 0, past: [] });
    }
    this.#first ??= setTimeout(() => void this.measureAll(), firstMs).unref();
    this.#timer ??= setInterval(() => void this.measureAll(), everyMs).unref();
  }

  list(): Neighbour[] {
    return [...this.#known].map(([url, { rttMs, measuredMs, past }]) => ({ url, rttMs, measuredMs, migrations: past.length }));
  }

  way(url: string): Way {
    const known = this.#known.get(originOf(url) ?? '');
    return { rttMs: known?.rttMs, bandwidthBps: learned(known?.past ?? []).bandwidthBps };
  }

  past(url: string): readonly Past[] {
    return this.#known.get(originOf(url) ?? '')?.past ?? [];
  }

  learn(url: string, past: Past): void {
    this.name(url);
    const known = this.#known.get(originOf(url) ?? '');
    known?.past.push({ ...past, first: known.past.length === 0 });
    if (known !== undefined && known.past.length > mostPast) known.past.shift();
  }

  /** Milliseconds, or undefined when it cannot be reached. */
  async measure(url: string): Promise<number | undefined> {
    this.name(url);
    const known = this.#known.get(originOf(url) ?? '');
    if (known === undefined) return undefined;
    const { hostname, port } = new URL(url);
    known.rtts = [];
    for (let i = 0; i < tries; i++) {
      const rttMs = await roundTrip(hostname, Number(port || 443));
      if (rttMs !== undefined) known.rtts.push(rttMs);
    }
    known.rtts.sort((a, b) => a - b);
    known.rttMs = known.rtts[Math.floor(known.rtts.length / 2)];
    known.measuredMs = Date.now();
    return known.rttMs;
  }

  async measureAll(): Promise<void> {
    const left = [...this.#known.keys()];
    const worker = async (): Promise<void> => {
      for (let url = left.shift(); url !== undefined; url = left.shift()) await this.measure(url);
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, left.length) }, worker));
  }

  close(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#first);
  }
}

function originOf(url: string): string | undefined {
  return URL.canParse(url) && url.startsWith('https://') ? new URL(url).origin : undefined;
}

/** A TCP connection takes one round trip until this side knows of it. */
function roundTrip(host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const begun = performance.now();
    const socket = connect({ host, port });
    const end = (value: number | undefined): void => {
      socket.destroy();
      resolve(value);
    };
    socket.setTimeout(waitMs, () => end(undefined));
    socket.once('connect', () => end(performance.now() - begun));
    socket.once('error', () => end(undefined));
  });
}
