/**
 * What a dom0 needs for thousands of guests, in one place: the lab's dom0 and a real one get the same. Pure.
 */

/** The least of each that thousands of guests need: two threads each in netback, descriptors, one neighbour each. */
export const sysctls: Readonly<Record<string, number>> = {
  'kernel.pid_max': 4_194_303,
  'kernel.threads-max': 200_000,
  'fs.file-max': 1_048_576,
  'fs.nr_open': 2_097_152,
  'net.ipv4.neigh.default.gc_thresh1': 65_536,
  'net.ipv4.neigh.default.gc_thresh2': 131_072,
  'net.ipv4.neigh.default.gc_thresh3': 262_144,
};

export const sysctlPath = 'etc/sysctl.d/90-shoal.conf';

/** Open files of the agent, the switch and the store daemon. */
export const openFiles = 1_048_576;

/** Where the agent, its addon, the switch and Node go. */
export const programFolder = 'usr/lib/shoal';

/** Names as sysctl has them; `kernel.pid_max = 4194303` a line. */
export function sysctlText(values: Readonly<Record<string, number>> = sysctls): string {
  const lines = Object.entries(values).map(([name, value]) => `${name} = ${value}`);
  return ['# Written by Shoal: what thousands of guests need.', ...lines, ''].join('\n');
}

export interface Range {
  cidr: string;
  gateway: string;
  first: string;
  last: string;
}

export interface AgentSettings {
  bridge: string;
  /** Addresses the host gives to guests; none: guests ask a DHCP server on the bridge. */
  range?: Range | undefined;
  port?: number | undefined;
  /** Processors that guests run on; all when left out. */
  guestCpus?: readonly number[] | undefined;
  /** Under which clients reach the host; the agent finds one by itself. */
  address?: string | undefined;
}

/** /etc/shoal/agent.json (src/main/agent-config.ts). */
export function agentConfig({ bridge, range, port = 443, guestCpus, address }: AgentSettings): Record<string, unknown> {
  return {
    listen: { host: '0.0.0.0', port },
    passwordFile: '/etc/shoal/password',
    certFile: '/etc/shoal/cert.pem',
    keyFile: '/etc/shoal/key.pem',
    stateDir: '/var/lib/shoal',
    switchPath: '/run/shoal/switch.sock',
    ...(guestCpus === undefined ? {} : { guestCpus }),
    ...(address === undefined ? {} : { address }),
    networks: [{ name: 'default', bridge, backend: 'switch', ...range }],
  };
}

export const agentConfigText = (settings: AgentSettings): string => `${JSON.stringify(agentConfig(settings), null, 2)}\n`;

/** Makes a key and a certificate of its own signature, for ten years, that names the host and its addresses. */
export function certificateCommand(name: string, addresses: readonly string[], keyFile: string, certFile: string): string[] {
  const names = [`DNS:${name}`, ...(name === 'localhost' ? [] : ['DNS:localhost']), ...addresses.map((address) => `IP:${address}`)];
  return [
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '3650'],
    ...['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names.join(',')}`, '-keyout', keyFile, '-out', certFile],
  ];
}
