/**
 * What changed, for clients that watch: each thing's latest state once, however often it changed before a client came to read.
 * Numbers go up; a client that says which one it saw last gets what came after it, or is told to list everything anew when that
 * is no longer known.
 */
import { randomBytes } from 'node:crypto';

export type ChangeKind = 'vm' | 'service' | 'host' | 'task' | 'note' | 'rollout';

export interface Told {
  number: number;
  kind: ChangeKind;
  key: string;
  /** Whose it is; undefined: only those who may see everything. */
  tenant: string | undefined;
  /** Undefined: it is gone. Made when it is read. */
  data: (() => unknown) | undefined;
}

export class Changes {
  readonly life: string = randomBytes(4).toString('hex');
  /** Oldest first: a thing that changes again moves to the end. */
  readonly #latest = new Map<string, Told>();
  readonly #max: number;
  readonly #listeners = new Set<() => void>();
  #count = 0;
  #lostUpTo = 0;
  #scheduled = false;

  constructor(max = 20_000) {
    this.#max = max;
  }

  get number(): number {
    return this.#count;
  }

  tell(kind: ChangeKind, key: string, tenant: string | undefined, data: (() => unknown) | undefined): void {
    const id = `${kind} ${key}`;
    this.#latest.delete(id);
    this.#latest.set(id, { number: ++this.#count, kind, key, tenant, data });
    if (this.#latest.size > this.#max) {
      const [oldest, told] = this.#latest.entries().next().value!;
      this.#latest.delete(oldest);
      this.#lostUpTo = told.number;
    }
    if (this.#scheduled || this.#listeners.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      for (const listener of this.#listeners) listener();
    });
  }

  /** What came after a number, oldest first; undefined when some of it is no longer known. */
  since(number: number): Told[] | undefined {
    if (number < this.#lostUpTo || number > this.#count) return undefined;
    const found: Told[] = [];
    // From the end: a client that is up to date costs what changed, not what there is.
    const all = [...this.#latest.values()];
    for (let i = all.length - 1; i >= 0 && all[i]!.number > number; i--) found.push(all[i]!);
    return found.reverse();
  }

  /** "life-number" as clients give it back; undefined when it is of another life or no such thing. */
  parse(id: string): number | undefined {
    const m = /^([0-9a-f]{8})-(\d{1,15})$/.exec(id);
    return m !== null && m[1] === this.life ? Number(m[2]) : undefined;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
