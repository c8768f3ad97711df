/**
 * The plugin "shoal": what XenAPI has no call for. Arguments are a map of strings; where one holds structure it is JSON, and so
 * is every result (docs/xenapi.md has the shapes).
 */
import { refOf } from '../host/refs.ts';
import { bulkMax, type BulkLaunch, type BulkResult, type EachSpec } from '../host/bulk.ts';
import { checkLockingMode, limits } from '../host/vm.ts';
import { ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { leanEvents } from './event-calls.ts';
import { jsonPieces } from './json-rpc.ts';
import { listingPieces } from './listing.ts';
import {
  listColumns,
  type BulkOutcome,
  type CaptureRead,
  type LaunchedVm,
  type LaunchResult,
  type LaunchSpec,
  type ListColumn,
} from './plugin-types.ts';
import { integer, json, isStrings, objectOf, shown, stringsOf, wrong, type PluginFunctions } from './plugin-arguments.ts';
import { addressFunctions } from './plugin-addresses.ts';
import { migrationFunctions } from './plugin-migration.ts';
import { offerImage, orderOf } from './plugin-images.ts';
import { shells, storeCounts } from './plugin-shells.ts';
import { SlicedList, SlicedText } from './sliced.ts';

type Args = Record<string, string>;

const stopTimeoutMs = 10_000;

const functions: PluginFunctions = {
  launch: {
    takes: ['spec'],
    run: async (api, caller, args) => {
      const { vms, error } = await api.agent.bulk.launch(launchSpecOf(args['spec']), caller.signal, caller.progress);
      const rest: Omit<LaunchResult, 'vms'> = error === undefined ? {} : { error: shown(error) };
      return new SlicedText(jsonPieces({ vms: new SlicedList(launchedVms(vms)), ...rest }));
    },
  },
  'launch-each': {
    takes: ['specs'],
    run: async (api, caller, args) => {
      const results = await api.agent.bulk.launchEach(eachSpecsOf(args['specs']), caller.signal, caller.progress);
      return {
        results: results.map(({ name, vm, error }) => ({
          name,
          ...(vm === undefined ? {} : { vm: { ref: refOf(vm.uuid), ...vm } }),
          ...(error === undefined ? {} : { error: shown(error) }),
        })),
      };
    },
  },
  held: {
    takes: ['names'],
    run: (api, _, args) => {
      const names = json('names', args['names']);
      if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) throw wrong('names', 'a JSON list of names');
      return { held: names.filter((name: string) => api.agent.fleet.isHeld(name)) };
    },
  },
  stop: {
    takes: ['vms', 'force', 'timeoutMs'],
    run: async (api, caller, args) => {
      const timeoutMs =
        args['timeoutMs'] === undefined ? stopTimeoutMs : integer('timeoutMs', Number(args['timeoutMs']), 0, 600_000);
      return resultOf(await api.agent.bulk.stop(vmsOf(args['vms']), args['force'] === 'true', timeoutMs, caller.signal));
    },
  },
  destroy: {
    takes: ['vms'],
    run: async (api, caller, args) => resultOf(await api.agent.bulk.destroy(vmsOf(args['vms']), caller.signal)),
  },
  list: {
    takes: ['columns', 'names'],
    run: (api, _, args) => {
      const names = args['names'] === undefined ? undefined : stringsOf('names', args['names']);
      return new SlicedText(listingPieces(api, columnsOf(args['columns']), names));
    },
  },
  events: {
    takes: ['token', 'timeoutS', 'holdMs'],
    run: (api, caller, args) => {
      const number = (name: string, most: number): number => integer(name, Number(args[name] ?? '0'), 0, most);
      const holdMs = args['holdMs'] === undefined ? undefined : number('holdMs', 1000);
      return leanEvents(api, caller, args['token'] ?? '', number('timeoutS', 300), holdMs);
    },
  },
  console: {
    takes: ['vm', 'cursor'],
    run: (api, _, args) =>
      api.agent.readConsole(
        api.agent.fleet.need(args['vm'] ?? ''),
        integer('cursor', Number(args['cursor'] ?? '0'), 0, Number.MAX_SAFE_INTEGER),
      ),
  },
  'console-write': {
    takes: ['vm', 'text'],
    run: async (api, _, args) => ({
      bytes: await api.agent.writeConsole(api.agent.fleet.need(args['vm'] ?? ''), args['text'] ?? ''),
    }),
  },
  vif: {
    takes: ['vm', 'handle'],
    run: (api, _, args) => api.agent.vifCounters(api.agent.fleet.need(args['vm'] ?? ''), integer('handle', Number(args['handle'] ?? '0'), 0, 7)),
  },
  capture: {
    takes: ['vm', 'handle'],
    run: async (api, _, args) => ({
      capture: await api.agent.capture(api.agent.fleet.need(args['vm'] ?? ''), integer('handle', Number(args['handle'] ?? '0'), 0, 7)),
    }),
  },
  'capture-read': {
    takes: ['capture', 'waitMs'],
    run: async (api, _, args): Promise<CaptureRead> => {
      const waitMs = integer('waitMs', Number(args['waitMs'] ?? '0'), 0, 5_000);
      const { data, ...counts } = await api.agent.captures.read(args['capture'] ?? '', waitMs);
      return { data: data.toString('base64'), ...counts };
    },
  },
  'capture-end': {
    takes: ['capture'],
    run: async (api, _, args) => {
      await api.agent.captures.end(args['capture'] ?? '');
      return {};
    },
  },
  ...addressFunctions,
  ...migrationFunctions,
  shells: {
    takes: ['prepare', 'drain', 'most'],
    run: (api, _, args) => shells(api, args),
  },
  images: {
    takes: [],
    run: (api) => api.agent.images.list().map((image) => ({ ...image, vms: api.agent.fleet.imageInUse(image.digest) })),
  },
  'fetch-image': {
    takes: ['order'],
    run: (api, _, args) => api.agent.fetching.fetch(orderOf(args['order'])),
  },
  'offer-image': {
    takes: ['digest'],
    run: (api, _, args) => offerImage(api, args['digest']),
  },
  facts: {
    takes: [],
    run: async (api) => {
      const { version, freeKib, totalKib, cpuCount, domainCount } = await api.agent.facts();
      return {
        xen: version,
        freeKib,
        totalKib,
        cpuCount,
        domains: domainCount,
        vms: api.agent.fleet.size,
        store: storeCounts(api),
        switch: (await api.agent.switchTotals()) ?? null,
        agent: {
          version: api.version,
          fingerprint: api.agent.arrivals.fingerprint ?? null,
          rssKib: Math.round(process.memoryUsage.rss() / 1024),
          heapUsedKib: Math.round(process.memoryUsage().heapUsed / 1024),
          uptimeS: Math.round((Date.now() - api.agent.startedMs) / 1000),
        },
      };
    },
  },
};

