/** `shoal network list` */
import type { Verb } from '../arguments.ts';
import { table } from '../format.ts';
import { withHost } from '../target.ts';

export const networkList: Verb = {
  name: 'network list',
  summary: 'list the networks of the host',
  speaksToHost: true,
  async run(terminal, words) {
    const networks = Object.values(await withHost(terminal, words, (client) => client.records('network'))).map((network) => {
      const { cidr = '', gateway = '', first = '', last = '' } = network['other_config'] as Record<string, string>;
      return {
        name: String(network['name_label']),
        uuid: String(network['uuid']),
        bridge: String(network['bridge']),
        cidr,
        gateway,
        first,
        last,
      };
    });
    terminal.printJson(networks);
    const columns = ['NAME', 'BRIDGE', 'SUBNET', 'GATEWAY', 'ADDRESSES'].map((title) => ({ title }));
    const rows = networks.map(({ name, bridge, cidr, gateway, first, last }) => [
      name,
      bridge,
      cidr,
      gateway,
      first === '' ? 'by DHCP' : `${first} – ${last}`,
    ]);
    terminal.print(table(columns, rows, terminal.style));
  },
};
