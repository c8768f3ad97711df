/**
 * What changed since when. Not a log of changes but, for each class, its objects in the order of their last change: event.from
 * walks back from the newest to the client's token, so it costs what changed and gives each object once, however often it
 * changed. Objects that are gone stay as gravestones, a bounded number of them; a client older than the first forgotten
 * gravestone has lost events.
 *
 * A token is the number of the last change, 20 digits wide so that tokens compare as text (XenAPI's clients do that), and the
 * agent's life it belongs to.
 */
import { randomBytes } from 'node:crypto';
import { ShoalError } from '../model/errors.ts';

export type EventKind = 'add' | 'mod' | 'del';

interface Mark {
  class: string;
  ref: string;
  created: number;
  modified: number;
  gone: boolean;
  older: Mark | undefined;
  newer: Mark | undefined;
}

interface Chain {
  /** By reference, oldest object first. */
  marks: Map<string, Mark>;
  newest: Mark | undefined;
  live: number;
}

export interface Happening {
  id: number;
  class: string;
  ref: string;
  operation: EventKind;
}

export interface Batch {
  /** Objects that changed. */
  size: number;
  /**
   * What is to be said of each, oldest change first; from the beginning, class by class. To be walked once; what it says is true
   * when it says it, so that it can be walked over several turns of the event loop. Objects gone since then are left out where
   * the client cannot know them.
   */
  happenings: Iterable<Happening>;
  token: string;
}

interface Waiter {
  filter: Filter;
  wake: () => void;
}

export class EventLog {
  readonly #chains = new Map<string, Chain>();
  /** Oldest first. */
  readonly #gravestones = new Map<string, Mark>();
  readonly #maxGravestones: number;
  readonly #life: string = randomBytes(4).toString('hex');
  readonly #waiters = new Set<Waiter>();
  #count = 0;
  /** Number of the last change whose gravestone is forgotten. */
  #lostUpTo = 0;

  /** 60,000 gravestones are 12,000 destroyed VMs and about 12 MB: a whole fleet may go between two looks of a client. */
  constructor(classes: readonly string[], maxGravestones = 60_000) {
    for (const name of classes) this.#chains.set(name, { marks: new Map(), newest: undefined, live: 0 });
    this.#maxGravestones = maxGravestones;
  }