/** Throws XENAPI_MISSING_PLUGIN, XENAPI_PLUGIN_FAILURE (no such function or argument), and what the function throws. */
export async function callPlugin(api: Api, caller: Caller, plugin: string, name: string, args: Args): Promise<string | SlicedText> {
  if (plugin !== 'shoal')
    throw new ShoalError('XENAPI_MISSING_PLUGIN', 'There is no such plugin.', { params: [plugin.slice(0, 64)] });
  const fn = Object.hasOwn(functions, name) ? functions[name]! : undefined;
  if (fn === undefined) throw failure(name, `there is no such function; there are ${Object.keys(functions).join(', ')}`);
  const unknown = Object.keys(args).find((key) => !fn.takes.includes(key));
  if (unknown !== undefined)
    throw failure(name, `there is no argument "${unknown.slice(0, 64)}"; there are ${fn.takes.join(', ') || 'none'}`);
  const result = await fn.run(api, caller, args);
  return result instanceof SlicedText ? result : JSON.stringify(result);
}

const failure = (name: string, why: string): ShoalError =>
  new ShoalError('XENAPI_PLUGIN_FAILURE', `${name.slice(0, 64)}: ${why}`, { params: [name.slice(0, 64), 'argument', why] });

function* launchedVms(vms: BulkLaunch['vms']): Generator<LaunchedVm> {
  for (const vm of vms) yield { ref: refOf(vm.uuid), ...vm };
}

