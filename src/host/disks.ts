/**
 * The disks of this host and which VM has which: in memory, pure. A disk is a file that the agent keeps, or a block device of dom0 that it was
 * told of. One VM may have it to write, or any number to read; that holds for halted VMs too, so that a start never finds it taken.
 */
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { isUuid, type Uuid } from '../model/ids.ts';

export interface Disk {
  readonly uuid: Uuid;
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  /** Path of the block device in dom0 that it is; '' for a file the agent keeps. */
  readonly device: string;
}

/** A disk in a VM: its number there is 51712 + 16 * index. */
export interface Vbd {
  index: number;
  disk: Uuid;
  readonly: boolean;
}

export class DiskBook {
  /** Where the agent keeps disks. */
  readonly folder: string;
  readonly #disks = new Map<Uuid, Disk>();
  readonly #names = new Map<string, Uuid>();
  /** Disk to who has it, VM and index, and whether only to read. */
  readonly #users = new Map<Uuid, Map<string, { vm: Uuid; readonly: boolean }>>();

  constructor(folder: string) {
    this.folder = folder;
  }

  all(): IterableIterator<Disk> {
    return this.#disks.values();
  }

  get(uuid: string): Disk | undefined {
    return this.#disks.get(uuid as Uuid);
  }

  /** By name or uuid. Throws DISK_UNKNOWN. */
  need(word: string): Disk {
    const disk = this.get(this.#names.get(word) ?? word);
    if (disk === undefined) throw new ShoalError('DISK_UNKNOWN', `This host has no disk "${word.slice(0, 80)}".`, { data: { disk: word.slice(0, 80) } });
    return disk;
  }

  isNamed(name: string): boolean {
    return this.#names.has(name);
  }

  /** Path in dom0. */
  pathOf(disk: Disk): string {
    return disk.device === '' ? join(this.folder, `${disk.uuid}.img`) : disk.device;
  }

  add(disk: Disk): void {
    this.#disks.set(disk.uuid, disk);
    this.#names.set(disk.name, disk.uuid);
  }

  /** Throws DISK_IN_USE. */
  remove(disk: Disk): void {
    const [first] = this.users(disk.uuid);
    if (first !== undefined) {
      throw new ShoalError('DISK_IN_USE', `The disk "${disk.name}" belongs to a VM.`, { hint: 'Destroy the VM first.', data: { disk: disk.uuid, vm: first.vm } });
    }
    this.#disks.delete(disk.uuid);
    this.#names.delete(disk.name);
  }

  users(disk: Uuid): { vm: Uuid; index: number; readonly: boolean }[] {
    return [...(this.#users.get(disk) ?? [])].map(([key, { vm, readonly }]) => ({ vm, readonly, index: Number(key.slice(key.indexOf('/') + 1)) }));
  }

  /** Whether one more VM may have it so. Throws DISK_UNKNOWN, DISK_IN_USE. */
  check(uuid: Uuid, readonly: boolean): void {
    const { name } = this.need(uuid);
    const other = this.users(uuid).find((user) => !user.readonly || !readonly);
    if (other === undefined) return;
    const why = other.readonly ? 'others read it' : 'it is written to by another VM';
    throw new ShoalError('DISK_IN_USE', `The disk "${name}" cannot be had ${readonly ? 'read-only' : 'to write'}: ${why}.`, { data: { disk: uuid, vm: other.vm } });
  }

  /** `restored`: as it was before, whatever others have. Throws as `check`. */
  claim(vm: Uuid, { index, disk, readonly }: Vbd, restored = false): void {
    if (!restored) this.check(disk, readonly);
    const users = this.#users.get(disk) ?? new Map<string, { vm: Uuid; readonly: boolean }>();
    this.#users.set(disk, users.set(`${vm}/${index}`, { vm, readonly }));
  }

  release(vm: Uuid, { index, disk }: Vbd): void {
    const users = this.#users.get(disk);
    users?.delete(`${vm}/${index}`);
    if (users?.size === 0) this.#users.delete(disk);
  }
}

/** A disk as the journal keeps it; undefined when it is none. */
export function diskFrom(value: unknown): Disk | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { uuid, name, description, sizeBytes, device } = value as Record<string, unknown>;
  if (typeof uuid !== 'string' || !isUuid(uuid) || typeof name !== 'string' || typeof description !== 'string') return undefined;
  if (typeof sizeBytes !== 'number' || typeof device !== 'string') return undefined;
  return { uuid, name, description, sizeBytes, device };
}

/** The disks in a record of a VM; none when it says nothing of them. Undefined when it is malformed. */
export function vbdsFrom(value: unknown): Vbd[] | undefined {
  if (value === undefined) return [];
  if (!Array.isArray(value)) return undefined;
  const vbds: Vbd[] = [];
  for (const each of value as Record<string, unknown>[]) {
    if (typeof each !== 'object' || each === null) return undefined;
    const { index, disk, readonly } = each;
    if (!Number.isInteger(index) || typeof disk !== 'string' || !isUuid(disk) || typeof readonly !== 'boolean') return undefined;
    vbds.push({ index: index as number, disk, readonly });
  }
  return vbds;
}
