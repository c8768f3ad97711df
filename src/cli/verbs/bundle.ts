/** `shoal bundle make|apply`: releases for sites without a network, in one signed file. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { applyBundle } from '../../bundle/apply.ts';
import { makeBundle } from '../../bundle/make.ts';
import { parseKernel } from '../../image/elf.ts';
import { ImageStore } from '../../image/store.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb, Words } from '../arguments.ts';
import { withController } from '../control.ts';
import { count, plural } from '../format.ts';

function needed(words: Words, option: string): string {
  const value = words.text(option);
  if (value === undefined || value === '') throw new ShoalError('USAGE', `--${option} is missing.`, { hint: 'See `shoal help bundle`.' });
  return value;
}

export const bundleMake: Verb = {
  name: 'bundle make',
  summary: 'releases and images since a counter into one signed file',
  operands: 'OUT',
  operandCount: [1, 1],
  options: {
    repo: { value: 'DIR', help: 'deployment repository; default the folder here' },
    since: { value: 'N', help: 'counter the site is at; default 0, a site that has nothing' },
    key: { value: 'FILE', help: 'private SSH key that signs it' },
    days: { value: 'N', help: 'how long it can be applied; default 30' },
  },
  examples: ['shoal bundle make --repo deploy --since 41 --key ~/.ssh/id_ed25519 site.bundle'],
  async run(terminal, words) {
    const created = new Date();
    const header = await makeBundle({
      repository: words.text('repo') ?? '.',
      since: words.number('since', 0, 0, Number.MAX_SAFE_INTEGER),
      keyFile: needed(words, 'key'),
      created,
      expires: new Date(created.getTime() + words.number('days', 30, 1, 3650) * 86_400_000),
      out: words.operands[0]!,
    });
    const bytes = header.objects.reduce((sum, object) => sum + object.bytes, 0);
    const { counter, since, expires, releases, objects } = header;
    terminal.printJson({ counter, since, expires, releases: releases.length, images: objects.length, bytes });
    terminal.print(`${since} to ${counter}: ${plural(releases.length, 'release')}, ${plural(objects.length, 'image')} in ${count(bytes)} bytes, good until ${expires}`);
  },
};

export const bundleApply: Verb = {
  name: 'bundle apply',
  summary: 'take in a bundle: all of it, or nothing',
  operands: 'FILE',
  operandCount: [1, 1],
  options: {
    signers: { value: 'FILE', help: "allowed signers, in ssh-keygen's format" },
    site: { value: 'DIR', help: 'what this site has; default /var/lib/shoal/site' },
    push: { help: 'hand the images to the controller' },
  },
  speaksToController: true,
  examples: ['shoal bundle apply --signers allowed_signers --push /media/usb/site.bundle'],
  async run(terminal, words) {
    const folder = words.text('site') ?? '/var/lib/shoal/site';
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const images = await ImageStore.open(join(folder, 'images'), { parse: parseKernel });
    const { header, state, added } = await applyBundle({ file: words.operands[0]!, folder, images, allowedSigners: needed(words, 'signers'), now: new Date() });
    if (words.flag('push'))
      await withController(words, async (control) => {
        for (const digest of new Set(header.releases.map(({ image }) => image.digest))) await control.call('PUT', `/v1/images/${digest}`, await images.bytes(digest));
      });
    terminal.printJson({ counter: state.counter, signer: state.signer, releases: header.releases.length, images: added });
    terminal.print(`at ${state.counter}: ${plural(header.releases.length, 'release')}, ${plural(added.length, 'image')}, signed by ${state.signer}`);
    for (const { tenant, service, counter, image } of header.releases) terminal.print(`${tenant}/${service} ${counter}  ${image.digest}`);
  },
};
