/**
 * The one interface to a hypervisor. An adapter (xen, sim, later xenapi) implements it; the host agent knows nothing else.
 *
 * A launch is a fixed sequence of steps, each of which may be the last before a crash of the caller:
 *   create -> build -> register -> attachVif (one a vif) -> seal -> unpause
 * After `build` a domain is a shell: whole but for its identity, and good for any VM of the same shape. It may wait so for as long as one
 * likes. `register` gives it its identity. `seal` is the mark that a domain is whole. After a crash, `list` shows every domain with `sealed`; those that are ours and not
 * sealed are half built, and `destroy` takes any of them away. `destroy` is idempotent and cleans up after any step.
 *
 * All memory is in KiB. All calls throw ShoalError. Nothing here polls; `onChange` says "look at domain x", never what happened.
 */
import type { Digest, Domid, Uuid } from '../model/ids.ts';
import type { KernelImage } from '../model/kernel.ts';
import type { AddressTraffic } from '../model/traffic.ts';

export interface HostFacts {
  /** For people, for example "Xen 4.17.7". */
  version: string;
  /** Accelerator or hardware Xen itself runs on does not show here: only what Xen says. */
  totalKib: number;
  freeKib: number;
  cpuCount: number;
  /** Domains now, dom0 included. */
  domainCount: number;
}

/**
 * What carries a vif's frames: a user-space switch that the builder connects the guest to, or dom0's netback and a bridge, by the store.
 * All vifs of a domain have the same.
 */
export type VifBackend = 'switch' | 'netback';

/** What must be known of a vif before anyone knows whose it will be. */
export interface VifShape {
  /** 0, 1, …: the number of the device in the guest. */
  handle: number;
  /** Name of the network: the adapter maps it to a backend. */
  network: string;
  /** When left out: what the network prefers and the image can. */
  backend?: VifBackend | undefined;
}

/** A disk of a guest: its number there is 51712 + 16 * index (xvda, xvdb, …). */
export interface VbdShape {
  /** 0, 1, … */
  index: number;
}

export interface VbdConfig extends VbdShape {
  /** Absolute path, in dom0, of a file or block device. One guest may write to it, or any number may read it. */
  path: string;
  readonly: boolean;
}

/** What a domain is before it has an identity: domains of equal shape are interchangeable. */
export interface DomainShape {
  memoryKib: number;
  image: KernelImage;
  vifs: VifShape[];
  /** Disks, at most 4. A domain that has some takes all its devices from the store: its vifs are netback's. */
  vbds?: VbdShape[] | undefined;
}

/** What copies of a running guest are made from; the adapter's own. Its memory goes with it. */
export interface Snapshot {
  readonly shape: DomainShape;
}

/** No piece of memory is larger. */
export const mostPieceBytes = 64 * (4096 + 8);

/**
 * The memory of a domain that suspended itself, in pieces whose form is the adapter's own. With passes the domain may run meanwhile: each
 * pass has what changed since the one before. Of a domain that still ran when the reader was made, `again` comes before the last pass and the state.
 * Nothing here waits; a piece takes well under a millisecond.
 */
export interface MemoryReader {
  /** The next piece; undefined at the end of a pass, after which another one begins. `running`: the domain is not suspended now. */
  piece(running: boolean): Uint8Array | undefined;
  /** The domain suspended itself again: looks at it again, and begins a pass. Throws HYPERCALL_FAILED. */
  again(): void;
  /** What is needed beside the pages, at most 64 KiB; of the domain as it was suspended last. */
  state(): Uint8Array;
  /** Before the domain is destroyed. May be called again. */
  close(): void;
}

/** The other end: what makes an empty domain a shell out of pieces. A later piece's page takes the place of an earlier one's. */
export interface MemoryWriter {
  /** Throws SAVED_VM_INVALID. */
  piece(bytes: Uint8Array): void;
  /**
   * All of it is there. `whole` is called, once, when it was checked and laid in; what connects the domain comes after that. Throws SAVED_VM_INVALID,
   * HYPERCALL_FAILED, and SWITCH_* after `whole`.
   */
  end(state: Uint8Array, whole?: () => void): Promise<void>;
  /** Without an end the domain is good for nothing. May be called again. */
  close(): void;
}

