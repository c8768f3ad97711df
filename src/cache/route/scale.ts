/**
 * How many caches there should be: a pure function of what they carry, of what was decided before, and of the time. It grows at once, for what is
 * asked for now and for what will be when a new cache is up; it shrinks late, when less would have done for a while, and never below what is there
 * to be carried. A cache that leaves is drained first.
 */

export interface ScaleOptions {
  /** Caches are to be so full, as a part of their capacity. */
  target: number;
  /** One that is fuller than this asks for another, whatever the mean says. */
  high: number;
  /** So long less must have been enough before one is taken away. */
  holdMs: number;
  /** From the decision to a cache that serves. */
  leadMs: number;
  /** A cache whose viewers do not leave is taken away after so long. */
  drainMs: number;
}

export const usualScale: ScaleOptions = { target: 0.6, high: 0.85, holdMs: 30_000, leadMs: 2_000, drainMs: 20_000 };

export interface ScaleCache {
  slot: number;
  serving: boolean;
  /** Part of its capacity. */
  load: number;
  connections: number;
}

/** Kept between decisions of one place; a restart may forget it: then `active` is what the service has. */
export interface ScaleMemory {
  /** Slots below it take viewers; those from it on drain. */
  active: number;
  /** Demand at times, oldest first. */
  samples: readonly { atMs: number; demand: number }[];
  /** The most that was needed since, for shrinking. */
  calmSinceMs: number | undefined;
  calmNeed: number;
  drainingSinceMs: number | undefined;
}

export const freshMemory = (active: number): ScaleMemory => ({ active, samples: [], calmSinceMs: undefined, calmNeed: 0, drainingSinceMs: undefined });

export interface Decision {
  memory: ScaleMemory;
  /** Copies that the service should have: the active ones, and those that drain. */
  count: number;
  /** Caches' worth of load, now and as foreseen. */
  demand: number;
  foreseen: number;
  why: string;
}

/** The slope is taken over so long: shorter is noise, longer is late. */
const slopeMs = 1_500;

/** `min` and `max` of this place. */
export function decide(caches: readonly ScaleCache[], memory: ScaleMemory, min: number, max: number, nowMs: number, options: ScaleOptions): Decision {
  const demand = caches.reduce((sum, cache) => sum + cache.load, 0);
  const samples = [...memory.samples.filter(({ atMs }) => atMs >= nowMs - slopeMs && atMs < nowMs), { atMs: nowMs, demand }];
  const first = samples[0]!;
  const slope = nowMs - first.atMs >= slopeMs / 6 ? Math.max(0, (demand - first.demand) / (nowMs - first.atMs)) : 0;
  const foreseen = demand + slope * options.leadMs;
  const needOf = (carried: number): number => Math.min(max, Math.max(min, Math.ceil(carried / options.target - 1e-9)));
  const hot = caches.filter((cache) => cache.slot < memory.active && cache.serving && cache.load > options.high).length;
  const starting = caches.filter((cache) => cache.slot < memory.active && !cache.serving).length;
  let need = needOf(foreseen);
  // A hot spot is no matter of the mean; those that are on their way count.
  if (hot > starting) need = Math.min(max, Math.max(need, memory.active + 1));

  let { active, calmSinceMs, calmNeed, drainingSinceMs } = memory;
  let why = '';
  if (need > active) {
    why = `${demand.toFixed(2)} caches' worth of load, ${foreseen.toFixed(2)} foreseen${hot > 0 ? `, ${hot} too busy` : ''}`;
    active = need;
    calmSinceMs = undefined;
  } else if (need < active) {
    // What one less would leave must keep clear of the point where it would be wanted back.
    const enough = Math.max(need, Math.min(active, needOf(foreseen * 1.15)));
    if (calmSinceMs === undefined) [calmSinceMs, calmNeed] = [nowMs, enough];
    calmNeed = Math.max(calmNeed, enough);
    if (nowMs - calmSinceMs >= options.holdMs) {
      if (calmNeed < active) {
        active = calmNeed;
        why = `${calmNeed} were enough for ${Math.round(options.holdMs / 1000)} s`;
      }
      calmSinceMs = undefined;
    }
  } else calmSinceMs = undefined;
  active = Math.min(max, Math.max(min, active));

  const leaving = caches.filter((cache) => cache.slot >= active);
  if (leaving.length === 0) drainingSinceMs = undefined;
  else drainingSinceMs ??= nowMs;
  const expired = drainingSinceMs !== undefined && nowMs - drainingSinceMs >= options.drainMs;
  const last = expired ? undefined : leaving.filter((cache) => cache.connections > 0).reduce((most, cache) => Math.max(most, cache.slot), -1);
  const count = Math.max(active, last === undefined ? 0 : last + 1);
  return { memory: { active, samples, calmSinceMs, calmNeed, drainingSinceMs }, count, demand, foreseen, why };
}

/** What each place may have at most, of `max` together, when each wants `needs`: at least its minimum, and the rest by need. */
export function shareOut(needs: readonly number[], mins: readonly number[], max: number): number[] {
  const given = needs.map((_, i) => mins[i]!);
  let left = max - given.reduce((sum, n) => sum + n, 0);
  while (left > 0) {
    let most = -1;
    for (let i = 0; i < needs.length; i++) {
      const missing = needs[i]! - given[i]!;
      if (missing > 0 && (most < 0 || missing > needs[most]! - given[most]!)) most = i;
    }
    if (most < 0) break;
    given[most]!++;
    left--;
  }
  return given;
}