const resultOf = (result: BulkResult): BulkOutcome => ({
  done: result.done,
  failed: result.failed.map(({ uuid, error }) => ({ uuid, ...shown(error) })),
});

/** "all", or the JSON list of uuids. */
function vmsOf(text: string | undefined): string[] | 'all' {
  if (text === 'all' || text === '"all"') return 'all';
  return stringsOf('vms', text);
}

function columnsOf(text: string | undefined): readonly ListColumn[] {
  if (text === undefined) return listColumns;
  const columns = stringsOf('columns', text);
  if (columns.every((column) => (listColumns as readonly string[]).includes(column))) return columns as ListColumn[];
  throw wrong('columns', `a JSON list of some of ${listColumns.join(', ')}`);
}

const specFields = ['name', 'prefix', 'count', 'first', 'image', 'memoryKib', 'network', 'ip', 'ips', 'args', 'backend', 'rateKbit', 'lockingMode', 'vifs', 'disks', 'concurrency', 'clone'];

function launchSpecOf(text: string | undefined): LaunchSpec {
  const value = json('spec', text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('spec', 'a JSON object');
  const spec = value as Record<string, unknown>;
  for (const key of Object.keys(spec))
    if (!specFields.includes(key)) throw wrong(`spec.${key.slice(0, 64)}`, `one of ${specFields.join(', ')}`);
  const string = (name: string): string | undefined => {
    const v = spec[name];
    if (v === undefined || typeof v === 'string') return v;
    throw wrong(`spec.${name}`, 'a string');
  };
  const number = (name: string, min: number, max: number): number | undefined =>
    spec[name] === undefined ? undefined : integer(`spec.${name}`, spec[name], min, max);
  const [name, prefix, ip] = [string('name'), string('prefix'), string('ip')];
  if ((name === undefined) === (prefix === undefined))
    throw wrong('spec', 'of one VM ("name") or several ("prefix" and "count")');
  if (ip !== undefined && name === undefined) throw wrong('spec.ip', 'given with "name" only');
  const count = number('count', 1, bulkMax);
  const ips = spec['ips'];
  if (ips !== undefined && (prefix === undefined || !Array.isArray(ips) || ips.length !== (count ?? 1) || !ips.every((each) => typeof each === 'string')))
    throw wrong('spec.ips', 'with "prefix" only, a list of "count" addresses');
  const backend = string('backend');
  if (backend !== undefined && backend !== 'switch' && backend !== 'netback') throw wrong('spec.backend', '"switch" or "netback"');
  const clone = string('clone');
  if (clone !== undefined)
    for (const own of ['image', 'memoryKib', 'args', 'backend', 'rateKbit', 'lockingMode', 'vifs', 'disks']) if (spec[own] !== undefined) throw wrong(`spec.${own}`, 'left out with "clone": it is the original\'s');
  const memoryKib = spec['memoryKib'];
  if (clone === undefined && typeof memoryKib !== 'number') throw wrong('spec.memoryKib', `a number, at least ${limits.memoryMinKib}`);
  const given: { [K in keyof LaunchSpec]: LaunchSpec[K] | undefined } = {
    name,
    prefix,
    ip,
    ips: ips as LaunchSpec['ips'],
    memoryKib: memoryKib as number | undefined,
    count,
    first: number('first', 0, 1_000_000),
    clone,
    image: string('image'),
    network: string('network'),
    args: string('args'),
    backend: backend as LaunchSpec['backend'],
    rateKbit: number('rateKbit', 1, 100_000_000),
    lockingMode: lockingModeOf(spec['lockingMode']),
    vifs: vifsOf(spec),
    disks: disksOf(spec['disks']),
    concurrency: number('concurrency', 1, 64),
  };
  return Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) as unknown as LaunchSpec;
}

