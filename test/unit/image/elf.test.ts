/** The parser of kernels against files made here byte by byte, good ones and every kind of bad one. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { parseKernel } from '../../../src/image/elf.ts';
import { base, make, quad, usual, type Made } from './made.ts';

function refusal(bytes: Uint8Array): unknown {
  try {
    parseKernel(bytes);
    return 'accepted';
  } catch (error) {
    return error instanceof ShoalError ? error.code : error;
  }
}

const without = (type: number): [number, Buffer][] => usual.filter(([t]) => t !== type);
const withNote = (type: number, value: Buffer): [number, Buffer][] => [...without(type), [type, value]];

test('a kernel is laid out from VIRT_BASE on, with .bss and without trailing zeroes', (t) => {
  const image = parseKernel(make());
  t.equal(image.virtBase, 0x400000n);
  t.equal(image.entry, 0x400004n, 'the note wins over the header');
  t.equal(image.hypercallPage, 0x401000n);
  t.equal(image.memoryBytes, 0x4000, '.bss is counted, in whole pages');
  t.equal(image.pages.length, 0x2004);
  t.equal(Buffer.from(image.pages.subarray(0x2000)).toString(), 'data');
  t.match(image.digest, /^sha256:[0-9a-f]{64}$/);
  t.equal(image.fileBytes, make().length);
  t.end();
});

test('what may be left out', (t) => {
  t.equal(parseKernel(make({ notes: without(1) })).entry, 0x400000n, 'ENTRY: the header has one');
  t.equal(parseKernel(make({ notes: without(2) })).hypercallPage, undefined);
  t.equal(parseKernel(make({ inSection: true })).virtBase, 0x400000n, 'a note segment: sections do');
  const linkedLow = make({ segments: [[0, Buffer.alloc(0x2000, 1), 0x2000]], notes: without(4) });
  t.equal(parseKernel(linkedLow).memoryBytes, 0x2000, 'PADDR_OFFSET: 0');
  const odd = Buffer.concat([Buffer.alloc(3), make()]);
  t.equal(parseKernel(odd.subarray(3)).virtBase, 0x400000n, 'bytes anywhere in a buffer');
  t.end();
});

test('what guests of an image may share is what comes before the first writable segment, in whole pages that the file fills', (t) => {
  const own = without(2);
  t.equal(parseKernel(make({ notes: own, flags: [5, 6] })).sharedBytes, 0x2000);
  t.equal(parseKernel(make({ flags: [5, 6] })).sharedBytes, 0, 'nothing where Xen writes a hypercall page into it');
  t.equal(parseKernel(make({ notes: own, flags: [6, 5] })).sharedBytes, 0, 'a writable segment comes first');
  const crooked: Made['segments'] = [[base, Buffer.alloc(0x1800, 0xaa), 0x1800], [base + 0x1800, Buffer.from('data'), 0x800]];
  t.equal(parseKernel(make({ notes: own, segments: crooked, flags: [5, 6] })).sharedBytes, 0x1000, 'a page that both are in is each guest\'s own');
  const hollow: Made['segments'] = [[base, Buffer.alloc(0x800, 0xaa), 0x3000]];
  t.equal(parseKernel(make({ notes: without(2).filter(([type]) => type !== 1).concat([[1, quad(base)]]), segments: hollow, flags: [5] })).sharedBytes, 0, 'zeroes at the end are not in the file');
  t.end();
});

test('a kernel says by a note of ours that it can be wired', (t) => {
  const number = (n: number): Buffer => {
    const b = Buffer.alloc(4);
    b.writeUInt32LE(n);
    return b;
  };
  t.equal(parseKernel(make()).wired, false, 'without it, not');
  t.equal(parseKernel(make({ shoal: [[1, number(1)]] })).wired, true);
  t.equal(parseKernel(make({ shoal: [[1, number(2)]] })).wired, false, 'another version is not this one');
  t.equal(refusal(make({ shoal: [[1, Buffer.alloc(3)]] })), 'IMAGE_UNSUPPORTED', 'nor is a malformed one');
  t.end();
});

test('what is no kernel is refused, with the right code', (t) => {
  const gzip = Buffer.alloc(100);
  gzip.writeUInt16BE(0x1f8b, 0);
  const cases: [string, Uint8Array, string][] = [
    ['nothing', new Uint8Array(0), 'IMAGE_NOT_ELF'],
    ['text', Buffer.from('#!/bin/sh\n'.repeat(20)), 'IMAGE_NOT_ELF'],
    ['gzip', gzip, 'IMAGE_NOT_ELF'],
    ['the header alone', make().subarray(0, 64), 'IMAGE_NOT_ELF'],
    ['32 bits', make({ patch: (f) => f.writeUInt8(1, 4) }), 'IMAGE_UNSUPPORTED'],
    ['big endian', make({ patch: (f) => f.writeUInt8(2, 5) }), 'IMAGE_UNSUPPORTED'],
    ['ARM', make({ machine: 183 }), 'IMAGE_UNSUPPORTED'],
    ['no notes', make({ notes: [] }), 'IMAGE_NO_XEN_NOTES'],
    ['notes of another owner', make({ owner: 'GNU' }), 'IMAGE_NO_XEN_NOTES'],
    ['no VIRT_BASE', make({ notes: without(3) }), 'IMAGE_UNSUPPORTED'],
    ['a crooked VIRT_BASE', make({ notes: withNote(3, quad(base + 0x1000)) }), 'IMAGE_UNSUPPORTED'],
    ['another interface', make({ notes: withNote(5, Buffer.from('xen-4.0\0')) }), 'IMAGE_UNSUPPORTED'],
    ['another loader', make({ notes: withNote(8, Buffer.from('linux\0')) }), 'IMAGE_UNSUPPORTED'],
    ['an entry outside', make({ notes: withNote(1, quad(base + 0x4000)) }), 'IMAGE_UNSUPPORTED'],
    ['a hypercall page outside', make({ notes: withNote(2, quad(base + 0x4000)) }), 'IMAGE_UNSUPPORTED'],
    ['a crooked hypercall page', make({ notes: withNote(2, quad(base + 8)) }), 'IMAGE_UNSUPPORTED'],
    ['a note of a wrong size', make({ notes: withNote(3, Buffer.alloc(3)) }), 'IMAGE_UNSUPPORTED'],
    ['a segment below PADDR_OFFSET', make({ segments: [[0x1000, Buffer.alloc(0x2000, 1), 0x2000]] }), 'IMAGE_UNSUPPORTED'],
    ['nothing to load', make({ segments: [] }), 'IMAGE_UNSUPPORTED'],
    ['only .bss', make({ segments: [[base, Buffer.alloc(0), 0x2000]] }), 'IMAGE_UNSUPPORTED'],
    ['a segment of many GiB', make({ segments: [[base, Buffer.alloc(0x2000, 1), 2 ** 40]] }), 'IMAGE_TOO_LARGE'],
    ['a segment larger in the file', make({ segments: [[base, Buffer.alloc(0x2000, 1), 0x1000]] }), 'IMAGE_NOT_ELF'],
    ['a segment outside of the file', make({ patch: (f) => f.writeBigUInt64LE(2n ** 63n, 64 + 8) }), 'IMAGE_NOT_ELF'],
    ['a segment table outside of the file', make({ patch: (f) => f.writeBigUInt64LE(2n ** 40n, 32) }), 'IMAGE_NOT_ELF'],
    ['tiny entries in the segment table', make({ patch: (f) => f.writeUInt16LE(8, 54) }), 'IMAGE_NOT_ELF'],
  ];
  for (const [name, bytes, code] of cases) t.equal(refusal(bytes), code, name);
  t.end();
});

test('no damaged file does more than throw a typed error', (t) => {
  const good = make();
  let accepted = 0;
  let refused = 0;
  for (let at = 0; at < 64 + 56 * 3 + 400; at++) {
    for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
      const bytes = Buffer.from(good);
      const index = at < 64 + 56 * 3 ? at : good.length - 400 + (at - 64 - 56 * 3);
      if (index < 0 || index >= bytes.length) continue;
      bytes[index] = value;
      const result = refusal(bytes);
      if (result === 'accepted') accepted++;
      else if (typeof result === 'string' && result.startsWith('IMAGE_')) refused++;
      else t.fail(`byte ${index} = ${value}: ${String(result)}`);
    }
  }
  for (let length = 0; length < good.length; length += 7) {
    if (refusal(good.subarray(0, length)) === 'accepted') t.fail(`accepted when cut at ${length}`);
  }
  t.ok(refused > 300 && accepted > 300, `${refused} refused, ${accepted} harmless`);
  t.end();
});
