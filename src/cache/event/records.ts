/** What must outlive the event router: which events there are, and what they had so far (docs/formats/event.md). */
import { randomBytes } from 'node:crypto';
import { JournalStore } from '../../control/store.ts';
import type { EventSpec } from './spec.ts';
import { noTotals, type Totals } from './statistics.ts';

export interface EventRecord {
  spec: EventSpec;
  /** live; ending: its caches are being taken away; ended: they are gone, and this is what it had. */
  state: 'live' | 'ending' | 'ended';
  createdMs: number;
  endedMs: number | undefined;
  /** Opens the admin port of its caches. */
  secret: string;
  /** Opens its page. */
  pageKey: string;
  totals: Totals;
}

export const newRecord = (spec: EventSpec, nowMs: number): EventRecord => ({
  spec,
  state: 'live',
  createdMs: nowMs,
  endedMs: undefined,
  secret: randomBytes(18).toString('base64url'),
  pageKey: randomBytes(18).toString('base64url'),
  totals: noTotals(),
});

export class Records {
  readonly #store: JournalStore;
  readonly #all = new Map<string, EventRecord>();

  private constructor(store: JournalStore) {
    this.#store = store;
    for (const [key, value] of store.entries) if (key.startsWith('event/')) this.#all.set(key.slice(6), value as EventRecord);
  }

  /** Throws STATE_UNREADABLE. */
  static async open(folder: string, log: (line: string) => void): Promise<Records> {
    return new Records(await JournalStore.open(folder, log));
  }

  /** By "tenant/name". */
  all(): ReadonlyMap<string, EventRecord> {
    return this.#all;
  }

  /** Resolves when it is on the disk. */
  async keep(key: string, record: EventRecord | undefined): Promise<void> {
    if (record === undefined) this.#all.delete(key);
    else this.#all.set(key, record);
    await this.#store.write([{ key: `event/${key}`, value: record }]);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
