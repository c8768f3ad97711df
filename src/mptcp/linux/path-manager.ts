/**
 * The generic netlink family `mptcp_pm` (<linux/mptcp.h>, <linux/mptcp_pm.h>): commands to the kernel's path managers and their events, as bytes. Pure.
 */
import type { Endpoint, PathEvent } from '../port.ts';
import { addressBytes, addressText, attribute, decodeAttributes, family, isV6, u16, u32, u8, type Message } from './netlink.ts';

export const familyName = 'mptcp_pm';
export const eventGroup = 'mptcp_pm_events';

/** Commands of the family. */
export const command = { addEndpoint: 1, deleteEndpoint: 2, get: 3, setFlags: 7, announce: 8, remove: 9, create: 10, destroy: 11 } as const;
export const addressFlag = { signal: 1, subflow: 2, backup: 4 } as const;

const attr = { address: 1, token: 4, localId: 5, remote: 6 } as const;
const inAddress = { family: 1, id: 2, v4: 3, v6: 4, port: 5, flags: 6 } as const;

/** The header of generic netlink: command and version. */
export const genericHeader = (number: number, version = 1): Buffer => Buffer.from([number, version, 0, 0]);

export interface AddressFields {
  address: string;
  port?: number;
  id?: number;
  flags?: number;
}

function addressAttribute(type: number, { address, port, id, flags }: AddressFields): Buffer {
  const v6 = isV6(address);
  return attribute(type, [
    attribute(inAddress.family, u16(v6 ? family.v6 : family.v4)),
    ...(id === undefined ? [] : [attribute(inAddress.id, u8(id))]),
    attribute(v6 ? inAddress.v6 : inAddress.v4, addressBytes(address)),
    ...(port === undefined || port === 0 ? [] : [attribute(inAddress.port, u16(port))]),
    ...(flags === undefined ? [] : [attribute(inAddress.flags, u32(flags))]),
  ]);
}

/** The attributes of a command; the kernel says EINVAL to what does not belong together. */
export function commandBody(number: number, what: { token?: number; local?: AddressFields; localId?: number; remote?: AddressFields }): Buffer[] {
  return [
    genericHeader(number),
    ...(what.local === undefined ? [] : [addressAttribute(attr.address, what.local)]),
    ...(what.token === undefined ? [] : [attribute(attr.token, u32(what.token))]),
    ...(what.localId === undefined ? [] : [attribute(attr.localId, u8(what.localId))]),
    ...(what.remote === undefined ? [] : [addressAttribute(attr.remote, what.remote)]),
  ];
}

export interface EndpointEntry {
  address: string;
  id: number;
  flags: number;
}

/** One entry of an answer to `get`. */
export function decodeEndpoint(body: Buffer): EndpointEntry | undefined {
  const outer = decodeAttributes(body.subarray(4)).get(attr.address);
  if (outer === undefined) return undefined;
  const inner = decodeAttributes(outer);
  const bytes = inner.get(inAddress.v4) ?? inner.get(inAddress.v6);
  if (bytes === undefined || (bytes.length !== 4 && bytes.length !== 16)) return undefined;
  return { address: addressText(bytes), id: inner.get(inAddress.id)?.[0] ?? 0, flags: word(inner.get(inAddress.flags)) };
}

const word = (bytes: Buffer | undefined): number => (bytes !== undefined && bytes.length >= 4 ? bytes.readUInt32LE(0) : 0);

const kinds: Partial<Record<number, PathEvent['kind']>> = {
  1: 'created', 2: 'established', 3: 'closed', 6: 'announced', 7: 'removed', 10: 'subflow', 11: 'subflow-closed', 13: 'priority',
};
const inEvent = { token: 1, remoteId: 4, remote4: 7, remote6: 8, remotePort: 10 } as const;

/** undefined: an event of another kind (a listener that came or went, one of a later kernel). */
export function decodeEvent({ body }: Message): PathEvent | undefined {
  const kind = kinds[body[0] ?? 0];
  if (kind === undefined || body.length < 4) return undefined;
  const found = decodeAttributes(body.subarray(4));
  const token = word(found.get(inEvent.token));
  const remoteId = found.get(inEvent.remoteId)?.[0] ?? 0;
  if (kind === 'removed') return { kind, token, remoteId };
  if (kind === 'announced') {
    const bytes = found.get(inEvent.remote4) ?? found.get(inEvent.remote6);
    if (bytes === undefined || (bytes.length !== 4 && bytes.length !== 16)) return undefined;
    const port = found.get(inEvent.remotePort);
    const remote: Endpoint = { address: addressText(bytes), port: port !== undefined && port.length >= 2 ? port.readUInt16BE(0) : 0 };
    return { kind, token, remoteId, remote };
  }
  return kind === 'lost' ? { kind } : { kind, token };
}

const control = { getFamily: 3, id: 1, name: 2, groups: 7, groupName: 1, groupId: 2 } as const;
export const controlFamily = 16;
export const askFamily = (name: string): Buffer[] => [genericHeader(control.getFamily), attribute(control.name, Buffer.from(`${name}\0`))];

/** The family's number and its groups'; undefined when the answer has none. */
export function decodeFamily(body: Buffer): { id: number; groups: Map<string, number> } | undefined {
  const found = decodeAttributes(body.subarray(4));
  const id = found.get(control.id);
  if (id === undefined || id.length < 2) return undefined;
  const groups = new Map<string, number>();
  for (const entry of decodeAttributes(found.get(control.groups) ?? Buffer.alloc(0)).values()) {
    const inner = decodeAttributes(entry);
    groups.set((inner.get(control.groupName) ?? Buffer.alloc(0)).toString('latin1').replace(/\0.*$/s, ''), word(inner.get(control.groupId)));
  }
  return { id: id.readUInt16LE(0), groups };
}