const lockingModeOf = (value: unknown): 'unlocked' | undefined => (value === undefined ? undefined : checkLockingMode(String(value)));

/** [{network, ip}], in place of the one vif that `network` and `ip` mean. */
function vifsOf({ vifs, network, ip, ips, prefix }: Record<string, unknown>): LaunchSpec['vifs'] | undefined {
  if (vifs === undefined) return undefined;
  if (!Array.isArray(vifs) || vifs.length === 0 || vifs.length > limits.vifs) throw wrong('spec.vifs', `a list of 1 to ${limits.vifs}`);
  if (network !== undefined || ip !== undefined || ips !== undefined) throw wrong('spec.vifs', 'in place of network, ip and ips');
  return vifs.map((each: unknown, i) => {
    const vif = objectOf(`spec.vifs[${i}]`, each, ['network', 'ip']);
    if (typeof vif['network'] !== 'string' || (vif['ip'] !== undefined && (typeof vif['ip'] !== 'string' || prefix !== undefined)))
      throw wrong(`spec.vifs[${i}]`, 'network and, with "name" only, ip as strings');
    return vif as { network: string; ip?: string };
  });
}

/** [{disk, readonly}]; a disk by name or uuid. */
function disksOf(value: unknown): LaunchSpec['disks'] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > limits.vbds) throw wrong('spec.disks', `a list of at most ${limits.vbds}`);
  return value.map((each: unknown, i) => {
    const { disk, readonly } = objectOf(`spec.disks[${i}]`, each, ['disk', 'readonly']);
    if (typeof disk === 'string' && (readonly === undefined || typeof readonly === 'boolean')) return { disk, readonly };
    throw wrong(`spec.disks[${i}]`, 'disk as a string and, if it is so, readonly');
  });
}

const eachFields = ['name', 'image', 'memoryKib', 'args', 'vifs', 'otherConfig'];

/** Shapes only: what a value may be is the host's to say, of each VM for itself. */
function eachSpecsOf(text: string | undefined): EachSpec[] {
  const value = json('specs', text);
  if (!Array.isArray(value) || value.length === 0 || value.length > bulkMax)
    throw wrong('specs', `a JSON list of 1 to ${bulkMax} VMs`);
  return value.map((each: unknown, i) => {
    const spec = objectOf(`specs[${i}]`, each, eachFields);
    for (const field of ['name', 'image'] as const)
      if (typeof spec[field] !== 'string') throw wrong(`specs[${i}].${field}`, 'a string');
    if (typeof spec['memoryKib'] !== 'number') throw wrong(`specs[${i}].memoryKib`, `a number, at least ${limits.memoryMinKib}`);
    if (spec['args'] !== undefined && typeof spec['args'] !== 'string') throw wrong(`specs[${i}].args`, 'a string');
    const vifs = spec['vifs'] ?? [];
    if (!Array.isArray(vifs) || vifs.length > limits.vifs) throw wrong(`specs[${i}].vifs`, `a list of at most ${limits.vifs}`);
    for (const [j, vif] of vifs.entries()) {
      const { network, ip, also, lockingMode } = objectOf(`specs[${i}].vifs[${j}]`, vif, ['network', 'ip', 'also', 'lockingMode']);
      if (typeof network !== 'string' || (ip !== undefined && typeof ip !== 'string') || !(also === undefined || isStrings(also)))
        throw wrong(`specs[${i}].vifs[${j}]`, 'network and, if wanted, ip as strings, also as a list of strings');
      lockingModeOf(lockingMode);
    }
    const otherConfig = spec['otherConfig'] ?? {};
    if (
      typeof otherConfig !== 'object' ||
      otherConfig === null ||
      !Object.values(otherConfig).every((v) => typeof v === 'string')
    )
      throw wrong(`specs[${i}].otherConfig`, 'a map of strings');
    return spec as unknown as EachSpec;
  });
}
