/** `shoal vm list` */
import { listColumns, refOf } from '../../xenapi/plugin-types.ts';
import type { Verb } from '../arguments.ts';
import { kib, shortDigest, table } from '../format.ts';
import { withHost } from '../target.ts';
import type { Style } from '../terminal.ts';
import { listVms } from '../vms.ts';

export function paintState(state: string, style: Style): string {
  return state === 'running' ? style.green(state) : state === 'paused' ? style.yellow(state) : style.dim(state);
}

const shown = ['name', 'state', 'domid', 'memoryKib', 'addresses', 'image'] as const;

export const vmList: Verb = {
  name: 'vm list',
  summary: 'list the VMs of the host',
  options: {
    state: { value: 'STATE', help: 'only those that are running, paused or halted' },
  },
  speaksToHost: true,
  async run(terminal, words) {
    const state = words.text('state');
    const wanted = (vm: { state: string }): boolean => state === undefined || vm.state === state;
    if (terminal.json) {
      const all = (await withHost(terminal, words, (client) => listVms(client, listColumns))).filter(wanted);
      terminal.printJson(all.map((vm) => ({ ref: refOf(vm.uuid), ...vm })));
      return;
    }
    const vms = (await withHost(terminal, words, (client) => listVms(client, shown))).filter(wanted);
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
