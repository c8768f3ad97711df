/**
 * Turns the bytes of a kernel file into a KernelImage: a pure function that checks everything once, when an image is put into the store, so
 * that the builder in C never has to trust a header. Understood is what a 64-bit Xen PV guest for x86 is: a little-endian ELF64 with
 * loadable segments and ELF notes of the owner "Xen" (in PT_NOTE segments, or in sections where a linker made no such segment).
 *
 * The numbers of notes are those of Xen's public header elfnote.h. Guest-physical 0 is the lowest address the kernel says it has
 * (VIRT_BASE); a segment at physical address p is loaded at guest-physical p - PADDR_OFFSET.
 */
import { createHash } from 'node:crypto';
import type { Digest } from '../model/ids.ts';
import type { KernelImage } from '../model/kernel.ts';
import { ShoalError } from '../model/errors.ts';

const pageBytes = 4096;
const superpageBytes = 0x200000n;
/** A kernel needs more memory than this only by mistake; the builder copies it into every guest. */
export const mostImageBytes = 1 << 30;

const note = { entry: 1, hypercallPage: 2, virtBase: 3, paddrOffset: 4, xenVersion: 5, guestOs: 6, loader: 8 } as const;
const segmentLoad = 1;
const segmentNote = 4;
const segmentWritable = 2;
/** Type of the note of owner "Shoal" that says which version of the wiring a kernel understands (unikernels/include/wiring.h). */
const noteWiring = 1;
const wiringVersion = 1;
const sectionNote = 7;

const notElf = (why: string): ShoalError => new ShoalError('IMAGE_NOT_ELF', `not an ELF kernel: ${why}`);
const unsupported = (why: string): ShoalError => new ShoalError('IMAGE_UNSUPPORTED', `this kernel cannot be started: ${why}`);

interface Segment {
  type: number;
  writable: boolean;
  offset: number;
  fileBytes: number;
  physical: bigint;
  memoryBytes: bigint;
  align: bigint;
}

/** A number that has to be an offset into the file or a size of part of it. */
function inFile(value: bigint, what: string, fileBytes: number): number {
  if (value < 0n || value > BigInt(fileBytes)) throw notElf(`${what} lies outside of the file`);
  return Number(value);
}

function table(file: Buffer, offset: number, entryBytes: number, count: number, least: number, what: string): Buffer[] {
  if (count === 0) return [];
  if (entryBytes < least || offset + entryBytes * count > file.length) throw notElf(`its ${what} lie outside of the file`);
  return Array.from({ length: count }, (_, i) => file.subarray(offset + i * entryBytes, offset + (i + 1) * entryBytes));
}

function segments(file: Buffer): Segment[] {
  const offset = inFile(file.readBigUInt64LE(32), 'its table of segments', file.length);
  return table(file, offset, file.readUInt16LE(54), file.readUInt16LE(56), 56, 'segments').map((header) => {
    const start = inFile(header.readBigUInt64LE(8), 'a segment', file.length);
    const length = inFile(header.readBigUInt64LE(32), 'a segment', file.length);
    if (start + length > file.length) throw notElf('a segment lies outside of the file');
    return {
      type: header.readUInt32LE(0),
      writable: (header.readUInt32LE(4) & segmentWritable) !== 0,
      offset: start,
      fileBytes: length,
      physical: header.readBigUInt64LE(24),
      memoryBytes: header.readBigUInt64LE(40),
      align: header.readBigUInt64LE(48),
    };
  });
}

/** Where notes are: segments of that type, or, without one, sections of that type. */
function noteAreas(file: Buffer, all: Segment[]): { bytes: Buffer; align: number }[] {
  const fromSegments = all.filter((segment) => segment.type === segmentNote);
  if (fromSegments.length > 0) {
    return fromSegments.map((s) => ({ bytes: file.subarray(s.offset, s.offset + s.fileBytes), align: s.align === 8n ? 8 : 4 }));
  }
  const offset = inFile(file.readBigUInt64LE(40), 'its table of sections', file.length);
  if (offset === 0) return [];
  const areas: { bytes: Buffer; align: number }[] = [];
  for (const header of table(file, offset, file.readUInt16LE(58), file.readUInt16LE(60), 64, 'sections')) {
    if (header.readUInt32LE(4) !== sectionNote) continue;
    const start = inFile(header.readBigUInt64LE(24), 'a section', file.length);
    const length = inFile(header.readBigUInt64LE(32), 'a section', file.length);
    if (start + length > file.length) throw notElf('a section lies outside of the file');
    areas.push({ bytes: file.subarray(start, start + length), align: header.readBigUInt64LE(48) === 8n ? 8 : 4 });
  }
  return areas;
}

/** Notes of an owner by number; the first of a number counts. */
function notesOf(owner: string, areas: { bytes: Buffer; align: number }[]): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (const { bytes, align } of areas) {
    const up = (n: number): number => Math.ceil(n / align) * align;
    let at = 0;
    while (at + 12 <= bytes.length) {
      const ownerBytes = bytes.readUInt32LE(at);
      const valueBytes = bytes.readUInt32LE(at + 4);
      const type = bytes.readUInt32LE(at + 8);
      const value = up(at + 12 + ownerBytes);
      if (value + valueBytes > bytes.length) throw notElf('a note lies outside of its segment');
      const name = bytes.toString('latin1', at + 12, at + 12 + ownerBytes);
      if (name === `${owner}\0` && !found.has(type)) found.set(type, bytes.subarray(value, value + valueBytes));
      at = up(value + valueBytes);
    }
  }
  return found;
}

