/**
 * Shells: domains built beforehand, whole but for their identity, so that a start has only to say who one of them is. They are sized by
 * demand: as many of a shape as were started of it in the last window of time, a few at least, up to a limit; a shape that nobody starts any
 * more loses its shells. They are made while nothing is being started, and give way when a real VM needs their memory.
 *
 * A shell is an unsealed domain like any that is half built: an agent that is killed leaves nothing that the next one would not clear.
 */
import type { DomainShape, Hypervisor } from '../hypervisor/port.ts';
import { asShoalError } from '../model/errors.ts';
import type { Digest, Domid } from '../model/ids.ts';

export interface ShellsOptions {
  hypervisor: Hypervisor;
  /** Shells of all shapes together, at most; 0 for none. */
  most: number;
  /** Whether the host has memory for one more of this size. */
  fits: (memoryKib: number) => Promise<boolean>;
  /** Ends a domain, and tries again until it is gone. */
  remove: (domid: Domid) => Promise<void>;
  log: (line: string) => void;
  /** Quiet time before shells are made, and the window in which starts are counted. */
  quietMs?: number;
  windowMs?: number;
}

export interface ShellFacts {
  image: Digest;
  memoryKib: number;
  ready: number;
  wanted: number;
}

interface Kind {
  shape: DomainShape;
  ready: Domid[];
  wanted: number;
  lastUse: number;
  /** Starts in this window and in the one before. */
  uses: number;
  usesBefore: number;
  /** Asked for in this window by someone who is about to start them. */
  prepared: boolean;
}

/** Of a shape that was started at all. */
const least = 2;

