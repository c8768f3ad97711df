/**
 * What a host knows of one VM, the limits of each of its properties, and the three texts made from it: the guest's command line,
 * the record that is sealed into a running domain, and the entry in the journal. All pure.
 *
 * A VM is kept small (about 1 KiB): what can be derived, such as XenAPI's records and references, is made when it is asked for.
 */
import type { VifBackend } from '../hypervisor/port.ts';
import { ShoalError } from '../model/errors.ts';
import { isDigest, isUuid, type Digest, type Domid, type Uuid } from '../model/ids.ts';
import { vbdsFrom, type Vbd } from './disks.ts';
import { formatIpv4, type Network } from './networks.ts';

export interface Vif {
  handle: number;
  mac: string;
  network: string;
  /** Static addresses; empty on a network with DHCP. */
  ipv4: string[];
  /** Addresses that its guest has configured from its start; they become its own when they are moved to it. */
  also?: string[];
  /** When left out: what the network prefers and the image can. */
  backend?: VifBackend;
  /** What the guest may send, in kbit/s; no limit when left out. */
  rateKbit?: number;
  /** It may send IPv4 from any address, as who forwards does; when left out, on the switch from its own only. */
  lockingMode?: 'unlocked';
}

/** What the operator last asked for. Xen says what is; this says which of two readings of Xen is meant. */
export type Wanted = 'halted' | 'running' | 'paused' | 'rebooting' | 'suspended';
/** Suspended: its memory is in a file, or its domain waits for the end of a migration. */
export type Power = 'Halted' | 'Running' | 'Paused' | 'Suspended';

/** A migration from here that may have come to its end at the target: nobody but the target knows (docs/design/0060-migration.md). */
export interface Leaving {
  id: string;
  token: string;
  /** Of the target's agent. */
  url: string;
  /** SHA-256 of its certificate, as node:tls prints it. */
  fingerprint: string;
  /** Addresses that it has there, too. */
  along?: string[];
}

export interface Vm {
  readonly uuid: Uuid;
  name: string;
  description: string;
  image: Digest;
  memoryKib: number;
  /** Words for the application, after those the agent writes. */
  args: string;
  vifs: Vif[];
  vbds: Vbd[];
  otherConfig: Record<string, string>;
  wanted: Wanted;
  power: Power;
  domid: Domid | undefined;
  /** Milliseconds since 1970 of the last start; 0 when it never ran. */
  startedMs: number;
  leaving?: Leaving;
  /** Id of the migration by which it came: a domain that another one was bringing is not it. */
  arrivedBy?: string;
  /** It is on its way here, and its source's still: nothing of it is kept. */
  arriving?: true;
}

export const limits = {
  nameBytes: 64,
  descriptionBytes: 1024,
  cmdlineBytes: 1023,
  sealBytes: 2048,
  otherConfigBytes: 8192,
  memoryMinKib: 1024,
  memoryMaxKib: 1024 * 1024 * 1024,
  vifs: 8,
  vbds: 4,
  otherAddresses: 7,
} as const;

const nameForm = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
// Printable ASCII: the console and the command line of a guest know nothing else.
const argsForm = /^[\x20-\x7e]*$/;
// XML 1.0 cannot carry other control characters, so no string that XenAPI hands out may hold them.
const textForm = /^[^\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]*$/u;

