/** `shoal host shells`: the domains built beforehand, listed; made, or ended, on request. */
import { existsSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';
import type { ShellFacts, ShellsDrained, ShellsPrepared, ShellSpec } from '../../xenapi/plugin-types.ts';
import type { Verb } from '../arguments.ts';
import { count, kib, plural, shortDigest, table } from '../format.ts';
import { findImage, putImage, readImage } from '../images.ts';
import { withHost } from '../target.ts';

const most = 10_000;
/** A shell takes some tens of milliseconds; the bound is there for a host that hangs. */
const timeoutMsOf = (shells: number): number => 60_000 + 1_000 * shells;

export const hostShells: Verb = {
  name: 'host shells',
  summary: 'show the domains that are built beforehand, make some, or end them',
  options: {
    prepare: { value: 'N', help: 'make them until there are N of the image and memory given' },
    image: { value: 'IMAGE', help: 'a kernel file, or the digest (or its beginning) of one the host has; default: the only one it has' },
    'memory-kib': { value: 'N', help: 'memory of each' },
    network: { value: 'NETWORK', help: 'network of the device; default the host\'s first, "" for none' },
    drain: { help: 'end all of them' },
  },
  speaksToHost: true,
  notes: 'A start that finds a shell of its image, memory and network takes it, and is faster by the building of a domain.',
  examples: ['shoal host shells --prepare 20 --image build/unikernels/ping.elf --memory-kib 1024'],
  async run(terminal, words) {
    const preparing = words.flag('prepare');
    if (preparing && words.flag('drain'))
      throw new ShoalError('USAGE', '--prepare and --drain contradict each other.', { hint: 'Give one of them.' });
    const stray = ['image', 'memory-kib', 'network'].find((name) => words.flag(name));
    if (!preparing && stray !== undefined) throw new ShoalError('USAGE', `--${stray} goes with --prepare.`, { hint: 'Give --prepare N too.' });
    if (preparing && !words.flag('memory-kib'))
      throw new ShoalError('USAGE', '--prepare needs --memory-kib.', { hint: 'Give the memory of the VMs that are to be started.' });
    const shells = words.number('prepare', 0, 1, most);
    const memoryKib = words.number('memory-kib', 0, 4, 2 ** 30);
    return withHost(terminal, words, async (client) => {
      if (words.flag('drain')) {
        const drained = await client.plugin<ShellsDrained>('shells', { drain: 'true' }, { timeoutMs: timeoutMsOf(most) });
        terminal.printJson(drained);
        terminal.print(`${plural(drained.ended, 'shell')} ended`);
        return 0;
      }
      if (preparing) {
        const word = words.text('image');
        const image =
          word !== undefined && existsSync(word) ? (await putImage(client, readImage(word))).digest : await findImage(client, word);
        const network = words.text('network');
        const spec: ShellSpec = { image, memoryKib, count: shells, ...(network === undefined ? {} : { network }) };
        const { ready } = await client.plugin<ShellsPrepared>('shells', { prepare: spec }, { timeoutMs: timeoutMsOf(shells) });
        terminal.printJson({ ready });
        terminal.print(`${plural(ready, 'shell')} ready`);
        if (ready >= shells) return 0;
        terminal.note("The others are beyond the host's limit of shells, or its memory.");
        return 1;
      }
      const kinds = await client.plugin<ShellFacts[]>('shells');
      terminal.printJson(kinds);
      if (kinds.length === 0) {
        terminal.note('No shells: nothing was started lately.');
        return 0;
      }
      const right = (title: string) => ({ title, align: 'right' as const });
      const columns = [{ title: 'IMAGE' }, right('MEMORY'), right('READY'), right('WANTED')];
      const rows = kinds.map((kind) => [shortDigest(kind.image), kib(kind.memoryKib), count(kind.ready), count(kind.wanted)]);
      terminal.print(table(columns, rows, terminal.style));
      return 0;
    });
  },
};
