/**
 * How long a migration will take and the VM stand still, and whether to migrate at all. Formulas from what is known of the VM and the way to the
 * target; what they were wrong by lately, on this way, corrects them. Pure.
 */

export interface Way {
  /** Median of the last measurements; undefined when the target was never reached. */
  rttMs: number | undefined;
  /** Bytes a second; undefined when nothing was shipped that way yet. */
  bandwidthBps: number | undefined;
}

export interface Load {
  memoryKib: number;
  /** Part of the memory that has to be shipped, 0 to 1: what is neither zero nor the image's. */
  filled: number;
  /** Bytes a second that the VM writes anew; counts for a live migration only. */
  dirtyBps: number;
}

export interface Estimate {
  bytes: number;
  /** From the order to the end. */
  totalMs: number;
  /** The VM stands still. */
  downtimeMs: number;
}

/** A migration that was: what was foretold by the formula alone, and what came. */
export interface Past {
  formula: Estimate;
  bytes: number;
  totalMs: number;
  downtimeMs: number;
  live: boolean;
  /** Of the memory; see Load. */
  filled: number;
  dirtyBps: number;
  /** Bytes a second while memory was shipped. */
  bandwidthBps: number;
  /** The first that way of the agent that made it. */
  first?: boolean;
}

/** Where nothing is known: a gigabit a second, half of the memory, an RTT of a LAN. */
export const unknownWay = { rttMs: 1, bandwidthBps: 125e6 } as const;
export const unknownFilled = 0.5;

/** Round trips before memory is shipped (TCP, TLS, order, reservation), and those during which the VM stands still (verified, commit). */
const roundTripsBefore = 5;
const roundTripsStill = 2;
/** What both hosts do beside shipping, corrected by what was. */
const workMs = 5;
const stillWorkMs = 5;
export const mostPasses = 6;
/** A pass with less than this left is the last one. */
export const enoughBytes = 64 * 1024;

export function formula(load: Load, way: Way, live: boolean): Estimate {
  const rttMs = way.rttMs ?? unknownWay.rttMs;
  const bps = Math.max(1, way.bandwidthBps ?? unknownWay.bandwidthBps);
  const memoryBytes = load.memoryKib * 1024;
  const first = memoryBytes * Math.min(1, Math.max(0, load.filled));
  const still = (bytes: number): number => (bytes / bps) * 1000 + roundTripsStill * rttMs + stillWorkMs;
  const before = roundTripsBefore * rttMs + workMs;
  let bytes = first;
  let left = first;
  let ms = 0;
  // A plain one is copied once, too, before the VM stands still.
  for (let pass = 0; pass < (live ? mostPasses : 1) && left > enoughBytes; pass++) {
    const passMs = (left / bps) * 1000;
    ms += passMs;
    const dirty = Math.min(memoryBytes, (load.dirtyBps * passMs) / 1000);
    if (dirty >= left && pass > 0) break;
    bytes += dirty;
    left = dirty;
  }
  return { bytes, totalMs: before + ms + still(left), downtimeMs: still(left) };
}

/**
 * What was lately says more than much of what was: the load of both hosts changes from one minute to the next. The median of three forgets one that was out of
 * the way, and is where a new level is after two.
 */
const recent = 3;

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : sorted.length === 0 ? undefined : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The youngest; a first one, for which neither agent was warm, only where there is no other. */
function youngest(past: readonly Past[]): readonly Past[] {
  const warm = past.filter(({ first }) => first !== true);
  return (warm.length > 0 ? warm : past).slice(-recent);
}

/** The formula, made right by the median of what it was wrong by in the youngest migrations given of the same kind. */
export function estimate(load: Load, way: Way, live: boolean, past: readonly Past[]): Estimate {
  const plain = formula(load, way, live);
  const alike = youngest(past.filter((each) => each.live === live));
  // Differences of what does not grow with the memory: the part that does is in the bandwidth.
  const total = median(alike.map((each) => each.totalMs - each.formula.totalMs)) ?? 0;
  const down = median(alike.map((each) => each.downtimeMs - each.formula.downtimeMs)) ?? 0;
  const downtimeMs = Math.max(0, plain.downtimeMs + down);
  return { bytes: plain.bytes, downtimeMs, totalMs: Math.max(downtimeMs, plain.totalMs + total) };
}

/** What past migrations say of a load and a way. */
export function learned(past: readonly Past[]): { filled: number | undefined; bandwidthBps: number | undefined; dirtyBps: number | undefined } {
  const young = youngest(past);
  return {
    filled: median(young.map((each) => each.filled)),
    bandwidthBps: median(young.map((each) => each.bandwidthBps)),
    dirtyBps: median(youngest(past.filter((each) => each.live)).map((each) => each.dirtyBps)),
  };
}

export type Advice = 'migrate' | 'start-afresh';

/**
 * The rule of the field: migrate while the round trip to the VM stays within 150 ms as it moves; from there to 1 s only when that takes less
 * than starting afresh; beyond it start afresh.
 */
export function advise(rttDuringMs: number, totalMs: number, afreshMs: number): Advice {
  if (rttDuringMs <= 150) return 'migrate';
  if (rttDuringMs <= 1000) return totalMs < afreshMs ? 'migrate' : 'start-afresh';
  return 'start-afresh';
}
