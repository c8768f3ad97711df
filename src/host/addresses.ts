/**
 * Addresses that go from one VM to another while both run, wait for a VM that is not there yet, or leave this host; and how much they are used.
 *
 * A move takes four steps: the new VM's guest takes the address; the journal says whose it is, and that the switch is still to be told, in one entry;
 * the switch moves it, in one instant; the journal forgets that there was something to do. An agent that ends between them finds the entry and
 * tells the switch (again): whose the address is was decided when the entry was written. Moves are done one call after the other.
 */
import type { Hypervisor, VifPlace } from '../hypervisor/port.ts';
import type { Entry } from '../journal/journal.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Uuid } from '../model/ids.ts';
import type { Fleet } from './fleet.ts';
import { refOf } from './refs.ts';
import { sealOf, toJournal, type Vif, type Vm } from './vm.ts';
import type { AddressTraffic } from '../model/traffic.ts';

/** `to` left out: the address leaves this host. `from` left out, or gone: `to` gets an address that nobody here has. */
export interface MoveSpec {
  from?: string | undefined;
  to?: string | undefined;
  ip: string;
  /** So long `from` keeps the connections that it has. */
  drainMs: number;
}

/** What the switch is still to be told. */
export interface PendingMove {
  network: string;
  ip: string;
  from?: Uuid;
  to?: Uuid;
  drainMs: number;
}

interface Work {
  index: number;
  spec: MoveSpec;
  network: string;
  from: { vm: Vm; vif: Vif } | undefined;
  to: { vm: Vm; vif: Vif } | undefined;
}

export interface FailedMove {
  index: number;
  error: ShoalError;
}

/** Moves of one entry of the journal, which is bounded; and asked of switch and guests at once. */
const atOnce = 64;
const mostAddresses = 8;
const retryMs = 2000;

export class Addresses {
  readonly #fleet: Fleet;
  readonly #hypervisor: Hypervisor;
  readonly #log: (line: string) => void;
  readonly #isMigrating: (vm: Uuid) => boolean;
  readonly #pending = new Map<string, PendingMove>();
  /** Addresses that a guest gave away and still has connections of: they stay among its own until then. */
  readonly #draining = new Map<Uuid, Map<string, number>>();
  #turn: Promise<unknown> = Promise.resolve();
  #retry: NodeJS.Timeout | undefined;

  constructor(fleet: Fleet, hypervisor: Hypervisor, log: (line: string) => void, isMigrating: (vm: Uuid) => boolean) {
    this.#fleet = fleet;
    this.#hypervisor = hypervisor;
    this.#log = log;
    this.#isMigrating = isMigrating;
  }

  /** Those that failed. */
  move(specs: readonly MoveSpec[]): Promise<FailedMove[]> {
    return this.#next(async () => {
      const failed: FailedMove[] = [];
      for (let i = 0; i < specs.length; i += atOnce) failed.push(...(await this.#some(specs.slice(i, i + atOnce), i)));
      return failed;
    });
  }

  /** Frames for an address that no VM here has yet wait for it; the launch or the move that brings it ends that. */
  async hold(network: string, ip: string, ms: number): Promise<void> {
    this.#fleet.checkAddress(network, ip, false);
    await this.#hypervisor.holdAddress(network, ip, ms);
  }

