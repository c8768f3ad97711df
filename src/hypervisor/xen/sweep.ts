/**
 * What domains of ours left in the store when they went away while nobody looked: found and removed once, when the adapter is opened. What
 * others left is theirs.
 */
import { vifName } from './networks.ts';
import { backendPath, backendRoot, diskBackendRoot, recordPath, scriptMark } from './nodes.ts';
import type { StoreClient } from './xenstore/client.ts';
import { readRequest } from './xenstore/wire.ts';

export interface Found {
  /** MAC of every vif of ours that has a backend and a domain, by name of its link. */
  macs: Map<string, string>;
  /** Domains that are gone and left something. */
  leftOver: Set<number>;
}

type Store = Pick<StoreClient, 'directory' | 'settle'>;

/** `alive`: domains there are. Each question is asked for all at once: a thousand answers arrive in the time of a few. */
export async function sweep(store: Store, alive: ReadonlySet<number>): Promise<Found> {
  const macs = new Map<string, string>();
  const homeless = (await store.directory('/local/domain')).map(Number).filter((domid) => domid > 0 && !alive.has(domid));
  const records = await readAll(store, homeless.map(recordPath));
  const backends = (await store.directory(backendRoot)).map(Number);
  const handles = await Promise.all(backends.map((domid) => store.directory(`${backendRoot}/${domid}`)));
  const devices = backends.flatMap((domid, i) => handles[i]!.map((handle) => ({ domid, handle: Number(handle) })));
  const scripts = await readAll(store, devices.map(({ domid, handle }) => `${backendPath(domid, handle)}/script`));
  const addresses = await readAll(store, devices.map(({ domid, handle }) => `${backendPath(domid, handle)}/mac`));
  const leftOver = new Set(homeless.filter((_, i) => records[i] !== undefined));
  for (const [i, { domid, handle }] of devices.entries()) {
    if (scripts[i] !== scriptMark) continue;
    if (alive.has(domid)) macs.set(vifName(domid, handle), addresses[i] ?? '');
    else leftOver.add(domid);
  }
  for (const domid of await homelessDisks(store, alive)) leftOver.add(domid);
  return { macs, leftOver };
}

async function homelessDisks(store: Store, alive: ReadonlySet<number>): Promise<number[]> {
  const domids = (await store.directory(diskBackendRoot)).map(Number).filter((domid) => !alive.has(domid));
  const numbers = await Promise.all(domids.map((domid) => store.directory(`${diskBackendRoot}/${domid}`)));
  const marks = await readAll(store, domids.map((domid, i) => `${diskBackendRoot}/${domid}/${numbers[i]![0] ?? 'none'}/script`));
  return domids.filter((_, i) => marks[i] === scriptMark);
}

/** Values of many nodes; undefined for those that are not there. */
async function readAll(store: Store, paths: string[]): Promise<(string | undefined)[]> {
  const answers = await store.settle(paths.map(readRequest));
  return answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.toString('utf8') : undefined));
}
