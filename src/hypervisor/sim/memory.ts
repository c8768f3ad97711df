/** Memory of simulated guests: pages that tests write, read and written in pieces as the port has it. */
import { ShoalError } from '../../model/errors.ts';
import type { MemoryReader, MemoryWriter } from '../port.ts';

/** Guest frame to content; all others are zero. */
export type SimPages = Map<number, Buffer>;

const headBytes = 4;

/** One page a piece. `check` throws when the domain is not as `running` says. */
export class SimReader implements MemoryReader {
  readonly #pages: SimPages;
  readonly #check: (running: boolean) => void;
  readonly #state: () => string;
  readonly #passes: boolean;
  #sent = new Map<number, Buffer>();
  #left: number[] | undefined;

  constructor(pages: SimPages, passes: boolean, state: () => string, check: (running: boolean) => void) {
    this.#pages = pages;
    this.#passes = passes;
    this.#state = state;
    this.#check = check;
  }

  piece(running: boolean): Uint8Array | undefined {
    this.#check(running);
    this.#left ??= [...this.#pages.keys()];
    for (let frame = this.#left.shift(); frame !== undefined; frame = this.#left.shift()) {
      const page = this.#pages.get(frame)!;
      if (this.#passes && this.#sent.get(frame)?.equals(page) === true) continue;
      this.#sent.set(frame, Buffer.from(page));
      const head = Buffer.alloc(headBytes);
      head.writeUInt32LE(frame);
      return Buffer.concat([head, page]);
    }
    this.#left = undefined;
    return undefined;
  }

  again(): void {
    this.#check(false);
    this.#left = undefined;
  }

  state(): Uint8Array {
    this.#check(false);
    return Buffer.from(this.#state());
  }

  close(): void {}
}

export class SimWriter implements MemoryWriter {
  readonly #pages: SimPages = new Map();
  readonly #done: (pages: SimPages, state: unknown) => void;
  readonly #mostFrames: number;

  constructor(mostFrames: number, done: (pages: SimPages, state: unknown) => void) {
    this.#mostFrames = mostFrames;
    this.#done = done;
  }

  piece(bytes: Uint8Array): void {
    const piece = Buffer.from(bytes);
    const frame = piece.length < headBytes ? Infinity : piece.readUInt32LE();
    if (frame >= this.#mostFrames) throw new ShoalError('SAVED_VM_INVALID', 'A piece is of no page of this guest.');
    this.#pages.set(frame, piece.subarray(headBytes));
  }

  async end(state: Uint8Array, whole = (): void => {}): Promise<void> {
    let value: unknown;
    try {
      value = JSON.parse(Buffer.from(state).toString());
    } catch {
      throw new ShoalError('SAVED_VM_INVALID', 'The state is not that of a simulated guest.');
    }
    this.#done(this.#pages, value);
    whole();
  }

  close(): void {}
}
