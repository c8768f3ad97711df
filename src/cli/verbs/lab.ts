/** `shoal lab …` has a command line of its own, beside the lab. */
import type { Verb } from '../arguments.ts';

export const labVerb: Verb = {
  name: 'lab',
  summary: 'real Xen hosts inside QEMU, networked',
  operands: 'up|down|status|shell|console|link|inside',
  readsItsWords: true,
  async run(terminal, words) {
    const { labCommand, labUsage } = await import('../../lab/cli.ts');
    if (words.raw.length === 0 || words.raw[0] === '--help') {
      terminal.print(labUsage);
      return words.raw.length === 0 ? 2 : 0;
    }
    return labCommand([...words.raw]);
  },
};