  /** Undefined where nobody has it, or nobody counts. */
  async traffic(network: string, ip: string): Promise<AddressTraffic | undefined> {
    this.#fleet.needNetwork(network);
    return this.#hypervisor.addressTraffic(network, ip);
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  /** What a rewritten journal holds of them. */
  entries(): Entry[] {
    return this.#pending.size === 0 ? [] : [{ moves: [...this.#pending.values()] }];
  }

  /** From the journal, before the fleet has its domains. */
  restore(moves: Iterable<PendingMove>): void {
    for (const move of moves) this.#pending.set(keyOf(move), move);
  }

  /** Tells the switch what an agent before this one could not. */
  async redo(): Promise<void> {
    await this.#next(async () => {
      this.#retry = undefined;
      for (const move of [...this.#pending.values()]) {
        try {
          await this.#tell(move);
        } catch (error) {
          const { code, message } = asShoalError(error);
          this.#log(`address ${move.ip}: the switch could not be told to move it: ${message}`);
          if (code !== 'SWITCH_REFUSED') continue;
        }
        this.#pending.delete(keyOf(move));
        await this.#fleet.journal?.append({ moved: [keyOf(move)] });
      }
      if (this.#pending.size > 0) this.#retry ??= setTimeout(() => void this.redo().catch(() => {}), retryMs).unref();
    });
  }

  // Parts

  #next<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #some(specs: readonly MoveSpec[], first: number): Promise<FailedMove[]> {
    const failed: FailedMove[] = [];
    /** Those for which `step` did not throw. */
    const each = async (all: Work[], step: (work: Work) => Promise<unknown>): Promise<Work[]> => {
      const results = await Promise.allSettled(all.map(step));
      return all.filter((work, i) => {
        const result = results[i]!;
        if (result.status === 'rejected') failed.push({ index: work.index, error: asShoalError(result.reason) });
        return result.status === 'fulfilled';
      });
    };
    let all: Work[] = [];
    const seen = new Set<string>();
    for (const [i, spec] of specs.entries()) {
      try {
        const work = this.#check(spec, first + i);
        const key = `${work.network}/${spec.ip}`;
        if (seen.has(key)) throw new ShoalError('CONFLICT', `${spec.ip} is moved twice in one call.`);
        seen.add(key);
        all.push(work);
      } catch (error) {
        failed.push({ index: first + i, error: asShoalError(error) });
      }
    }
    // Of one guest one after the other, for each call gives it all of its addresses.
    const turns = new Map<Uuid, Promise<unknown>>();
    const planned = new Map<Uuid, string[]>();
    all = await each(all, async (work) => {
      const { to, spec } = work;
      if (to === undefined) return;
      const before = turns.get(to.vm.uuid) ?? Promise.resolve();
      const list = [...(planned.get(to.vm.uuid) ?? []), spec.ip];
      planned.set(to.vm.uuid, list);
      const turn = before.then(() => this.#configure(to.vm, to.vif, list));
      turns.set(to.vm.uuid, turn.catch(() => {}));
      await turn;
    });
    all = await each(all, async (work) => this.#again(work));
    if (all.length === 0) return failed;
    const moves = all.map(({ network, spec, from, to }): PendingMove => {
      const before = this.#pending.get(keyOf({ network, ip: spec.ip }));
      const left = from?.vm.uuid ?? before?.from;
      return { network, ip: spec.ip, drainMs: spec.drainMs, ...(left === undefined ? {} : { from: left }), ...(to === undefined ? {} : { to: to.vm.uuid }) };
    });
    for (const move of moves) this.#pending.set(keyOf(move), move);
    for (const work of all) this.#transfer(work);
    await this.#keep(all, { moves });
    const refused: Work[] = [];
    const done = await each(all, async (work) => {
      const move = moves[all.indexOf(work)]!;
      try {
        await this.#tell(move);
      } catch (error) {
        if (asShoalError(error).code === 'SWITCH_REFUSED') refused.push(work);
        throw error;
      }
    });
    // What the switch does not take stays where it was; where nobody knows what it did, it is told again.
    for (const { network, spec, from, to } of refused) this.#fleet.transfer(network, spec.ip, to, from);
    const settled = moves.filter((_, i) => done.includes(all[i]!) || refused.includes(all[i]!));
    await this.#keep(refused, { moved: settled.map(keyOf) });
    for (const move of settled) this.#pending.delete(keyOf(move));
    this.#retry ??= this.#pending.size === 0 ? undefined : setTimeout(() => void this.redo().catch(() => {}), retryMs).unref();
    await Promise.all(changedVms(all).map((vm) => this.#reseal(vm)));
    return failed;
  }

  /** Throws UUID_INVALID, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, ADDRESS_IN_USE, ADDRESS_INVALID, VALUE_NOT_SUPPORTED. */
  #check(spec: MoveSpec, index: number): Work {
    const { ip } = spec;
    const vmTo = spec.to === undefined ? undefined : this.#fleet.need(spec.to);
    const vmFrom = spec.from === undefined ? undefined : vmTo === undefined ? this.#fleet.need(spec.from) : this.#fleet.get(spec.from);
    if (vmFrom === undefined && vmTo === undefined) throw new ShoalError('VALUE_NOT_SUPPORTED', 'A move is from a VM, or to one, or both.', { params: ['moves', ip, 'from, to'] });
    // Its addresses, as they were, are on their way to another host.
    for (const vm of [vmFrom, vmTo])
      if (vm !== undefined && this.#isMigrating(vm.uuid))
        throw new ShoalError('OTHER_OPERATION_IN_PROGRESS', `VM "${vm.name}" migrates; its addresses stay until it has.`, { params: ['VM', refOf(vm.uuid), 'migrate_send'], data: { vm: vm.uuid } });
    const has = (vm: Vm | undefined): Vif | undefined => vm?.vifs.find(({ ipv4 }) => ipv4.includes(ip));
    const vifFrom = has(vmFrom);
    const network = (vifFrom ?? has(vmTo) ?? vmFrom?.vifs[0] ?? vmTo?.vifs[0])?.network ?? '';
    const vifTo = vmTo?.vifs.find((vif) => vif.network === network);
    const from = vifFrom === undefined ? undefined : { vm: vmFrom!, vif: vifFrom };
    if (vmTo === undefined) return { index, spec, network, from, to: undefined };
    if (vifTo === undefined) throw unsupported('to', vmTo.uuid, `VM "${vmTo.name}" is not on network "${network}"`, 'Move addresses between VMs of one network.');
    const holder = this.#fleet.withAddress(network, ip);
    if (holder !== undefined && holder !== vmTo && holder !== vmFrom)
      throw new ShoalError('ADDRESS_IN_USE', `${ip} is in use on network "${network}".`, { data: { address: ip, network, vm: holder.uuid } });
    if (vmTo.power !== 'Running')
      throw new ShoalError('VM_BAD_POWER_STATE', `VM "${vmTo.name}" is ${vmTo.power.toLowerCase()}; it cannot take an address.`, {
        params: [refOf(vmTo.uuid), 'running', vmTo.power.toLowerCase()], data: { vm: vmTo.uuid },
      });
    if (vifTo.handle !== 0) throw unsupported('to', vmTo.uuid, 'only the first vif of a VM takes further addresses', 'Move the address to another VM.');
    if (!vifTo.ipv4.includes(ip) && vifTo.ipv4.length >= mostAddresses)
      throw unsupported('to', vmTo.uuid, `a vif has at most ${mostAddresses} addresses`, 'Move some of its addresses away first.');
    for (const each of [from?.vm, vmTo])
      if (each?.vifs.some(({ backend }) => backend === 'netback')) throw unsupported('backend', 'netback', `VM "${each.name}" is not on the switch`, 'Give the VM the backend switch.');
    return { index, spec, network, from, to: { vm: vmTo, vif: vifTo } };
  }

  /** The world may have changed while a guest took its address. */
  #again(work: Work): void {
    const { from, to } = this.#check(work.spec, work.index);
    work.from = from;
    work.to = to;
    if (to !== undefined && !to.vif.ipv4.includes(work.spec.ip) && from === undefined) this.#fleet.checkAddress(work.network, work.spec.ip, true);
  }

  #configure(vm: Vm, vif: Vif, more: readonly string[]): Promise<void> {
    if (vm.domid === undefined) return Promise.resolve();
    const known = vif.also ?? [];
    if (more.every((ip) => known.includes(ip))) return Promise.resolve();
    const nowMs = Date.now();
    const left = [...(this.#draining.get(vm.uuid) ?? [])].filter(([, untilMs]) => untilMs > nowMs).map(([ip]) => ip);
    const list = [...new Set([...vif.ipv4, ...more, ...known, ...left])];
    return this.#hypervisor.setGuestAddresses(vm.domid, list.slice(0, mostAddresses));
  }

  #transfer({ network, spec: { ip, drainMs }, from, to }: Work): void {
    this.#fleet.transfer(network, ip, from, to);
    if (from === undefined || drainMs === 0) return;
    const drains = this.#draining.get(from.vm.uuid) ?? new Map<string, number>();
    drains.set(ip, Date.now() + drainMs);
    const nowMs = Date.now();
    for (const [uuid, others] of this.#draining)
      if (this.#fleet.get(uuid) === undefined || [...others.values()].every((untilMs) => untilMs < nowMs)) this.#draining.delete(uuid);
    this.#draining.set(from.vm.uuid, drains);
  }

  async #tell({ network, ip, drainMs, ...move }: PendingMove): Promise<void> {
    const place = (uuid: Uuid | undefined): VifPlace | undefined => {
      const vm = uuid === undefined ? undefined : this.#fleet.get(uuid);
      const vif = vm?.vifs.find((each) => each.network === network);
      return vm?.domid === undefined || vif === undefined ? undefined : { domid: vm.domid, handle: vif.handle };
    };
    const [from, to] = [place(move.from), place(move.to)];
    if (from === undefined && to === undefined) return;
    try {
      await this.#hypervisor.moveAddress({ network, ip, from, to, drainMs });
    } catch (error) {
      if (asShoalError(error).data['errno'] !== 'ENOENT' || from === undefined || to === undefined) throw error;
      // The old VM went away meanwhile, and its connections with it.
      await this.#hypervisor.moveAddress({ network, ip, from: undefined, to, drainMs });
    }
  }

  async #keep(all: readonly Work[], more: Entry): Promise<void> {
    const vms = changedVms(all);
    this.#fleet.markKept(vms.map((vm) => vm.uuid));
    await this.#fleet.journal?.append({ ...(vms.length === 0 ? {} : { puts: vms.map(toJournal) }), ...more });
  }

  /** For an agent that has lost its journal. */
  async #reseal(vm: Vm): Promise<void> {
    if (vm.domid === undefined) return;
    await this.#hypervisor.seal(vm.domid, sealOf(vm, vm.wanted === 'paused')).catch((error: unknown) =>
      this.#log(`vm ${vm.name}: its sealed record has its addresses of before: ${asShoalError(error).message}`));
  }
}

export const keyOf = ({ network, ip }: { network: string; ip: string }): string => `${network}/${ip}`;

const changedVms = (all: readonly Work[]): Vm[] => [...new Set(all.flatMap(({ from, to }) => [from?.vm, to?.vm]))].filter((vm) => vm !== undefined);

const unsupported = (field: string, value: string, why: string, hint: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', why, { hint, params: [field, value, why] });

/** Out of a journal; undefined when it is none. */
export function pendingFrom(value: unknown): PendingMove | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { network, ip, from, to, drainMs } = value as Record<string, unknown>;
  if (typeof network !== 'string' || typeof ip !== 'string' || typeof drainMs !== 'number') return undefined;
  return { network, ip, drainMs, ...(typeof from === 'string' ? { from: from as Uuid } : {}), ...(typeof to === 'string' ? { to: to as Uuid } : {}) };
}