export class Shells {
  readonly #o: Required<ShellsOptions>;
  readonly #kinds = new Map<string, Kind>();
  #most: number;
  /** Starts under way. */
  #starts = 0;
  #making: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #windowTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ShellsOptions) {
    this.#o = { quietMs: 50, windowMs: 60_000, ...options };
    this.#most = options.most;
  }

  /** Shells of all shapes together, at most. */
  get most(): number {
    return this.#most;
  }

  /** Another limit, for as long as this pool lives. Those beyond it are ended, of the least used shapes first. */
  async setMost(most: number): Promise<void> {
    this.#most = most;
    if (most === 0) return this.drain();
    let left = most;
    const surplus: Domid[] = [];
    for (const kind of [...this.#kinds.values()].sort((a, b) => b.lastUse - a.lastUse)) {
      kind.wanted = Math.min(kind.wanted, left);
      left -= kind.wanted;
      surplus.push(...kind.ready.splice(kind.wanted));
    }
    await Promise.all(surplus.map((domid) => this.#o.remove(domid)));
  }

  list(): ShellFacts[] {
    return [...this.#kinds.values()].map(({ shape, ready, wanted }) => ({
      image: shape.image.digest,
      memoryKib: shape.memoryKib,
      ready: ready.length,
      wanted,
    }));
  }

  /** A start begins: nothing is made until it and all others have ended. */
  startBegins(): void {
    this.#starts++;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  startEnds(): void {
    this.#starts--;
    this.#soon();
  }

  /** A shell of this shape, which is the caller's from now on; undefined when there is none. Either way there will be more. */
  take(shape: DomainShape): Domid | undefined {
    if (this.#most === 0 || this.#closed) return undefined;
    const kind = this.#kind(shape);
    kind.lastUse = performance.now();
    kind.uses++;
    this.#want(kind, Math.max(kind.wanted, demandOf(kind)));
    return kind.ready.pop();
  }

  /** Makes shells of this shape until there are `count`, as far as limits and memory allow; resolves with how many there are. */
  async prepare(shape: DomainShape, count: number): Promise<number> {
    const kind = this.#kind(shape);
    kind.lastUse = performance.now();
    kind.prepared = true;
    this.#want(kind, count);
    while (!this.#closed && kind.ready.length < kind.wanted && (await this.#make(kind)));
    return kind.ready.length;
  }

  /** Ends shells, least used shapes first, until `enough` says so; resolves with whether it did. */
  async giveWay(enough: () => Promise<boolean>): Promise<boolean> {
    for (const kind of [...this.#kinds.values()].sort((a, b) => a.lastUse - b.lastUse)) {
      while (kind.ready.length > 0) {
        kind.wanted = 0;
        await this.#o.remove(kind.ready.pop()!);
        if (await enough()) return true;
      }
    }
    return false;
  }

  /** Ends all shells, or those of one image, and forgets that they were wanted. */
  async drain(image?: Digest): Promise<void> {
    for (const [key, kind] of [...this.#kinds]) {
      if (image !== undefined && kind.shape.image.digest !== image) continue;
      this.#kinds.delete(key);
      kind.wanted = 0;
      await Promise.all(kind.ready.splice(0).map((domid) => this.#o.remove(domid)));
    }
    await this.#making;
  }

  /** The next agent clears what is left. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#windowTimer);
    await this.#making;
    await this.drain();
  }

  #kind(shape: DomainShape): Kind {
    const vifs = shape.vifs.map(({ handle, network, backend }) => ({ handle, network, backend }));
    const key = JSON.stringify([shape.image.digest, shape.memoryKib, vifs]);
    let kind = this.#kinds.get(key);
    if (kind === undefined) {
      kind = { shape: { ...shape, vifs }, ready: [], wanted: 0, lastUse: 0, uses: 0, usesBefore: 0, prepared: false };
      this.#kinds.set(key, kind);
    }
    return kind;
  }

  #want(kind: Kind, count: number): void {
    let others = 0;
    for (const each of this.#kinds.values()) if (each !== kind) others += each.wanted;
    kind.wanted = Math.max(0, Math.min(count, this.#most - others));
    this.#soon();
  }

  #soon(): void {
    if (this.#closed || this.#starts > 0 || this.#timer !== undefined || this.#making !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#making = this.#round().finally(() => (this.#making = undefined));
    }, this.#o.quietMs).unref();
  }

  /** Makes what is wanted, one after the other, until a start begins. */
  async #round(): Promise<void> {
    for (const kind of this.#kinds.values()) {
      while (!this.#closed && this.#starts === 0 && kind.ready.length < kind.wanted) if (!(await this.#make(kind))) break;
    }
    this.#windowTimer ??= setTimeout(() => {
      this.#windowTimer = undefined;
      void this.#turnWindow();
    }, this.#o.windowMs).unref();
  }

  /** False when it cannot be done now; the shape is then not wanted until it is started again. */
  async #make(kind: Kind): Promise<boolean> {
    const { hypervisor, fits, remove, log } = this.#o;
    let domid: Domid | undefined;
    try {
      if (!(await fits(kind.shape.memoryKib))) {
        kind.wanted = kind.ready.length;
        return false;
      }
      domid = await hypervisor.create(kind.shape);
      await hypervisor.build(domid, kind.shape);
      if (this.#closed || kind.wanted <= kind.ready.length) await remove(domid);
      else kind.ready.push(domid);
      return true;
    } catch (error) {
      log(`shells: none of ${kind.shape.memoryKib} KiB can be made: ${asShoalError(error).message}`);
      kind.wanted = kind.ready.length;
      if (domid !== undefined) await remove(domid);
      return false;
    }
  }

  async #turnWindow(): Promise<void> {
    for (const [key, kind] of [...this.#kinds]) {
      kind.usesBefore = kind.uses;
      kind.uses = 0;
      // Who prepared shells has yet to start them.
      if (kind.prepared) {
        kind.prepared = false;
        continue;
      }
      this.#want(kind, demandOf(kind));
      if (kind.wanted === 0) this.#kinds.delete(key);
      while (kind.ready.length > kind.wanted) await this.#o.remove(kind.ready.pop()!);
    }
    if (this.#kinds.size > 0) this.#soon();
  }
}

/** Shells that a shape should have. */
function demandOf({ uses, usesBefore }: Kind): number {
  const most = Math.max(uses, usesBefore);
  return most === 0 ? 0 : Math.max(least, most);
}
