/**
 * The right to fetch one file for a while, as part of its address: a server signs path and end with a key that only it has and that
 * lives as long as its process. So one host can be told to fetch from another without a password between them, and the clocks of the two
 * need not agree: the same server makes and checks it.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** An address that leaks is of use for so long at most. */
export const capabilityMs = 15 * 60_000;

export class Capabilities {
  readonly #key: Buffer;
  readonly #now: () => number;

  constructor(now: () => number = Date.now, key: Buffer = randomBytes(32)) {
    this.#now = now;
    this.#key = key;
  }

  /** The path with the right to fetch it. */
  grant(path: string, forMs: number = capabilityMs): string {
    const until = Math.ceil((this.#now() + Math.min(forMs, capabilityMs)) / 1000);
    return `${path}?until=${until}&cap=${this.#sign(path, String(until)).toString('base64url')}`;
  }

  /** Whether this path may be fetched with these words, now. */
  allows(path: string, words: URLSearchParams): boolean {
    const until = words.get('until') ?? '';
    const given = Buffer.from(words.get('cap') ?? '', 'base64url');
    const right = this.#sign(path, until);
    return given.length === right.length && timingSafeEqual(given, right) && Number(until) * 1000 > this.#now();
  }

  #sign(path: string, until: string): Buffer {
    return createHmac('sha256', this.#key).update(`${until}\n${path}`).digest();
  }
}
