/** Kernels made byte by byte: good ones, and every kind of bad one. */

export interface Made {
  /** [physical address, bytes, memory bytes] */
  segments?: [number, Buffer, number][];
  notes?: [number, Buffer][];
  /** Notes of the owner "Shoal" behind them. */
  shoal?: [number, Buffer][];
  /** ELF flags of each segment: 5 is read and execute, 6 read and write; all are 0 when left out. */
  flags?: number[];
  owner?: string;
  machine?: number;
  entry?: number;
  /** Notes in a section instead of a segment. */
  inSection?: boolean;
  patch?: (file: Buffer) => void;
}

export const base = 0x400000;
export const quad = (n: number): Buffer => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
};
export const usual: [number, Buffer][] = [
  [6, Buffer.from('test\0')], [5, Buffer.from('xen-3.0\0')], [8, Buffer.from('generic\0')],
  [1, quad(base + 4)], [2, quad(base + 0x1000)], [3, quad(base)], [4, quad(base)],
];

function noteBytes(notes: [number, Buffer][], owner: string): Buffer {
  const parts: Buffer[] = [];
  for (const [type, value] of notes) {
    const header = Buffer.alloc(12);
    header.writeUInt32LE(owner.length + 1, 0);
    header.writeUInt32LE(value.length, 4);
    header.writeUInt32LE(type, 8);
    const padded = (b: Buffer): Buffer => Buffer.concat([b, Buffer.alloc((4 - (b.length % 4)) % 4)]);
    parts.push(header, padded(Buffer.from(`${owner}\0`)), padded(value));
  }
  return Buffer.concat(parts);
}

export function make(options: Made = {}): Buffer {
  const segments = options.segments ?? [[base, Buffer.alloc(0x2000, 0xaa), 0x2000], [base + 0x2000, Buffer.from('data'), 0x1800]];
  const notes = Buffer.concat([noteBytes(options.notes ?? usual, options.owner ?? 'Xen'), noteBytes(options.shoal ?? [], 'Shoal')]);
  const inSegment = !options.inSection;
  const headers = Buffer.alloc(64 + 56 * (segments.length + (inSegment ? 1 : 0)) + (inSegment ? 0 : 64));
  headers.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  headers.writeUInt16LE(2, 16);
  headers.writeUInt16LE(options.machine ?? 62, 18);
  headers.writeBigUInt64LE(BigInt(options.entry ?? base), 24);
  headers.writeBigUInt64LE(64n, 32);
  headers.writeUInt16LE(56, 54);
  headers.writeUInt16LE(segments.length + (inSegment ? 1 : 0), 56);
  headers.writeUInt16LE(64, 58);
  const bodies: Buffer[] = [];
  let offset = headers.length;
  const put = (body: Buffer): number => {
    bodies.push(body);
    offset += body.length;
    return offset - body.length;
  };
  let at = 64;
  const segment = (type: number, address: number, body: Buffer, memory: number, flags = 0): void => {
    headers.writeUInt32LE(type, at);
    headers.writeUInt32LE(flags, at + 4);
    headers.writeBigUInt64LE(BigInt(put(body)), at + 8);
    headers.writeBigUInt64LE(BigInt(address), at + 16);
    headers.writeBigUInt64LE(BigInt(address), at + 24);
    headers.writeBigUInt64LE(BigInt(body.length), at + 32);
    headers.writeBigUInt64LE(BigInt(memory), at + 40);
    at += 56;
  };
  for (const [i, [address, body, memory]] of segments.entries()) segment(1, address, body, memory, options.flags?.[i]);
  if (inSegment) {
    segment(4, 0, notes, notes.length);
  } else {
    headers.writeBigUInt64LE(BigInt(at), 40);
    headers.writeUInt16LE(1, 60);
    headers.writeUInt32LE(7, at + 4);
    headers.writeBigUInt64LE(BigInt(put(notes)), at + 24);
    headers.writeBigUInt64LE(BigInt(notes.length), at + 32);
  }
  const file = Buffer.concat([headers, ...bodies]);
  options.patch?.(file);
  return file;
}
