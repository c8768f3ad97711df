/**
 * The VMs of this host and everything that finds one: by uuid, name, domain, address. Holds the invariants between them (a name,
 * an address, a MAC belongs to one VM; an image in use is known to be), writes what must outlive the agent to the journal, and
 * tells listeners what to look at again. Nothing here walks over all VMs but the journal's rewriting and the listings asked for.
 */
import type { VifBackend } from '../hypervisor/port.ts';
import { ShoalError } from '../model/errors.ts';
import type { Digest, Domid, Uuid } from '../model/ids.ts';
import { newVmUuid } from '../model/uuid.ts';
import { atMost } from '../journal/compaction.ts';
import type { Entry, Journal } from '../journal/journal.ts';
import { DiskBook, type Vbd } from './disks.ts';
import { AddressBook, MacBook, type Network } from './networks.ts';
import { refOf } from './refs.ts';
import { toJournal, type Vif, type Vm } from './vm.ts';

/** Something to look at again. `parts` says whether the VM's metrics (power, addresses) changed with it. */
export type Change =
  | { of: 'vm'; kind: 'add' | 'mod' | 'del'; vm: Uuid; parts: boolean }
  | { of: 'vif'; kind: 'add' | 'mod' | 'del'; vm: Uuid; handle: number }
  | { of: 'vbd'; kind: 'add' | 'mod' | 'del'; vm: Uuid; index: number; disk: Uuid }
  | { of: 'disk'; kind: 'add' | 'mod' | 'del'; disk: Uuid }
  | { of: 'host' };

/** What is said of a new vif; the rest is chosen. */
export interface GivenVif {
  mac?: string | undefined;
  ipv4?: string | undefined;
  also?: readonly string[] | undefined;
  /** Its addresses may be of another host's range in the same subnet: they came with the VM. */
  anywhere?: boolean | undefined;
  backend?: VifBackend | undefined;
  rateKbit?: number | undefined;
  lockingMode?: 'unlocked' | undefined;
}

export interface NetworkAddress {
  network: string;
  ip: string;
}

export class Fleet {
  readonly #vms = new Map<Uuid, Vm>();
  readonly #names = new Map<string, Uuid>();
  readonly #promisedNames = new Set<string>();
  readonly #domids = new Map<Domid, Uuid>();
  readonly #imageUses = new Map<Digest, number>();
  readonly #books = new Map<string, AddressBook>();
  readonly #macs = new MacBook();
  readonly #kept = new Set<Uuid>();
  readonly #listeners = new Set<(change: Change) => void>();
  readonly disks: DiskBook;
  /** Set once the journal is open. */
  journal: Journal | undefined;

  /** `diskFolder`: where the agent keeps disks. */
  constructor(networks: readonly Network[], diskFolder = '') {
    this.disks = new DiskBook(diskFolder);
    for (const network of networks) this.#books.set(network.name, new AddressBook(network));
  }

  get size(): number {
    return this.#vms.size;
  }

  all(): IterableIterator<Vm> {
    return this.#vms.values();
  }

  get(uuid: string): Vm | undefined {
    return this.#vms.get(uuid as Uuid);
  }

  /** Throws UUID_INVALID. */
  need(uuid: string): Vm {
    const vm = this.get(uuid);
    if (vm === undefined) throw new ShoalError('UUID_INVALID', `No VM has the uuid ${uuid}.`, { params: ['VM', uuid] });
    return vm;
  }

  named(name: string): Vm | undefined {
    const uuid = this.#names.get(name);
    return uuid === undefined ? undefined : this.#vms.get(uuid);
  }

  inDomain(domid: Domid): Vm | undefined {
    const uuid = this.#domids.get(domid);
    return uuid === undefined ? undefined : this.#vms.get(uuid);
  }

  withAddress(network: string, address: string): Vm | undefined {
    const uuid = this.#books.get(network)?.holder(address);
    return uuid === undefined ? undefined : this.#vms.get(uuid);
  }

