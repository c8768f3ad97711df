/**
 * Tombstones: while a VM is suspended because its work goes on elsewhere under another address, its own address answers with RST, so that whoever still
 * speaks to it finds out at once. A tombstone is a VM of the same image without its words: what it listens to is nobody's, and the kernel's TCP/IP
 * refuses the rest. It has the suspended VM's addresses of its first vif, and outlives it.
 *
 * Whose the addresses are is one entry of the journal. An agent that ends before the tombstone runs finds it halted, and `bury` starts it.
 */
import { ShoalError } from '../model/errors.ts';
import type { Definitions } from './definitions.ts';
import type { Fleet } from './fleet.ts';
import type { Runner } from './runner.ts';
import { ownerPrefix, toJournal, type Vif, type Vm } from './vm.ts';

/** In `otherConfig` of a tombstone: the uuid of the VM whose addresses it has. */
export const tombstoneKey = `${ownerPrefix}tombstone`;

/** An address is a tombstone's only once; of one and the same VM there may be several, one for each of its stays here. */
const nameOf = (address: string): string => `tombstone-${address}`;

/** The VM's first vif has no address although its network has some: they are a tombstone's. */
const isBuried = (vm: Vm, fleet: Fleet): boolean => vm.vifs[0] !== undefined && vm.vifs[0].ipv4.length === 0 && fleet.network(vm.vifs[0].network)?.subnet !== undefined;

/** Throws CONFLICT for a VM that would go on without its address. */
export function expectUnburied(vm: Vm, fleet: Fleet): void {
  if (!isBuried(vm, fleet)) return;
  throw new ShoalError('CONFLICT', `The addresses of VM "${vm.name}" are its tombstone's.`, { hint: 'A move of its connections is under way: `shoal paths resume` ends it.', data: { vm: vm.uuid } });
}

export class Tombstones {
  readonly #fleet: Fleet;
  readonly #runner: Runner;
  readonly #definitions: Definitions;

  constructor(fleet: Fleet, runner: Runner, definitions: Definitions) {
    this.#fleet = fleet;
    this.#runner = runner;
    this.#definitions = definitions;
  }

  /** The tombstone of a suspended VM runs when this resolves; done before is well. Throws VM_BAD_POWER_STATE, and what a definition and a start throw. */
  bury(vm: Vm, signal?: AbortSignal): Promise<Vm> {
    const { lanes } = this.#runner;
    return lanes.run(vm.uuid, 'bury', 'refuse', signal, async (s) => {
      this.#runner.expect(vm, ['Suspended']);
      const tomb = this.#of(vm.uuid) ?? (await this.#make(vm));
      if (tomb.power !== 'Running') await this.#runner.start(tomb, false, s);
      return tomb;
    });
  }

  /** Ends the tombstone of this VM, or at this address; the VM, if it is still there, has its addresses again. False when there is none. */
  async unbury(of: { vm: string } | { ip: string }): Promise<boolean> {
    const tomb = 'vm' in of ? this.#of(of.vm) : this.#at(of.ip);
    if (tomb === undefined) return false;
    if (tomb.power !== 'Halted') await this.#runner.hardShutdown(tomb);
    const vm = this.#fleet.get(tomb.otherConfig[tombstoneKey] ?? '');
    const [from, to] = [tomb.vifs[0], vm?.vifs[0]];
    if (vm !== undefined && from !== undefined && to !== undefined && from.network === to.network) {
      // Each becomes the first of its new vif.
      for (const ip of [...from.ipv4].reverse()) this.#fleet.transfer(from.network, ip, { vm: tomb, vif: from }, { vm, vif: to });
      await this.#fleet.journal?.append({ puts: [toJournal(vm), toJournal(tomb)] });
    }
    await this.#runner.destroy(tomb, true);
    return true;
  }

  #of(uuid: string): Vm | undefined {
    for (const vm of this.#fleet.all()) if (vm.otherConfig[tombstoneKey] === uuid) return vm;
    return undefined;
  }

  #at(ip: string): Vm | undefined {
    for (const { name } of this.#fleet.networks()) {
      const vm = this.#fleet.withAddress(name, ip);
      if (vm?.otherConfig[tombstoneKey] !== undefined) return vm;
    }
    return undefined;
  }

  async #make(vm: Vm): Promise<Vm> {
    const vif: Vif | undefined = vm.vifs[0];
    if (vif === undefined || vif.ipv4.length === 0) throw new ShoalError('VALUE_NOT_SUPPORTED', `VM "${vm.name}" has no address that could be left behind.`, { params: ['VM', vm.uuid, 'has no address'] });
    const { image, memoryKib } = vm;
    const { network, backend } = vif;
    const tomb = this.#definitions.make({ name: nameOf(vif.ipv4[0]!), description: `Answers for the addresses of ${vm.name} with RST.`, image, memoryKib, otherConfig: { [tombstoneKey]: vm.uuid } });
    const addresses = [...vif.ipv4];
    try {
      for (const ip of addresses) this.#fleet.transfer(network, ip, { vm, vif }, undefined);
      const made = this.#fleet.addVif(tomb, 0, network, { ipv4: addresses[0], backend });
      for (const ip of addresses.slice(1).reverse()) this.#fleet.transfer(network, ip, undefined, { vm: tomb, vif: made });
      made.ipv4 = addresses;
      this.#fleet.markKept([tomb.uuid]);
      await this.#fleet.journal?.append({ puts: [toJournal(vm), toJournal(tomb)] });
    } catch (error) {
      await this.#fleet.drop(tomb);
      for (const ip of [...addresses].reverse()) this.#fleet.transfer(network, ip, undefined, { vm, vif });
      throw error;
    }
    return tomb;
  }
}
