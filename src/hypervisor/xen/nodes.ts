/**
 * What stands in xenstore for one of our domains, as requests; no socket here. Few nodes, because each costs the daemon a turn and each
 * one below `backend` costs dom0's kernel a look at all its devices:
 *
 *   /local/domain/D                        readable by D
 *     shoal                                 ours, from the first write on: empty until the domain is sealed, then its record
 *     name                                  for xl and people
 *     device/vif/H                          owned by D: backend, backend-id, mac, state (and what the guest adds)
 *     control/shutdown                      only when asked for; owned by D, which empties it to say that it has read it
 *   /local/domain/0/backend/vif/D/H         readable by D: frontend, frontend-id, handle, mac, online, script, state
 *     device/vbd/N                          owned by D: backend, backend-id, virtual-device, device-type, state
 *   /local/domain/0/backend/vbd/D/N         readable by D: frontend, frontend-id, mode, physical-device, dev, params, online, script, state
 *
 * A wired domain (wired.ts) has `name` and `shoal` only, both written when it is sealed.
 *
 * Not written: console/* (the ring is read on demand, and without these nodes xenconsoled leaves the domain alone), domid, vm, memory/*,
 * hotplug-status (netback would wait for a script). netback refuses a backend without `script`; the value tells whose it is.
 * Order matters inside the transaction, for watches fire in the order of the writes: the backend's `state` comes last, when all else stands.
 */
import { introduceRequest, releaseRequest, rmRequest, setPermsRequest, writeRequest, type Request } from './xenstore/wire.ts';
import { vbdName, vbdNumber, type VbdNodes } from './disks.ts';
import type { DomainConfig, VifConfig } from '../port.ts';

export const backendRoot = '/local/domain/0/backend/vif';
export const diskBackendRoot = '/local/domain/0/backend/vbd';
export const homePath = (domid: number): string => `/local/domain/${domid}`;
export const recordPath = (domid: number): string => `${homePath(domid)}/shoal`;
export const frontendPath = (domid: number, handle: number): string => `${homePath(domid)}/device/vif/${handle}`;
export const backendPath = (domid: number, handle: number): string => `${backendRoot}/${domid}/${handle}`;
/** Where dom0's kernel says why a backend could not be made. */
export const backendErrorPath = (domid: number, handle: number): string => `/local/domain/0/error/backend/vif/${domid}/${handle}/error`;
/** The same of a disk, by its index. */
export const diskErrorPath = (domid: number, index: number): string => `/local/domain/0/error/backend/vbd/${domid}/${vbdNumber(index)}/error`;
/** Value of a backend's `script` that marks it as ours. */
export const scriptMark = 'shoal';

const initialising = '1';

function vifRequests(domid: number, vif: VifConfig): Request[] {
  const frontend = frontendPath(domid, vif.handle);
  const backend = backendPath(domid, vif.handle);
  return [
    // Before the folder becomes the guest's, so that it cannot point its device elsewhere.
    writeRequest(`${frontend}/backend`, backend),
    writeRequest(`${frontend}/backend-id`, '0'),
    setPermsRequest(frontend, { owner: domid, others: 'n', named: [{ domid: 0, access: 'r' }] }),
    writeRequest(`${frontend}/mac`, vif.mac),
    writeRequest(`${frontend}/state`, initialising),
    writeRequest(`${backend}/frontend`, frontend),
    setPermsRequest(backend, { owner: 0, others: 'n', named: [{ domid, access: 'r' }] }),
    writeRequest(`${backend}/frontend-id`, String(domid)),
    writeRequest(`${backend}/handle`, String(vif.handle)),
    writeRequest(`${backend}/mac`, vif.mac),
    writeRequest(`${backend}/online`, '1'),
    writeRequest(`${backend}/script`, scriptMark),
    writeRequest(`${backend}/state`, initialising),
  ];
}

