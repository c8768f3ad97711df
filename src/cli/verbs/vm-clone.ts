/** `shoal vm clone VM NAME…`: copies of a running VM, warmed up as it is, each with a name and an address of its own. */
import type { Verb } from '../arguments.ts';
import { ms, plural, table } from '../format.ts';
import { launchMany } from '../launch.ts';
import { withHost } from '../target.ts';
import { findVm } from '../vms.ts';

const maxVms = 10_000;

export const vmClone: Verb = {
  name: 'vm clone',
  summary: 'make running copies of a running VM',
  operands: 'VM NAME',
  operandCount: [2, 2],
  options: {
    count: { value: 'N', help: 'make N of them: NAME-1, NAME-2, …' },
    first: { value: 'N', help: 'number of the first of them; default 1' },
  },
  speaksToHost: true,
  examples: ['shoal vm clone web web-copy', 'shoal vm clone web fish --count 100'],
  async run(terminal, words) {
    const [source, name] = words.operands as [string, string];
    return withHost(terminal, words, async (client) => {
      const original = await findVm(client, source);
      const many = words.flag('count') ? { prefix: name, count: words.number('count', 1, 1, maxVms), first: words.number('first', 1, 0, 1_000_000) } : { name };
      const { vms, error } = await launchMany(terminal, client, { ...many, clone: original.uuid });
      if (terminal.json) {
        terminal.printJson(error === undefined ? vms : { vms, error });
      } else {
        const columns = [{ title: 'NAME' }, { title: 'DOMAIN', align: 'right' as const }, { title: 'ADDRESS' }, { title: 'STARTED IN', align: 'right' as const }];
        terminal.print(table(columns, vms.map((vm) => [vm.name, String(vm.domid), vm.ip, `${ms(vm.ms)} ms`]), terminal.style));
        terminal.note(`${plural(vms.length, 'copy', 'copies')} of ${source} started`);
        if (error !== undefined) terminal.failure(error);
      }
      return error === undefined ? 0 : 1;
    });
  },
};
