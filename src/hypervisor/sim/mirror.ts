/** The simulator's mirror of a vif: writes pcap into a file or FIFO as the switch does (src/hypervisor/xen/switch/mirror.c), frames that a test gives. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';

const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);

export class SimMirror {
  readonly #fd: number;
  #lost = 0;
  #told = 0;
  #ended = false;

  /** Throws SWITCH_REFUSED for a path that cannot be written, or a FIFO that nobody reads. */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NONBLOCK, 0o600);
    } catch (cause) {
      throw new ShoalError('SWITCH_REFUSED', `mirror: ${(cause as Error).message}`, { cause, data: { errno: (cause as NodeJS.ErrnoException).code } });
    }
    this.#write(Buffer.concat([words(0xa1b23c4d, 0x00040002, 0, 0, 1514, 1)]));
  }

  /** False when the mirror has ended: its reader is gone. */
  frame(bytes: Uint8Array): boolean {
    const losses = this.#lost === this.#told ? [] : [words(this.#lost, 0, 0, 0)];
    if (this.#write(Buffer.concat([...losses, words(1, 2, bytes.length, bytes.length), bytes]))) this.#told = this.#lost;
    else this.#lost++;
    return !this.#ended;
  }

  end(): void {
    if (!this.#ended && this.#lost !== this.#told) this.#write(words(this.#lost, 0, 0, 0));
    closeSync(this.#fd);
  }

  #write(bytes: Buffer): boolean {
    if (this.#ended) return true;
    try {
      return writeSync(this.#fd, bytes) === bytes.length;
    } catch (error) {
      this.#ended = (error as NodeJS.ErrnoException).code !== 'EAGAIN';
      return false;
    }
  }
}
