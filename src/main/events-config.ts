/** The event router's configuration file: JSON, read once at the start (docs/formats/event.md). Events are not in it: those are state. */
import type { PlacePrefix } from '../cache/route/place.ts';
import { parseCidr } from '../cache/route/place.ts';
import type { Capacity } from '../cache/route/openmetrics.ts';
import type { Zone } from '../cache/route/dns.ts';
import { usualScale, type ScaleOptions } from '../cache/route/scale.ts';
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface EventsConfig {
  /** Of the tenants. */
  api: { host: string; port: number };
  /** PEM files; undefined only with `"tls": false`. */
  tls: { certFile: string; keyFile: string } | undefined;
  viewers: { host: string; port: number; url: string | undefined };
  dns: (Zone & { host: string; port: number }) | undefined;
  controller: { url: string; caFile: string; tokenFile: string };
  stateDir: string;
  image: string;
  ports: { viewers: number; admin: number };
  capacity: Capacity;
  scale: ScaleOptions;
  quota: { events: number; caches: number };
  places: PlacePrefix[];
  denied: string[];
}

/** This machine, link-local addresses, and "any". */
const usuallyDenied = ['127.0.0.0/8', '169.254.0.0/16', '0.0.0.0/8'];

/** Throws CONFIG_INVALID. */
export function parseEventsConfig(text: string): EventsConfig {
  const fields = fieldsOf(text);
  const part = (name: string): Fields => new Fields(fields.take(name) ?? {}, name);
  const [api, viewers, controller, ports, capacity, scale, quota] = (['api', 'viewers', 'controller', 'ports', 'capacity', 'scale', 'quota'] as const).map(part) as [
    Fields, Fields, Fields, Fields, Fields, Fields, Fields,
  ];
  const dnsGiven = fields.take('dns');
  const dns = dnsGiven === undefined ? undefined : new Fields(dnsGiven, 'dns');
  const listOf = (name: string): unknown[] => {
    const value = fields.take(name) ?? [];
    if (!Array.isArray(value) || value.length > 10_000) throw invalid(name, 'must be a list');
    return value;
  };
  const places = listOf('places').map((value, i): PlacePrefix => {
    const place = new Fields(value, `places.${i}`);
    const cidr = place.need('cidr');
    if (parseCidr(cidr) === undefined) throw invalid(`places.${i}.cidr`, 'must be an IPv4 prefix, "10.1.0.0/16"');
    const found = { cidr, place: place.need('place') };
    place.end();
    return found;
  });
  const given = fields.take('denied');
  const denied = given === undefined ? usuallyDenied : (given as unknown[]);
  if (!Array.isArray(denied) || denied.some((cidr) => typeof cidr !== 'string' || parseCidr(cidr) === undefined)) throw invalid('denied', 'must be a list of IPv4 prefixes');
  const host = (of: Fields): string => of.string('host') ?? '127.0.0.1';
  const config: EventsConfig = {
    api: { host: host(api), port: api.integer('port', 0, 65_535) ?? 7444 },
    tls: fields.boolean('tls') === false ? undefined : { certFile: fields.need('certFile'), keyFile: fields.need('keyFile') },
    viewers: { host: host(viewers), port: viewers.integer('port', 0, 65_535) ?? 8000, url: viewers.string('url') },
    dns:
      dns === undefined
        ? undefined
        : {
            host: host(dns),
            port: dns.integer('port', 0, 65_535) ?? 53,
            name: dns.need('zone').toLowerCase().replace(/\.$/, ''),
            server: dns.need('server').toLowerCase().replace(/\.$/, ''),
            serverAddress: dns.need('serverAddress'),
            ttlS: dns.integer('ttlS', 0, 3600) ?? 2,
          },
    controller: { url: controller.string('url') ?? 'https://127.0.0.1:7443', caFile: controller.need('caFile'), tokenFile: controller.need('tokenFile') },
    stateDir: fields.need('stateDir'),
    image: fields.string('image') ?? 'minicache',
    ports: { viewers: ports.integer('viewers', 1, 65_535) ?? 80, admin: ports.integer('admin', 1, 65_535) ?? 8081 },
    capacity: {
      bps: 1e6 * (capacity.integer('mbps', 1, 1_000_000) ?? 1_000),
      requestsPerS: capacity.integer('requestsPerS', 1, 10_000_000) ?? 5_000,
      connections: capacity.integer('connections', 1, 1_000_000) ?? 100,
    },
    scale: {
      ...usualScale,
      holdMs: scale.integer('holdMs', 100, 86_400_000) ?? usualScale.holdMs,
      drainMs: scale.integer('drainMs', 0, 86_400_000) ?? usualScale.drainMs,
    },
    quota: { events: quota.integer('events', 0, 100_000) ?? 10, caches: quota.integer('caches', 0, 100_000) ?? 100 },
    places,
    denied: denied as string[],
  };
  for (const each of [api, viewers, controller, ports, capacity, scale, quota, ...(dns === undefined ? [] : [dns]), fields]) each.end();
  if (config.tls === undefined && !/^(127\.|::1$|localhost$)/.test(config.api.host))
    throw invalid('tls', 'may be false only where nobody but this machine can connect: let the api listen on 127.0.0.1');
  return config;
}
