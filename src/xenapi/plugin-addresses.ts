/**
 * The plugin's functions for addresses that move between VMs, wait for one, or leave the host (src/host/addresses.ts). Many at once: a rollout moves
 * hundreds.
 */
import { bulkMax } from '../host/bulk.ts';
import type { FailedMove, MoveSpec } from '../host/addresses.ts';
import type { Api } from './api.ts';
import { integer, json, objectOf, shown, wrong, type PluginFunctions } from './plugin-arguments.ts';
import type { AddressesHeld, AddressesMoved, AddressTrafficOf } from './plugin-types.ts';

const drainMostMs = 3_600_000;
const holdMostMs = 60_000;

export const addressFunctions: PluginFunctions = {
  'move-address': {
    takes: ['moves'],
    run: async (api, _, args): Promise<AddressesMoved> =>
      failures(await api.agent.addresses.move(listOf('moves', args['moves'], ['from', 'to', 'ip', 'drainMs'], (path, { from, to, ip, drainMs }) => ({
        from: optional(`${path}.from`, from), to: text(`${path}.to`, to), ip: text(`${path}.ip`, ip), drainMs: integer(`${path}.drainMs`, drainMs ?? 0, 0, drainMostMs),
      }) satisfies MoveSpec))),
  },
  'release-address': {
    takes: ['releases'],
    run: async (api, _, args): Promise<AddressesMoved> =>
      failures(await api.agent.addresses.move(listOf('releases', args['releases'], ['vm', 'ip', 'drainMs'], (path, { vm, ip, drainMs }) => ({
        from: text(`${path}.vm`, vm), ip: text(`${path}.ip`, ip), drainMs: integer(`${path}.drainMs`, drainMs ?? 0, 0, drainMostMs),
      }) satisfies MoveSpec))),
  },
  'hold-address': {
    takes: ['network', 'ip', 'ms'],
    run: async (api, _, args): Promise<AddressesHeld> => {
      const ms = integer('ms', Number(args['ms'] ?? ''), 0, holdMostMs);
      await api.agent.addresses.hold(networkOf(api, args['network']), args['ip'] ?? '', ms);
      return { heldMs: ms };
    },
  },
  'address-traffic': {
    takes: ['network', 'ips'],
    run: async (api, _, args): Promise<AddressTrafficOf> => {
      const network = networkOf(api, args['network']);
      const ips = json('ips', args['ips']);
      if (!Array.isArray(ips) || ips.length > bulkMax || !ips.every((ip) => typeof ip === 'string')) throw wrong('ips', `a JSON list of at most ${bulkMax} addresses`);
      return { traffic: await Promise.all(ips.map(async (ip: string) => (await api.agent.addresses.traffic(network, ip)) ?? null)) };
    },
  },
};

/** By default the host's first. */
const networkOf = (api: Api, name: string | undefined): string => name ?? api.agent.fleet.networks()[0]?.name ?? '';

const failures = (failed: FailedMove[]): AddressesMoved => ({ failed: failed.map(({ index, error }) => ({ index, ...shown(error) })) });

function listOf<T>(name: string, value: string | undefined, fields: readonly string[], of: (path: string, each: Record<string, unknown>) => T): T[] {
  const list = json(name, value);
  if (!Array.isArray(list) || list.length === 0 || list.length > bulkMax) throw wrong(name, `a JSON list of 1 to ${bulkMax}`);
  return list.map((each: unknown, i) => of(`${name}[${i}]`, objectOf(`${name}[${i}]`, each, fields)));
}

function text(path: string, value: unknown): string {
  if (typeof value === 'string') return value;
  throw wrong(path, 'a string');
}

const optional = (path: string, value: unknown): string | undefined => (value === undefined || value === null ? undefined : text(path, value));
