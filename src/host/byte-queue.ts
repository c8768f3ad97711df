/** Bytes that come from a connection and are read by whoever has use for them; bounded. */
import { ShoalError } from '../model/errors.ts';

/** Each word of it costs the reader more than so many bytes do. */
const tellBytes = 512 * 1024;

export class ByteQueue implements AsyncIterable<Uint8Array> {
  readonly #most: number;
  #waiting: Buffer[] = [];
  #held = 0;
  #ended = false;
  #error: ShoalError | undefined;
  #wake: () => void = () => {};
  /** Bytes put in so far. */
  received = 0;
  #taken = 0;
  #told = 0;
  /** Told how many bytes were taken out so far: each time nothing is left of them, and in between now and then. */
  onTaken: (bytes: number) => void = () => {};

  constructor(mostBytes: number) {
    this.#most = mostBytes;
  }

  /** Throws REQUEST_TOO_LARGE when more waits than is allowed. */
  put(bytes: Buffer): void {
    if (this.#ended || this.#error !== undefined) return;
    if (this.#held + bytes.length > this.#most) throw new ShoalError('REQUEST_TOO_LARGE', `More than ${this.#most} bytes were sent without waiting.`);
    this.#waiting.push(bytes);
    this.#held += bytes.length;
    this.received += bytes.length;
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  fail(error: ShoalError): void {
    this.#error ??= error;
    this.#waiting = [];
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      const next = this.#waiting.shift();
      if (next !== undefined) {
        this.#held -= next.length;
        this.#taken += next.length;
        if (this.#taken - this.#told >= tellBytes) this.#tell();
        yield next;
        continue;
      }
      if (this.#ended) return;
      this.#tell();
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #tell(): void {
    if (this.#told === this.#taken) return;
    this.#told = this.#taken;
    this.onTaken(this.#taken);
  }
}
