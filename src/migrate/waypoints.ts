/**
 * The waypoints of a move as VMs on two hosts. What runs at the target is a copy: the source's checkpoint (make before break) or its suspended state (break
 * before make), restored there under the new address, as a VM of its own of the same name; the guest learns its addresses as it goes on, and a configuration that names
 * them by the guest's own words is right from its first packet. The source stays, suspended, until it is released; its host answers for its address from then on.
 *
 * Nothing is remembered here: each call looks at both hosts and does what is missing, so that another process can go on with a move.
 */
import type { Readable } from 'node:stream';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { MoveRecord } from './paths-journal.ts';
import type { Waypoints } from './paths.ts';

export interface WaypointVm {
  uuid: string;
  name: string;
  /** "running", "suspended", "paused", "halted" */
  state: string;
  /** Of all its vifs, the first one's first. */
  addresses: string[];
  image: string;
}

/** One host, as its agent offers it. Each call throws what the agent says, CONNECTION_FAILED and TIMEOUT. */
export interface WaypointHost {
  /** By uuid or name; undefined when there is none. */
  vm(named: string): Promise<WaypointVm | undefined>;
  hasImage(digest: string): Promise<boolean>;
  suspend(uuid: string): Promise<void>;
  resume(uuid: string): Promise<void>;
  unpause(uuid: string): Promise<void>;
  /** With its file or domain; what is gone is gone. */
  destroy(uuid: string): Promise<void>;
  /** A checkpoint of a running VM, or the state of a suspended one. */
  save(uuid: string, take: (content: Readable, bytes: number) => Promise<void>): Promise<void>;
  /** A VM of its own, running. */
  restore(content: Readable, bytes: number, as: { name: string; ip: string }): Promise<void>;
  /** The address of a suspended VM answers with RST from now on. */
  bury(uuid: string): Promise<void>;
  unbury(of: { vm: string } | { ip: string }): Promise<void>;
  /** Frames for the address wait at most so long for who is to have it; 0: no longer. */
  hold(ip: string, ms: number): Promise<void>;
}

/** What a record of a move says of the VM. */
export interface MovingVm {
  /** At the source. */
  uuid: string;
  name: string;
}

const holdMs = 60_000;

export const movingVm = (about: MoveRecord['about']): MovingVm => {
  const { uuid, name } = (about ?? {}) as Partial<MovingVm>;
  if (typeof uuid === 'string' && typeof name === 'string') return { uuid, name };
  throw new ShoalError('STATE_UNREADABLE', 'A move in the journal does not say which VM it is of.', { hint: 'Move the journal away; end the move by hand.' });
};

export class VmWaypoints implements Waypoints {
  readonly #source: WaypointHost;
  readonly #target: WaypointHost;
  readonly #log: (line: string) => void;

  constructor(source: WaypointHost, target: WaypointHost, log: (line: string) => void) {
    this.#source = source;
    this.#target = target;
    this.#log = log;
  }

  /** What can be said against a move before it begins. Throws HANDLE_INVALID, VM_BAD_POWER_STATE, NAME_IN_USE, IMAGE_UNKNOWN, REQUEST_INVALID. */
  async check(named: string, to: string): Promise<WaypointVm & { from: string }> {
    const vm = await this.#source.vm(named);
    if (vm === undefined) throw new ShoalError('HANDLE_INVALID', `There is no VM "${named}".`, { hint: 'See `shoal vm list`.' });
    if (vm.state !== 'running') throw new ShoalError('VM_BAD_POWER_STATE', `VM "${vm.name}" is ${vm.state}; connections run over one that runs.`, { data: { vm: vm.uuid } });
    const [from] = vm.addresses;
    if (from === undefined) throw new ShoalError('REQUEST_INVALID', `VM "${vm.name}" has no address that connections could use.`, { hint: 'Give it a network.' });
    if (from === to) throw new ShoalError('REQUEST_INVALID', `${to} is the address it has.`, { hint: 'Give it another one there; `shoal vm migrate` takes the address along.' });
    if ((await this.#target.vm(vm.name)) !== undefined) throw new ShoalError('NAME_IN_USE', `The target has a VM "${vm.name}" already.`, { data: { name: vm.name } });
    if (!(await this.#target.hasImage(vm.image))) throw new ShoalError('IMAGE_UNKNOWN', `The target has no image ${vm.image}.`, { hint: 'Put it there first (`shoal image put`).', data: { image: vm.image } });
    return { ...vm, from };
  }

  async copy(move: MoveRecord): Promise<void> {
    const { uuid } = movingVm(move.about);
    await this.#target.unbury({ ip: move.to });
    const source = await this.#need(uuid);
    if (source.state !== 'running') throw new ShoalError('VM_BAD_POWER_STATE', `VM "${source.name}" is ${source.state} now.`, { data: { vm: uuid } });
    await this.#runThere(move);
  }

  async hold({ to }: MoveRecord): Promise<void> {
    await this.#target.unbury({ ip: to });
    await this.#target.hold(to, holdMs).catch((thrown: unknown) => {
      const error = asShoalError(thrown);
      if (error.code !== 'VALUE_NOT_SUPPORTED') throw error;
      // Without a switch nobody answers for the address until the VM does: peers ask again after a second.
      this.#log(`${to} cannot be held: ${error.message}`);
    });
  }

  async suspend({ about }: MoveRecord): Promise<void> {
    const vm = await this.#need(movingVm(about).uuid);
    if (vm.state === 'paused') await this.#source.unpause(vm.uuid);
    if (vm.state !== 'suspended') await this.#source.suspend(vm.uuid);
  }

  start(move: MoveRecord): Promise<void> {
    return this.#runThere(move);
  }

  bury({ about }: MoveRecord): Promise<void> {
    return this.#source.bury(movingVm(about).uuid);
  }

  async revive({ about }: MoveRecord): Promise<void> {
    const { uuid } = movingVm(about);
    await this.#source.unbury({ vm: uuid });
    const vm = await this.#need(uuid);
    if (vm.state === 'suspended') await this.#source.resume(uuid);
  }

  async discard(move: MoveRecord): Promise<void> {
    const there = await this.#there(move);
    if (there !== undefined) await this.#target.destroy(there.uuid);
    if (move.kind === 'break-before-make') await this.#target.hold(move.to, 0).catch((error: unknown) => this.#log(`${move.to} is held for a minute at most: ${asShoalError(error).message}`));
  }

  async release({ about }: MoveRecord): Promise<void> {
    const vm = await this.#source.vm(movingVm(about).uuid);
    if (vm !== undefined) await this.#source.destroy(vm.uuid);
  }

  async #need(uuid: string): Promise<WaypointVm> {
    const vm = await this.#source.vm(uuid);
    if (vm !== undefined) return vm;
    throw new ShoalError('HANDLE_INVALID', 'The VM is gone from its host.', { data: { vm: uuid } });
  }

  /** The copy. Another VM of its name is not touched. */
  async #there({ about, to }: MoveRecord): Promise<WaypointVm | undefined> {
    const { name } = movingVm(about);
    const vm = await this.#target.vm(name);
    return vm?.addresses[0] === to ? vm : undefined;
  }

  async #runThere(move: MoveRecord): Promise<void> {
    const { uuid, name } = movingVm(move.about);
    const there = await this.#there(move);
    if (there?.state === 'running') return;
    if (there !== undefined) await this.#target.destroy(there.uuid);
    await this.#source.save(uuid, (content, bytes) => this.#target.restore(content, bytes, { name, ip: move.to }));
  }
}
