/** The summoner's configuration file: JSON, read once at the start (docs/formats/summon.md). */
import type { Zone } from '../cache/route/dns.ts';
import type { RateLimit } from '../summon/dns.ts';
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface SummonConfig {
  dns: Zone & { host: string; port: number };
  rate: RateLimit;
  controller: { url: string; caFile: string; tokenFile: string };
  idleS: number;
  answerMs: number;
  bootMs: number;
  most: number;
  services: Record<string, { idleS: number }>;
}

/** Throws CONFIG_INVALID. */
export function parseSummonConfig(text: string): SummonConfig {
  const fields = fieldsOf(text);
  const part = (name: string): Fields => new Fields(fields.take(name) ?? {}, name);
  const [dns, rate, controller] = [part('dns'), part('rate'), part('controller')];
  const given = (fields.take('services') ?? {}) as Record<string, unknown>;
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw invalid('services', 'must be an object');
  const services = Object.fromEntries(
    Object.entries(given).map(([key, value]) => {
      if (!/^[a-z0-9][a-z0-9-]{0,15}\/[a-z0-9][a-z0-9-]{0,27}$/.test(key)) throw invalid(`services.${key}`, 'must be named "tenant/service"');
      const service = new Fields(value, `services.${key}`);
      const idleS = service.integer('idleS', 1, 30 * 86_400);
      if (idleS === undefined) throw invalid(`services.${key}.idleS`, 'is needed');
      service.end();
      return [key, { idleS }];
    }),
  );
  const config: SummonConfig = {
    dns: {
      host: dns.string('host') ?? '127.0.0.1',
      port: dns.integer('port', 0, 65_535) ?? 53,
      name: dns.need('zone').toLowerCase().replace(/\.$/, ''),
      server: dns.need('server').toLowerCase().replace(/\.$/, ''),
      serverAddress: dns.need('serverAddress'),
      ttlS: dns.integer('ttlS', 0, 3600) ?? 1,
    },
    rate: { perS: rate.integer('perS', 1, 1_000_000) ?? 200, burst: rate.integer('burst', 1, 1_000_000) ?? 400 },
    controller: { url: controller.string('url') ?? 'https://127.0.0.1:7443', caFile: controller.need('caFile'), tokenFile: controller.need('tokenFile') },
    idleS: fields.integer('idleS', 1, 30 * 86_400) ?? 300,
    answerMs: fields.integer('answerMs', 100, 60_000) ?? 8_000,
    bootMs: fields.integer('bootMs', 100, 600_000) ?? 30_000,
    most: fields.integer('most', 1, 100_000) ?? 64,
    services,
  };
  for (const each of [dns, rate, controller, fields]) each.end();
  return config;
}
