/** `shoal vm suspend|resume|checkpoint|save|restore`: VMs whose memory is in a file. */
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { ms, plural } from '../format.ts';
import { withHost } from '../target.ts';
import { findVm } from '../vms.ts';
import { powerVerb } from './vm-power.ts';

export const vmSuspend = powerVerb('suspend', 'put the memory of running VMs into files on their host', 'suspended', 'suspending');
export const vmResume = powerVerb('resume', 'let suspended VMs go on where they were', 'resumed', 'resuming');

const transferMs = 3_600_000;

export const vmCheckpoint: Verb = {
  name: 'vm checkpoint',
  summary: 'keep what a running VM is now as a suspended VM of its own',
  operands: 'VM NAME',
  operandCount: [2, 2],
  options: {},
  speaksToHost: true,
  examples: ['shoal vm checkpoint web web-noon', 'shoal vm resume web-noon'],
  async run(terminal, words) {
    const [name, made] = words.operands as [string, string];
    return withHost(terminal, words, async (client) => {
      const { ref } = await findVm(client, name);
      const begun = performance.now();
      await client.call('VM.checkpoint', [ref, made]);
      terminal.printJson({ name: made, of: name });
      terminal.print(`${made} is ${name} as it was, suspended (${ms(performance.now() - begun)} ms)`);
    });
  },
};

export const vmSave: Verb = {
  name: 'vm save',
  summary: 'write a VM, as it is, into a file',
  operands: 'VM FILE',
  operandCount: [2, 2],
  options: { stop: { help: 'the VM ends once the file is whole; otherwise it goes on' } },
  speaksToHost: true,
  notes: 'The file holds the memory of the VM and all that is in it, its secrets too; its image must be where it is restored.',
  examples: ['shoal vm save web web.svm', 'shoal vm restore web.svm --name web-2'],
  async run(terminal, words) {
    const [name, file] = words.operands as [string, string];
    return withHost(terminal, words, async (client) => {
      const { ref, uuid } = await findVm(client, name);
      if (words.flag('stop')) await client.call('VM.suspend', [ref], { timeoutMs: transferMs });
      const part = `${file}.part`;
      try {
        await client.download('/saved-vm', { uuid }, (content) => pipeline(content, createWriteStream(part, { mode: 0o600, flush: true })), { timeoutMs: transferMs });
        await rename(part, file);
      } catch (error) {
        await rm(part, { force: true });
        if (words.flag('stop')) terminal.note(`${name} is suspended; \`shoal vm resume ${name}\` lets it go on`);
        throw error;
      }
      if (words.flag('stop')) await client.plugin('destroy', { vms: [uuid] });
      const { size } = await stat(file);
      terminal.printJson({ name, file, bytes: size });
      terminal.print(`${name} is in ${file}: ${Math.ceil(size / 1024)} KiB`);
    });
  },
};

interface Restored {
  uuid: string;
  name: string;
  domid: number;
  addresses: string[];
  ms: number;
}

export const vmRestore: Verb = {
  name: 'vm restore',
  summary: 'make a VM of a file that `vm save` wrote, and let it go on',
  operands: 'FILE',
  operandCount: [1, 1],
  options: {
    name: { value: 'NAME', help: 'another name than it had' },
    ip: { value: 'ADDRESS', help: 'another address than it had' },
    copy: { help: 'a VM of its own: other addresses, whatever is free' },
    paused: { help: 'do not let it run yet' },
  },
  speaksToHost: true,
  async run(terminal, words) {
    const file = words.operands[0]!;
    const { size } = await stat(file).catch((cause: unknown) => {
      throw new ShoalError('USAGE', `${file} cannot be read: ${(cause as Error).message}.`, { hint: 'Check the path.', cause });
    });
    return withHost(terminal, words, async (client) => {
      const query: Record<string, string> = {};
      for (const word of ['name', 'ip']) if (words.text(word) !== undefined) query[word] = words.text(word)!;
      for (const word of ['copy', 'paused']) if (words.flag(word)) query[word] = 'true';
      const restored = await client.upload<Restored>('/saved-vm', query, createReadStream(file, { highWaterMark: 1 << 18 }), size, { timeoutMs: transferMs });
      terminal.printJson(restored);
      terminal.print(`${restored.name} goes on in domain ${restored.domid}${restored.addresses.length === 0 ? '' : ` as ${restored.addresses.join(', ')}`} (${ms(restored.ms)} ms)`);
      terminal.note(plural(size, 'byte'));
    });
  },
};
