/**
 * What comes out of a mirror's pipe, taken apart into whole records: the file header and the frames go on as they are, the records that tell
 * of losses (no bytes kept, no length; src/hypervisor/xen/switch/mirror.c) are taken out and counted. Pure.
 */
import { ShoalError } from '../model/errors.ts';

const fileHeaderBytes = 24;
const recordHeaderBytes = 16;
/** pcap with nanoseconds, little endian. */
const magic = 0xa1b23c4d;
/** A frame keeps at most this; more is no mirror's work. */
export const keptMaxBytes = 4096;

export class PcapStream {
  frames = 0;
  /** Frames that the writer had no room for, as far as it has told. */
  lost = 0;
  #rest: Buffer = Buffer.alloc(0);
  #begun = false;

  /** The bytes for the reader, in whole records; '' when none is whole yet. Throws STATE_UNREADABLE for what is no such stream. */
  push(chunk: Buffer): Buffer {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const parts: Buffer[] = [];
    let at = 0;
    if (!this.#begun) {
      if (bytes.length < fileHeaderBytes) {
        this.#rest = bytes;
        return Buffer.alloc(0);
      }
      if (bytes.readUInt32LE(0) !== magic) throw broken('it has no file header');
      parts.push(bytes.subarray(0, fileHeaderBytes));
      this.#begun = true;
      at = fileHeaderBytes;
    }
    while (bytes.length - at >= recordHeaderBytes) {
      const kept = bytes.readUInt32LE(at + 8);
      const length = bytes.readUInt32LE(at + 12);
      if (kept > keptMaxBytes || kept > length) throw broken(`a record keeps ${kept} of ${length} bytes`);
      const end = at + recordHeaderBytes + kept;
      if (end > bytes.length) break;
      if (length === 0) this.lost = bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
      else {
        parts.push(bytes.subarray(at, end));
        this.frames++;
      }
      at = end;
    }
    this.#rest = Buffer.from(bytes.subarray(at));
    return Buffer.concat(parts);
  }
}

const broken = (why: string): ShoalError =>
  new ShoalError('STATE_UNREADABLE', `The mirror's pipe holds no pcap: ${why}.`, { hint: 'Use the switch and the agent of the same build.' });
