/** What Xen says of a domain, in the port's words. Pure. */
import type { Uuid } from '../../model/ids.ts';
import { domainFlags, shutdownReasons, type NativeDomain } from './native.ts';
import type { DomainFacts, DomainState } from '../port.ts';

export function uuidOf(domain: NativeDomain): Uuid {
  const h = domain.handle.toString('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}` as Uuid;
}

export const handleOf = (uuid: Uuid): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');

export function reasonOf(domain: NativeDomain): DomainFacts['shutdownReason'] {
  const reason = domain.flags & domainFlags.shutdown ? shutdownReasons[domain.shutdownReason] : undefined;
  return reason === 'poweroff' || reason === 'reboot' || reason === 'suspend' ? reason : undefined;
}

export function stateOf(domain: NativeDomain): DomainState {
  if (domain.flags & domainFlags.dying) return 'dying';
  if (domain.flags & domainFlags.shutdown) {
    const reason = shutdownReasons[domain.shutdownReason];
    return reason === 'crash' || reason === 'watchdog' ? 'crashed' : 'shutdown';
  }
  return domain.flags & domainFlags.paused ? 'paused' : 'running';
}

/** Bit n of byte m is number 8m + n. */
export function bitmapOf(numbers: number[]): Uint8Array {
  const bytes = new Uint8Array(numbers.length === 0 ? 0 : (Math.max(...numbers) >> 3) + 1);
  for (const n of numbers) bytes[n >> 3]! |= 1 << (n & 7);
  return bytes;
}