export interface VifConfig extends VifShape {
  /** "00:16:3e:xx:xx:xx", lower case. */
  mac: string;
  /** Static addresses of the guest on this vif, without prefix length; the backend answers ARP for no others. */
  ipv4: string[];
  /** Addresses that the guest has configured and that are not its own yet: only on the switch, which keeps them silent. */
  also?: string[] | undefined;
  /** What the guest may send, in kbit/s; no limit when left out. Needs the switch. */
  rateKbit?: number | undefined;
  /** It forwards for others: it may send IPv4 from any address. When left out, on the switch from its own only; netback asks nobody. */
  lockingMode?: 'unlocked' | undefined;
  /**
   * It has an IPv6 address, made of its MAC or another one: by multicast it is asked for. netback hands on all multicasts to it then; the switch questions for
   * addresses that are made of a MAC to whose that is, always, and to one with another address all broadcasts and multicasts.
   */
  ipv6?: 'from-mac' | 'other' | undefined;
}

export interface DomainConfig extends DomainShape {
  uuid: Uuid;
  name: string;
  /** Command line of the guest, at most 1,023 bytes. */
  cmdline: string;
  vifs: VifConfig[];
  vbds?: VbdConfig[] | undefined;
}

/** rx is what the guest received. Dropped: it had no buffers, or was not allowed to send that. */
export interface VifCounters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  rxDropped: number;
  txDropped: number;
}

/** Of the switch since it was started. */
export interface SwitchTotals {
  vifs: number;
  frames: number;
  bytes: number;
  /** Turns of its loop that moved frames, and calls that copied them. */
  turns: number;
  copies: number;
  dropped: number;
  memoryKib: number;
}

export interface VifPlace {
  domid: Domid;
  handle: number;
}

/** An address that leaves one vif of a network, or goes to one, or both. */
export interface AddressMove {
  network: string;
  ip: string;
  from: VifPlace | undefined;
  to: VifPlace | undefined;
  /** So long `from` keeps the connections it has. */
  drainMs: number;
}

export type DomainState = 'running' | 'paused' | 'shutdown' | 'crashed' | 'dying';

export interface DomainFacts {
  domid: Domid;
  uuid: Uuid;
  state: DomainState;
  /** Why it is shut down; undefined in any other state. */
  shutdownReason?: 'poweroff' | 'reboot' | 'suspend' | undefined;
  /** True for domains made by this toolstack (their uuid says so, see model/uuid.ts); others (dom0, xl's) are never touched. */
  ours: boolean;
  /** True once `seal` was done: the domain is whole. */
  sealed: boolean;
  /** What `seal` was given. Empty when not sealed. */
  record: string;
  /** Of its own; pages that it shares with others do not count. */
  memoryKib: number;
  cpuTimeNs: bigint;
}

export interface Hypervisor {
  /** Blocking: microseconds to milliseconds. */
  facts(): Promise<HostFacts>;

  /** Makes an empty, paused domain with its memory limit. Throws HOST_NOT_ENOUGH_FREE_MEMORY, HOST_LIMIT, HYPERCALL_FAILED. */
  create(shape: DomainShape): Promise<Domid>;
  /**
   * Populates memory, lays in image, page tables, start info; leaves the vCPU ready and connects what can be without an identity. Throws
   * HOST_NOT_ENOUGH_FREE_MEMORY, IMAGE_*, SWITCH_*. With `from`, a snapshot of a domain of this shape, it becomes a copy of that one.
   */
  build(domid: Domid, shape: DomainShape, from?: Snapshot): Promise<void>;
  /**
   * Gives the domain, which has the shape of `config`, its uuid, command line and addresses, and its devices' nodes in the store; waits (bounded)
   * until its disks are taken. Throws DISK_IN_USE, DISK_UNUSABLE, VBD_FAILED.
   */
  register(domid: Domid, config: DomainConfig): Promise<void>;
  /** Where a backend makes a device of its own: waits (bounded) for it and connects it to its network. Throws VIF_FAILED, NETWORK_UNKNOWN. */
  attachVif(domid: Domid, vif: VifConfig): Promise<void>;
  /** Marks the domain whole, with a record (JSON, at most 2,048 bytes) that `list` gives back for as long as the domain lives. */
  seal(domid: Domid, record: string): Promise<void>;
  unpause(domid: Domid): Promise<void>;

