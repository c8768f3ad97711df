/** The plugin's functions about migrations: what XenAPI's calls say too, and what they have no words for. */
import type { DepartureChoices } from '../host/departure.ts';
import type { Ticket } from '../host/departure-link.ts';
import { ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { integer, json, wrong } from './plugin-arguments.ts';
import type { Buried } from './plugin-types.ts';

type Args = Record<string, string>;

/** The map that host.migrate_receive gave. Throws VALUE_NOT_SUPPORTED. */
export function ticketOf(dest: Record<string, string>): Ticket {
  const { id = '', token = '', url = '', fingerprint = '' } = dest;
  if (/^[0-9a-f-]{36}$/.test(id) && /^[0-9a-f]{64}$/.test(token) && /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/.test(fingerprint) && isHttps(url)) return { id, token, url, fingerprint };
  throw new ShoalError('VALUE_NOT_SUPPORTED', 'dest is not what host.migrate_receive of the target gave.', { params: ['dest', '', 'the map of host.migrate_receive'] });
}

const isHttps = (url: string): boolean => URL.canParse(url) && new URL(url).protocol === 'https:';

const isTrue = (text: string | undefined): boolean => text === 'true';

function choicesOf(args: Args): DepartureChoices {
  const networks = args['networks'] === undefined ? {} : json('networks', args['networks']);
  if (typeof networks !== 'object' || networks === null || !Object.values(networks).every((name) => typeof name === 'string'))
    throw wrong('networks', 'a JSON map of names');
  return { live: isTrue(args['live']), networks: networks as Record<string, string>, ...(args['ip'] === undefined ? {} : { ip: args['ip'] }) };
}

export const migrationFunctions: Record<string, { takes: readonly string[]; run: (api: Api, caller: Caller, args: Args) => unknown }> = {
  migrate: {
    takes: ['vm', 'dest', 'live', 'networks', 'ip'],
    run: (api, caller, args) => {
      const dest = json('dest', args['dest']);
      const vm = api.agent.fleet.need(args['vm'] ?? '');
      return api.agent.departures.send(vm, ticketOf((dest ?? {}) as Record<string, string>), choicesOf(args), caller.signal, caller.progress);
    },
  },
  'migrate-resolve': {
    takes: ['vm', 'where'],
    run: (api, _, args) => {
      if (args['where'] !== 'here' && args['where'] !== 'there') throw wrong('where', '"here" or "there"');
      api.agent.departures.resolve(api.agent.fleet.need(args['vm'] ?? ''), args['where'] === 'here');
      return {};
    },
  },
  'migrate-plan': {
    takes: ['vm', 'url', 'live', 'afreshMs', 'rttMs'],
    run: (api, _, args) => {
      const url = args['url'] ?? '';
      if (!isHttps(url)) throw wrong('url', 'https://HOST of an agent');
      const number = (name: string): number | undefined => (args[name] === undefined ? undefined : integer(name, Number(args[name]), 0, 3_600_000));
      return api.agent.departures.plan(api.agent.fleet.need(args['vm'] ?? ''), url, isTrue(args['live']), number('afreshMs'), number('rttMs'));
    },
  },
  bury: {
    takes: ['vm'],
    run: async (api, caller, args): Promise<Buried> => {
      const tomb = await api.agent.tombstones.bury(api.agent.fleet.need(args['vm'] ?? ''), caller.signal);
      return { uuid: tomb.uuid, name: tomb.name, addresses: tomb.vifs.flatMap(({ ipv4 }) => ipv4) };
    },
  },
  unbury: {
    takes: ['vm', 'ip'],
    run: async (api, _, args): Promise<{ removed: boolean }> => {
      const { vm, ip } = args;
      if ((vm === undefined) === (ip === undefined)) throw wrong('vm', 'given, or "ip" in its place');
      return { removed: await api.agent.tombstones.unbury(vm === undefined ? { ip: ip! } : { vm }) };
    },
  },
  neighbours: {
    takes: ['urls'],
    run: (api, _, args) => {
      const urls = args['urls'] === undefined ? [] : json('urls', args['urls']);
      if (!Array.isArray(urls) || urls.length > 1024 || !urls.every((url) => typeof url === 'string' && isHttps(url))) throw wrong('urls', 'a JSON list of https://HOST');
      for (const url of urls as string[]) api.agent.neighbours.name(url);
      return api.agent.neighbours.list();
    },
  },
};