function noteNumber(notes: Map<number, Buffer>, type: number, name: string): bigint | undefined {
  const value = notes.get(type);
  if (!value) return undefined;
  if (value.length === 8) return value.readBigUInt64LE(0);
  if (value.length === 4) return BigInt(value.readUInt32LE(0));
  throw unsupported(`the note ${name} has ${value.length} bytes instead of 8`);
}

function noteText(notes: Map<number, Buffer>, type: number): string | undefined {
  return notes.get(type)?.toString('latin1').replace(/\0.*$/s, '');
}

function checkHeader(file: Buffer): void {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) {
    if (file.length >= 2 && file.readUInt16BE(0) === 0x1f8b) throw notElf('it is compressed with gzip');
    throw notElf('it does not begin with the ELF magic');
  }
  if (file[4] !== 2 || file[5] !== 1) throw unsupported('it is not a 64-bit little-endian ELF');
  if (file.readUInt16LE(18) !== 62) throw unsupported('it is not for x86-64');
}

/** `known`: their digest, where it was taken already. Throws IMAGE_NOT_ELF, IMAGE_NO_XEN_NOTES, IMAGE_UNSUPPORTED or IMAGE_TOO_LARGE. The result keeps no reference to `bytes`. */
export function parseKernel(bytes: Uint8Array, known?: Digest): KernelImage {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  checkHeader(file);
  const all = segments(file);
  const areas = noteAreas(file, all);
  const notes = notesOf('Xen', areas);
  if (notes.size === 0) throw new ShoalError('IMAGE_NO_XEN_NOTES', 'the ELF file has no notes of Xen');
  const version = noteText(notes, note.xenVersion);
  if (version !== undefined && version !== 'xen-3.0') throw unsupported(`it is for the interface ${JSON.stringify(version)}, not "xen-3.0"`);
  const loader = noteText(notes, note.loader);
  if (loader !== undefined && loader !== 'generic') throw unsupported(`it wants the loader ${JSON.stringify(loader)}, not "generic"`);

  const virtBase = noteNumber(notes, note.virtBase, 'VIRT_BASE');
  if (virtBase === undefined) throw unsupported('it has no note VIRT_BASE, so it is no PV kernel');
  if (virtBase % superpageBytes !== 0n) throw unsupported('its VIRT_BASE is not a multiple of 2 MiB');
  const paddrOffset = noteNumber(notes, note.paddrOffset, 'PADDR_OFFSET') ?? 0n;
  const entry = noteNumber(notes, note.entry, 'ENTRY') ?? file.readBigUInt64LE(24);
  const hypercallPage = noteNumber(notes, note.hypercallPage, 'HYPERCALL_PAGE');

  const { pages, memoryBytes } = load(file, all, paddrOffset);
  const end = virtBase + BigInt(memoryBytes);
  if (entry < virtBase || entry >= end) throw unsupported('its entry lies outside of its segments');
  if (hypercallPage !== undefined && (hypercallPage % BigInt(pageBytes) !== 0n || hypercallPage < virtBase || hypercallPage >= end)) {
    throw unsupported('its hypercall page is not a page of its segments');
  }
  const digest = known ?? (`sha256:${createHash('sha256').update(file).digest('hex')}` as Digest);
  const wired = noteNumber(notesOf('Shoal', areas), noteWiring, 'WIRING') === BigInt(wiringVersion);
  const sharedBytes = hypercallPage === undefined ? readOnlyBytes(all, paddrOffset, pages.length) : 0;
  return { digest, fileBytes: file.length, pages, memoryBytes, virtBase, entry, hypercallPage, sharedBytes, wired };
}

/** Whole pages before the first writable segment, as far as the file fills them. */
function readOnlyBytes(all: Segment[], paddrOffset: bigint, filledBytes: number): number {
  const writable = all.filter((segment) => segment.type === segmentLoad && segment.writable && segment.memoryBytes > 0n);
  const end = Math.min(filledBytes, ...writable.map((segment) => Number(segment.physical - paddrOffset)));
  return Math.floor(end / pageBytes) * pageBytes;
}

function load(file: Buffer, all: Segment[], paddrOffset: bigint): { pages: Uint8Array; memoryBytes: number } {
  const loadable = all.filter((segment) => segment.type === segmentLoad && segment.memoryBytes > 0n);
  if (loadable.length === 0) throw unsupported('it has nothing to load');
  let fileEnd = 0;
  let memoryEnd = 0;
  for (const segment of loadable) {
    const start = segment.physical - paddrOffset;
    const end = start + segment.memoryBytes;
    if (start < 0n) throw unsupported('a segment lies below PADDR_OFFSET');
    if (segment.memoryBytes < BigInt(segment.fileBytes)) throw notElf('a segment is larger in the file than in memory');
    if (end > BigInt(mostImageBytes)) {
      throw new ShoalError('IMAGE_TOO_LARGE', `a segment ends at ${end} bytes; ${mostImageBytes} is the limit`, {
        hint: 'Check the physical addresses of the segments against the note PADDR_OFFSET.',
      });
    }
    fileEnd = Math.max(fileEnd, Number(start) + segment.fileBytes);
    memoryEnd = Math.max(memoryEnd, Number(end));
  }
  if (fileEnd === 0) throw unsupported('its segments are empty');
  const loaded = Buffer.alloc(fileEnd);
  for (const segment of loadable) {
    file.copy(loaded, Number(segment.physical - paddrOffset), segment.offset, segment.offset + segment.fileBytes);
  }
  let length = loaded.length;
  while (length > 1 && loaded[length - 1] === 0) length--;
  return { pages: new Uint8Array(loaded.subarray(0, length)), memoryBytes: Math.ceil(memoryEnd / pageBytes) * pageBytes };
}
