/**
 * What a cache says of itself, read tolerantly: OpenMetrics text, of which only the families that are known here count, each under any of the
 * names it may have. A cache that says less is known less about; it is not wrong.
 */

/** Counters since the cache began, gauges as they are; undefined where the cache does not say. */
export interface Reading {
  requests: number | undefined;
  hits: number | undefined;
  misses: number | undefined;
  /** Sent to viewers. */
  bytesOut: number | undefined;
  /** Fetched from the parent. */
  bytesIn: number | undefined;
  connections: number | undefined;
  /** Downloads that ended before their end: what a viewer sees as a stall, or his going. */
  broken: number | undefined;
  errors: number | undefined;
  startedS: number | undefined;
}

const names: Readonly<Record<keyof Reading, readonly string[]>> = {
  requests: ['requests', 'http_requests'],
  hits: ['hits', 'cache_hits'],
  misses: ['misses', 'cache_misses'],
  bytesOut: ['bytes_out', 'sent_bytes', 'body_bytes', 'response_bytes', 'client_bytes', 'bytes_sent'],
  bytesIn: ['bytes_in', 'origin_bytes', 'fetched_bytes', 'fill_bytes', 'bytes_received'],
  connections: ['connections', 'client_connections', 'connections_active', 'active_connections'],
  broken: ['downloads_broken', 'aborted', 'downloads_aborted', 'incomplete', 'stalls'],
  errors: ['errors', 'origin_errors'],
  startedS: ['start_time_seconds', 'process_start_time_seconds'],
};
const known = new Map(Object.entries(names).flatMap(([field, all]) => all.map((name) => [name, field as keyof Reading] as const)));

/** Longer is no page of a cache's. */
export const metricsMaxBytes = 256 * 1024;

/** Samples of one family with several labels are added up. */
export function readMetrics(text: string): Reading {
  const reading: Reading = {
    requests: undefined, hits: undefined, misses: undefined, bytesOut: undefined, bytesIn: undefined, connections: undefined, broken: undefined,
    errors: undefined, startedS: undefined,
  };
  for (const line of text.slice(0, metricsMaxBytes).split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const m = /^([A-Za-z_:][\w:]*)(\{.*\})?\s+([-+]?[\d.eE+-]+)(?:\s|$)/.exec(line);
    if (m === null) continue;
    const [, full, labels = '', value] = m;
    const name = full!.replace(/^(shoal_)?(minicache_)?/, '').replace(/_total$/, '');
    const number = Number(value);
    if (!Number.isFinite(number) || number < 0) continue;
    const field = known.get(name) ?? byLabel(name, labels);
    if (field !== undefined) reading[field] = (reading[field] ?? 0) + number;
  }
  return reading;
}

/** One family for hits and misses, apart by a label. */
function byLabel(name: string, labels: string): keyof Reading | undefined {
  if (name !== 'responses' && name !== 'cache' && name !== 'lookups') return undefined;
  if (/(result|cache|outcome)="(hit|stale|revalidated)"/.test(labels)) return 'hits';
  return /(result|cache|outcome)="(miss|pass)"/.test(labels) ? 'misses' : undefined;
}

export interface Rates {
  requestsPerS: number;
  bpsOut: number;
  bpsIn: number;
  hits: number;
  misses: number;
  /** Undefined when the cache does not say. */
  broken: number | undefined;
  bytesOut: number;
  bytesIn: number;
}

/** Of a counter: what it grew by; a cache that began anew counts from nothing. */
const grown = (before: number | undefined, now: number | undefined): number =>
  now === undefined ? 0 : before === undefined || now < before ? now : now - before;

/** What happened between two readings. With `before` undefined all that the counters say, without rates. */
export function between(before: Reading | undefined, now: Reading, ms: number): Rates {
  const of = (field: keyof Reading): number => grown(before?.[field], now[field]);
  const perS = (n: number): number => (before === undefined || ms <= 0 ? 0 : (1000 * n) / ms);
  return {
    requestsPerS: perS(of('requests')),
    bpsOut: 8 * perS(of('bytesOut')),
    bpsIn: 8 * perS(of('bytesIn')),
    hits: of('hits'),
    misses: of('misses'),
    broken: now.broken === undefined ? undefined : of('broken'),
    bytesOut: of('bytesOut'),
    bytesIn: of('bytesIn'),
  };
}

export interface Capacity {
  bps: number;
  requestsPerS: number;
  connections: number;
}

/** The part of its capacity that a cache uses, by whatever it has least of. */
export const loadOf = (rates: Pick<Rates, 'bpsOut' | 'requestsPerS'>, connections: number, capacity: Capacity): number =>
  Math.max(rates.bpsOut / capacity.bps, rates.requestsPerS / capacity.requestsPerS, connections / capacity.connections);
