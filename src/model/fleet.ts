/**
 * The words in which controller, planner and placer speak of a fleet: hosts, the copies of services on them, and steps. Plain
 * data. Also the one value by which a VM says, on its host, which copy of which service of which fleet it is.
 */
import type { Uuid } from './ids.ts';

/** Name of a host in the fleet, given by the operator. */
export type HostName = string;

/** other_config key of a VM that belongs to a fleet. */
export const copyKey = 'shoal_copy';

export interface CopyId {
  /** First eight hex digits of the controller's uuid: two fleets may share a host. */
  fleet: string;
  tenant: string;
  service: string;
  /** 0, 1, …: which of the service's copies. */
  slot: number;
  /** Counts up over all copies the controller ever asked for: tells two copies of one slot apart. */
  serial: number;
  /** Of the spec the copy was made from. */
  revision: string;
}

export const formatCopyId = (id: CopyId): string => [id.fleet, id.tenant, id.service, id.slot, id.serial, id.revision].join('/');

const copyForm = /^([0-9a-f]{8})\/([a-z0-9-]{1,16})\/([a-z0-9-]{1,28})\/(\d{1,5})\/(\d{1,15})\/([0-9a-f]{8})$/;

/** Undefined for anything that is not of this form: what is not understood is not ours. */
export function parseCopyId(text: string): CopyId | undefined {
  const m = copyForm.exec(text);
  if (m === null) return undefined;
  return { fleet: m[1]!, tenant: m[2]!, service: m[3]!, slot: Number(m[4]), serial: Number(m[5]), revision: m[6]! };
}

/** At most 16+1+28+1+5+1+11 characters; unique by its serial. */
export const vmNameOf = ({ tenant, service, slot, serial }: CopyId): string =>
  `${tenant}.${service}.${slot}.${serial.toString(36)}`;

/**
 * asked: written down, and perhaps sent to the host, but not seen yet. busy: seen, an operation is under way on it.
 * failed: running, but its health check says it is dead.
 */
export type CopyState = 'asked' | 'busy' | 'running' | 'paused' | 'halted' | 'failed';

export interface Copy {
  id: CopyId;
  host: HostName;
  /** Undefined while it is only asked for. */
  uuid: Uuid | undefined;
  state: CopyState;
  memoryKib: number;
  addresses: string[];
  /** Since when it is in this state, milliseconds since 1970, as far as this controller saw. */
  sinceMs: number;
  /** Answers its health check, or has none. */
  ready: boolean;
  /** It is to take the addresses of the copy with this serial, beside which it was started, and has not got them yet. */
  takesFrom?: number | undefined;
  /** Its addresses went to another copy; what connections it still has may last for `drainMs`. */
  retired?: { sinceMs: number; drainMs: number } | undefined;
}

export interface Host {
  name: HostName;
  /** away: not reached since `awaySinceMs`. */
  state: 'up' | 'away';
  awaySinceMs: number;
  /** No new copies; those it has are moved. */
  drained: boolean;
  /** The operator said that it is gone for good: what ran there runs no more. */
  dead: boolean;
  labels: Record<string, string>;
  totalKib: number;
  freeKib: number;
  /** Memory of copies asked for but not running yet, which `freeKib` does not know of. */
  promisedKib: number;
  vifs: number;
  maxVifs: number;
  vms: number;
  /** 0 idle … 1 busy: launches waiting for the host. */
  load: number;
  /** Names of networks there. */
  networks: readonly string[];
}

/** Why a copy is to go. */
export type EndReason = 'surplus' | 'outdated' | 'double' | 'drained' | 'unwanted' | 'failed';

export type Step =
  /** `beside`: on the host of the copy it replaces, whose addresses it is to take. */
  | { do: 'create'; slot: number; replaces: Copy | undefined; avoid: HostName | undefined; beside?: true }
  /** The addresses of `from`, which may be gone, are `to`'s from now on. */
  | { do: 'move'; from: Copy | undefined; to: Copy; drainMs: number }
  | { do: 'start'; copy: Copy }
  | { do: 'restart'; copy: Copy }
  | { do: 'destroy'; copy: Copy; why: EndReason }
  | { do: 'note'; slot: number; text: string };

/** What is remembered of a slot that failed; pure data, kept by whoever plans. */
export interface SlotMemory {
  failures: number;
  lastFailureMs: number;
  /** Where it failed last. */
  host: HostName | undefined;
}
