/** Rewriting a journal while it is in use: in short turns, with every change in the result, and whole whenever it is killed. */
import { copyFile, mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { atMost, sliceBytes, sliceEntries, type CompactionStep } from '../../../src/journal/compaction.ts';
import { encodeEntry, Journal, type Entry } from '../../../src/journal/journal.ts';
import { JournalStore } from '../../../src/control/store.ts';

type State = Map<string, unknown>;
const name = 'a.journal';

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-compaction-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function applyTo(state: State, entry: Entry): void {
  for (const [key, value] of entry['set'] as [string, unknown][]) {
    if (value === null) state.delete(key);
    else state.set(key, value);
  }
}

interface Kept {
  journal: Journal;
  state: State;
  /** Changes the state and appends the entry that says so, in one turn. */
  set(...changes: [string, unknown][]): Promise<void>;
}

async function openIn(folder: string, onRead: () => void = () => {}, step?: (step: CompactionStep) => Promise<void> | void): Promise<Kept> {
  const state: State = new Map();
  const live = function* (): Generator<Entry> {
    let left = state.size;
    for (const [key, value] of state) {
      if (left-- === 0) return;
      onRead();
      yield { set: [[key, value]] };
    }
  };
  const journal = await Journal.open(join(folder, name), (entry) => applyTo(state, entry), live, undefined, step);
  const set: Kept['set'] = (...changes) => {
    applyTo(state, { set: changes });
    return journal.append({ set: changes });
  };
  return { journal, state, set };
}

const filler = 'x'.repeat(1000);
/** Enough history for a rewriting: it begins in the last of these writes. */
async function grow({ set }: Kept, keys: number, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++)
    await Promise.all(Array.from({ length: keys }, (_, i) => set([`k${i}`, `${round} ${filler}`])));
}

test('no turn of the event loop reads more than a slice', (t) =>
  inFolder(async (folder) => {
    let turn = 0;
    let counting: NodeJS.Immediate | undefined;
    const count = (): void => {
      turn++;
      counting = setImmediate(count);
    };
    const reads = new Map<number, number>();
    let slices = 0;
    const done = new Set<CompactionStep>();
    const kept = await openIn(folder, () => counting !== undefined && reads.set(turn, (reads.get(turn) ?? 0) + 1), (step) => {
      done.add(step);
      if (step === 'slice') slices++;
    });
    count();
    await grow(kept, 1000, 3);
    while (!done.has('renamed')) await kept.set(['last', 1]);
    clearImmediate(counting);
    await kept.journal.close();
    t.ok([...reads.values()].reduce((a, b) => a + b) >= 1000, 'everything was read');
    t.ok(Math.max(...reads.values()) <= 2 * sliceEntries, `at most ${Math.max(...reads.values())} entries in one turn`);
    t.ok(slices >= Math.floor(1000 / sliceEntries), `${slices} slices`);
    t.ok(encodeEntry({ set: [['k0', filler]] }).length * sliceEntries < sliceBytes, 'here entries are the bound');
  }));

test('large entries bound a slice by their bytes', (t) =>
  inFolder(async (folder) => {
    let reads = 0;
    let most = 0;
    let renamed = false;
    const kept = await openIn(folder, () => reads++, (step) => {
      most = Math.max(most, reads);
      if (step === 'slice') reads = 0;
      renamed ||= step === 'renamed';
    });
    reads = 0;
    const large = 'y'.repeat(sliceBytes / 2);
    for (let round = 0; round < 4; round++) for (let i = 0; i < 8; i++) await kept.set([`k${i}`, large]);
    while (!renamed) await kept.set(['last', 1]);
    await kept.journal.close();
    t.ok(most <= 2, `${most} entries of half a slice in one`);
  }));

test('changes made while it is rewritten are in the result, and entries do not wait for it', (t) =>
  inFolder(async (folder) => {
    let slices = 0;
    let renamed = false;
    let waited = 0;
    let kept: Kept;
    const during = async (step: CompactionStep): Promise<void> => {
      renamed ||= step === 'renamed';
      if (step !== 'slice' || renamed) return;
      slices++;
      // Before and behind where the copy is; one that goes, and one that is new.
      await kept.set(['k0', `new ${slices}`], ['k999', `new ${slices}`]);
      await kept.set([`k${slices * 20}`, null], [`n${slices}`, slices]);
      if (!renamed) waited++;
    };
    kept = await openIn(folder, undefined, during);
    await grow(kept, 1000, 3);
    while (!renamed) await kept.set(['last', Date.now()]);
    t.ok(slices > 20 && waited === slices, `entries were on disk before each of ${slices} slices went on`);
    const expected = [...kept.state].sort();
    await kept.journal.close();
    const again = await openIn(folder);
    t.deepEqual([...again.state].sort(), expected, 'the same state');
    await again.journal.close();
  }));

test('killed at each step: what was acknowledged is there, and changes that belong together are together', (t) =>
  inFolder(async (folder) => {
    let moments = 0;
    let wrong = 0;
    let n = 0;
    let renamed = false;
    let acknowledged = 0;
    let kept: Kept;
    const seen = new Set<CompactionStep>();
    const look = async (step: CompactionStep): Promise<void> => {
      seen.add(step);
      moments++;
      // The files as they are at this moment, opened by the next process.
      const other = join(folder, `killed-${moments}`);
      await mkdir(other);
      const least = acknowledged;
      for (const file of await readdir(folder)) if (file.startsWith(name)) await copyFile(join(folder, file), join(other, file));
      const next = await openIn(other);
      const [first, last] = [next.state.get('k0'), next.state.get('k299')] as [string, string];
      const whole = Array.from({ length: 300 }, (_, i) => next.state.has(`k${i}`)).every(Boolean);
      if (!whole || first !== last || Number(first.split(' ')[0]) < least) wrong++;
      if ((await readdir(other)).length !== 1) wrong++;
      await next.journal.close();
      await rm(other, { recursive: true });
      renamed ||= step === 'renamed';
    };
    kept = await openIn(folder, undefined, look);
    await grow(kept, 300, 3);
    const pair = (): Promise<void> => {
      const mine = ++n + 10;
      return kept.set(['k0', `${mine} ${filler}`], ['k299', `${mine} ${filler}`]).then(() => void (acknowledged = mine));
    };
    const writing = (async () => {
      while (!renamed) await Promise.all([pair(), new Promise((resolve) => setImmediate(resolve)).then(pair)]);
    })();
    await writing;
    await kept.journal.close();
    t.deepEqual([...seen].sort(), ['copied', 'renamed', 'slice', 'written']);
    t.equal(wrong, 0, `right at each of ${moments} moments`);
  }));

