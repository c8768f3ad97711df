/**
 * Uuids of VMs. Xen keeps a 16-byte handle for each domain, so the handle itself says who made the domain: ours are version 8
 * (RFC 9562, free form) and begin with a fixed 32-bit prefix. After a crash of the agent this is how its domains are told from
 * those of xl beside it, without a lookup in the store.
 */
import { randomBytes } from 'node:crypto';
import type { Digest, Uuid } from './ids.ts';

/** First eight hex digits of every VM uuid made here. */
export const vmUuidPrefix = '5a0a15e4';

export function newVmUuid(): Uuid {
  const b = randomBytes(16);
  Buffer.from(vmUuidPrefix, 'hex').copy(b);
  b[6] = (b[6]! & 0x0f) | 0x80;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const h = b.toString('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}` as Uuid;
}

/** First eight hex digits of the uuids of template domains, which hold the pages that guests of an image share and never run. */
export const templateUuidPrefix = '5a0a7e11';

/** The uuid of an image's template: the rest is the beginning of its digest. */
export function templateUuid(digest: Digest): Uuid {
  const h = templateUuidPrefix + digest.slice('sha256:'.length, 'sha256:'.length + 24);
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}` as Uuid;
}

export const isVmUuid = (uuid: string): boolean => uuid.startsWith(vmUuidPrefix);
