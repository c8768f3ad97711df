/**
 * The two seams of the controller. A HostLink is one host as far as the controller can see and move it; a StateStore is where what
 * must outlive the controller is kept. Everything else in this folder knows no more of hosts and disks than this.
 *
 * A link reports what is there, never what happened: the whole picture first, then single VMs to look at anew. It finds its own
 * way back when the connection breaks, and sends the whole picture again.
 */
import type { FetchOrder, FetchReport, ImageSource } from '../model/distribution.ts';
import type { ShoalError } from '../model/errors.ts';
import type { CopyId } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';
import type { AddressTraffic } from '../model/traffic.ts';

export interface SeenNetwork {
  name: string;
  /** What the host may give to VMs; undefined where guests ask DHCP. Unsigned 32-bit numbers. */
  range: { first: number; last: number; gateway: number; prefix: number } | undefined;
}

export interface SeenVm {
  uuid: Uuid;
  name: string;
  /** Undefined for a VM that belongs to no fleet. */
  copy: CopyId | undefined;
  state: 'busy' | 'running' | 'paused' | 'halted';
  memoryKib: number;
  image: string;
  args: string;
  /** In the order of the vifs. */
  addresses: { network: string; ip: string }[];
}

export interface SeenHost {
  /** Of the server's software, for people. */
  version: string;
  totalKib: number;
  freeKib: number;
  cpuCount: number;
  networks: SeenNetwork[];
  /** What this host cannot do, and what is done instead; for people. */
  shortfalls: string[];
}

/** Since the VM's domain began; rx is what the guest received. Dropped: it had no buffers, or was not allowed to send that. */
export interface VifCounters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  rxDropped: number;
  txDropped: number;
}

export interface LinkListener {
  /** Everything there is, after each connection and whenever single changes were lost. */
  picture(host: SeenHost, vms: SeenVm[]): void;
  vm(vm: SeenVm): void;
  gone(uuid: Uuid): void;
  host(host: SeenHost): void;
  /** The host cannot be reached; it is tried again. Also called for each further attempt that fails. */
  away(error: ShoalError): void;
}

export interface LaunchItem {
  name: string;
  copy: CopyId;
  image: string;
  memoryKib: number;
  args: string;
  /** `also`: further addresses the guest has configured, which the host gives frames of only once they are moved to it. */
  vifs: { network: string; ip?: string; also?: string[] }[];
}

/**
 * One address goes from one VM to another on the same host: connections that `from` has stay with it until they end, or for
 * `drainMs` at most, all else goes to `to`. `from` may be halted or gone: then `to` just gets it.
 */
export interface AddressMove {
  from: Uuid;
  to: Uuid;
  ip: string;
  drainMs: number;
}

/** What a migration was like. */
export interface Migrated {
  /** As it has them now, in the order of the vifs. */
  addresses: string[];
  bytes: number;
  totalMs: number;
  downtimeMs: number;
}

export type LaunchOutcome = { uuid: Uuid } | { error: ShoalError };

/**
 * Calls throw ShoalError. CONNECTION_FAILED, HOST_AWAY and TIMEOUT mean that nobody knows whether the call was done; with every
 * other code it was not.
 */
export interface HostLink {
  open(listener: LinkListener): void;
  close(): Promise<void>;
  /** One outcome for each, in the same order. NAME_IN_USE: it is there, or another launch of it is under way. */
  launch(items: readonly LaunchItem[], signal: AbortSignal): Promise<LaunchOutcome[]>;
  /** A halted or paused VM runs. */
  start(uuid: Uuid): Promise<void>;
  /** A fresh domain in place of the running one. */
  restart(uuid: Uuid): Promise<void>;
  stop(uuid: Uuid): Promise<void>;
  /** Running ones are ended first. Those that are not there count as destroyed. */
  destroy(uuids: readonly Uuid[]): Promise<{ uuid: Uuid; error: ShoalError }[]>;
  /** Which of these names the host has, or is about to have. */
  held(names: readonly string[]): Promise<string[]>;
  /** The VM as the host says when it is asked, whatever it told before; undefined when there is none. */
  look(uuid: Uuid): Promise<SeenVm | undefined>;
  /** Memory as Xen says now. */
  lookAtHost(): Promise<SeenHost>;
  /**
   * Those that failed; doing one again that was done changes nothing. After it `to` shows the address and `from` no more. Throws
   * VALUE_NOT_SUPPORTED where the host cannot move addresses.
   */
  moveAddress(moves: readonly AddressMove[]): Promise<{ move: AddressMove; error: ShoalError }[]>;
  /** For `ms` (0: no longer) frames for an address that nobody has yet wait on the host for the VM that gets it. Throws VALUE_NOT_SUPPORTED. */
  holdAddress(network: string, ip: string, ms: number): Promise<void>;
  /** In the order asked; undefined where nobody there has it, or the host does not count. */
  addressTraffic(network: string, ips: readonly string[]): Promise<(AddressTraffic | undefined)[]>;
  putImage(digest: string, bytes: Uint8Array): Promise<void>;
  /** Digests of the images the host has; undefined where it cannot say. */
  images(): Promise<string[] | undefined>;
  /** The host fetches an image by itself. Throws FETCH_FAILED when no source gave it, HOST_UNSUPPORTED where the host cannot. */
  fetchImage(order: FetchOrder): Promise<FetchReport>;
  /** Where another host can fetch the image from this one, for a while. Throws IMAGE_UNKNOWN, HOST_UNSUPPORTED. */
  offerImage(digest: string): Promise<ImageSource>;
  /**
   * Moves a running VM from this host to another one; resolves when it runs there. Throws what either host had against it, with the VM running here;
   * MIGRATION_IN_DOUBT, with this host asking until it knows; HOST_UNSUPPORTED. The hosts need nobody for it once they have begun.
   */
  migrate(uuid: Uuid, to: HostLink, live: boolean): Promise<Migrated>;
  /** A ticket for one VM to come to this host from the one with this certificate (SHA-256). */
  admit(fingerprint: string): Promise<Record<string, string>>;
  /** Of the VM's vif `handle` (0, 1, …) while it runs; undefined where the host does not count them. */
  counters(uuid: Uuid, handle: number): Promise<VifCounters | undefined>;
  /** Console output beyond the cursor. */
  console(uuid: Uuid, cursor: number): Promise<{ text: string; cursor: number }>;
}

/** Whether nobody knows if the call that failed so was done. */
export const isUnknown = (error: ShoalError): boolean =>
  error.code === 'CONNECTION_FAILED' || error.code === 'HOST_AWAY' || error.code === 'TIMEOUT';

/** `value` undefined takes the key out. */
export interface Change {
  key: string;
  value: unknown;
}

/**
 * Keys are words joined by slashes, values plain JSON. One process writes. An engine that is shared by several machines can take
 * the place of the file behind this: changes of one call are kept all or none.
 */
export interface StateStore {
  /** Everything, read when the store was opened. */
  readonly entries: ReadonlyMap<string, unknown>;
  /** Resolves when the changes would outlive this process and a power cut. Readable in `entries` at once. */
  write(changes: readonly Change[]): Promise<void>;
  close(): Promise<void>;
}
