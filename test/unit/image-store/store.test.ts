/** The image store: an image is there whole and verified, or not at all. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { ImageStore } from '../../../src/image/store.ts';
import type { Digest } from '../../../src/model/ids.ts';
import { chunks, codeOf, digestOf, imageBytes, image, parseFake } from '../host/rig.ts';

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-images-'));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test('put, list, load, remove, across a restart', async (t) => {
  await inFolder(async (folder) => {
    const store = await ImageStore.open(folder, { parse: parseFake });
    await store.put(image, chunks(imageBytes));
    t.equal((await store.kernel(image)).digest, image);
    const again = await ImageStore.open(folder, { parse: parseFake });
    t.deepEqual(
      again.list().map(({ digest, fileBytes }) => [digest, fileBytes]),
      [[image, imageBytes.length]],
      'the folder is the list',
    );
    t.equal(Buffer.compare((await again.kernel(image)).pages, imageBytes), 0, 'the same bytes');
    await again.remove(image);
    t.equal(await codeOf(again.kernel(image)), 'IMAGE_UNKNOWN');
    t.equal(await codeOf(again.remove(image)), 'IMAGE_UNKNOWN');
    t.deepEqual(await readdir(folder), ['incoming']);
  });
});

test('what is refused leaves nothing', async (t) => {
  await inFolder(async (folder) => {
    const store = await ImageStore.open(folder, { parse: parseFake, maxBytes: 1000 });
    const text = Buffer.from('just a text');
    t.equal(await codeOf(store.put(image, chunks(text))), 'IMAGE_DIGEST_MISMATCH');
    t.equal(await codeOf(store.put(digestOf(text), chunks(text))), 'IMAGE_NOT_ELF');
    const large = Buffer.alloc(1001, 0x7f);
    t.equal(await codeOf(store.put(digestOf(large), chunks(large))), 'REQUEST_TOO_LARGE');
    async function* torn(): AsyncGenerator<Uint8Array> {
      yield imageBytes.subarray(0, 10);
      throw new Error('the client hung up');
    }
    t.ok((await codeOf(store.put(image, torn()))).includes('hung up'));
    t.deepEqual([store.list(), await readdir(join(folder, 'incoming')), await readdir(folder)], [[], [], ['incoming']]);
  });
});

test('an upload that a kill ended is cleared, and foreign files are not images', async (t) => {
  await inFolder(async (folder) => {
    await ImageStore.open(folder, { parse: parseFake });
    await writeFile(join(folder, 'incoming', 'half'), 'x');
    await writeFile(join(folder, 'notes.txt'), 'x');
    await writeFile(join(folder, 'short.elf'), 'x');
    const store = await ImageStore.open(folder, { parse: parseFake });
    t.deepEqual([store.list(), await readdir(join(folder, 'incoming'))], [[], []]);
  });
});

test('a file that changed on disk is not started', async (t) => {
  await inFolder(async (folder) => {
    await (await ImageStore.open(folder, { parse: parseFake })).put(image, chunks(imageBytes));
    await writeFile(join(folder, `${image.slice(7)}.elf`), '\x7fELF something else');
    const store = await ImageStore.open(folder, { parse: parseFake });
    t.equal(await codeOf(store.kernel(image)), 'IMAGE_DIGEST_MISMATCH');
  });
});

test('kernels are parsed once while they are in use, and few are kept', async (t) => {
  await inFolder(async (folder) => {
    let parsed = 0;
    const parse = (bytes: Uint8Array) => {
      parsed++;
      return parseFake(bytes);
    };
    const store = await ImageStore.open(folder, { parse, cachedKernels: 2 });
    const digests: Digest[] = [];
    for (const n of [1, 2, 3]) {
      const bytes = Buffer.from(`\x7fELF ${n}`);
      digests.push(digestOf(bytes));
      await store.put(digests.at(-1)!, chunks(bytes));
    }
    t.equal(parsed, 3, 'each was checked when it was put');
    await Promise.all([store.kernel(digests[1]!), store.kernel(digests[2]!), store.kernel(digests[2]!)]);
    t.equal(parsed, 3, 'the last two are kept');
    await Promise.all([store.kernel(digests[0]!), store.kernel(digests[0]!)]);
    t.equal(parsed, 4, 'the first is read again, once for both');
  });
});
