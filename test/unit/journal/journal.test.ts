/** The journal: nothing that was acknowledged is lost, whatever byte a crash stopped at. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { decodeJournal, encodeEntry, headerBytes, Journal, type Entry } from '../../../src/journal/journal.ts';
import { codeOf } from '../host/rig.ts';

async function inFolder(work: (path: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-journal-'));
  try {
    await work(join(folder, 'agent.journal'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Opens, reads, and leaves the journal open. */
async function reopen(path: string, log: string[] = []): Promise<{ journal: Journal; entries: Entry[] }> {
  const entries: Entry[] = [];
  const journal = await Journal.open(
    path,
    (entry) => entries.push(entry),
    () => entries,
    (line) => log.push(line),
  );
  return { journal, entries };
}

test('the bytes of a journal are those of docs/formats/agent-journal.md', async (t) => {
  await inFolder(async (path) => {
    const { journal } = await reopen(path);
    await journal.append({ del: 'x' });
    await journal.close();
    t.equal((await readFile(path)).toString('hex'), '53484f414c4a4e4c01000000100000000b000000b6fe94507b2264656c223a2278227d');
    t.equal(encodeEntry({ del: 'x' }).length, 8 + 11, 'length, checksum, JSON');
  });
});

test('torn at each byte: every entry before the tear is kept, and writing goes on', async (t) => {
  await inFolder(async (path) => {
    const { journal } = await reopen(path);
    for (const n of [1, 2, 3]) await journal.append({ put: { n, text: 'é'.repeat(n) } });
    await journal.close();
    const whole = await readFile(path);
    const ends = [headerBytes];
    for (const n of [1, 2, 3]) ends.push(ends.at(-1)! + encodeEntry({ put: { n, text: 'é'.repeat(n) } }).length);
    let wrong = 0;
    for (let cut = 0; cut <= whole.length; cut++) {
      await writeFile(path, whole.subarray(0, cut));
      const { journal: again, entries } = await reopen(path);
      const expected = Math.max(0, ends.filter((end) => end <= cut).length - 1);
      await again.append({ put: { n: 9 } });
      await again.close();
      const after = decodeJournal(await readFile(path));
      if (entries.length !== expected || after.end !== 'clean' || after.entries.length !== expected + 1) wrong++;
    }
    t.equal(wrong, 0, `right at each of ${whole.length + 1} places`);
  });
});

test('a flipped bit in the middle is no torn end: the file is kept aside', async (t) => {
  await inFolder(async (path) => {
    const { journal } = await reopen(path);
    for (const n of [1, 2, 3]) await journal.append({ put: { n } });
    await journal.close();
    const bytes = await readFile(path);
    bytes[headerBytes + encodeEntry({ put: { n: 1 } }).length + 10]! ^= 1;
    await writeFile(path, bytes);
    const log: string[] = [];
    const { journal: again, entries } = await reopen(path, log);
    t.deepEqual(entries, [{ put: { n: 1 } }], 'what is before the damage is used');
    t.ok((await readFile(`${path}.damaged`)).equals(bytes), 'the damaged file is kept');
    t.equal(log.length, 1, 'and it is said');
    await again.close();
  });
});

test('zeroes at the end, as after a power cut, are a torn end', (t) => {
  const bytes = Buffer.concat([
    Buffer.from('53484f414c4a4e4c0100000010000000', 'hex'),
    encodeEntry({ del: 'x' }),
    Buffer.alloc(100),
  ]);
  t.deepEqual(decodeJournal(bytes), { entries: [{ del: 'x' }], goodBytes: headerBytes + 19, end: 'torn' });
  t.end();
});

test('another file or another version is refused and left alone', async (t) => {
  await inFolder(async (path) => {
    await writeFile(path, 'this is a letter to my aunt');
    t.equal(await codeOf(reopen(path)), 'STATE_UNREADABLE');
    await writeFile(path, Buffer.from('53484f414c4a4e4c0200000010000000', 'hex'));
    t.equal(await codeOf(reopen(path)), 'STATE_UNREADABLE');
    t.equal((await readFile(path)).length, 16, 'untouched');
  });
});

test('history is compacted away while entries arrive, and nothing that counts goes with it', async (t) => {
  await inFolder(async (path) => {
    let last: Entry = {};
    const journal = await Journal.open(
      path,
      () => {},
      () => [last],
    );
    const filler = 'x'.repeat(2000);
    for (let n = 0; n < 1000; n++) {
      last = { put: { n, filler } };
      const kept = journal.append(last);
      if (n % 10 === 0) await kept;
    }
    await journal.append(last);
    t.ok((await stat(path)).size < 600_000, `the file has ${(await stat(path)).size} of 2,000,000 bytes written`);
    await journal.close();
    const { entries, end } = decodeJournal(await readFile(path));
    t.deepEqual([end, entries.at(-1)], ['clean', last], 'the last entry is there');
  });
});
