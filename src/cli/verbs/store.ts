/** `shoal store make|list|verify|fill|cat`: minicache's object stores, in a file or on a block device that no guest has. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { once } from 'node:events';
import { keyOf, makeVolume, ObjectStore } from '../../cache/store/volume.ts';
import type { StoredRecord } from '../../cache/store/format.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { count, table } from '../format.ts';
import { wholeBytes } from '../sizes.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const told = (record: StoredRecord) => ({ key: hex(record.key), digest: `sha256:${hex(record.digest)}`, bytes: record.length, metaBytes: record.meta.length });

async function withStore<T>(path: string, mode: 'r' | 'r+', work: (store: ObjectStore) => Promise<T>): Promise<T> {
  const store = await ObjectStore.open(path, mode);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** The one object whose key begins with the hex digits given, or that the text is the key of. */
function choose(store: ObjectStore, word: string): StoredRecord {
  const exact = store.find(keyOf(word));
  const found = exact !== undefined ? [exact] : /^[0-9a-f]{4,64}$/.test(word) ? store.records.filter((record) => hex(record.key).startsWith(word)) : [];
  if (found.length !== 1) throw new ShoalError('NOT_FOUND', found.length === 0 ? `no object ${word}` : `${found.length} objects begin with ${word}`);
  return found[0]!;
}

export const storeMake: Verb = {
  name: 'store make',
  summary: 'make an object store for minicache',
  operands: 'FILE',
  operandCount: [1, 1],
  options: {
    size: { value: 'BYTES', help: 'length of a file that is not there yet; K, M, G' },
    objects: { value: 'N', help: 'most objects; default one for each four chunks of 16 KiB' },
    force: { help: 'write over what is there' },
  },
  async run(terminal, words) {
    const size = words.text('size'), objects = words.text('objects');
    const volume = await makeVolume(words.operands[0]!, {
      ...(size === undefined ? {} : { bytes: wholeBytes(size, '--size') }),
      ...(objects === undefined ? {} : { objects: wholeBytes(objects, '--objects') }),
      force: words.flag('force'),
    });
    terminal.printJson({ objects: volume.objects, chunks: volume.chunkCount, bytes: volume.chunkCount * 16384 });
    terminal.print(`${count(volume.chunkCount)} chunks of 16 KiB, at most ${count(volume.objects)} objects`);
  },
};

export const storeList: Verb = {
  name: 'store list',
  summary: 'list the objects of a store',
  operands: 'FILE',
  operandCount: [1, 1],
  async run(terminal, words) {
    const objects = await withStore(words.operands[0]!, 'r', async (store) => store.records.map(told));
    terminal.printJson(objects);
    const rows = objects.map(({ key, digest, bytes, metaBytes }) => [key.slice(0, 16), digest.slice(0, 23), count(bytes), count(metaBytes)]);
    const right = (title: string) => ({ title, align: 'right' as const });
    if (!terminal.json) terminal.print(table([{ title: 'KEY' }, { title: 'DIGEST' }, right('BYTES'), right('META')], rows, terminal.style));
  },
};

export const storeVerify: Verb = {
  name: 'store verify',
  summary: 'read all of a store and compare every check and digest',
  operands: 'FILE',
  operandCount: [1, 1],
  async run(terminal, words) {
    const { objects, findings } = await withStore(words.operands[0]!, 'r', async (store) => ({ objects: store.records.length, findings: await store.verify() }));
    terminal.printJson({ objects, findings });
    for (const { key, sector, problem } of findings) terminal.print(`${key.slice(0, 16)} at sector ${sector}: ${problem}`);
    terminal.print(`${count(objects)} objects, ${count(findings.length)} findings`);
    return findings.length === 0 ? 0 : 1;
  },
};

export const storeFill: Verb = {
  name: 'store fill',
  summary: 'put files into a store',
  operands: 'FILE BODY...',
  operandCount: [2, 10_000],
  options: {
    key: { value: 'TEXT', help: "cache key of the body (of one); default '/' and its file name" },
    meta: { value: 'FILE', help: 'meta of the bodies, as minicache keeps it; default none' },
  },
  notes: 'An object that has the key already is replaced. Nothing gives way for a new one: a full store is an error.',
  async run(terminal, words) {
    const [path, ...bodies] = words.operands;
    const given = words.text('key'), metaFile = words.text('meta');
    if (given !== undefined && bodies.length > 1) throw new ShoalError('USAGE', '--key is for one body');
    const meta = metaFile === undefined ? Buffer.alloc(0) : readFileSync(metaFile);
    const put = await withStore(path!, 'r+', async (store) => {
      const records: StoredRecord[] = [];
      for (const body of bodies) records.push(await store.put(keyOf(given ?? `/${basename(body)}`), meta, readFileSync(body)));
      return records;
    });
    terminal.printJson(put.map(told));
    for (const record of put) terminal.print(`${hex(record.key)} ${count(record.length)} bytes`);
  },
};

export const storeCat: Verb = {
  name: 'store cat',
  summary: 'write the body of an object to standard output',
  operands: 'FILE KEY',
  operandCount: [2, 2],
  options: { meta: { help: 'its meta instead' } },
  notes: 'KEY: the cache key as text, or the first hex digits of its SHA-256. What is not whole ends with an error.',
  async run(_terminal, words) {
    await withStore(words.operands[0]!, 'r', async (store) => {
      const record = choose(store, words.operands[1]!);
      const write = async (bytes: Uint8Array) => {
        if (!process.stdout.write(bytes)) await once(process.stdout, 'drain');
      };
      if (words.flag('meta')) return write(record.meta);
      for await (const bytes of store.body(record)) await write(bytes);
    });
  },
};
