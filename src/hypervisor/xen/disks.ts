/**
 * Block devices of guests, by dom0's xen-blkback. A file becomes a loop device that Linux takes away when its last user closes it: this agent
 * at first, then blkback. So nothing has to be remembered, and nothing is left over, whoever dies when. What is in use is asked of the
 * kernel: which loop devices have a file, which devices blkback has for guests.
 */
import { closeSync, existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../../model/errors.ts';
import { calling, type Native } from './native.ts';
import type { VbdConfig } from '../port.ts';

/** What stands in the store of a disk beside its number. */
export interface VbdNodes {
  index: number;
  readonly: boolean;
  path: string;
  /** "7:0" in hexadecimal digits, as blkback wants it. */
  physicalDevice: string;
}

export const mostVbds = 4;
/** xvda, xvdb, …: as every toolstack numbers them. */
export const vbdNumber = (index: number): number => 51_712 + 16 * index;
export const vbdName = (index: number): string => `xvd${String.fromCharCode(97 + index)}`;

const waitMs = 10_000;
const goneMs = 30_000;
/** A loop device outlives the guest that had it by the time blkback's own clearing takes. */
const freeMs = 5_000;
const complaintMs = 100;

export class Disks {
  private readonly native: Pick<Native, 'attachLoop'>;
  private readonly root: string;
  /** Loop devices that blkback has not opened yet, by domid. */
  private readonly held = new Map<number, number[]>();

  /** `root`: where `sys` is, for tests. */
  constructor(native: Pick<Native, 'attachLoop'>, root = '/') {
    this.native = native;
    this.root = root;
  }

  /** Block devices for a domain's disks; they are held until `taken` or `release`. Throws DISK_IN_USE, DISK_UNUSABLE, VALUE_NOT_SUPPORTED. */
  async open(domid: number, vbds: readonly VbdConfig[]): Promise<VbdNodes[]> {
    if (vbds.length > mostVbds) throw new ShoalError('VALUE_NOT_SUPPORTED', `a VM has at most ${mostVbds} disks`);
    const nodes: VbdNodes[] = [];
    try {
      for (const { index, path, readonly } of vbds) nodes.push({ index, path, readonly, physicalDevice: await this.device(domid, path, readonly) });
      return nodes;
    } catch (error) {
      this.release(domid);
      throw error;
    }
  }

  /** Waits until blkback has opened all of them. `why` says what the kernel complains of. Throws VBD_FAILED. */
  async taken(domid: number, vbds: readonly VbdConfig[], why: (index: number) => Promise<string | undefined>): Promise<void> {
    try {
      for (const { index } of vbds) await this.opened(domid, index, why);
    } finally {
      this.release(domid);
    }
  }

  private async opened(domid: number, index: number, why: (index: number) => Promise<string | undefined>): Promise<void> {
    const sign = join(this.backendFolder(domid, index), 'physical_device');
    const begun = performance.now();
    let asked = begun;
    for (let pauseMs = 1; !existsSync(sign); pauseMs = Math.min(2 * pauseMs, 32)) {
      const now = performance.now();
      const late = now - begun > waitMs;
      if (late || now - asked > complaintMs) {
        asked = now;
        const reason = await why(index);
        if (reason !== undefined || late) {
          const what = reason === undefined ? `nothing within ${waitMs} ms` : reason;
          throw new ShoalError('VBD_FAILED', `dom0 does not take disk ${index} of domain ${domid}: ${what}`, { data: { domid, index } });
        }
      }
      await sleep(pauseMs);
    }
  }

  /** Lets go of what blkback was not given. */
  release(domid: number): void {
    for (const fd of this.held.get(domid) ?? []) closeSync(fd);
    this.held.delete(domid);
  }

  /** Resolves once blkback has none of the domain's disks any more, and nothing is on its way to them. */
  async gone(domid: number): Promise<void> {
    const folders = Array.from({ length: mostVbds }, (_, index) => this.backendFolder(domid, index));
    const begun = performance.now();
    for (let pauseMs = 1; folders.some((folder) => existsSync(folder)); pauseMs = Math.min(2 * pauseMs, 32)) {
      if (performance.now() - begun > goneMs) throw new ShoalError('VBD_FAILED', `dom0 still has disks of domain ${domid} after ${goneMs} ms`, { data: { domid } });
      await sleep(pauseMs);
    }
  }

  private backendFolder(domid: number, index: number): string {
    return join(this.root, `sys/bus/xen-backend/devices/vbd-${domid}-${vbdNumber(index)}`);
  }

  private async device(domid: number, given: string, readonly: boolean): Promise<string> {
    let path: string;
    let rdev: bigint | undefined;
    try {
      path = realpathSync(given);
      const about = statSync(path, { bigint: true });
      if (about.isBlockDevice()) rdev = about.rdev;
      else if (!about.isFile()) throw new Error('neither a file nor a block device');
      else if (about.size < 512n) throw new Error('it has not one sector');
    } catch (cause) {
      throw new ShoalError('DISK_UNUSABLE', `${given}: ${(cause as Error).message}`, { data: { path: given }, cause });
    }
    const begun = performance.now();
    while (rdev === undefined ? this.fileInUse(path, readonly) : this.deviceInUse(deviceText(rdev), readonly)) {
      if (performance.now() - begun > freeMs) throw inUse(given);
      await sleep(20);
    }
    if (rdev !== undefined) return deviceText(rdev);
    const { fd, major, minor } = this.loop(path, readonly);
    this.held.set(domid, [...(this.held.get(domid) ?? []), fd]);
    return `${major.toString(16)}:${minor.toString(16)}`;
  }

  private loop(path: string, readonly: boolean): { fd: number; major: number; minor: number } {
    try {
      return calling(`a loop device for ${path}`, () => this.native.attachLoop(path, readonly));
    } catch (cause) {
      const hint = 'Check that the file can be opened and that the module loop is loaded (`modprobe loop`).';
      throw cause instanceof ShoalError ? new ShoalError('DISK_UNUSABLE', cause.message, { hint, data: cause.data, cause }) : cause;
    }
  }

  /** A writer has it alone; readers share it. */
  private fileInUse(path: string, readonly: boolean): boolean {
    const blocks = join(this.root, 'sys/block');
    return list(blocks).some((name) => {
      if (!/^loop\d+$/.test(name) || read(join(blocks, name, 'loop/backing_file'))?.trim() !== path) return false;
      return !readonly || read(join(blocks, name, 'ro'))?.trim() !== '1';
    });
  }

  private deviceInUse(device: string, readonly: boolean): boolean {
    const backends = join(this.root, 'sys/bus/xen-backend/devices');
    return list(backends).some((name) => {
      if (!name.startsWith('vbd-') || read(join(backends, name, 'physical_device'))?.trim() !== device) return false;
      return !readonly || read(join(backends, name, 'mode'))?.trim() !== 'r';
    });
  }
}

/** glibc's makedev, backwards. */
function deviceText(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major.toString(16)}:${minor.toString(16)}`;
}

const inUse = (path: string): ShoalError =>
  new ShoalError('DISK_IN_USE', `another guest has ${path}, and one of the two would write to it`, { data: { path } });

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Undefined when there is no such file, or it went away meanwhile. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
