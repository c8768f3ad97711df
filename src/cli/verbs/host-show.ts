/** `shoal host show` */
import type { SwitchTotals } from '../../xenapi/plugin-types.ts';
import type { Verb } from '../arguments.ts';
import { count, duration, facts, kib } from '../format.ts';
import { withHost } from '../target.ts';

export interface HostFacts {
  xen: string;
  freeKib: number;
  totalKib: number;
  cpuCount: number;
  domains: number;
  vms: number;
  /** Since the agent's start; null where there is no store. */
  store: { requests: number; changes: number } | null;
  /** Since the switch was started; null where none answers. */
  switch: SwitchTotals | null;
  agent: { version: string; rssKib: number; heapUsedKib: number; uptimeS: number };
}

export const hostShow: Verb = {
  name: 'host show',
  summary: 'show the host: Xen, memory, agent',
  speaksToHost: true,
  async run(terminal, words) {
    const { address, host } = await withHost(terminal, words, async (client) => ({
      address: client.url.origin,
      host: await client.plugin<HostFacts>('facts'),
    }));
    terminal.printJson({ address, ...host });
    terminal.print(
      facts(
        [
          ['address', address],
          ['hypervisor', host.xen],
          ['processors', count(host.cpuCount)],
          ['memory', `${kib(host.freeKib)} free of ${kib(host.totalKib)}`],
          ['VMs', count(host.vms)],
          ['domains', `${count(host.domains)}, dom0 among them`],
          ...(host.switch === null ? [] : [['switch', switchText(host.switch)] as [string, string]]),
          ['agent', `${host.agent.version}, up ${duration(host.agent.uptimeS)}, ${kib(host.agent.rssKib)} resident`],
        ],
        terminal.style,
      ),
    );
  },
};

const switchText = ({ vifs, frames, dropped, memoryKib }: SwitchTotals): string =>
  `${count(vifs)} vifs; ${count(frames)} frames moved, ${count(dropped)} dropped; ${kib(memoryKib)} resident`;
