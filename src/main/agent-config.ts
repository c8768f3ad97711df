/** The host agent's configuration file: JSON, read once at the start. */
import { formatIpv4, parseIpv4, type Network, type Subnet } from '../host/networks.ts';
import type { VifBackend } from '../hypervisor/port.ts';
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface AgentConfig {
  listen: { host: string; port: number };
  /** PEM files; undefined only with `"tls": false`. */
  tls: { certFile: string; keyFile: string } | undefined;
  passwordFile: string;
  stateDir: string;
  networks: Network[];
  /** For vifs of which nothing else is said, by the name of their network. */
  backends: Map<string, VifBackend>;
  /** Where the switch listens. */
  switchPath: string | undefined;
  /** Processors that guests run on; undefined for all. */
  guestCpus: number[] | undefined;
  /** Shells at most; undefined leaves it to the agent. */
  shells: number | undefined;
  hypervisor: 'xen' | 'sim';
  /** Memory of the simulated host. */
  simTotalKib: number | undefined;
  /** Launches at once; undefined leaves it to the agent. */
  launches: number | undefined;
  memoryReserveKib: number | undefined;
  /** Agents of other hosts, https://…, to which round trips are measured. */
  neighbours: string[];
  /** Address under which clients and other hosts reach this host; undefined takes the first of its interfaces. */
  address: string | undefined;
}

/** Throws CONFIG_INVALID. */
export function parseAgentConfig(text: string): AgentConfig {
  const fields = fieldsOf(text);
  const listen = new Fields(fields.take('listen'), 'listen');
  const backends = new Map<string, VifBackend>();
  const config: AgentConfig = {
    listen: { host: listen.string('host') ?? '0.0.0.0', port: listen.integer('port', 0, 65_535) ?? 443 },
    tls: fields.boolean('tls') === false ? undefined : { certFile: fields.need('certFile'), keyFile: fields.need('keyFile') },
    passwordFile: fields.need('passwordFile'),
    stateDir: fields.need('stateDir'),
    networks: networksOf(fields.take('networks'), backends),
    backends,
    switchPath: fields.string('switchPath'),
    guestCpus: processorsOf(fields.take('guestCpus')),
    shells: fields.integer('shells', 0, 10_000),
    hypervisor: hypervisorOf(fields.string('hypervisor') ?? 'xen'),
    simTotalKib: fields.integer('simTotalKib', 1024, 2 ** 40),
    launches: fields.integer('launches', 1, 64),
    memoryReserveKib: fields.integer('memoryReserveKib', 0, 2 ** 30),
    neighbours: urlsOf(fields.take('neighbours')),
    address: fields.string('address'),
  };
  listen.end();
  fields.end();
  if (config.switchPath === undefined && [...backends.values()].includes('switch')) throw invalid('switchPath', 'is needed by a network with the backend "switch"');
  return config;
}

function urlsOf(value: unknown): string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.length <= 1024 && value.every((url) => typeof url === 'string' && URL.canParse(url) && url.startsWith('https://'))) return value as string[];
  throw invalid('neighbours', 'must be a list of addresses like https://10.0.0.2');
}

function hypervisorOf(name: string): AgentConfig['hypervisor'] {
  if (name === 'xen' || name === 'sim') return name;
  throw invalid('hypervisor', 'must be "xen" or "sim"');
}

function processorsOf(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  const valid = Array.isArray(value) && value.length > 0 && value.every((n) => Number.isInteger(n) && n >= 0 && n < 4096);
  if (!valid) throw invalid('guestCpus', 'must be a list of numbers of processors, for example [1, 2, 3]');
  return value as number[];
}

function networksOf(value: unknown, backends: Map<string, VifBackend>): Network[] {
  if (!Array.isArray(value)) throw invalid('networks', 'must be a list');
  const networks = value.map((each, i) => networkOf(new Fields(each, `networks[${i}]`), `networks[${i}]`, backends));
  networks.forEach(({ name }, i) => {
    if (networks.findIndex((other) => other.name === name) !== i)
      throw invalid(`networks[${i}].name`, `"${name}" is given twice`);
  });
  return networks;
}

function networkOf(fields: Fields, path: string, backends: Map<string, VifBackend>): Network {
  const name = fields.need('name');
  const bridge = fields.need('bridge');
  const backend = fields.string('backend') ?? 'netback';
  if (backend !== 'switch' && backend !== 'netback') throw invalid(`${path}.backend`, 'must be "switch" or "netback"');
  backends.set(name, backend);
  const texts = {
    cidr: fields.string('cidr'),
    gateway: fields.string('gateway'),
    first: fields.string('first'),
    last: fields.string('last'),
  };
  fields.end();
  const given = Object.values(texts).filter((text) => text !== undefined).length;
  if (given === 0) return { name, bridge, subnet: undefined };
  if (given < 4) throw invalid(path, 'needs cidr, gateway, first and last together, or none of them');
  return { name, bridge, subnet: subnetOf(texts as Record<keyof typeof texts, string>, path) };
}

function subnetOf(texts: { cidr: string; gateway: string; first: string; last: string }, path: string): Subnet {
  const [baseText = '', prefixText = ''] = texts.cidr.split('/');
  const base = parseIpv4(baseText);
  const prefix = /^\d{1,2}$/.test(prefixText) ? Number(prefixText) : 0;
  if (base === undefined || prefix < 1 || prefix > 30) throw invalid(`${path}.cidr`, 'must be like 10.64.0.0/16');
  const size = 2 ** (32 - prefix);
  if (base % size !== 0) throw invalid(`${path}.cidr`, `must begin at ${formatIpv4(base - (base % size))}`);
  const inside = (field: 'gateway' | 'first' | 'last'): number => {
    const address = parseIpv4(texts[field]);
    if (address === undefined || address < base || address >= base + size)
      throw invalid(`${path}.${field}`, `must be an address of ${texts.cidr}`);
    return address;
  };
  const subnet = { prefix, gateway: inside('gateway'), first: inside('first'), last: inside('last') };
  if (subnet.first > subnet.last) throw invalid(`${path}.first`, 'must not be behind last');
  return subnet;
}
