/** `shoal vm list` */
import type { Verb } from '../arguments.ts';
import { kib, shortDigest, table } from '../format.ts';
import { withHost } from '../target.ts';
import type { Style } from '../terminal.ts';
import { listVms } from '../vms.ts';

export function paintState(state: string, style: Style): string {
  return state === 'running' ? style.green(state) : state === 'paused' ? style.yellow(state) : style.dim(state);
}

export const vmList: Verb = {
  name: 'vm list',
  summary: 'list the VMs of the host',
  options: {
    state: { value: 'STATE', help: 'only those that are running, paused or halted' },
  },
  speaksToHost: true,
  async run(terminal, words) {
    const state = words.text('state');
    const vms = (await withHost(words, listVms)).filter((vm) => state === undefined || vm.state === state);
    if (terminal.json) {
      terminal.printJson(vms);
      return;
    }
    if (vms.length === 0) {
      terminal.note('No VMs. Make one: shoal vm create NAME --image FILE');
      return;
    }
    const columns = [
      { title: 'NAME' },
      { title: 'STATE' },
      { title: 'DOMAIN', align: 'right' as const },
      { title: 'MEMORY', align: 'right' as const },
      { title: 'ADDRESS' },
      { title: 'IMAGE' },
    ];
    const rows = vms.map((vm) => [
      vm.name,
      paintState(vm.state, terminal.style),
      vm.domid === undefined ? '' : String(vm.domid),
      kib(vm.memoryKib),
      vm.addresses.join(' '),
      shortDigest(vm.image),
    ]);
    terminal.print(table(columns, rows, terminal.style));
  },
};
