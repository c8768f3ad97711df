/**
 * Frames of a migration's connection (docs/formats/migration.md): length, kind, payload. JSON says what is to be done, data is the stream of a
 * saved VM, image the file of its kernel where the target lacks it.
 */
import { ShoalError } from '../model/errors.ts';

export const kinds = { json: 1, data: 2, image: 3 } as const;
export type Kind = (typeof kinds)[keyof typeof kinds];

const headBytes = 5;
export const mostFrameBytes = 512 * 1024;
const mostJsonBytes = 128 * 1024;

export interface Frame {
  kind: Kind;
  payload: Buffer;
}

export function frameHead(kind: Kind, length: number): Buffer {
  const head = Buffer.allocUnsafe(headBytes);
  head.writeUInt32LE(length, 0);
  head.writeUInt8(kind, 4);
  return head;
}

export const frame = (kind: Kind, payload: Uint8Array): Buffer => Buffer.concat([frameHead(kind, payload.length), payload]);

export const jsonFrame = (value: object): Buffer => frame(kinds.json, Buffer.from(JSON.stringify(value)));

export class FrameReader {
  #held: Buffer[] = [];
  #bytes = 0;
  /** Bytes without which there is no going on. */
  #wanted = headBytes;

  /** Whole frames out of what has come; what is joined is joined once. Throws REQUEST_MALFORMED. */
  *take(chunk: Buffer): Generator<Frame> {
    this.#held.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= this.#wanted) {
      const held = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
      this.#held = [held];
      const length = held.readUInt32LE(0);
      const kind = held.readUInt8(4);
      if (kind < kinds.json || kind > kinds.image || length > (kind === kinds.json ? mostJsonBytes : mostFrameBytes))
        throw new ShoalError('REQUEST_MALFORMED', 'A frame of the migration is none of this version.');
      this.#wanted = headBytes + length;
      if (held.length < this.#wanted) return;
      const rest = held.subarray(this.#wanted);
      this.#held = rest.length === 0 ? [] : [rest];
      this.#bytes = rest.length;
      const payload = held.subarray(headBytes, this.#wanted);
      this.#wanted = headBytes;
      yield { kind: kind as Kind, payload };
    }
  }
}

/** Throws REQUEST_MALFORMED. */
export function jsonOf(payload: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(payload.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // As below.
  }
  throw new ShoalError('REQUEST_MALFORMED', 'A word of the migration is no JSON object.');
}
