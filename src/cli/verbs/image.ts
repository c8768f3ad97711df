/** `shoal image put|list|remove` */
import type { Verb } from '../arguments.ts';
import { count, shortDigest, table } from '../format.ts';
import { checkoutAt, knownManifests, sourceOption } from '../image-source.ts';
import { findImage, listImages, putImage, readImage } from '../images.ts';
import { withHost } from '../target.ts';

export const imagePut: Verb = {
  name: 'image put',
  summary: 'upload a kernel; prints its digest',
  operands: 'FILE',
  operandCount: [1, 1],
  speaksToHost: true,
  async run(terminal, words) {
    const bytes = readImage(words.operands[0]!);
    const { digest, sent } = await withHost(terminal, words, (client) => putImage(client, bytes));
    terminal.printJson({ digest, bytes: bytes.length, sent });
    terminal.print(digest);
    if (!sent) terminal.note('the host had it already');
  },
};

export const imageList: Verb = {
  name: 'image list',
  summary: 'list the images of the host, and what is known of their source',
  options: { local: { help: 'those of the index and those built here instead' }, source: sourceOption },
  speaksToHost: true,
  async run(terminal, words) {
    const known = knownManifests(checkoutAt(words.text('source')));
    if (words.flag('local')) {
      terminal.printJson(known);
      const rows = known.map(({ name, version, digest, sizeBytes, source }) => [name, version, shortDigest(digest), count(sizeBytes), `${source.commit.slice(0, 12)}${source.dirty ? ' (changed)' : ''}`]);
      if (!terminal.json) terminal.print(table([{ title: 'NAME' }, { title: 'VERSION' }, { title: 'IMAGE' }, { title: 'BYTES', align: 'right' as const }, { title: 'COMMIT' }], rows, terminal.style));
      return;
    }
    const source = new Map<string, { name: string; commit: string }>(known.map(({ name, digest, source: { commit } }) => [digest, { name, commit }]));
    const images = await withHost(terminal, words, listImages);
    terminal.printJson(images.map((image) => ({ ...image, ...source.get(image.digest) })));
    if (images.length === 0) terminal.note('No images. Upload one: shoal image put FILE');
    else if (!terminal.json) {
      const columns = [
        { title: 'IMAGE' },
        { title: 'BYTES', align: 'right' as const },
        { title: 'VMS', align: 'right' as const },
        { title: 'NAME' },
        { title: 'COMMIT' },
      ];
      terminal.print(
        table(
          columns,
          images.map((image) => [image.digest, count(image.fileBytes), count(image.vms), source.get(image.digest)?.name ?? '', source.get(image.digest)?.commit.slice(0, 12) ?? '']),
          terminal.style,
        ),
      );
    }
  },
};

export const imageRemove: Verb = {
  name: 'image remove',
  summary: 'remove an image that no VM uses',
  operands: 'DIGEST',
  operandCount: [1, 1],
  speaksToHost: true,
  async run(terminal, words) {
    const digest = await withHost(terminal, words, async (client) => {
      const found = await findImage(client, words.operands[0]!);
      await client.resource('DELETE', `/image/${found}`);
      return found;
    });
    terminal.printJson({ removed: digest });
    terminal.print(`removed ${digest}`);
  },
};
