/**
 * The plugin's `shells`: the pool of domains built beforehand (src/host/shells.ts), seen and steered from outside. Hosts size it by
 * demand; whoever knows better what is to come prepares, and a measurement turns it off.
 */
import { bulkMax } from '../host/bulk.ts';
import { checkMemory } from '../host/vm.ts';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { Api } from './api.ts';
import { integer, json, wrong } from './plugin-arguments.ts';
import type { ShellFacts, ShellsDrained, ShellsLimited, ShellsPrepared } from './plugin-types.ts';

export async function shells(
  api: Api,
  { prepare, drain, most }: Record<string, string>,
): Promise<ShellFacts[] | ShellsPrepared | ShellsDrained | ShellsLimited> {
  const { starter } = api.agent.runner;
  if ([prepare, drain, most].filter((order) => order !== undefined).length > 1) throw wrong('shells', 'asked for one thing at a time');
  if (most !== undefined) {
    const before = starter.shells.most;
    const limit = most === '' ? NaN : Number(most);
    await starter.shells.setMost(integer('most', limit, 0, bulkMax));
    return { most: limit, before };
  }
  if (drain !== undefined) {
    if (drain !== 'true') throw wrong('drain', 'true');
    const ended = starter.shells.list().reduce((sum, { ready }) => sum + ready, 0);
    await starter.shells.drain();
    return { ended };
  }
  if (prepare === undefined) return starter.shells.list();
  const { count, ...definition } = shellSpecOf(api, prepare);
  return { ready: await starter.prepareFor(definition, count) };
}

/** Of the host's store since the agent's start; null where the hypervisor has none. */
export function storeCounts({ agent }: Api): { requests: number; changes: number } | null {
  const counts = agent.runner.starter.storeCounts();
  return counts === undefined ? null : { requests: counts.requests, changes: counts.changes };
}

const specFields = ['image', 'memoryKib', 'network', 'count'];

function shellSpecOf(api: Api, text: string): { image: Digest; memoryKib: number; network: string; count: number } {
  const value = json('prepare', text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('prepare', 'a JSON object');
  const { image, memoryKib, network, count, ...rest } = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw wrong(`prepare.${unknown.slice(0, 64)}`, `one of ${specFields.join(', ')}`);
  if (typeof image !== 'string') throw wrong('prepare.image', 'a string');
  if (typeof memoryKib !== 'number') throw wrong('prepare.memoryKib', 'a number');
  if (network !== undefined && typeof network !== 'string') throw wrong('prepare.network', 'a string');
  if (!isDigest(image) || !api.agent.images.has(image))
    throw new ShoalError('IMAGE_UNKNOWN', `This host has no image ${image.slice(0, 80)}.`, { data: { image: image.slice(0, 80) } });
  return {
    image,
    memoryKib: checkMemory(memoryKib),
    network: network ?? api.agent.fleet.networks()[0]?.name ?? '',
    count: integer('prepare.count', count, 0, bulkMax),
  };
}
