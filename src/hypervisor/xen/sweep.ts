/** What domains of ours left in the store when they went away while nobody looked: found and removed at the start. */
import type { Native } from './native.ts';
import { vifName } from './networks.ts';
import { backendPath, backendRoot, recordPath, removeErrorRequests, removeRequests, scriptMark } from './nodes.ts';
import { readRequest, type Request } from './xenstore/wire.ts';
import { StoreRefusal, type StoreClient } from './xenstore/client.ts';

/** No such node; or no such domain: its number is not known to the daemon, as oxenstored puts it. */
const goneAlready = new Set(['ENOENT', 'EINVAL']);

/** MAC of every vif of ours that has a backend, by name of its link. What others left is theirs. */
export async function sweep(store: StoreClient, native: Native): Promise<Map<string, string>> {
  const macs = new Map<string, string>();
  const alive = new Set(native.domains().map((domain) => domain.domid));
  const dead = (names: string[]): number[] => names.map(Number).filter((domid) => domid > 0 && !alive.has(domid));
  // Each question is asked for all at once: a thousand answers arrive in the time of a few.
  const homeless = dead(await store.directory('/local/domain'));
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
  for (const domid of leftOver) await removeNodes(store, [...removeRequests(domid), ...removeErrorRequests(domid)]);
  return macs;
}

/** Values of many nodes; undefined for those that are not there. */
async function readAll(store: StoreClient, paths: string[]): Promise<(string | undefined)[]> {
  const answers = await store.settle(paths.map(readRequest));
  return answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.toString('utf8') : undefined));
}

/** Nodes that are gone already are no failure. */
export async function removeNodes(store: StoreClient, requests: Request[]): Promise<void> {
  for (const answer of await store.settle(requests)) {
    if (answer.status === 'fulfilled') continue;
    if (!(answer.reason instanceof StoreRefusal) || !goneAlready.has(answer.reason.errno)) throw answer.reason;
  }
}
