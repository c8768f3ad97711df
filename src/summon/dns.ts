/**
 * The summoner's answers (RFC 1035): a name that can be summoned has the address of its VM, as soon as a client may use it. AAAA of such a name has no
 * data, for guests of the fleet have IPv4 addresses only. What is no query is dropped; a source that asks for more than its share gets nothing, or, each
 * second time, an empty answer that says to come back over TCP.
 */
import type { Question } from 'dns-packet';
import { nothing, readMessage, soa, type Found, type Zone } from '../cache/route/dns.ts';
import { targetOf, type Target } from './names.ts';

/** What is known of a name. `failed`: it exists, and could not be started now. */
export type Resolution = { is: 'address'; addresses: readonly string[] } | { is: 'unknown' } | { is: 'failed' };

export interface Resolver {
  /** Whether there is such a name, without starting anything. */
  exists(target: Target): Promise<boolean | undefined>;
  resolve(target: Target): Promise<Resolution>;
}

export interface RateLimit {
  /** Answers a second for a source prefix (/24), and how many at once. */
  perS: number;
  burst: number;
}

/** Prefixes that are remembered; beyond it the oldest are forgotten. */
const mostPrefixes = 65_536;

/** Tokens for each prefix of 24 bits: answers over UDP go to whoever the packet says it is from. */
export class SourceRates {
  readonly #limit: RateLimit;
  readonly #now: () => number;
  readonly #buckets = new Map<string, { tokens: number; atMs: number; over: number }>();

  constructor(limit: RateLimit, now: () => number) {
    this.#limit = limit;
    this.#now = now;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** `slip`: no more than a word to come back over TCP. */
  take(source: string): 'answer' | 'slip' | 'drop' {
    const prefix = source.slice(0, source.lastIndexOf('.'));
    const nowMs = this.#now();
    let bucket = this.#buckets.get(prefix);
    if (bucket === undefined) {
      if (this.#buckets.size >= mostPrefixes) this.#buckets.delete(this.#buckets.keys().next().value!);
      bucket = { tokens: this.#limit.burst, atMs: nowMs, over: 0 };
      this.#buckets.set(prefix, bucket);
    }
    bucket.tokens = Math.min(this.#limit.burst, bucket.tokens + (Math.max(0, nowMs - bucket.atMs) * this.#limit.perS) / 1000);
    bucket.atMs = nowMs;
    if (bucket.tokens >= 1) {
      bucket.tokens--;
      bucket.over = 0;
      return 'answer';
    }
    return ++bucket.over % 2 === 0 ? 'slip' : 'drop';
  }
}

/** The reply to a message; undefined for what is dropped. Never rejects. */
export async function answerSummon(
  message: Buffer, source: string, overTcp: boolean, zone: Zone, resolver: Resolver, rates: SourceRates | undefined,
): Promise<Buffer | undefined> {
  const asked = readMessage(message);
  // What cannot be read is not answered, by UDP to nobody knows whom.
  if (asked === undefined || Buffer.isBuffer(asked)) return overTcp && asked !== undefined ? asked : undefined;
  const share = overTcp || rates === undefined ? 'answer' : rates.take(source);
  if (share === 'drop') return undefined;
  if (share === 'slip') return asked.truncated();
  const found = await lookUp(asked.question, zone, resolver).catch((): Found => ({ rcode: 'SERVFAIL', answers: [], authorities: [] }));
  return asked.reply(found, overTcp);
}

async function lookUp(question: Question, zone: Zone, resolver: Resolver): Promise<Found> {
  const fixed = nothing(question, zone);
  if (fixed !== undefined) return fixed;
  const none: Found = { rcode: 'NOERROR', answers: [], authorities: [soa(zone)] };
  const unknown: Found = { ...none, rcode: 'NXDOMAIN' };
  const name = question.name.toLowerCase().replace(/\.$/, '');
  const labels = name.slice(0, -zone.name.length - 1).split('.');
  if (labels.length === 1) return none; // the tenants' level exists, as far as anybody asks
  const target = targetOf(labels);
  if (target === undefined) return unknown;
  if ((question.type as string) !== 'A') {
    const there = await resolver.exists(target);
    return there === undefined ? { rcode: 'SERVFAIL', answers: [], authorities: [] } : there ? none : unknown;
  }
  const found = await resolver.resolve(target);
  if (found.is === 'unknown') return unknown;
  if (found.is === 'failed' || found.addresses.length === 0) return { rcode: 'SERVFAIL', answers: [], authorities: [] };
  return { rcode: 'NOERROR', answers: found.addresses.slice(0, 4).map((data) => ({ type: 'A', name: question.name, ttl: zone.ttlS, data })), authorities: [] };
}