  network(name: string): Network | undefined {
    return this.#books.get(name)?.network;
  }

  networks(): Network[] {
    return [...this.#books.values()].map((book) => book.network);
  }

  /** Throws NETWORK_UNKNOWN. */
  needNetwork(name: string): Network {
    return this.#book(name).network;
  }

  imageInUse(digest: Digest): number {
    return this.#imageUses.get(digest) ?? 0;
  }

  // Names

  /** Holds names for VMs about to be made, all or none. Throws NAME_IN_USE. The result gives back those that were not used. */
  promiseNames(names: readonly string[]): () => void {
    const mine = new Set<string>();
    for (const name of names) {
      if (mine.has(name) || this.#promisedNames.has(name) || this.#names.has(name)) throw nameInUse(name, this.#names.get(name));
      mine.add(name);
    }
    for (const name of mine) this.#promisedNames.add(name);
    return () => {
      for (const name of mine) this.#promisedNames.delete(name);
    };
  }

  /** Whether a VM has this name, or a launch under way may still make one that has. */
  isHeld(name: string): boolean {
    return this.#names.has(name) || this.#promisedNames.has(name);
  }

  rename(vm: Vm, name: string): void {
    if (name === vm.name) return;
    if (this.#names.has(name) || this.#promisedNames.has(name)) throw nameInUse(name, this.#names.get(name));
    this.#names.delete(vm.name);
    vm.name = name;
    this.#names.set(name, vm.uuid);
  }

  // Coming and going

  /** Takes in a VM without vifs. `promised`: its name was promised to the caller. Throws NAME_IN_USE. */
  add(vm: Vm, promised = false): void {
    if (this.#names.has(vm.name) || (!promised && this.#promisedNames.has(vm.name)))
      throw nameInUse(vm.name, this.#names.get(vm.name));
    this.#vms.set(vm.uuid, vm);
    this.#names.set(vm.name, vm.uuid);
    this.#useImage(vm.image, 1);
    this.emit({ of: 'vm', kind: 'add', vm: vm.uuid, parts: true });
  }

  /** Takes out a VM with all it holds; the journal forgets it when it was kept there. `along`: of its addresses those that another host's VM has from now on. */
  async drop(vm: Vm, along: readonly string[] = []): Promise<void> {
    const away = vm.vifs.flatMap(({ network, ipv4 }) => ipv4.filter((ip) => along.includes(ip)).map((ip) => ({ network, ip })));
    if (this.#kept.delete(vm.uuid)) await this.journal?.append({ del: vm.uuid, ...(away.length === 0 ? {} : { away }) });
    this.goesAway(away);
    if (this.#vms.get(vm.uuid) !== vm) return;
    for (const vif of [...vm.vifs]) this.removeVif(vm, vif);
    for (const vbd of [...vm.vbds]) this.removeVbd(vm, vbd);
    this.place(vm, undefined);
    this.#vms.delete(vm.uuid);
    if (this.#names.get(vm.name) === vm.uuid) this.#names.delete(vm.name);
    this.#useImage(vm.image, -1);
    this.emit({ of: 'vm', kind: 'del', vm: vm.uuid, parts: true });
  }

  /** Addresses in use on other hosts of the subnet. */
  goesAway(addresses: readonly NetworkAddress[]): void {
    for (const { network, ip } of addresses) this.#books.get(network)?.goesAway(ip);
  }

  /** Resolves when the VM as it is now would outlive this process. Throws OTHER_OPERATION_IN_PROGRESS for one that is still its source's. */
  async keep(vm: Vm): Promise<void> {
    if (vm.arriving === true) throw new ShoalError('OTHER_OPERATION_IN_PROGRESS', `VM "${vm.name}" is on its way here.`, { params: ['VM', refOf(vm.uuid), 'migrate_receive'], data: { vm: vm.uuid, operation: 'migrate_receive' } });
    this.#kept.add(vm.uuid);
    await this.journal?.append({ put: toJournal(vm) });
  }

  /** Of VMs that came out of the journal. */
  markKept(uuids: readonly Uuid[]): void {
    for (const uuid of uuids) this.#kept.add(uuid);
  }

  isKept(vm: Vm): boolean {
    return this.#kept.has(vm.uuid);
  }

  /** What a rewritten journal holds of the VMs. */
  *keptEntries(): Generator<Entry> {
    for (const disk of [...this.disks.all()]) yield { disk };
    const away = [...this.#books.values()].flatMap((book) => book.away().map((ip) => ({ network: book.network.name, ip })));
    if (away.length > 0) yield { away };
    for (const uuid of atMost(this.#kept.size, this.#kept)) {
      const vm = this.#vms.get(uuid);
      if (vm !== undefined) yield { put: toJournal(vm) };
    }
  }

  place(vm: Vm, domid: Domid | undefined): void {
    if (vm.domid !== undefined && this.#domids.get(vm.domid) === vm.uuid) this.#domids.delete(vm.domid);
    vm.domid = domid;
    if (domid !== undefined) this.#domids.set(domid, vm.uuid);
  }

  setImage(vm: Vm, image: Digest): void {
    this.#useImage(vm.image, -1);
    vm.image = image;
    this.#useImage(image, 1);
  }

  // Devices

  /** Gives the VM a vif; MAC and address are assigned where not given. Throws NETWORK_UNKNOWN, ADDRESS_*, ADDRESSES_EXHAUSTED. */
  addVif(vm: Vm, handle: number, network: string, given: GivenVif = {}): Vif {
    const book = this.#book(network);
    const mac = given.mac === undefined ? this.#macs.take(vm.uuid, handle) : this.#macs.claim(given.mac, vm.uuid);
    try {
      const ipv4: string[] = [];
      if (given.ipv4 !== undefined) ipv4.push(book.claim(given.ipv4, vm.uuid, given.anywhere));
      else if (book.network.subnet !== undefined) ipv4.push(book.take(vm.uuid));
      const { backend, rateKbit, lockingMode } = given;
      const also = given.also?.map((address) => book.check(address, given.anywhere));
      const vif: Vif = {
        handle, mac, network, ipv4, ...(also === undefined || also.length === 0 ? {} : { also }), ...(backend === undefined ? {} : { backend }),
        ...(rateKbit === undefined ? {} : { rateKbit }), ...(lockingMode === undefined ? {} : { lockingMode }),
      };
      vm.vifs.push(vif);
      vm.vifs.sort((a, b) => a.handle - b.handle);
      this.emit({ of: 'vif', kind: 'add', vm: vm.uuid, handle });
      return vif;
    } catch (error) {
      this.#macs.release(mac, vm.uuid);
      throw error;
    }
  }

  /**
   * Takes in a vif as a record from before has it. What it holds that is held by another now stays with the other, and is
   * reported.
   */
  restoreVif(vm: Vm, vif: Vif): string[] {
    const conflicts: string[] = [];
    const tryTo = (claim: () => unknown) => {
      try {
        claim();
      } catch (error) {
        conflicts.push((error as Error).message);
      }
    };
    tryTo(() => this.#macs.claim(vif.mac, vm.uuid));
    for (const address of vif.ipv4) tryTo(() => this.#book(vif.network).claim(address, vm.uuid, true));
    vm.vifs.push(vif);
    this.emit({ of: 'vif', kind: 'add', vm: vm.uuid, handle: vif.handle });
    return conflicts;
  }

  isMacFree(mac: string): boolean {
    return this.#macs.isFree(mac);
  }

  removeVif(vm: Vm, vif: Vif): void {
    vm.vifs.splice(vm.vifs.indexOf(vif), 1);
    this.#macs.release(vif.mac, vm.uuid);
    for (const address of vif.ipv4) this.#books.get(vif.network)?.release(address, vm.uuid);
    this.emit({ of: 'vif', kind: 'del', vm: vm.uuid, handle: vif.handle });
  }

  /** Throws DISK_UNKNOWN, DISK_IN_USE. `restored`: as a record from before has it, whatever others have. */
  addVbd(vm: Vm, vbd: Vbd, restored = false): Vbd {
    this.disks.claim(vm.uuid, vbd, restored);
    vm.vbds.push(vbd);
    vm.vbds.sort((a, b) => a.index - b.index);
    this.emit({ of: 'vbd', kind: 'add', vm: vm.uuid, index: vbd.index, disk: vbd.disk });
    return vbd;
  }

  removeVbd(vm: Vm, vbd: Vbd): void {
    vm.vbds.splice(vm.vbds.indexOf(vbd), 1);
    this.disks.release(vm.uuid, vbd);
    this.emit({ of: 'vbd', kind: 'del', vm: vm.uuid, index: vbd.index, disk: vbd.disk });
  }

  setAddress(vm: Vm, vif: Vif, address: string): void {
    if (vif.ipv4[0] === address) return;
    const book = this.#book(vif.network);
    book.claim(address, vm.uuid);
    for (const old of vif.ipv4) book.release(old, vm.uuid);
    vif.ipv4 = [address];
  }

  /** The address leaves one VM's vif, becomes the first of another's, or both; the book follows. `anywhere`: as of a given vif. Throws ADDRESS_*, and then nothing changed. */
  transfer(network: string, ip: string, from: { vm: Vm; vif: Vif } | undefined, to: { vm: Vm; vif: Vif } | undefined, anywhere = from !== undefined): void {
    const book = this.#book(network);
    if (from !== undefined) book.release(ip, from.vm.uuid);
    if (to !== undefined && book.holder(ip) !== to.vm.uuid) {
      try {
        book.claim(ip, to.vm.uuid, anywhere);
      } catch (error) {
        if (from !== undefined) book.claim(ip, from.vm.uuid, true);
        throw error;
      }
    }
    for (const each of [from, to]) {
      if (each === undefined) continue;
      const others = each.vif.ipv4.filter((own) => own !== ip);
      each.vif.ipv4 = each === to ? [ip, ...others] : others;
      this.emit({ of: 'vif', kind: 'mod', vm: each.vm.uuid, handle: each.vif.handle });
      this.changed(each.vm, true);
    }
  }

  /** Whether a VM of the network could have it, and with `free` whether one may get it now. Throws NETWORK_UNKNOWN, ADDRESS_*. */
  checkAddress(network: string, ip: string, free: boolean): void {
    const book = this.#book(network);
    if (!free) return void book.check(ip);
    const nobody = newVmUuid();
    book.claim(ip, nobody);
    book.release(ip, nobody);
  }

  // Changes

  /** Returns the unsubscriber. */
  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(change: Change): void {
    for (const listener of this.#listeners) listener(change);
  }

  changed(vm: Vm, parts = false): void {
    if (this.#vms.has(vm.uuid)) this.emit({ of: 'vm', kind: 'mod', vm: vm.uuid, parts });
  }

  #book(name: string): AddressBook {
    const book = this.#books.get(name);
    if (book !== undefined) return book;
    throw new ShoalError('NETWORK_UNKNOWN', `This host has no network "${name}".`, {
      data: { network: name, known: [...this.#books.keys()] },
    });
  }

  #useImage(image: Digest, by: 1 | -1): void {
    const uses = this.imageInUse(image) + by;
    if (uses === 0) this.#imageUses.delete(image);
    else this.#imageUses.set(image, uses);
  }
}

function nameInUse(name: string, vm: Uuid | undefined): ShoalError {
  return new ShoalError('NAME_IN_USE', `The name "${name}" is in use.`, { data: { name, ...(vm === undefined ? {} : { vm }) } });
}
