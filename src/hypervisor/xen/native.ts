/**
 * The addon's functions as TypeScript sees them (built from native/, which says what each does), and its errors as ShoalErrors.
 */
import { createRequire } from 'node:module';
import { ShoalError, type ErrorOptions } from '../../model/errors.ts';

export interface NativeMachine {
  major: number;
  minor: number;
  extra: string;
  totalKib: number;
  freeKib: number;
  cpus: number;
}

export interface NativeDomain {
  domid: number;
  /** The 16 bytes of its uuid. */
  handle: Buffer;
  /** domainFlags below. */
  flags: number;
  shutdownReason: number;
  totalPages: number;
  cpuTimeNs: bigint;
}

export const domainFlags = { dying: 1, shutdown: 2, paused: 4 } as const;
/** Reasons of xen/sched.h. */
export const shutdownReasons = ['poweroff', 'reboot', 'suspend', 'crash', 'watchdog'] as const;

export interface NativeLink {
  index: number;
  name: string;
  /** Link index of its bridge; 0 when it is in none. */
  master: number;
  kind: string;
  /** 1 in the news that it went away. */
  gone: number;
}

export interface NativeNeighbour {
  index: number;
  ipv4: string;
  mac: string;
}

export interface Built {
  /** 0 in a wired domain. */
  storeMfn: number;
  consoleMfn: number;
  startInfoMfn: number;
  /** Of a wired domain, in the order they were given. */
  vifs: { port: number; txMfn: number; rxMfn: number }[];
}

/** Pages of a template, at most (native/template.h). */
export const mostTemplatePages = 376;

/** The addon's own. */
export type NativeReader = { readonly nativeReader: unique symbol };
export type NativeWriter = { readonly nativeWriter: unique symbol };

export interface Native {
  /** `guestCpus`: a bitmap of the processors that guests run on; empty for all. */
  open(guestCpus: Uint8Array): void;
  close(): void;
  machine(): NativeMachine;
  create(handle: Uint8Array, memoryPages: number, maxEventPort: number, maxGrantFrames: number, wiredVifs: number): number;
  /** `wiredVifs`: handles, a byte each; undefined for a domain that is not wired. `template`: domid, or 0. */
  build(
    domid: number, memoryPages: number, image: Uint8Array, imageMemoryBytes: number, virtBase: bigint, entry: bigint,
    hypercallPage: bigint | undefined, wiredVifs: Uint8Array | undefined, template: number, apart: boolean,
  ): Built | Promise<Built>;
  makeTemplate(handle: Uint8Array, digest: Uint8Array, pages: Uint8Array): number;
  /** Its number of pages; 0 when the domain is no template of that digest. */
  findTemplate(domid: number, digest: Uint8Array): number;
  name(domid: number, handle: Uint8Array, startInfoMfn: number, commandLine: string, macs: Uint8Array): void;
  setHandle(domid: number, handle: Uint8Array): void;
  order(domid: number, word: number): void;
  readMemory(domid: number, virtBase: bigint, template: number, passes: boolean): NativeReader;
  readAgain(reader: NativeReader): void;
  /** Empty at the end of a pass. */
  readPiece(reader: NativeReader): Buffer;
  readState(reader: NativeReader): Buffer;
  writeMemory(domid: number, memoryPages: number, template: number): NativeWriter;
  writePiece(writer: NativeWriter, piece: Uint8Array): void;
  /** Closes the writer. With `commandLine` and `macs` the domain is named as by name(), but for its handle. */
  writeEnd(writer: NativeWriter, state: Uint8Array, vifCount: number, commandLine: string | undefined, macs: Uint8Array | undefined): Built;
  closeMemory(handle: NativeReader | NativeWriter): void;
  cpuFeatures(): Buffer;
  /** Addresses of 4 bytes each, at most 8, for a wired guest's device 0; with `ring` it is ordered to take them. Returns the number of the list. */
  readdress(domid: number, addresses: Uint8Array, ring: boolean): number;
  /** The number of the list that the guest has taken last; 0: none. */
  readdressed(domid: number): number;
  resume(domid: number): void;
  destroy(domid: number, apart: boolean): object | Promise<object>;
  pause(domid: number): void;
  unpause(domid: number): void;
  domain(domid: number): NativeDomain | undefined;
  /** As domain(), once it has shut down or so long is over, at most 10,000; other domains have the processor meanwhile. */
  awaitShutdown(domid: number, microseconds: number): NativeDomain | undefined;
  domains(): NativeDomain[];
  changedDomains(): number[];
  readConsole(domid: number, mfn: number, cursor: number): { text: Buffer; cursor: number };
  writeConsole(domid: number, mfn: number, text: Uint8Array): number;
  /** A file as a block device for as long as somebody has it open; `fd` is one who has. */
  attachLoop(path: string, readonly: boolean): { fd: number; major: number; minor: number };
  links(): NativeLink[];
  neighbours(): NativeNeighbour[];
  attachVif(vif: number, bridge: number, root: number, wayToShard: number, mac: Uint8Array, addresses: Uint8Array, multicast: boolean): void;
  detachVif(vif: number, bridge: number, root: number, wayToShard: number, mac: Uint8Array, addresses: Uint8Array, multicast: boolean): void;
  createBridge(name: string): number;
  createPair(rootSide: string, shardSide: string): [number, number];
  joinShard(root: number, rootSide: number, shard: number, shardSide: number): void;
  deleteLink(index: number): void;
  watchLinks(listener: (links: NativeLink[] | undefined) => void): void;
}

