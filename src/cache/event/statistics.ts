/** What an event's viewers had: totals that outlive this process, and the last minutes second by second. Bounded. */
import type { Rates } from '../route/openmetrics.ts';

export interface Totals {
  hits: number;
  misses: number;
  bytesOut: number;
  /** Fetched from the origin, by the tier that faces it. */
  bytesIn: number;
  stalls: number;
  peakViewers: number;
  peakCaches: number;
  cacheSeconds: number;
}

export const noTotals = (): Totals => ({ hits: 0, misses: 0, bytesOut: 0, bytesIn: 0, stalls: 0, peakViewers: 0, peakCaches: 0, cacheSeconds: 0 });

export interface Sample {
  atMs: number;
  viewers: number;
  caches: number;
  bpsOut: number;
  bpsIn: number;
  hits: number;
  misses: number;
  stalls: number;
}

const samplesKept = 300;
const viewerMs = 15_000;
/** More are not told apart: the number shown is then a lower bound. */
export const viewersKept = 200_000;

export class Statistics {
  readonly totals: Totals;
  readonly #samples: Sample[] = [];
  /** Viewer -> when he last asked; in the order of that. */
  readonly #viewers = new Map<string, number>();
  /** Whether any cache counts downloads that broke off. */
  #tellsStalls = false;
  #open: Pick<Sample, 'hits' | 'misses' | 'stalls'> = { hits: 0, misses: 0, stalls: 0 };

  constructor(totals: Totals) {
    this.totals = totals;
  }

  seen(viewer: string, nowMs: number): void {
    this.#viewers.delete(viewer);
    if (this.#viewers.size >= viewersKept) return;
    this.#viewers.set(viewer, nowMs);
  }

  viewers(nowMs: number): number {
    for (const [viewer, atMs] of this.#viewers) {
      if (atMs > nowMs - viewerMs) break;
      this.#viewers.delete(viewer);
    }
    return this.#viewers.size;
  }

  /** What one cache did between two readings. `edge`: it faces viewers; `top`: it faces the origin. */
  add(rates: Rates, edge: boolean, top: boolean): void {
    if (edge) {
      this.totals.hits += rates.hits;
      this.totals.misses += rates.misses;
      this.totals.bytesOut += rates.bytesOut;
      this.totals.stalls += rates.broken ?? 0;
      this.#tellsStalls ||= rates.broken !== undefined;
      this.#open.hits += rates.hits;
      this.#open.misses += rates.misses;
      this.#open.stalls += rates.broken ?? 0;
    }
    if (top) this.totals.bytesIn += rates.bytesIn;
  }

  /** Closes a second when it is over. */
  tick(nowMs: number, caches: number, bpsOut: number, bpsIn: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && nowMs - last.atMs < 1000) return;
    const viewers = this.viewers(nowMs);
    this.#samples.push({ atMs: nowMs, viewers, caches, bpsOut, bpsIn, ...this.#open });
    if (this.#samples.length > samplesKept) this.#samples.shift();
    this.#open = { hits: 0, misses: 0, stalls: 0 };
    this.totals.peakViewers = Math.max(this.totals.peakViewers, viewers);
    this.totals.peakCaches = Math.max(this.totals.peakCaches, caches);
    this.totals.cacheSeconds += caches * (last === undefined ? 1 : Math.min(10, (nowMs - last.atMs) / 1000));
  }

  view(nowMs: number) {
    const { hits, misses, bytesOut, bytesIn } = this.totals;
    const last = this.#samples.at(-1);
    const recent = this.#samples.slice(-10).reduce((sum, s) => ({ hits: sum.hits + s.hits, misses: sum.misses + s.misses }), { hits: 0, misses: 0 });
    const ratio = (h: number, m: number): number | null => (h + m === 0 ? null : h / (h + m));
    return {
      viewers: this.viewers(nowMs),
      bpsOut: last?.bpsOut ?? 0,
      bpsIn: last?.bpsIn ?? 0,
      /** Of the last ten seconds; null when nothing was asked for. */
      hitRatio: ratio(recent.hits, recent.misses),
      totalHitRatio: ratio(hits, misses),
      bytesSaved: Math.max(0, bytesOut - bytesIn),
      ...this.totals,
      /** null: the caches do not say. */
      stalls: this.#tellsStalls || this.totals.stalls > 0 ? this.totals.stalls : null,
      samples: this.#samples,
    };
  }
}
