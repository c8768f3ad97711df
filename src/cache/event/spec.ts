/**
 * What a tenant says of an event, checked whole, and the services that follow from it. docs/formats/event.md tells it to people. Pure but for the
 * schema checker.
 */
import { ajv, reasonsOf, refused } from '../../control/schema.ts';
import { tenantPattern, wordPattern, type Reason } from '../../model/service.ts';

export interface EventSpec {
  tenant: string;
  name: string;
  /** "http://HOST[:PORT]", without a path. */
  origin: string;
  /** Labels of hosts, one set a place: "place=berlin". Empty: any host, one place without a name. */
  hosts: string[];
  /** Caches at the edge, of all places together. */
  min: number;
  max: number;
  /** Unix milliseconds. */
  untilMs: number;
  /** Of a cache. */
  memoryKib: number;
  /** A second tier between edge and origin. */
  shield: boolean;
  /** What the page plays: "/match/index.m3u8". */
  path: string;
}

/** The services' names have a few letters more. */
export const eventNamePattern = '^[a-z0-9][a-z0-9-]{0,19}$';
/** A day more than a month: an event that is forgotten ends. */
const longestMs = 32 * 86_400_000;
const maxPlaces = 10;

export const eventSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['tenant', 'name', 'origin', 'until'],
  properties: {
    tenant: { type: 'string', pattern: tenantPattern },
    name: { type: 'string', pattern: eventNamePattern },
    origin: { type: 'string', minLength: 8, maxLength: 300 },
    hosts: { type: 'array', maxItems: maxPlaces, items: { type: 'string', maxLength: 128 } },
    min: { type: 'integer', minimum: 1, maximum: 1000 },
    max: { type: 'integer', minimum: 1, maximum: 1000 },
    until: { type: 'string', maxLength: 40 },
    memoryKib: { type: 'integer', minimum: 4096, maximum: 64 * 1024 * 1024, multipleOf: 4 },
    shield: { type: 'boolean' },
    path: { type: 'string', maxLength: 300, pattern: '^/[\\x21-\\x7e]*$' },
  },
} as const;

const check = ajv.compile(eventSchema);
const label = new RegExp(`^${wordPattern.slice(1, -1)}=${wordPattern.slice(1, -1)}$`);

/** Throws SPEC_INVALID with all reasons. */
export function readEvent(value: unknown, nowMs: number): EventSpec {
  const reasons: Reason[] = check(value) ? [] : reasonsOf(check.errors);
  const given = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const say = (path: string, message: string, hint: string): void => void reasons.push({ path, message, hint });
  const hosts = Array.isArray(given['hosts']) ? (given['hosts'] as unknown[]).map(String) : [];
  const [min, max] = [Number(given['min'] ?? 1), Number(given['max'] ?? 10)];
  if (min > max) say('min', `${min} is more than max, ${max}.`, 'Give a smaller min, or a larger max.');
  if (hosts.length > max) say('hosts', `are ${hosts.length} places for ${max} caches.`, 'Each place has one cache at least.');
  hosts.forEach((host, i) => {
    if (!label.test(host)) say(`hosts/${i}`, `"${host}" is no label.`, 'Give it as KEY=VALUE, a label that hosts have.');
    // A place is known by the label's value.
    if (hosts.findIndex((other) => other.split('=')[1] === host.split('=')[1]) !== i) say(`hosts/${i}`, `${host} is a second place of that name.`, 'Give each place once.');
  });
  const origin = typeof given['origin'] === 'string' && URL.canParse(given['origin']) ? new URL(given['origin']) : undefined;
  if (origin === undefined || origin.protocol !== 'http:')
    say('origin', 'is no http:// address.', 'Give it as http://HOST:PORT; caches speak HTTP/1.1 without TLS.');
  else if (origin.pathname !== '/' || origin.search !== '' || origin.username !== '' || origin.hash !== '')
    say('origin', 'has more than a host and a port.', 'Paths of viewers are paths at the origin; give the path to play as "path".');
  const untilMs = typeof given['until'] === 'string' ? Date.parse(given['until']) : NaN;
  if (Number.isNaN(untilMs)) say('until', 'is no time.', 'Give it as 2026-12-31T22:00:00Z.');
  else if (untilMs <= nowMs) say('until', 'has passed.', 'Give a time to come.');
  else if (untilMs > nowMs + longestMs) say('until', 'is more than 32 days away.', 'Give an earlier end; it can be moved later.');
  if (reasons.length > 0) throw refused('SPEC_INVALID', reasons);
  return {
    tenant: given['tenant'] as string,
    name: given['name'] as string,
    origin: origin!.origin,
    hosts,
    min: Math.max(min, hosts.length),
    max,
    untilMs,
    memoryKib: (given['memoryKib'] as number | undefined) ?? 16 * 1024,
    shield: (given['shield'] as boolean | undefined) ?? max > 1,
    path: (given['path'] as string | undefined) ?? '/index.m3u8',
  };
}

