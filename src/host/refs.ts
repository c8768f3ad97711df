/**
 * XenAPI references and the uuids of a VM's parts. Nothing of this is stored: a VM's uuid begins with a fixed prefix
 * (model/uuid.ts), its metrics, console and vifs have the same uuid with another prefix, and a reference is the uuid behind
 * "OpaqueRef:". So every handle leads to its object by text alone.
 */
import { createHash } from 'node:crypto';
import type { Uuid } from '../model/ids.ts';
import { vmUuidPrefix } from '../model/uuid.ts';

export const nullRef = 'OpaqueRef:NULL';
const refPrefix = 'OpaqueRef:';

export const refOf = (uuid: string): string => refPrefix + uuid;

/** The uuid behind a reference; undefined when the text is not a reference. */
export const uuidOfRef = (ref: string): string | undefined =>
  ref.startsWith(refPrefix) ? ref.slice(refPrefix.length) : undefined;

const partPrefixes = { VM_metrics: '5a0a15e5', VM_guest_metrics: '5a0a15e6', console: '5a0a15e7' } as const;
export type Part = keyof typeof partPrefixes;
const vifPrefix = '5a0a16';

export const partUuid = (vm: Uuid, part: Part): string => partPrefixes[part] + vm.slice(8);
export const vifUuid = (vm: Uuid, handle: number): string => vifPrefix + handle.toString(16).padStart(2, '0') + vm.slice(8);

/** The VM that a part's uuid belongs to; undefined when the uuid is not one of that part. */
export function vmOfPart(uuid: string, part: Part): Uuid | undefined {
  return uuid.startsWith(partPrefixes[part]) ? ((vmUuidPrefix + uuid.slice(8)) as Uuid) : undefined;
}

const vbdPrefix = '5a0a17';
export const vbdUuid = (vm: Uuid, index: number): string => vbdPrefix + index.toString(16).padStart(2, '0') + vm.slice(8);

export function vmOfVbd(uuid: string): { vm: Uuid; index: number } | undefined {
  if (!uuid.startsWith(vbdPrefix)) return undefined;
  return { vm: (vmUuidPrefix + uuid.slice(8)) as Uuid, index: Number.parseInt(uuid.slice(6, 8), 16) };
}

export function vmOfVif(uuid: string): { vm: Uuid; handle: number } | undefined {
  if (!uuid.startsWith(vifPrefix)) return undefined;
  return { vm: (vmUuidPrefix + uuid.slice(8)) as Uuid, handle: Number.parseInt(uuid.slice(6, 8), 16) };
}

/** A uuid (version 8) that is always the same for the same words. */
export function derivedUuid(...words: string[]): Uuid {
  const b = createHash('sha256').update(words.join('\0')).digest().subarray(0, 16);
  b[6] = (b[6]! & 0x0f) | 0x80;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const h = b.toString('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}` as Uuid;
}
