/**
 * What a VM is to be: creating, cloning and changing records. Checks first, changes after; a change that throws changed nothing.
 */
import type { VifBackend } from '../hypervisor/port.ts';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import { newVmUuid } from '../model/uuid.ts';
import type { Vbd } from './disks.ts';
import type { Fleet, GivenVif } from './fleet.ts';
import { refOf } from './refs.ts';
import {
  checkArgs,
  checkMemory,
  checkName,
  checkOtherConfig,
  checkText,
  cmdlineOf,
  limits,
  sealOf,
  type Vif,
  type Vm,
} from './vm.ts';

export interface VmDefinition {
  name: string;
  description?: string;
  /** Digest of a known image. */
  image: string;
  memoryKib: number;
  args?: string;
  otherConfig?: Record<string, string>;
  /** For a VM with one vif from the start: its network, and the address if it is to be a certain one. */
  network?: string;
  ipv4?: string;
  /** Or several, numbered in this order; each with the address it is to have, or one assigned. */
  vifs?: readonly VifDefinition[];
  backend?: VifBackend | undefined;
  rateKbit?: number | undefined;
  lockingMode?: 'unlocked' | undefined;
  /** Disks, by name or uuid, numbered in this order. */
  disks?: readonly DiskDefinition[] | undefined;
}

export interface DiskDefinition {
  disk: string;
  readonly?: boolean | undefined;
}

export class Definitions {
  readonly #fleet: Fleet;
  readonly #hasImage: (digest: Digest) => boolean;

  constructor(fleet: Fleet, hasImage: (digest: Digest) => boolean) {
    this.#fleet = fleet;
    this.#hasImage = hasImage;
  }