  pause(domid: Domid): Promise<void>;
  /** Asks the guest to power off ("poweroff") or reboot; does not wait for it. */
  requestShutdown(domid: Domid, reason: 'poweroff' | 'reboot' | 'suspend'): Promise<void>;
  /** Has a running guest suspend itself, copies it and lets it go on. Throws TIMEOUT, VALUE_NOT_SUPPORTED, HYPERCALL_FAILED. */
  snapshot(domid: Domid, shape: DomainShape): Promise<Snapshot>;
  /** Has a running guest suspend itself and waits for it. Throws TIMEOUT; the guest may then still do so later. */
  suspend(domid: Domid): Promise<void>;
  /**
   * Of a domain that suspended itself, or that runs and is about to: then what takes long is done before. `passes`: there will be several. Throws
   * HYPERCALL_FAILED (also for one that runs and cannot be looked at yet), VALUE_NOT_SUPPORTED.
   */
  readMemory(domid: Domid, shape: DomainShape, passes: boolean): MemoryReader;
  /**
   * Of a domain that is still empty, and that only `writeMemory` will fill: what needs nothing of its memory is done now, so that `register` and `seal`, with the
   * same config and record, have less to do. It is sealed from now on, so the record itself must say that the domain is not whole. An adapter may
   * leave all of it for later.
   */
  sealEarly(domid: Domid, config: DomainConfig, record: string): Promise<void>;
  /** In place of `build`. Throws HOST_NOT_ENOUGH_FREE_MEMORY, VALUE_NOT_SUPPORTED. */
  writeMemory(domid: Domid, shape: DomainShape): MemoryWriter;
  /** What guests may have seen of the processors, as a set of bits: a guest can move to where all of its host's bits are set. */
  cpuFeatures(): Promise<Uint8Array>;
  /** A domain that suspended itself (shut down with that reason) goes on where it is. */
  resume(domid: Domid): Promise<void>;
  /** Kills the domain and removes its devices and store nodes. Idempotent; resolves when Xen has freed the domain. */
  destroy(domid: Domid): Promise<void>;

  /** Every domain but dom0. */
  list(): Promise<DomainFacts[]>;
  /** One domain, or undefined when there is none; never a walk over all. */
  get(domid: Domid): Promise<DomainFacts | undefined>;

  /** Last bytes of the guest's console still in its ring (at most 2 KiB) beyond `cursor`, for live and for crashed domains. */
  readConsole(domid: Domid, cursor: number): Promise<{ text: Uint8Array; cursor: number }>;
  /** Types into the guest's console; returns the number of bytes taken (the ring holds 1 KiB). */
  writeConsole(domid: Domid, text: Uint8Array): Promise<number>;

  /** No domain of this image will be made any more: lets go of what was kept for all of them. Running ones are not touched. */
  forgetImage(digest: Digest): Promise<void>;

  /** Requests to a store since the adapter was opened, and those of them that changed it; an adapter without a store has none. */
  storeCounts?(): { requests: number; changes: number };

  /** What went through a vif since the backend began; undefined where the backend does not tell. */
  vifCounters(domid: Domid, handle: number): Promise<VifCounters | undefined>;

  /**
   * Copies all frames of a vif, both ways, into a file in the format of pcap; without a path that ends. It ends by itself with the vif, and
   * when the file cannot be written. The path may be that of a FIFO which is being read: then a full pipe costs whole frames and no time,
   * and a record that keeps nothing and has no length tells, as its time, how many were lost so far. A vif has one mirror; another takes
   * its place. False where the backend cannot. Throws SWITCH_REFUSED, SWITCH_UNAVAILABLE.
   */
  mirrorVif(domid: Domid, handle: number, path?: string): Promise<boolean>;

  /**
   * Gives a running guest's device 0 these addresses and waits until it has them; its first one it keeps in any case. Throws
   * VALUE_NOT_SUPPORTED where its kernel cannot, or its devices came from the store.
   */
  setGuestAddresses(domid: Domid, ipv4: readonly string[]): Promise<void>;
  /**
   * From now on new connections to the address reach `to`; the guests are not told. Whatever moment this process or the backend ends at, one of
   * them has it. Done before is well. Throws SWITCH_REFUSED, SWITCH_UNAVAILABLE, VALUE_NOT_SUPPORTED where there is no switch.
   */
  moveAddress(move: AddressMove): Promise<void>;
  /**
   * For `ms` (0: no longer) ARP is answered for an address that no running guest has, and the first frames for it wait until one does and is
   * up. `mac`: of a guest that comes from elsewhere, so that for those outside only its place changes. Throws as moveAddress; SWITCH_REFUSED with errno EEXIST where
   * a guest that runs has it.
   */
  holdAddress(network: string, ip: string, ms: number, mac?: string): Promise<void>;
  /** Everybody outside is told that the address is here (gratuitous ARP), and its guest gets what waited for it. Throws as moveAddress; SWITCH_REFUSED with errno ENOENT where no guest has it. */
  announceAddress(network: string, ip: string): Promise<void>;
  /** Undefined where nobody has it, or there is no switch. */
  addressTraffic(network: string, ip: string): Promise<AddressTraffic | undefined>;

  /** Undefined where there is no switch, or none that answers soon. */
  switchTotals?(): Promise<SwitchTotals | undefined>;

  /** Networks the adapter can attach vifs to. */
  networks(): string[];

  /** "Look at this domain again": it shut down, crashed or went away. Returns the unsubscriber. */
  onChange(listener: (domid: Domid) => void): () => void;

  close(): Promise<void>;
}
