/**
 * Addresses a measurement gives to its VMs. It chooses them itself, before the request, so that the pinger waits already when the
 * guest comes up: then a slow reply to the request does not hide how fast the guest was.
 */
import { ShoalError } from '../../model/errors.ts';

const numberOf = (address: string): number => address.split('.').reduce((value, part) => value * 256 + Number(part), 0);
const textOf = (n: number): string => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;

/** `count` addresses of first..last (both included, dotted) that are not in `used`, upwards. Throws ADDRESSES_EXHAUSTED. */
export function freeAddresses(first: string, last: string, used: ReadonlySet<string>, count: number): string[] {
  const free: string[] = [];
  for (let n = numberOf(first); n <= numberOf(last) && free.length < count; n++) {
    const address = textOf(n);
    if (!used.has(address)) free.push(address);
  }
  if (free.length < count)
    throw new ShoalError('ADDRESSES_EXHAUSTED', `The network has ${free.length} free addresses, ${count} are needed.`);
  return free;
}

/** The highest address of first..last that is not in `used`: far from where others begin to count. Throws ADDRESSES_EXHAUSTED. */
export function highestFree(first: string, last: string, used: ReadonlySet<string>): string {
  for (let n = numberOf(last); n >= numberOf(first); n--) if (!used.has(textOf(n))) return textOf(n);
  throw new ShoalError('ADDRESSES_EXHAUSTED', 'The network has no free address.');
}