test('one that fails leaves the old file in use, and nothing beside it', (t) =>
  inFolder(async (folder) => {
    for (const at of ['slice', 'copied', 'written'] as const) {
      let failed = false;
      const kept = await openIn(folder, undefined, (step) => {
        if (step !== at || failed) return;
        failed = true;
        throw new Error('disk full');
      });
      await grow(kept, 300, 3);
      for (let i = 0; !failed && i < 2000; i++) await kept.set(['last', i]);
      await kept.set(['after', at]);
      t.ok(failed, `it failed at ${at}`);
      let renamed = false;
      for (let i = 0; i < 3000 && !renamed; i++) {
        const before = kept.journal.sizeBytes;
        await kept.set(['last', `${i} ${filler}`]);
        renamed = kept.journal.sizeBytes < before;
      }
      t.ok(renamed, 'a later one succeeds');
      const expected = [...kept.state].sort();
      await kept.journal.close();
      t.deepEqual(await readdir(folder), [name], 'no other file');
      const again = await openIn(folder);
      t.deepEqual([...again.state].sort(), expected, 'nothing is lost');
      await again.journal.close();
      await rm(join(folder, name));
    }
  }));

test('closed in the middle: what was appended is there, and no other file', (t) =>
  inFolder(async (folder) => {
    let began: () => void = () => {};
    const beginning = new Promise<void>((resolve) => (began = resolve));
    const kept = await openIn(folder, undefined, (step) => void (step === 'slice' && began()));
    await grow(kept, 500, 3);
    await beginning;
    const last = kept.set(['last', 7]);
    await kept.journal.close();
    await last;
    t.deepEqual(await readdir(folder), [name]);
    const again = await openIn(folder);
    t.deepEqual([again.state.size, again.state.get('last')], [501, 7]);
    await again.journal.close();
  }));

test("the controller's store: keys that are rewritten without end do not keep a rewriting from its end", (t) =>
  inFolder(async (folder) => {
    const store = await JournalStore.open(folder);
    let largest = 0;
    let smaller = false;
    for (let n = 0; n < 4000 && !smaller; n++) {
      // Taken out and put in: such a key goes to the end of the map each time.
      await store.write([{ key: `k${n % 100}`, value: undefined }]);
      await store.write([{ key: `k${n % 100}`, value: `${n} ${filler}` }]);
      smaller = store.sizeBytes < largest;
      largest = Math.max(largest, store.sizeBytes);
    }
    t.ok(smaller, 'it became smaller');
    const expected = [...store.entries].sort();
    await store.close();
    const again = await JournalStore.open(folder);
    t.deepEqual([...again.entries].sort(), expected);
    await again.close();
  }));

test('an iteration that is added to without end ends', (t) => {
  const numbers = new Set([1, 2, 3]);
  let read = 0;
  for (const n of atMost(numbers.size, numbers)) {
    if (++read > 100) break;
    numbers.delete(n);
    numbers.add(n + 10);
  }
  t.equal(read, 3);
  t.deepEqual([...atMost(0, numbers)], []);
  t.end();
});

test('what the copy has seen is in the new file, though the old one is slow to take it', (t) =>
  inFolder(async (folder) => {
    const probe = await open(join(folder, 'probe'), 'w');
    const prototype = Object.getPrototypeOf(probe) as { datasync: () => Promise<void> };
    await probe.close();
    await rm(join(folder, 'probe'));
    const { datasync } = prototype;
    let old: unknown;
    let release: () => void = () => {};
    let held: Promise<void> | undefined;
    prototype.datasync = async function (this: unknown) {
      old ??= this;
      if (this === old) await held;
      return datasync.call(this);
    };
    try {
      let reads = 0;
      let keys = 300;
      let after: unknown[] = [];
      const kept = await openIn(
        folder,
        () => {
          reads++;
          if (reads === keys - sliceEntries * 3) {
            held = new Promise((resolve) => (release = resolve));
            void kept.set(['before', 1]);
          }
          // The copy has the old k0; what it reads next is the new k299, which waits behind the entry that is being written.
          if (reads === keys - 1) void kept.set(['k0', 'new'], ['k299', 'new']);
        },
        async (step) => {
          if (step === 'copied') release();
          if (step !== 'renamed' || after.length > 0) return;
          const other = join(folder, 'killed');
          await mkdir(other);
          await copyFile(join(folder, name), join(other, name));
          const next = await openIn(other);
          after = [next.state.get('k0'), next.state.get('k299')];
          await next.journal.close();
          await rm(other, { recursive: true });
        },
      );
      reads = 0;
      await grow(kept, keys, 1);
      while (after.length === 0) await new Promise((resolve) => setImmediate(resolve));
      t.deepEqual(after, ['new', 'new'], 'both or none');
      await kept.journal.close();
    } finally {
      prototype.datasync = datasync;
    }
  }));