  /** A new halted VM, in the fleet but not yet kept in the journal. `promised`: its name was promised to the caller. */
  make(definition: VmDefinition, promised = false): Vm {
    const vm = this.#check(definition);
    this.#fleet.add(vm, promised);
    try {
      for (const [handle, { network, ...given }] of vifsOf(definition).entries()) this.#fleet.addVif(vm, handle, network, given);
      for (const [index, vbd] of this.#vbdsOf(definition).entries()) this.#fleet.addVbd(vm, { index, ...vbd });
      cmdlineOf(vm, (name) => this.#fleet.network(name));
      sealOf(vm, false);
      return vm;
    } catch (error) {
      void this.#fleet.drop(vm);
      throw error;
    }
  }

  /** All that can be said against a definition without taking anything. */
  check(definition: VmDefinition): void {
    this.#check(definition);
    for (const { network } of vifsOf(definition)) this.#fleet.needNetwork(network);
    for (const { disk, readonly } of this.#vbdsOf(definition)) this.#fleet.disks.check(disk, readonly);
  }

  async create(definition: VmDefinition): Promise<Vm> {
    return this.#keepNew(this.make(definition));
  }

  /** A halted copy under another name, with addresses of its own. Throws NAME_IN_USE, VM_BAD_POWER_STATE, DISK_IN_USE. */
  async clone(source: Vm, name: string): Promise<Vm> {
    if (source.power !== 'Halted') {
      throw new ShoalError(
        'VM_BAD_POWER_STATE',
        `VM "${source.name}" is ${source.power.toLowerCase()}; only a halted VM can be cloned.`,
        {
          params: [refOf(source.uuid), 'halted', source.power.toLowerCase()],
          data: { vm: source.uuid },
        },
      );
    }
    expectShareable(source);
    const { description, image, memoryKib, args } = source;
    const { last_crash: _words, last_crash_at: _at, ...otherConfig } = source.otherConfig;
    const vm = this.make({ name, description, image, memoryKib, args, otherConfig });
    try {
      for (const vif of source.vifs)
        this.#fleet.addVif(vm, vif.handle, vif.network, { backend: vif.backend, rateKbit: vif.rateKbit, lockingMode: vif.lockingMode });
      for (const vbd of source.vbds) this.#fleet.addVbd(vm, { ...vbd });
    } catch (error) {
      void this.#fleet.drop(vm);
      throw error;
    }
    return this.#keepNew(vm);
  }

  async setName(vm: Vm, name: string): Promise<void> {
    checkName(name);
    cmdlineOf({ ...vm, name }, (network) => this.#fleet.network(network));
    this.#fleet.rename(vm, name);
    await this.#keep(vm);
  }

  async setDescription(vm: Vm, description: string): Promise<void> {
    vm.description = checkText('name_description', description, limits.descriptionBytes);
    await this.#keep(vm);
  }

  async setOtherConfig(vm: Vm, map: Record<string, string>): Promise<void> {
    vm.otherConfig = { ...checkOtherConfig(map) };
    await this.#keep(vm);
  }

  /** Takes effect at the next start. */
  async setArgs(vm: Vm, args: string): Promise<void> {
    cmdlineOf({ ...vm, args: checkArgs(args) }, (network) => this.#fleet.network(network));
    vm.args = args;
    await this.#keep(vm);
  }

  /** Takes effect at the next start. Throws IMAGE_UNKNOWN. */
  async setImage(vm: Vm, image: string): Promise<void> {
    this.#fleet.setImage(vm, this.#image(image));
    await this.#keep(vm);
  }

  async setMemory(vm: Vm, memoryKib: number): Promise<void> {
    this.#expectHalted(vm);
    vm.memoryKib = checkMemory(memoryKib);
    await this.#keep(vm);
  }

  /** Halted VMs only. `handle` undefined takes the next free one. Throws NETWORK_UNKNOWN, ADDRESS_*, DEVICE_ALREADY_EXISTS. */
  async addVif(vm: Vm, handle: number | undefined, network: string, given: Pick<GivenVif, 'mac' | 'ipv4' | 'lockingMode'>): Promise<Vif> {
    this.#expectHalted(vm);
    const used = new Set(vm.vifs.map((vif) => vif.handle));
    let free = 0;
    while (used.has(free)) free++;
    const chosen = handle ?? free;
    if (used.has(chosen))
      throw new ShoalError('DEVICE_ALREADY_EXISTS', `The VM has a vif ${chosen} already.`, { params: [String(chosen)] });
    if (!Number.isInteger(chosen) || chosen < 0 || chosen >= limits.vifs) {
      throw new ShoalError('VALUE_NOT_SUPPORTED', `A VM has vifs 0 to ${limits.vifs - 1}.`, {
        params: ['device', String(chosen), `0 to ${limits.vifs - 1}`],
      });
    }
    const vif = this.#fleet.addVif(vm, chosen, network, given);
    try {
      cmdlineOf(vm, (name) => this.#fleet.network(name));
      sealOf(vm, false);
    } catch (error) {
      this.#fleet.removeVif(vm, vif);
      throw error;
    }
    await this.#keep(vm);
    return vif;
  }

  async removeVif(vm: Vm, vif: Vif): Promise<void> {
    this.#expectHalted(vm);
    this.#fleet.removeVif(vm, vif);
    await this.#keep(vm);
  }

  /** Halted VMs only. `index` undefined takes the next free one. Throws DISK_UNKNOWN, DISK_IN_USE, DEVICE_ALREADY_EXISTS. */
  async addVbd(vm: Vm, index: number | undefined, disk: string, readonly: boolean): Promise<Vbd> {
    this.#expectHalted(vm);
    const used = new Set(vm.vbds.map((vbd) => vbd.index));
    let free = 0;
    while (used.has(free)) free++;
    const chosen = index ?? free;
    if (used.has(chosen)) throw new ShoalError('DEVICE_ALREADY_EXISTS', `The VM has a disk ${chosen} already.`, { params: [String(chosen)] });
    if (!Number.isInteger(chosen) || chosen < 0 || chosen >= limits.vbds) throw diskNumber(String(chosen));
    expectNetback(vm.vifs);
    const vbd = this.#fleet.addVbd(vm, { index: chosen, disk: this.#fleet.disks.need(disk).uuid, readonly });
    try {
      sealOf(vm, false);
    } catch (error) {
      this.#fleet.removeVbd(vm, vbd);
      throw error;
    }
    await this.#keep(vm);
    return vbd;
  }

  async removeVbd(vm: Vm, vbd: Vbd): Promise<void> {
    this.#expectHalted(vm);
    this.#fleet.removeVbd(vm, vbd);
    await this.#keep(vm);
  }

  #vbdsOf(definition: VmDefinition): Omit<Vbd, 'index'>[] {
    const { disks = [] } = definition;
    if (disks.length > limits.vbds) throw diskNumber(String(disks.length));
    if (disks.length > 0) expectNetback(vifsOf(definition));
    return disks.map(({ disk, readonly }) => ({ disk: this.#fleet.disks.need(disk).uuid, readonly: readonly ?? false }));
  }

  async setVifAddress(vm: Vm, vif: Vif, address: string): Promise<void> {
    this.#expectHalted(vm);
    this.#fleet.setAddress(vm, vif, address);
    this.#fleet.emit({ of: 'vif', kind: 'mod', vm: vm.uuid, handle: vif.handle });
    await this.#keep(vm);
  }

  /** Halted VMs only; kept from its next start on. */
  async setLockingMode(vm: Vm, vif: Vif, lockingMode: 'unlocked' | undefined): Promise<void> {
    this.#expectHalted(vm);
    if (lockingMode === undefined) delete vif.lockingMode;
    else vif.lockingMode = lockingMode;
    this.#fleet.emit({ of: 'vif', kind: 'mod', vm: vm.uuid, handle: vif.handle });
    await this.#keep(vm);
  }

  #check(d: VmDefinition): Vm {
    return {
      uuid: newVmUuid(),
      name: checkName(d.name),
      description: checkText('name_description', d.description ?? '', limits.descriptionBytes),
      image: this.#image(d.image),
      memoryKib: checkMemory(d.memoryKib),
      args: checkArgs(d.args ?? ''),
      vifs: [],
      vbds: [],
      otherConfig: { ...checkOtherConfig(d.otherConfig ?? {}) },
      wanted: 'halted',
      power: 'Halted',
      domid: undefined,
      startedMs: 0,
    };
  }

  #image(text: string): Digest {
    if (isDigest(text) && this.#hasImage(text)) return text;
    throw new ShoalError('IMAGE_UNKNOWN', text === '' ? 'The VM has no image.' : `This host has no image ${text.slice(0, 80)}.`, {
      data: { image: text.slice(0, 80) },
    });
  }

  async #keepNew(vm: Vm): Promise<Vm> {
    try {
      await this.#fleet.keep(vm);
      return vm;
    } catch (error) {
      void this.#fleet.drop(vm).catch(() => {});
      throw error;
    }
  }

  async #keep(vm: Vm): Promise<void> {
    this.#fleet.changed(vm);
    await this.#fleet.keep(vm);
  }

  #expectHalted(vm: Vm): void {
    if (vm.power === 'Halted' && vm.domid === undefined) return;
    throw new ShoalError('VM_BAD_POWER_STATE', `VM "${vm.name}" is ${vm.power.toLowerCase()}; this needs it halted.`, {
      params: [refOf(vm.uuid), 'halted', vm.power.toLowerCase()],
      data: { vm: vm.uuid },
    });
  }
}

const diskNumber = (value: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', `A VM has disks 0 to ${limits.vbds - 1}.`, { params: ['userdevice', value, `0 to ${limits.vbds - 1}`] });

/** Two VMs that write to one disk would ruin it. Throws DISK_IN_USE. */
export function expectShareable(vm: Vm): void {
  const writable = vm.vbds.find(({ readonly }) => !readonly);
  if (writable === undefined) return;
  throw new ShoalError('DISK_IN_USE', `VM "${vm.name}" writes to a disk, which a copy of it cannot have too.`, {
    hint: 'Make a new VM with a disk of its own (shoal disk create, shoal vm create --disk).',
    data: { vm: vm.uuid, disk: writable.disk },
  });
}

/** A guest with disks takes all its devices from the store. Throws VALUE_NOT_SUPPORTED. */
function expectNetback(vifs: readonly { backend?: VifBackend | undefined }[]): void {
  if (!vifs.some(({ backend }) => backend === 'switch')) return;
  const why = 'a VM with disks has its vifs by netback';
  throw new ShoalError('VALUE_NOT_SUPPORTED', why, { hint: 'Leave the backend out, or use netback.', params: ['backend', 'switch', why] });
}

interface VifDefinition extends Omit<GivenVif, 'mac'> {
  network: string;
}

const vifsOf = ({ vifs, network, ipv4, backend, rateKbit, lockingMode }: VmDefinition): readonly VifDefinition[] =>
  vifs ?? (network === undefined ? [] : [{ network, ipv4, backend, rateKbit, lockingMode }]);