function vbdRequests(domid: number, { index, readonly, path, physicalDevice }: VbdNodes): Request[] {
  const number = String(vbdNumber(index));
  const frontend = `${homePath(domid)}/device/vbd/${number}`;
  const backend = `${diskBackendRoot}/${domid}/${number}`;
  return [
    writeRequest(`${frontend}/backend`, backend),
    writeRequest(`${frontend}/backend-id`, '0'),
    setPermsRequest(frontend, { owner: domid, others: 'n', named: [{ domid: 0, access: 'r' }] }),
    writeRequest(`${frontend}/virtual-device`, number),
    writeRequest(`${frontend}/device-type`, 'disk'),
    writeRequest(`${frontend}/state`, initialising),
    writeRequest(`${backend}/frontend`, frontend),
    setPermsRequest(backend, { owner: 0, others: 'n', named: [{ domid, access: 'r' }] }),
    writeRequest(`${backend}/frontend-id`, String(domid)),
    writeRequest(`${backend}/mode`, readonly ? 'r' : 'w'),
    writeRequest(`${backend}/physical-device`, physicalDevice),
    // blkback names its thread after it, and has none without.
    writeRequest(`${backend}/dev`, vbdName(index)),
    writeRequest(`${backend}/params`, path),
    writeRequest(`${backend}/online`, '1'),
    writeRequest(`${backend}/script`, scriptMark),
    writeRequest(`${backend}/state`, initialising),
  ];
}

/** Everything for a new domain; to be carried out in one transaction. */
export function registerRequests(domid: number, config: Pick<DomainConfig, 'name' | 'vifs'>, disks: readonly VbdNodes[] = []): Request[] {
  return [
    writeRequest(recordPath(domid), ''),
    setPermsRequest(homePath(domid), { owner: 0, others: 'n', named: [{ domid, access: 'r' }] }),
    writeRequest(`${homePath(domid)}/name`, config.name),
    ...config.vifs.flatMap((vif) => vifRequests(domid, vif)),
    ...disks.flatMap((disk) => vbdRequests(domid, disk)),
  ];
}

/** Tells the daemon of the domain's ring; after registerRequests, and after the grant table has its entry for the ring. */
export const introduceRequests = (domid: number, storeMfn: number, storePort: number): Request[] => [
  introduceRequest(domid, storeMfn, storePort),
];

/** Of a wired domain, which has no other nodes than this and its record. */
export const nameRequest = (domid: number, name: string): Request => writeRequest(`${homePath(domid)}/name`, name);

export const sealRequest = (domid: number, record: string): Request => writeRequest(recordPath(domid), record);

/** The guest may answer by emptying the node, so it is the guest's before the reason stands in it. */
export function shutdownRequests(domid: number, reason: string): Request[] {
  const path = `${homePath(domid)}/control/shutdown`;
  return [
    writeRequest(path, ''),
    setPermsRequest(path, { owner: domid, others: 'n', named: [{ domid: 0, access: 'b' }] }),
    writeRequest(path, reason),
  ];
}

/**
 * Backends first: dom0's kernel takes the devices down while the rest is removed. The release makes the daemon let go of the domain's ring at
 * once, without which Xen cannot free the domain. Each may be refused because there is no such node or domain (any more).
 */
export const removeRequests = (domid: number): Request[] => [
  rmRequest(`${backendRoot}/${domid}`),
  rmRequest(`${diskBackendRoot}/${domid}`),
  rmRequest(homePath(domid)),
  releaseRequest(domid),
];

/** A wired domain was never introduced. */
export const removeWiredRequests = (domid: number): Request[] => [rmRequest(homePath(domid))];

/** What the kernel complained of, to the last: it may do so until the links are gone. May be refused with ENOENT. */
export const removeErrorRequests = (domid: number): Request[] =>
  ['vif', 'vbd'].map((kind) => rmRequest(`/local/domain/0/error/backend/${kind}/${domid}`));
