/**
 * Viewers who asked for what is not there yet. Each is held until it is, for so long at most; not more than so many; not for what is
 * further ahead than the next segment but one. They are woken, they do not poll.
 */
import { ShoalError } from '../../model/errors.ts';

export const maxWaiting = 10_000;

interface Held {
  msn: number;
  part: number;
  wake: () => void;
}

export class Waiting {
  readonly #patienceMs: number;
  /** The segment that is being made, and how many parts it has. */
  #msn = 0;
  #parts = 0;
  #held = new Set<Held>();
  #closed = false;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  get count(): number {
    return this.#held.size;
  }

  /** The segment `msn` has `parts` parts now; those before it are whole. */
  reached(msn: number, parts: number): void {
    this.#msn = msn;
    this.#parts = parts;
    for (const each of this.#held) if (this.#has(each.msn, each.part)) each.wake();
  }

  #has(msn: number, part: number): boolean {
    return this.#closed || msn < this.#msn || (msn === this.#msn && part < this.#parts);
  }

  /**
   * `part` undefined: the whole segment. Throws REQUEST_INVALID for what is too far ahead (RFC 8216bis 6.2.5.2), TIMEOUT, HOST_LIMIT
   * when too many wait.
   */
  async until(msn: number, part?: number): Promise<void> {
    const wanted = part ?? Infinity;
    if (this.#has(msn, wanted)) return;
    if (msn > this.#msn + 1)
      throw new ShoalError('REQUEST_INVALID', `The segment ${msn} is further ahead than may be waited for.`, { hint: 'Read the playlist anew, without _HLS_msn.' });
    if (this.#held.size >= maxWaiting) throw new ShoalError('HOST_LIMIT', `${maxWaiting} viewers wait already.`, { hint: 'Ask again in a second.' });
    let timer: NodeJS.Timeout | undefined;
    let held: Held | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        held = { msn, part: wanted, wake: resolve };
        this.#held.add(held);
        timer = setTimeout(() => reject(new ShoalError('TIMEOUT', `The segment ${msn} did not come in time.`)), this.#patienceMs);
      });
    } finally {
      clearTimeout(timer);
      if (held !== undefined) this.#held.delete(held);
    }
  }

  /** Nothing more will come: all go on with what there is. */
  close(): void {
    this.#closed = true;
    for (const each of this.#held) each.wake();
  }
}
