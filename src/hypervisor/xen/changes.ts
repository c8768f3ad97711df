/**
 * Which domains there are, and who wants to know when that changes. The store's daemon says that something changed, never what: all domains
 * are compared once for any number of such news, in the addon, and only differences come to JavaScript.
 */
import { asDomid, type Domid } from '../../model/ids.ts';
import { ShoalError } from '../../model/errors.ts';
import { domainFlags, type Native } from './native.ts';
import { StoreRefusal, type StoreClient } from './xenstore/client.ts';

const destroyWaitMs = 30_000;
/** Domains are compared at most this often while many die, and so seldom that it takes a tenth of the agent's time at most: Xen lists them all. */
const scanIntervalMs = 20;
const scanShare = 10;
/**
 * News that what this process does to domains itself explains, while it does it and shortly after: each suspension and each end is told of once or twice. Who did
 * it knows, so that the comparison, which may find something else, can wait.
 */
const ownNewsMs = 30;
const explainedMs = 250;
/** Until a domain that was ended is looked for again, at first and at most: most are gone at once. */
const departureMs = 2;
const departureMostMs = 64;

export class Changes {
  private readonly native: Native;
  private readonly onDying: (domid: number) => void;
  private readonly listeners = new Set<(domid: Domid) => void>();
  private readonly departures = new Map<number, () => void>();
  /** Domains there are, dom0 left out: as this adapter made and ended them, and as the last look at all of them found them. */
  private alive = new Set<number>();
  /** Made since that look: one that goes before the next would otherwise come and go unseen. */
  private readonly unseen = new Set<number>();
  private nextScan = 0;
  private scanTimer: NodeJS.Timeout | undefined;
  private scanAt = Infinity;
  private owns = 0;
  private ownUntil = 0;
  private departureTimer: NodeJS.Timeout | undefined;
  private closed = false;

  /** `onDying`: lets go of what keeps a domain from going away, whoever destroyed it. */
  constructor(native: Native, onDying: (domid: number) => void) {
    this.native = native;
    this.onDying = onDying;
  }

  start(): void {
    this.alive = new Set(this.native.changedDomains());
  }

  get count(): number {
    return this.alive.size;
  }

  made(domid: number): void {
    this.alive.add(domid);
    this.unseen.add(domid);
  }

  ended(domid: number): void {
    this.alive.delete(domid);
  }

  /** All of them, as just seen. */
  seen(domids: number[]): void {
    this.alive = new Set(domids);
  }

  onChange(listener: (domid: Domid) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.scanTimer);
    clearTimeout(this.departureTimer);
  }

  /** Runs what has a domain shut down or go away. */
  async own<T>(work: () => Promise<T>): Promise<T> {
    this.owns++;
    try {
      return await work();
    } finally {
      this.owns--;
      this.ownUntil = performance.now() + ownNewsMs;
    }
  }

  /** Resolves once Xen has no domain of that number. */
  departed(domid: number): Promise<void> {
    if (!this.native.domain(domid)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.departures.delete(domid);
        reject(new ShoalError('HYPERCALL_FAILED', `domain ${domid} is still dying after ${destroyWaitMs} ms: something maps its memory`));
      }, destroyWaitMs);
      this.departures.set(domid, () => {
        clearTimeout(timer);
        this.departures.delete(domid);
        resolve();
      });
      this.lookSoon(departureMs);
    });
  }

  /** A comparison of all domains would keep those that wait for one waiting; asking for one costs the same however many there are. */
  private lookSoon(waitMs: number): void {
    if (this.departureTimer || this.closed || this.departures.size === 0) return;
    this.departureTimer = setTimeout(() => {
      this.departureTimer = undefined;
      for (const [domid, gone] of this.departures) {
        try {
          if (!this.native.domain(domid)) gone();
        } catch {
          break; // a hypercall that failed: the next look asks again
        }
      }
      this.lookSoon(Math.min(2 * waitMs, departureMostMs));
    }, waitMs);
  }

  /** One comparison for any number of news. */
  scanSoon(): void {
    if (this.closed) return;
    const now = performance.now();
    const at = Math.max(this.nextScan, this.owns > 0 || now < this.ownUntil ? now + explainedMs : now);
    if (this.scanTimer && this.scanAt <= at) return;
    clearTimeout(this.scanTimer);
    this.scanAt = at;
    this.scanTimer = setTimeout(() => this.scan(), Math.max(0, at - now));
  }

  private scan(): void {
    this.scanTimer = undefined;
    const began = performance.now();
    let changed: Set<number>;
    try {
      changed = new Set(this.native.changedDomains());
      this.nextScan = began + Math.max(scanIntervalMs, scanShare * (performance.now() - began));
    } catch {
      this.nextScan = began + scanIntervalMs;
      return this.scanSoon(); // a hypercall that failed: the news are not lost, the next comparison has them
    }
    for (const domid of this.unseen) changed.add(domid);
    this.unseen.clear();
    for (const domid of changed) {
      const domain = this.native.domain(domid);
      if (domain) this.alive.add(domid);
      else this.alive.delete(domid);
      if (domain && domain.flags & domainFlags.dying) this.onDying(domid);
    }
    for (const domid of changed) for (const listener of this.listeners) listener(asDomid(domid));
  }
}

/** Guests that know no store end without @releaseDomain: shoal-stored tells of them by a word of its own, which other daemons, and older ones of it, may not know. */
export async function watchEnds(store: StoreClient, heard: () => void): Promise<void> {
  await store.watch('@releaseDomain', heard);
  await store.watch('@domainEnds', heard).catch((error: unknown) => {
    if (!(error instanceof StoreRefusal)) throw error;
  });
}
