/** XenAPI's records, taken down to what the controller needs of them: a record of a VM has some 70 fields, ten of which count. */
import { copyKey, parseCopyId } from '../../model/fleet.ts';
import type { Uuid } from '../../model/ids.ts';
import type { SeenNetwork, SeenVm } from '../port.ts';

export type Record_ = Record<string, unknown>;
/** What is kept of a VM: no addresses, those are the vifs'. */
export type VmRecord = Omit<SeenVm, 'addresses'>;
export interface VifRecord {
  vm: string;
  device: number;
  network: string;
  /** The first is the one it answers by. */
  ips: string[];
}

const text = (v: unknown): string => (typeof v === 'string' ? v : '');
const map = (v: unknown): Record_ => (typeof v === 'object' && v !== null ? (v as Record_) : {});

/** Undefined for templates, snapshots and dom0. */
export function vmRecord(r: Record_): VmRecord | undefined {
  if (r['is_a_template'] === true || r['is_a_snapshot'] === true || r['is_control_domain'] === true) return undefined;
  const busy = Object.keys(map(r['current_operations'])).length > 0;
  const power = text(r['power_state']);
  return {
    uuid: text(r['uuid']) as Uuid,
    name: text(r['name_label']),
    copy: parseCopyId(text(map(r['other_config'])[copyKey])),
    state: busy ? 'busy' : power === 'Running' ? 'running' : power === 'Paused' ? 'paused' : 'halted',
    memoryKib: Math.round(Number(r['memory_static_max'] ?? 0) / 1024),
    image: text(r['PV_kernel']),
    args: text(r['PV_args']),
  };
}

export const vifRecord = (r: Record_): VifRecord => ({
  vm: text(r['VM']),
  device: Number(r['device'] ?? 0),
  network: text(r['network']),
  ips: Array.isArray(r['ipv4_allowed']) ? r['ipv4_allowed'].map(text).filter((ip) => ip !== '') : [],
});

export function parseIpv4(address: string): number | undefined {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address);
  if (m === null) return undefined;
  const parts = m.slice(1).map(Number);
  return parts.some((part) => part > 255) ? undefined : parts.reduce((sum, part) => sum * 256 + part, 0);
}

export const formatIpv4 = (n: number): string => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;

export function networkRecord(r: Record_): SeenNetwork {
  const config = map(r['other_config']);
  const [first, last, gateway] = ['first', 'last', 'gateway'].map((name) => parseIpv4(text(config[name])));
  const prefix = Number(text(config['cidr']).split('/')[1]);
  const known = first !== undefined && last !== undefined && gateway !== undefined && prefix >= 1 && prefix <= 30;
  return { name: text(r['name_label']), range: known ? { first, last, gateway, prefix } : undefined };
}
