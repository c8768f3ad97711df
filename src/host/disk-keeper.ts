/**
 * Makes and removes disks: a file each in one folder, an entry each in the journal. The entry comes first and goes last, and a file gets its
 * name when it is whole: after a kill a disk without its file was never made, or was being removed, and is forgotten. A file without an
 * entry (the journal was lost) is taken in, never removed.
 */
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { isUuid, type Uuid } from '../model/ids.ts';
import type { Disk, DiskBook } from './disks.ts';
import type { Fleet } from './fleet.ts';
import { checkName, checkText, limits } from './vm.ts';

export interface DiskSpec {
  name: string;
  description?: string;
  /** Of a new file; a multiple of 512. */
  sizeBytes?: number;
  /** A block device of dom0, in place of a new file. */
  device?: string;
  /** What a new file holds at first: nothing, or an empty object store. */
  format?: 'blank' | 'store';
}

export interface DiskKeeperOptions {
  fleet: Fleet;
  /** Makes a file of zeros an object store. */
  makeStore: ((path: string) => Promise<void>) | undefined;
  log: (line: string) => void;
}

const diskBytes = { least: 64 * 1024, most: 2 ** 44 } as const;

export class DiskKeeper {
  readonly #o: DiskKeeperOptions;
  /** Names of disks that are being made. */
  readonly #making = new Set<string>();

  constructor(options: DiskKeeperOptions) {
    this.#o = options;
  }

