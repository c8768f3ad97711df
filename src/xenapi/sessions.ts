/**
 * Who may call. One user, root, whose password is in a file on the host. A guesser is slowed down, not locked out, for whoever
 * shares his address would be locked out with him: after a failure every further attempt from there waits, twice as long each
 * time, and only a few may wait at once. Sessions are unguessable references; idle and surplus ones end.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { ShoalError } from '../model/errors.ts';
import { refOf } from '../host/refs.ts';

export interface Session {
  ref: string;
  uuid: string;
  userName: string;
  originator: string;
  lastActiveMs: number;
  /** Monotonic time of its last answer with events. */
  lastEventsMs: number;
  /** For calls that wait: aborted when it ends. */
  ended: AbortSignal;
}

interface Kept {
  session: Session;
  end: () => void;
}

export interface SessionOptions {
  password: string;
  /** Sessions at once; 500 by default, as XenAPI has it. */
  maxSessions?: number;
  /** A session without a call for so long ends; a day by default. */
  idleMs?: number;
  /** Wait after the first failure; 250 ms by default, doubled up to 8 s. */
  penaltyMs?: number;
  now?: () => number;
}

const maxWaitingPerAddress = 8;
const maxAddresses = 1024;
const penaltyMaxMs = 8000;
/** So long after the last failure it is forgotten. */
const forgetMs = 15 * 60_000;

interface Offender {
  failures: number;
  waiting: number;
  lastMs: number;
  tail: Promise<void>;
}

export class Sessions {
  /** Least recently used first. */
  readonly #sessions = new Map<string, Kept>();
  readonly #offenders = new Map<string, Offender>();
  readonly #passwordHash: Buffer;
  readonly #options: Required<Omit<SessionOptions, 'password'>>;

  constructor(options: SessionOptions) {
    if (options.password === '') throw new ShoalError('CONFIG_INVALID', 'The password file is empty.');
    this.#passwordHash = hashOf(`root\0${options.password}`);
    this.#options = { maxSessions: 500, idleMs: 86_400_000, penaltyMs: 250, now: Date.now, ...options };
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Throws SESSION_AUTHENTICATION_FAILED. `address` is where the attempt comes from. */
  async login(userName: string, password: string, originator: string, address: string): Promise<Session> {
    const offender = this.#offenders.get(address);
    if (offender !== undefined) await this.#wait(offender, userName);
    // Hashes of equal length, so that neither the length nor the first difference shows in the time taken.
    const right = timingSafeEqual(hashOf(`${userName}\0${password}`), this.#passwordHash);
    if (!right) {
      this.#note(address);
      throw new ShoalError('SESSION_AUTHENTICATION_FAILED', 'User or password is wrong.', {
        params: [userName.slice(0, 64), 'User or password is wrong.'],
      });
    }
    this.#offenders.delete(address);
    const ended = new AbortController();
    const session: Session = {
      ref: refOf(randomUUID()),
      uuid: randomUUID(),
      userName,
      originator: originator.slice(0, 128),
      lastActiveMs: this.#options.now(),
      lastEventsMs: -Infinity,
      ended: ended.signal,
    };
    this.#sessions.set(session.ref, { session, end: () => ended.abort() });
    if (this.#sessions.size > this.#options.maxSessions) this.#end(this.#sessions.keys().next().value!);
    return session;
  }

  /** The session of a reference, now the most recently used. Throws SESSION_INVALID. */
  need(ref: unknown): Session {
    const kept = typeof ref === 'string' ? this.#sessions.get(ref) : undefined;
    if (kept === undefined) throw invalid();
    const { session } = kept;
    if (this.#options.now() - session.lastActiveMs > this.#options.idleMs) {
      this.#end(session.ref);
      throw invalid();
    }
    session.lastActiveMs = this.#options.now();
    this.#sessions.delete(session.ref);
    this.#sessions.set(session.ref, kept);
    return session;
  }

  logout(session: Session): void {
    this.#end(session.ref);
  }

  #end(ref: string): void {
    const kept = this.#sessions.get(ref);
    this.#sessions.delete(ref);
    kept?.end();
  }

  /** Attempts from one address pass one at a time, each after its penalty. */
  async #wait(offender: Offender, userName: string): Promise<void> {
    if (offender.waiting >= maxWaitingPerAddress) {
      throw new ShoalError('SESSION_AUTHENTICATION_FAILED', 'Too many attempts.', {
        params: [userName.slice(0, 64), 'Too many attempts; wait a little.'],
      });
    }
    offender.waiting++;
    const turn = offender.tail.then(() => {
      const delayMs = Math.min(this.#options.penaltyMs * 2 ** (offender.failures - 1), penaltyMaxMs);
      return new Promise<void>((resolve) => setTimeout(resolve, delayMs));
    });
    offender.tail = turn;
    await turn;
    offender.waiting--;
  }

  #note(address: string): void {
    const nowMs = this.#options.now();
    const known = this.#offenders.get(address);
    const offender = known ?? { failures: 0, waiting: 0, lastMs: nowMs, tail: Promise.resolve() };
    if (nowMs - offender.lastMs > forgetMs) offender.failures = 0;
    offender.failures = Math.min(offender.failures + 1, 16);
    offender.lastMs = nowMs;
    this.#offenders.delete(address);
    this.#offenders.set(address, offender);
    if (this.#offenders.size > maxAddresses) this.#offenders.delete(this.#offenders.keys().next().value!);
  }
}

const hashOf = (text: string): Buffer => createHash('sha256').update(text).digest();
const invalid = (): ShoalError => new ShoalError('SESSION_INVALID', 'The session has ended.');
