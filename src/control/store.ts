/**
 * The embedded state store: one journal file (docs/formats/controller-state.md), read whole at the start and kept in memory. The
 * journal's own promises carry over: what was acknowledged survives a kill and a power cut, a torn end is cut off.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { atMost } from '../journal/compaction.ts';
import { Journal, type Entry } from '../journal/journal.ts';
import { ShoalError } from '../model/errors.ts';
import type { Change, StateStore } from './port.ts';

/** Characters; in UTF-8 at most three times as many bytes, below what the journal takes in one entry. */
const partBytes = 4 * 1024 * 1024;

export class JournalStore implements StateStore {
  readonly entries: Map<string, unknown>;
  readonly #journal: Journal;

  private constructor(entries: Map<string, unknown>, journal: Journal) {
    this.entries = entries;
    this.#journal = journal;
  }

  /** Throws STATE_UNREADABLE. The folder is made, for its owner only. */
  static async open(folder: string, log: (line: string) => void = () => {}): Promise<JournalStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const entries = new Map<string, unknown>();
    const apply = (entry: Entry): void => {
      const changes = entry['set'];
      if (!Array.isArray(changes))
        throw new ShoalError('STATE_UNREADABLE', 'The journal has an entry this controller does not know.');
      for (const [key, value] of changes as [string, unknown][]) {
        if (value === null) entries.delete(key);
        else entries.set(key, value);
      }
    };
    const live = function* (): Generator<Entry> {
      for (const [key, value] of atMost(entries.size, entries)) yield { set: [[key, value]] };
    };
    return new JournalStore(entries, await Journal.open(join(folder, 'controller.journal'), apply, live, log));
  }

  /** All or none, up to some 4 MiB; more goes in parts, in order. */
  async write(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    for (const { key, value } of changes) {
      if (value === undefined) this.entries.delete(key);
      else this.entries.set(key, value);
    }
    let part: [string, unknown][] = [];
    let bytes = 0;
    const kept: Promise<void>[] = [];
    for (const { key, value } of changes) {
      const pair: [string, unknown] = [key, value ?? null];
      const size = JSON.stringify(pair).length;
      if (bytes + size > partBytes && part.length > 0) {
        kept.push(this.#journal.append({ set: part }));
        part = [];
        bytes = 0;
      }
      part.push(pair);
      bytes += size;
    }
    kept.push(this.#journal.append({ set: part }));
    await Promise.all(kept);
  }

  get sizeBytes(): number {
    return this.#journal.sizeBytes;
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}

/** For tests, and a controller that may forget. */
export class MemoryStore implements StateStore {
  readonly entries = new Map<string, unknown>();

  write(changes: readonly Change[]): Promise<void> {
    for (const { key, value } of changes) {
      if (value === undefined) this.entries.delete(key);
      else this.entries.set(key, JSON.parse(JSON.stringify(value)));
    }
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