  get #book(): DiskBook {
    return this.#o.fleet.disks;
  }

  /** Makes the folder agree with what the journal says. */
  async open(known: Iterable<Disk>): Promise<void> {
    const { folder } = this.#book;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const names = new Set(await readdir(folder));
    for (const name of names) if (name.endsWith('.part')) await rm(join(folder, name));
    for (const disk of known) {
      const isThere = names.delete(`${disk.uuid}.img`);
      if (isThere || disk.device !== '') this.#book.add(disk);
      else {
        this.#o.log(`disk ${disk.name}: it has no file; it was not made, or removed`);
        await this.#o.fleet.journal?.append({ undisk: disk.uuid });
      }
    }
    for (const name of names) {
      const uuid = name.replace(/\.img$/, '');
      if (uuid === name || !isUuid(uuid)) continue;
      const disk: Disk = { uuid, name: `found-${uuid}`, description: '', sizeBytes: (await stat(join(folder, name))).size, device: '' };
      this.#o.log(`disk ${disk.name}: a file that the journal does not know; taken in`);
      this.#book.add(disk);
      await this.#o.fleet.journal?.append({ disk });
    }
  }

  /** Throws NAME_IN_USE, VALUE_NOT_SUPPORTED, DISK_FULL, DISK_IN_USE, DISK_UNUSABLE. */
  async create(spec: DiskSpec): Promise<Disk> {
    const name = checkName(spec.name);
    if (this.#book.isNamed(name) || this.#making.has(name)) {
      throw new ShoalError('NAME_IN_USE', `The name "${name}" is in use.`, { hint: 'Choose another name, or destroy the disk that has this one.', data: { name } });
    }
    this.#making.add(name);
    try {
      const description = checkText('name_description', spec.description ?? '', limits.descriptionBytes);
      const made = spec.device === undefined || spec.device === '' ? { device: '', sizeBytes: checkSize(spec.sizeBytes) } : await this.#device(spec.device);
      const disk: Disk = { uuid: randomUUID() as Uuid, name, description, ...made };
      if (disk.device === '') this.#room(disk.sizeBytes);
      await this.#o.fleet.journal?.append({ disk });
      if (disk.device === '') await this.#file(disk, spec.format ?? 'blank').catch((error: unknown) => this.#forget(disk, error));
      this.#book.add(disk);
      this.#o.fleet.emit({ of: 'disk', kind: 'add', disk: disk.uuid });
      return disk;
    } finally {
      this.#making.delete(name);
    }
  }

  /** With all it holds, unless it is a block device: that stays as it is. Throws DISK_IN_USE. */
  async destroy(disk: Disk): Promise<void> {
    this.#book.remove(disk);
    try {
      if (disk.device === '') await rm(this.#book.pathOf(disk), { force: true });
      await this.#o.fleet.journal?.append({ undisk: disk.uuid });
    } catch (error) {
      this.#book.add(disk);
      throw error;
    }
    this.#o.fleet.emit({ of: 'disk', kind: 'del', disk: disk.uuid });
  }

  /** Bytes that a disk takes where it is kept; 0 when that cannot be told. */
  usedBytes(disk: Disk): number {
    if (disk.device !== '') return 0;
    return (statSync(this.#book.pathOf(disk), { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  }

  /** Of the file system that disks are kept on; both 0 where it has no bounds of its own. */
  space(): { totalBytes: number; freeBytes: number } {
    const { bsize, blocks, bavail } = statfsSync(this.#book.folder);
    return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
  }

  #room(sizeBytes: number): void {
    const { totalBytes, freeBytes } = this.space();
    if (totalBytes === 0 || sizeBytes <= freeBytes) return;
    throw new ShoalError('DISK_FULL', `${sizeBytes} bytes are asked for, ${freeBytes} are free where disks are kept.`, { data: { sizeBytes, freeBytes } });
  }

  async #file(disk: Disk, format: 'blank' | 'store'): Promise<void> {
    const path = this.#book.pathOf(disk);
    const part = `${path}.part`;
    try {
      const file = await open(part, 'wx', 0o600);
      try {
        await file.truncate(disk.sizeBytes);
        await file.sync();
      } finally {
        await file.close();
      }
      if (format === 'store') {
        if (this.#o.makeStore === undefined) throw new ShoalError('VALUE_NOT_SUPPORTED', 'This agent makes no object stores.');
        await this.#o.makeStore(part);
      }
      await rename(part, path);
      const folder = await open(this.#book.folder, 'r');
      await folder.sync().finally(() => folder.close());
    } catch (error) {
      await rm(part, { force: true });
      throw error;
    }
  }

  async #forget(disk: Disk, error: unknown): Promise<never> {
    await this.#o.fleet.journal?.append({ undisk: disk.uuid });
    const { code, message } = asShoalError(error);
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw new ShoalError('DISK_FULL', message, { cause: error });
    if (code !== 'INTERNAL_ERROR') throw error;
    throw new ShoalError('DISK_UNUSABLE', `The disk "${disk.name}" cannot be made: ${message}`, { cause: error });
  }

  async #device(given: string): Promise<{ device: string; sizeBytes: number }> {
    const refuse = (why: string, cause?: unknown): ShoalError => new ShoalError('DISK_UNUSABLE', `${given.slice(0, 200)}: ${why}`, { cause });
    if (!/^\/dev\/[\x21-\x7e]{1,200}$/.test(given)) throw refuse('a block device below /dev is wanted');
    let device: string;
    let sizeBytes: number;
    try {
      device = await realpath(given);
      const about = await stat(device, { bigint: true });
      if (!about.isBlockDevice()) throw new Error('it is no block device');
      sizeBytes = Number(await readFile(`/sys/class/block/${device.slice(device.lastIndexOf('/') + 1)}/size`, 'utf8')) * 512;
    } catch (cause) {
      throw refuse((cause as Error).message, cause);
    }
    for (const disk of this.#book.all()) {
      if (disk.device === device) throw new ShoalError('DISK_IN_USE', `${device} is the disk "${disk.name}" already.`, { data: { disk: disk.uuid } });
    }
    return { device, sizeBytes };
  }
}

function checkSize(sizeBytes: number | undefined): number {
  const { least, most } = diskBytes;
  if (sizeBytes !== undefined && Number.isSafeInteger(sizeBytes) && sizeBytes % 512 === 0 && sizeBytes >= least && sizeBytes <= most) return sizeBytes;
  const why = `a multiple of 512 from ${least} to ${most} bytes`;
  throw new ShoalError('VALUE_NOT_SUPPORTED', `virtual_size: ${why}`, { params: ['virtual_size', String(sizeBytes ?? ''), why] });
}

