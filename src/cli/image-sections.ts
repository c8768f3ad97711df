/** What differs between two images, section by section: for people who want to know what a fix touched. */
import { ShoalError } from '../model/errors.ts';

export interface SectionChange {
  name: string;
  /** Bytes in each; 0 where it is not there. */
  before: number;
  after: number;
  /** Bytes that are not the same, place by place. */
  differing: number;
}

/** Sections that a 64-bit little-endian ELF has in its file, by name. Throws IMAGE_NOT_ELF. */
export function sectionsOf(bytes: Uint8Array): Map<string, Buffer> {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const bad = (why: string): ShoalError => new ShoalError('IMAGE_NOT_ELF', `not an ELF kernel: ${why}`);
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2) throw bad('it does not begin as one');
  const at = Number(file.readBigUInt64LE(40));
  const [size, count, names] = [file.readUInt16LE(58), file.readUInt16LE(60), file.readUInt16LE(62)];
  if (count === 0) return new Map();
  if (size < 64 || at + size * count > file.length || names >= count) throw bad('its sections lie outside of the file');
  const part = (i: number): { name: number; type: number; bytes: Buffer } => {
    const header = file.subarray(at + i * size, at + (i + 1) * size);
    const [offset, length] = [Number(header.readBigUInt64LE(24)), Number(header.readBigUInt64LE(32))];
    const type = header.readUInt32LE(4);
    return { name: header.readUInt32LE(0), type, bytes: type === 8 ? Buffer.alloc(0) : file.subarray(Math.min(offset, file.length), Math.min(offset + length, file.length)) };
  };
  const texts = part(names).bytes;
  const found = new Map<string, Buffer>();
  for (let i = 1; i < count; i++) {
    const { name, type, bytes: content } = part(i);
    const end = texts.indexOf(0, name);
    const text = texts.toString('latin1', name, end < 0 ? texts.length : end);
    // The table of names itself tells nothing.
    if (i !== names && type !== 8) found.set(text, content);
  }
  return found;
}

export function changedSections(before: Uint8Array, after: Uint8Array): SectionChange[] {
  const [a, b] = [sectionsOf(before), sectionsOf(after)];
  return [...new Set([...a.keys(), ...b.keys()])]
    .map((name) => {
      const [x, y] = [a.get(name) ?? Buffer.alloc(0), b.get(name) ?? Buffer.alloc(0)];
      let differing = Math.abs(x.length - y.length);
      for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) differing++;
      return { name, before: x.length, after: y.length, differing };
    })
    .filter(({ differing }) => differing > 0);
}