const unsupported = (field: string, value: string, why: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', `${field}: ${why}`, { params: [field, value.slice(0, 200), why] });

export function checkName(name: string): string {
  if (!nameForm.test(name)) {
    throw unsupported('name_label', name, 'letters, digits, dot, dash and underscore, 1 to 64, the first a letter or digit');
  }
  return name;
}

export function checkText(field: string, text: string, maxBytes: number): string {
  if (!textForm.test(text)) throw unsupported(field, '', 'holds characters that XML cannot carry');
  if (Buffer.byteLength(text) > maxBytes) throw unsupported(field, '', `at most ${maxBytes} bytes`);
  return text;
}

export function checkMemory(memoryKib: number): number {
  const { memoryMinKib: min, memoryMaxKib: max } = limits;
  if (!Number.isInteger(memoryKib) || memoryKib % 4 !== 0 || memoryKib < min || memoryKib > max) {
    throw new ShoalError(
      'MEMORY_INVALID',
      `The memory must be ${min} to ${max} KiB, in pages of 4 KiB; it is ${memoryKib} KiB.`,
      {
        data: { memoryKib, minKib: min, maxKib: max },
      },
    );
  }
  return memoryKib;
}

export function checkArgs(args: string): string {
  if (!argsForm.test(args)) throw unsupported('PV_args', args, 'printable ASCII only');
  return args;
}

/** Of XenAPI's modes those that can be kept; undefined stands for network_default. Throws VALUE_NOT_SUPPORTED. */
export function checkLockingMode(mode: string): 'unlocked' | undefined {
  if (mode === 'network_default') return undefined;
  if (mode === 'unlocked') return mode;
  const why = 'network_default or unlocked';
  throw new ShoalError('VALUE_NOT_SUPPORTED', `locking_mode: ${why}; it is "${mode.slice(0, 40)}"`, {
    hint: 'Use unlocked for a VM that forwards for others. With network_default a VM on the switch sends from its own addresses only; netback locks nothing.',
    params: ['locking_mode', mode.slice(0, 40), why],
  });
}

export function checkOtherConfig(map: Record<string, string>): Record<string, string> {
  let bytes = 0;
  for (const [key, value] of Object.entries(map)) {
    checkText('other_config', key, limits.otherConfigBytes);
    checkText('other_config', value, limits.otherConfigBytes);
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (bytes > limits.otherConfigBytes) throw unsupported('other_config', '', `at most ${limits.otherConfigBytes} bytes in all`);
  return map;
}

/**
 * `name=NAME ip=A.B.C.D/LEN gw=A.B.C.D [ips=A.B.C.D,...] [ip1=A.B.C.D/LEN gw1=A.B.C.D ...] ARGS`: the first vif's addresses, `ip=dhcp` on a network without
 * addresses of its own; then those of further vifs by their numbers.
 */
export function cmdlineOf(vm: Vm, networkNamed: (name: string) => Network | undefined): string {
  const words = [`name=${vm.name}`];
  const vif = vm.vifs[0];
  if (vif !== undefined) {
    const subnet = networkNamed(vif.network)?.subnet;
    const address = vif.ipv4[0];
    if (subnet === undefined || address === undefined) words.push('ip=dhcp');
    else words.push(`ip=${address}/${subnet.prefix}`, `gw=${formatIpv4(subnet.gateway)}`);
    const others = [...new Set([...vif.ipv4.slice(1), ...(vif.also ?? [])])].filter((other) => other !== address);
    if (others.length > limits.otherAddresses)
      throw unsupported('also', others.join(','), `a vif has at most ${limits.otherAddresses + 1} addresses`);
    if (subnet !== undefined && address !== undefined && others.length > 0) words.push(`ips=${others.join(',')}`);
  }
  for (const { handle, network, ipv4 } of vm.vifs.slice(1)) {
    const subnet = networkNamed(network)?.subnet;
    if (subnet !== undefined && ipv4[0] !== undefined) words.push(`ip${handle}=${ipv4[0]}/${subnet.prefix}`, `gw${handle}=${formatIpv4(subnet.gateway)}`);
  }
  if (vm.args !== '') words.push(vm.args);
  const cmdline = words.join(' ');
  if (cmdline.length > limits.cmdlineBytes) {
    throw new ShoalError('COMMAND_LINE_TOO_LONG', `The guest's command line would have ${cmdline.length} bytes.`, {
      data: { bytes: cmdline.length, maxBytes: limits.cmdlineBytes },
    });
  }
  return cmdline;
}

/** Entries of `otherConfig` whose key begins so say whose VM this is, and stay with the domain. */
export const ownerPrefix = 'shoal_';

function owner(otherConfig: Record<string, string>): { owner?: Record<string, string> } {
  const entries = Object.entries(otherConfig).filter(([key]) => key.startsWith(ownerPrefix));
  return entries.length === 0 ? {} : { owner: Object.fromEntries(entries) };
}

/**
 * What stays with the domain for as long as it lives (docs/formats/sealed-record.md): enough to know the VM again without a
 * journal. `paused` tells a start that was meant to stay paused from one that the agent did not live to finish. `incoming`: the migration
 * by which it comes, until that is committed.
 */
export function sealOf(vm: Vm, paused: boolean, incoming?: string): string {
  const record = JSON.stringify({
    v: 1,
    name: vm.name,
    image: vm.image,
    memoryKib: vm.memoryKib,
    args: vm.args,
    vifs: vm.vifs,
    ...(vm.vbds.length === 0 ? {} : { vbds: vm.vbds }),
    startedMs: vm.startedMs,
    paused,
    ...(incoming === undefined ? {} : { incoming }),
    ...owner(vm.otherConfig),
  });
  if (Buffer.byteLength(record) > limits.sealBytes) {
    throw new ShoalError('COMMAND_LINE_TOO_LONG', 'Arguments and devices of the VM do not fit into its sealed record.', {
      data: { bytes: Buffer.byteLength(record), maxBytes: limits.sealBytes },
    });
  }
  return record;
}

const isStrings = (v: unknown): v is string[] => Array.isArray(v) && v.every((s) => typeof s === 'string');

function vifsFrom(value: unknown): Vif[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const vifs: Vif[] = [];
  for (const v of value as Record<string, unknown>[]) {
    if (typeof v !== 'object' || v === null || !Number.isInteger(v['handle'])) return undefined;
    if (typeof v['mac'] !== 'string' || typeof v['network'] !== 'string' || !isStrings(v['ipv4'])) return undefined;
    const { backend, rateKbit, also, lockingMode } = v;
    vifs.push({
      handle: v['handle'] as number,
      mac: v['mac'],
      network: v['network'],
      ipv4: v['ipv4'],
      ...(isStrings(also) ? { also } : {}),
      ...(backend === 'switch' || backend === 'netback' ? { backend } : {}),
      ...(typeof rateKbit === 'number' ? { rateKbit } : {}),
      ...(lockingMode === 'unlocked' ? { lockingMode } : {}),
    });
  }
  return vifs;
}

function commonFrom(uuid: unknown, r: Record<string, unknown>): Vm | undefined {
  const vifs = vifsFrom(r['vifs']);
  const vbds = vbdsFrom(r['vbds']);
  if (typeof uuid !== 'string' || !isUuid(uuid) || vifs === undefined || vbds === undefined) return undefined;
  if (typeof r['name'] !== 'string' || typeof r['image'] !== 'string' || !isDigest(r['image'])) return undefined;
  if (typeof r['memoryKib'] !== 'number' || typeof r['args'] !== 'string' || typeof r['startedMs'] !== 'number') return undefined;
  return {
    uuid,
    name: r['name'],
    description: '',
    image: r['image'],
    memoryKib: r['memoryKib'],
    args: r['args'],
    vifs,
    vbds,
    otherConfig: {},
    wanted: 'halted',
    power: 'Halted',
    domid: undefined,
    startedMs: r['startedMs'],
  };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The VM out of a sealed record, and whether it was to stay paused; undefined when the record is not one of ours. */
export function unseal(uuid: Uuid, record: string): { vm: Vm; paused: boolean; incoming: string | undefined } | undefined {
  const r = parseObject(record);
  if (r === undefined || r['v'] !== 1) return undefined;
  const vm = commonFrom(uuid, r);
  if (vm === undefined) return undefined;
  const owned = r['owner'];
  if (typeof owned === 'object' && owned !== null && isStrings(Object.values(owned))) vm.otherConfig = { ...owned };
  return { vm, paused: r['paused'] === true, incoming: typeof r['incoming'] === 'string' ? r['incoming'] : undefined };
}

/** A VM as the journal keeps it (docs/formats/agent-journal.md). Domain and power state are not kept: Xen knows them. */
export function toJournal(vm: Vm): Record<string, unknown> {
  const { power: _power, domid: _domid, arriving: _arriving, vbds, ...kept } = vm;
  return vbds.length === 0 ? kept : { ...kept, vbds };
}

const wantedValues: readonly string[] = ['halted', 'running', 'paused', 'rebooting', 'suspended'] satisfies Wanted[];

export function fromJournal(r: Record<string, unknown>): Vm | undefined {
  const vm = commonFrom(r['uuid'], r);
  const otherConfig = r['otherConfig'];
  if (vm === undefined || typeof r['description'] !== 'string' || !wantedValues.includes(r['wanted'] as string)) return undefined;
  if (typeof otherConfig !== 'object' || otherConfig === null || !isStrings(Object.values(otherConfig))) return undefined;
  return {
    ...vm,
    description: r['description'],
    otherConfig: { ...otherConfig } as Record<string, string>,
    wanted: r['wanted'] as Wanted,
    ...leavingFrom(r['leaving']),
    ...(typeof r['arrivedBy'] === 'string' ? { arrivedBy: r['arrivedBy'] } : {}),
  };
}

function leavingFrom(value: unknown): { leaving?: Leaving } {
  if (typeof value !== 'object' || value === null) return {};
  const { id, token, url, fingerprint, along } = value as Record<string, unknown>;
  if (![id, token, url, fingerprint].every((text) => typeof text === 'string')) return {};
  return { leaving: { id, token, url, fingerprint, ...(isStrings(along) ? { along } : {}) } as Leaving };
}
