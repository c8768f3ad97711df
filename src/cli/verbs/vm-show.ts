/** `shoal vm show NAME` */
import type { Verb } from '../arguments.ts';
import { facts, kib } from '../format.ts';
import { withHost } from '../target.ts';
import { findVm, viewOf } from '../vms.ts';
import { paintState } from './vm-list.ts';

/** XenAPI's YYYYMMDDTHH:MM:SSZ in the form Date reads. */
const timeOf = (text: string): number => Date.parse(text.replace(/^(\d{4})(\d{2})(\d{2})T/, '$1-$2-$3T'));

export const vmShow: Verb = {
  name: 'vm show',
  summary: 'show all that is known of a VM',
  operands: 'NAME',
  operandCount: [1, 1],
  speaksToHost: true,
  async run(terminal, words) {
    const vm = await withHost(terminal, words, async (client) => {
      const { ref } = await findVm(client, words.operands[0]!);
      const record = await client.call<Record<string, unknown>>('VM.get_record', [ref]);
      const metrics = await client.call<Record<string, unknown>>('VM_metrics.get_record', [record['metrics']]);
      const vifs = [];
      for (const vif of record['VIFs'] as string[])
        vifs.push(await client.call<Record<string, unknown>>('VIF.get_record', [vif]));
      const networks = new Map<unknown, string>();
      for (const { network } of vifs as { network: string }[]) {
        if (!networks.has(network)) networks.set(network, await client.call<string>('network.get_name_label', [network]));
      }
      return {
        ...viewOf(
          ref,
          record,
          vifs.flatMap((vif) => vif['ipv4_allowed'] as string[]),
          vifs.map((vif) => String(vif['locking_mode'])),
        ),
        description: String(record['name_description']),
        started: record['power_state'] === 'Halted' ? undefined : new Date(timeOf(String(metrics['start_time']))).toISOString(),
        vifs: vifs.map((vif) => ({
          device: Number(vif['device']),
          mac: String(vif['MAC']),
          network: networks.get(vif['network']) ?? '',
          addresses: vif['ipv4_allowed'] as string[],
          lockingMode: String(vif['locking_mode']),
        })),
        otherConfig: record['other_config'] as Record<string, string>,
      };
    });
    terminal.printJson(vm);
    const { last_crash: lastWords, last_crash_at: crashedAt, ...otherConfig } = vm.otherConfig;
    terminal.print(
      facts(
        [
          ['name', terminal.style.bold(vm.name)],
          ['description', vm.description],
          ['state', paintState(vm.state, terminal.style)],
          ['uuid', vm.uuid],
          ['domain', vm.domid === undefined ? '' : String(vm.domid)],
          ['started', vm.started ?? ''],
          ['memory', kib(vm.memoryKib)],
          ['image', vm.image],
          ['arguments', vm.args],
          ...vm.vifs.map((vif) => [`vif ${vif.device}`, [vif.mac, vif.network, ...vif.addresses, ...(vif.lockingMode === 'network_default' ? [] : [vif.lockingMode])].join('  ')] as const),
          ...Object.entries(otherConfig).map(([name, value]) => [`other ${name}`, value] as const),
          ['crashed', crashedAt ?? ''],
        ],
        terminal.style,
      ),
    );
    if (lastWords !== undefined) terminal.print(`${terminal.style.dim('its last console lines:')}\n${lastWords.trimEnd()}`);
  },
};
