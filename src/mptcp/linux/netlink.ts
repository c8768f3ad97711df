/**
 * Netlink messages as bytes: a header (length, type, flags, sequence number, port), a fixed part that depends on the family, attributes of four bytes of header and a
 * value, each padded to four. Numbers are in the machine's order, which on x86 is little endian; addresses and ports of sockets in the network's.
 * Pure; formats are those of netlink(7) and <linux/netlink.h>.
 */

export const flag = { request: 0x1, ack: 0x4, dump: 0x300 } as const;
export const message = { error: 2, done: 3 } as const;
const headerBytes = 16;
const nested = 0x8000;
const typeMask = 0x3fff;
const aligned = (bytes: number): number => (bytes + 3) & ~3;

export function u8(value: number): Buffer {
  return Buffer.from([value]);
}

export function u16(value: number): Buffer {
  const b = Buffer.alloc(2);
  b.writeUInt16LE(value);
  return b;
}

export function u32(value: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(value >>> 0);
  return b;
}

/** One attribute, padded; a list of attributes as its value makes it a nested one. */
export function attribute(type: number, value: Buffer | Buffer[]): Buffer {
  const bytes = Array.isArray(value) ? Buffer.concat(value) : value;
  const b = Buffer.alloc(aligned(4 + bytes.length));
  b.writeUInt16LE(4 + bytes.length, 0);
  b.writeUInt16LE(Array.isArray(value) ? type | nested : type, 2);
  bytes.copy(b, 4);
  return b;
}

export function encodeMessage(type: number, flags: number, sequence: number, body: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(headerBytes);
  const bytes = Buffer.concat([head, ...body]);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags | flag.request, 6);
  bytes.writeUInt32LE(sequence, 8);
  return bytes;
}

export interface Message {
  type: number;
  sequence: number;
  body: Buffer;
}

/** Messages in the order they came; what is cut short at the end is left out. */
export function decodeMessages(bytes: Buffer): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at + headerBytes <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < headerBytes || at + length > bytes.length) break;
    messages.push({ type: bytes.readUInt16LE(at + 4), sequence: bytes.readUInt32LE(at + 8), body: bytes.subarray(at + headerBytes, at + length) });
    at += aligned(length);
  }
  return messages;
}

/** Attributes by type; of several of one type the last. What is cut short is left out. */
export function decodeAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    found.set(bytes.readUInt16LE(at + 2) & typeMask, bytes.subarray(at + 4, at + length));
    at += aligned(length);
  }
  return found;
}

/** errno of an answer's error or done message, 0 when it is good. */
export const errnoOf = ({ body }: Message): number => (body.length >= 4 ? -body.readInt32LE(0) : 0);

export const family = { v4: 2, v6: 10 } as const;

/** Four or sixteen bytes. Takes only what net.isIP knows. */
export function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  let text = address.replace(/%.*$/, '');
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted !== null) {
    const [a, b, c, d] = dotted.slice(2).map(Number) as [number, number, number, number];
    text = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [left = '', right] = text.split('::');
  const words = (part: string): number[] => (part === '' ? [] : part.split(':').map((word) => parseInt(word, 16)));
  const before = words(left);
  const after = right === undefined ? [] : words(right);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  const b = Buffer.alloc(16);
  all.forEach((word, i) => b.writeUInt16BE(word, 2 * i));
  return b;
}

const mappedPrefix = Buffer.from('00000000000000000000ffff', 'hex');

/** Text of four or sixteen bytes; an IPv4 address inside an IPv6 one is the IPv4 address. IPv6 in the form of RFC 5952. */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.subarray(0, 12).equals(mappedPrefix)) return bytes.subarray(12).join('.');
  const words = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(2 * i));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && words[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const text = (part: number[]): string => part.map((word) => word.toString(16)).join(':');
  if (best.at < 0) return text(words);
  return `${text(words.slice(0, best.at))}::${text(words.slice(best.at + best.length))}`;
}

export const isV6 = (address: string): boolean => address.includes(':');