  /** Notes a change; returns its number. */
  note(className: string, ref: string, kind: EventKind): number {
    const chain = this.#chains.get(className)!;
    const known = chain.marks.get(ref);
    if (kind === 'del' && (known === undefined || known.gone)) return this.#count;
    const number = ++this.#count;
    const mark = known ?? {
      class: className,
      ref,
      created: number,
      modified: number,
      gone: true,
      older: undefined,
      newer: undefined,
    };
    if (known === undefined) chain.marks.set(ref, mark);
    else unlink(chain, mark);
    if (kind === 'del') {
      mark.gone = true;
      chain.live--;
      this.#gravestones.set(ref, mark);
      if (this.#gravestones.size > this.#maxGravestones) this.#forget(this.#gravestones.values().next().value!);
    } else if (mark.gone) {
      mark.gone = false;
      mark.created = number;
      chain.live++;
      this.#gravestones.delete(ref);
    }
    mark.modified = number;
    mark.older = chain.newest;
    if (chain.newest !== undefined) chain.newest.newer = mark;
    chain.newest = mark;
    for (const waiter of this.#waiters) if (waiter.filter.matches(className, ref)) waiter.wake();
    return number;
  }

  get gravestones(): number {
    return this.#gravestones.size;
  }

  /** Objects of a class there are now. */
  live(className: string): number {
    return this.#chains.get(className)?.live ?? 0;
  }

  /** After everything there was until now. */
  token(): string {
    return this.tokenAt(this.#count);
  }

  tokenAt(number: number): string {
    return `${String(number).padStart(20, '0')},${this.#life}`;
  }

  /**
   * The number in a token; -1 for the empty one, which is before everything. Throws EVENT_FROM_TOKEN_PARSE_FAILURE, EVENTS_LOST.
   */
  parseToken(token: string): number {
    if (token === '') return -1;
    const m = /^(\d{20}),([0-9a-f]{8})$/.exec(token);
    if (m === null)
      throw new ShoalError('EVENT_FROM_TOKEN_PARSE_FAILURE', 'The token is not one of this call.', {
        params: [token.slice(0, 64)],
      });
    const number = Number(m[1]);
    if (m[2] !== this.#life || number < this.#lostUpTo || number > this.#count) {
      throw new ShoalError('EVENTS_LOST', 'Changes after this token are no longer known.');
    }
    return number;
  }

  /** Everything of the filter that changed after `since`. Costs what changed, whatever there is. */
  since(since: number, filter: Filter): Batch {
    const touched = [...this.#chains].filter(([name]) => filter.touches(name));
    if (since < 0 && filter.isOfClasses) {
      const chains = touched.map(([, chain]) => chain);
      const size = chains.reduce((sum, { live }) => sum + live, 0);
      return { size, happenings: everything(chains), token: this.token() };
    }
    const changed: Mark[][] = [];
    for (const [name, { newest }] of touched) {
      const marks: Mark[] = [];
      for (let mark = newest; mark !== undefined && mark.modified > since; mark = mark.older) {
        if (!(mark.gone && since < 0) && filter.matches(name, mark.ref)) marks.push(mark);
      }
      if (marks.length > 0) changed.push(marks);
    }
    const marks = merged(changed);
    return { size: marks.length, happenings: happeningsOf(marks, since), token: this.token() };
  }

  /** Resolves at the next change of the filter, after `timeoutMs`, or when one of the signals is aborted. */
  async wait(filter: Filter, timeoutMs: number, signals: readonly AbortSignal[]): Promise<void> {
    if (signals.some(({ aborted }) => aborted)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        for (const signal of signals) signal.removeEventListener('abort', done);
        this.#waiters.delete(waiter);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      const waiter = { filter, wake: done };
      this.#waiters.add(waiter);
      for (const signal of signals) signal.addEventListener('abort', done, { once: true });
    });
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  #forget(mark: Mark): void {
    const chain = this.#chains.get(mark.class)!;
    unlink(chain, mark);
    chain.marks.delete(mark.ref);
    this.#gravestones.delete(mark.ref);
    this.#lostUpTo = Math.max(this.#lostUpTo, mark.modified);
  }
}

/** Marks of all chains, oldest change first, out of those of each, newest first. */
function merged(chains: Mark[][]): Mark[] {
  if (chains.length === 1) return chains[0]!.reverse();
  const marks: Mark[] = [];
  for (;;) {
    let from: Mark[] | undefined;
    let oldest = Infinity;
    for (const chain of chains) {
      const last = chain[chain.length - 1];
      if (last === undefined || last.modified >= oldest) continue;
      oldest = last.modified;
      from = chain;
    }
    if (from === undefined) return marks;
    marks.push(from.pop()!);
  }
}

/** What there is, class by class: to whom everything is new, its order says nothing, and everything is much. */
function* everything(chains: readonly Chain[]): Generator<Happening> {
  for (const { marks } of chains) {
    for (const { modified: id, class: className, ref, gone } of marks.values()) {
      if (!gone) yield { id, class: className, ref, operation: 'add' };
    }
  }
}

function* happeningsOf(marks: readonly Mark[], since: number): Generator<Happening> {
  for (const mark of marks) {
    if (mark.gone && since < 0) continue;
    const operation = mark.gone ? 'del' : mark.created > since ? 'add' : 'mod';
    yield { id: mark.modified, class: mark.class, ref: mark.ref, operation };
  }
}

function unlink(chain: Chain, mark: Mark): void {
  if (mark.newer === undefined) chain.newest = mark.older;
  else mark.newer.older = mark.older;
  if (mark.older !== undefined) mark.older.newer = mark.newer;
  mark.older = undefined;
  mark.newer = undefined;
}

/** What a client watches: classes in any case, single objects as "class/ref", "*" for all. */
export class Filter {
  readonly #classes = new Set<string>();
  readonly #objects = new Map<string, Set<string>>();
  readonly #all: boolean;

  constructor(words: readonly string[]) {
    this.#all = words.includes('*');
    for (const word of words) {
      const slash = word.indexOf('/');
      const name = (slash < 0 ? word : word.slice(0, slash)).toLowerCase();
      if (slash < 0) this.#classes.add(name);
      else this.#objects.set(name, (this.#objects.get(name) ?? new Set()).add(word.slice(slash + 1)));
    }
  }

  /** Not of single objects. */
  get isOfClasses(): boolean {
    return this.#all || this.#objects.size === 0;
  }

  touches(className: string): boolean {
    if (this.#all) return true;
    const name = lowerCase(className);
    return this.#classes.has(name) || this.#objects.has(name);
  }

  matches(className: string, ref: string): boolean {
    if (this.#all) return true;
    const name = lowerCase(className);
    return this.#classes.has(name) || this.#objects.get(name)?.has(ref) === true;
  }
}

/** Asked once a waiting client and change, of a dozen classes. */
const lowerCases = new Map<string, string>();
function lowerCase(className: string): string {
  let lower = lowerCases.get(className);
  if (lower === undefined) lowerCases.set(className, (lower = className.toLowerCase()));
  return lower;
}