/** Throws HYPERVISOR_UNAVAILABLE when the addon or the Xen libraries it needs are not there. */
export function loadNative(path: string): Native {
  try {
    return createRequire(import.meta.url ?? __filename)(path) as Native;
  } catch (cause) {
    throw new ShoalError('HYPERVISOR_UNAVAILABLE', `the Xen addon ${path} cannot be loaded`, { cause });
  }
}

interface NativeFailure {
  message: string;
  call: string;
  errno: string;
}

function isFailure(thrown: unknown): thrown is NativeFailure {
  return thrown instanceof Error && 'call' in thrown && 'errno' in thrown;
}

/** The errno symbol of a failed native call; undefined for anything else that was thrown. */
export const failureErrno = (thrown: unknown): string | undefined => (isFailure(thrown) ? thrown.errno : undefined);

/** A failed native call as a ShoalError that names what was being done, call and errno. Anything else is passed through. */
export function nativeError(thrown: unknown, doing: string): unknown {
  if (!isFailure(thrown)) return thrown;
  const { call, errno } = thrown;
  const options: ErrorOptions = { data: { call, errno }, cause: thrown };
  const text = `${doing}: ${thrown.message} (${errno})`;
  if (call === 'xc_interface_open' || call === 'xencall_open' || call.endsWith('_open')) {
    return new ShoalError('HYPERVISOR_UNAVAILABLE', text, options);
  }
  if (call === 'layout') {
    if (errno === 'ENOSPC') return new ShoalError('IMAGE_TOO_LARGE', `${doing}: the image and its boot data do not fit into the memory of the VM`, options);
    if (errno === 'EINVAL') return new ShoalError('IMAGE_UNSUPPORTED', `${doing}: an address of the image is none that a PV kernel can have`, options);
  }
  if (errno === 'ENOMEM') return new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', text, options);
  if (errno === 'ENOSPC' && call.startsWith('xc_')) return new ShoalError('HOST_LIMIT', text, options);
  return new ShoalError('HYPERCALL_FAILED', text, options);
}

/** Runs a native call and turns its failure into a ShoalError. */
export function calling<T>(doing: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw nativeError(thrown, doing);
  }
}

export async function callingAsync<T>(doing: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw nativeError(thrown, doing);
  }
}