/** One of an event's services. */
export interface TierService {
  tier: 'edge' | 'shield';
  /** Of the service: "ev-NAME-s", "ev-NAME-e0". */
  name: string;
  /** '' when the event has no places; else the label's value. */
  place: string;
  labels: Record<string, string>;
}

export function tiersOf({ name, hosts, shield }: Pick<EventSpec, 'name' | 'hosts' | 'shield'>): TierService[] {
  const places = hosts.length === 0 ? [''] : hosts;
  const tiers: TierService[] = places.map((host, i) => {
    const [key, value] = host === '' ? [] : host.split('=');
    return { tier: 'edge', name: `ev-${name}-e${i}`, place: value ?? '', labels: key === undefined ? {} : { [key]: value! } };
  });
  return shield ? [{ tier: 'shield', name: `ev-${name}-s`, place: '', labels: {} }, ...tiers] : tiers;
}

/**
 * Connections that a cache of so much memory, half of which is for objects, can serve at once (docs/formats/minicache.md has where the numbers are from): told more
 * than that it would take them, and be short of memory when they all read slowly.
 */
export const connectionsIn = (memoryKib: number): number => Math.max(1, Math.floor((memoryKib - 2_090) / 25));

export interface CacheWords {
  /** "10.0.0.5:8080". */
  origin: string;
  /** What the origin is called in Host. */
  host: string;
  /** The shield, "10.64.1.5:80". */
  parent: string | undefined;
  port: number;
  adminPort: number;
  secret: string;
  /** That it is to take at once; the event counts with them. */
  connections: number;
  /** The name of this tier in Via: a cache that finds its own there sees a loop. */
  via: string;
}

/** The cache's arguments (docs/formats/minicache.md); the one place that knows how it is told. What it asks is its origin, be that a parent. */
export const argsOf = ({ origin, host, parent, port, adminPort, secret, connections, via }: CacheWords): string =>
  [`origin=${parent ?? origin}`, `originhost=${host}`, `port=${port}`, `admin=${adminPort}`, `secret=${secret}`, `connections=${connections}`, `via=${via}`].join(' ');

/** A spec as the controller takes it. */
export function serviceOf(spec: EventSpec, tier: TierService, image: string, count: number, words: CacheWords): Record<string, unknown> {
  return {
    tenant: spec.tenant,
    name: tier.name,
    image,
    count,
    memoryKib: spec.memoryKib,
    args: argsOf(words),
    // Who gets viewers is found by asking each cache, at once; this is for one that hangs for good, and must not end one that is only busy.
    health: { kind: 'http', port: words.adminPort, path: '/health', intervalMs: 2_000, timeoutMs: 1_500, unhealthyAfter: 5 },
    placement: { strategy: 'spread', labels: tier.labels },
    restart: { firstMs: 200, maxMs: 5_000 },
    update: { maxAtOnce: Math.max(1, Math.ceil(count / 4)), order: 'start-first' },
  };
}

