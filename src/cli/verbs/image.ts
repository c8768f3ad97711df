/** `shoal image put|list|remove` */
import type { Verb } from '../arguments.ts';
import { count, table } from '../format.ts';
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
  summary: 'list the images of the host',
  speaksToHost: true,
  async run(terminal, words) {
    const images = await withHost(terminal, words, listImages);
    terminal.printJson(images);
    if (images.length === 0) terminal.note('No images. Upload one: shoal image put FILE');
    else if (!terminal.json) {
      const columns = [
        { title: 'IMAGE' },
        { title: 'BYTES', align: 'right' as const },
        { title: 'VMS', align: 'right' as const },
      ];
      terminal.print(
        table(
          columns,
          images.map((image) => [image.digest, count(image.fileBytes), count(image.vms)]),
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
