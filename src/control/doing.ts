/**
 * Steps become calls to hosts, and outcomes become facts. An outcome that nobody knows (the connection broke, the controller was
 * killed) is found out by asking again for the same copy under the same name on the same host: there a name is taken once. Only
 * when the host says that it has not got the copy, and that no launch of it is under way, is its address free again.
 */
import { keyOf, type Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { HostUnit } from './host-unit.ts';
import { isUnknown, type Change, type LaunchItem, type LaunchOutcome } from './port.ts';
import { asShoalError, type ShoalError } from '../model/errors.ts';
import type { EndReason } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';

/** A copy whose launch went well shows on its host within this time, or the host is asked for it. */
const showMs = 3000;
const retryMs = 500;

/** The image itself is at fault. */
const isImages = ({ code }: ShoalError): boolean => code.startsWith('IMAGE_');

export class Doing {
  readonly #fleet: Fleet;
  readonly #timers = new Set<NodeJS.Timeout>();
  #closed = false;

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #later(ms: number, work: () => void): void {
    if (this.#closed) return;
    const timer = setTimeout(() => (this.#timers.delete(timer), work()), ms);
    this.#timers.add(timer);
  }

  #there(copy: Tracked): boolean {
    return this.#fleet.copies.get(copy.record.id.serial) === copy;
  }

  /** Still what its service wants, and nobody does it already. */
  #isWanted(copy: Tracked): boolean {
    const key = keyOf(copy.id);
    const wanted = this.#fleet.versionAt(key, copy.id.slot);
    if (wanted === undefined || wanted.revision !== copy.record.id.revision) return false;
    // Without the copy whose addresses it is to take it would never have them.
    if (copy.record.takes !== undefined && this.#fleet.copies.get(copy.record.takes.from) === undefined) return false;
    for (const other of this.#fleet.copies.slot(key, copy.id.slot)) {
      const unit = this.#fleet.units.get(other.host);
      const stays =
        other.state === 'running' &&
        other.ready &&
        other.retired === undefined &&
        other.id.revision === wanted.revision &&
        unit?.up === true &&
        !unit.record.drained;
      if (other !== copy && stays) return false;
    }
    return true;
  }

  /** Copies that a host should have and does not show: asked for again, or, when nobody wants them, settled. */
  resumeOn(unit: HostUnit): void {
    for (const copy of this.#fleet.copies.on(unit.record.name))
      if (copy.uuid === undefined && copy.work === undefined) this.launch(copy);
  }

  launch(copy: Tracked): void {
    const unit = this.#fleet.units.get(copy.host);
    if (unit === undefined || copy.work !== undefined) return;
    copy.work = 'launch';
    unit.launch({ copy, item: () => this.#itemOf(unit, copy), done: (outcome) => this.#launched(unit, copy, outcome) });
  }

  #itemOf(unit: HostUnit, copy: Tracked): LaunchItem | undefined {
    if (!this.#there(copy) || copy.uuid !== undefined) {
      copy.work = undefined;
      return undefined;
    }
    const { spec, image } = this.#fleet.versionAt(keyOf(copy.id), copy.id.slot) ?? {};
    if (!this.#isWanted(copy) || spec === undefined || image === undefined || image === '') {
      copy.work = undefined;
      this.#settle(unit, copy);
      return undefined;
    }
    copy.sent = true;
    const left = [...copy.record.addresses];
    const taken = [...(copy.record.takes?.addresses ?? [])];
    const vifs = spec.networks.map(({ name }) => {
      const at = left.findIndex(({ network }) => network === name);
      if (at < 0) return { network: name };
      const { ip } = left.splice(at, 1)[0]!;
      const later = taken.findIndex(({ network }) => network === name);
      return { network: name, ip, ...(later < 0 ? {} : { also: [taken.splice(later, 1)[0]!.ip] }) };
    });
    return { name: copy.name, copy: copy.record.id, image, memoryKib: spec.memoryKib, args: spec.args, vifs };
  }

  #launched(unit: HostUnit, copy: Tracked, outcome: LaunchOutcome): void {
    // It may be moving already: it was seen to run.
    if (copy.work === 'launch') copy.work = undefined;
    if (!this.#there(copy) || this.#closed) return;
    if ('uuid' in outcome) {
      this.#later(showMs, () => {
        if (this.#there(copy) && copy.work === undefined && copy.state !== 'running') void this.#look(unit, copy, outcome.uuid);
      });
      return this.#fleet.poke(keyOf(copy.id));
    }
    const { error } = outcome;
    // The name is another's, perhaps another fleet's: the next copy of this slot has another name.
    if (error.code === 'NAME_IN_USE' && this.#isForeign(copy)) return this.#strike(copy);
    if (error.code === 'NAME_IN_USE' || isUnknown(error)) {
      // It is there, or comes, or nobody knows: what the host shows next says which.
      this.#later(retryMs, () => {
        if (this.#there(copy) && copy.uuid === undefined && unit.up) this.launch(copy);
      });
      return;
    }
    this.#strike(copy);
    if (error.code === 'TASK_CANCELLED') return;
    // A host that knows no further addresses: the next copy is made without.
    if (copy.record.takes !== undefined && (error.code === 'XENAPI_PLUGIN_FAILURE' || error.code === 'VALUE_NOT_SUPPORTED'))
      this.#fleet.cannotMove.add(copy.host);
    if (error.code === 'IMAGE_UNKNOWN') this.onImageMissing(unit, copy);
    else if (isImages(error)) this.#fleet.onCopyFailed(copy, `${copy.host}: ${error.code}: ${error.message}`);
    this.#failed(copy, error);
  }

  #isForeign(copy: Tracked): boolean {
    for (const vm of this.#fleet.copies.foreign()) if (vm.host === copy.host && vm.name === copy.name) return true;
    return false;
  }

  /** Set by whoever can bring images to hosts. */
  onImageMissing: (unit: HostUnit, copy: Tracked) => void = () => {};

  #failed(copy: Tracked, error: ShoalError): void {
    const key = keyOf(copy.id);
    this.#fleet.failed(key, copy.id.slot, 0, copy.host);
    this.#fleet.note(key, copy.id.slot, `${copy.host}: ${error.code}: ${error.message}`);
    this.#fleet.poke(key);
  }

  /** The host said that the VM runs; it has not shown it. */
  async #look(unit: HostUnit, copy: Tracked, uuid: NonNullable<Tracked['uuid']>): Promise<void> {
    try {
      const vm = await unit.link.look(uuid);
      if (!this.#there(copy)) return;
      if (vm !== undefined) return this.#fleet.copies.see(unit.record.name, vm);
      this.#fleet.note(keyOf(copy.id), copy.id.slot, `${copy.host} said that ${copy.name} runs, and has not got it`);
      this.#fleet.failed(keyOf(copy.id), copy.id.slot, 0, copy.host);
      if (copy.uuid !== undefined) this.#fleet.copies.gone(copy.host, copy.uuid);
      else this.#strike(copy);
    } catch {
      // Away: the next picture says what is there.
    }
  }

  /** Out of the ledger: the host has not got it and will not have it. */
  #strike(copy: Tracked): void {
    if (!this.#there(copy)) return;
    const { copies, state, changes } = this.#fleet;
    copies.remove(copy);
    state.later([state.set('copy', String(copy.record.id.serial), undefined)]);
    changes.tell('vm', copy.name, copy.id.tenant, undefined);
    this.#fleet.poke(keyOf(copy.id));
  }

  /** A copy nobody wants and no host has shown: struck out once the host says that there is none and none under way. */
  #settle(unit: HostUnit, copy: Tracked): void {
    if (copy.work !== undefined) return;
    if (!copy.sent) return this.#strike(copy);
    copy.work = 'destroy';
    unit.single(async () => {
      const held = await unit.link.held([copy.name]).then(
        (names) => names.length > 0,
        () => true,
      );
      copy.work = undefined;
      if (!this.#there(copy) || copy.uuid !== undefined) return this.#fleet.poke(keyOf(copy.id));
      if (!held) return this.#strike(copy);
      this.#later(retryMs, () => this.#fleet.poke(keyOf(copy.id)));
    });
  }

  end(copy: Tracked, why: EndReason): void {
    const unit = this.#fleet.units.get(copy.host);
    if (unit === undefined) return;
    if (copy.work === 'launch' && unit.unqueue(copy)) copy.work = undefined;
    // What is under way is waited for: its end is news, and news make a new plan.
    if (copy.work !== undefined) return;
    if (copy.uuid === undefined) return this.#settle(unit, copy);
    if (why === 'double')
      this.#fleet.note(keyOf(copy.id), copy.id.slot, `${copy.name} on ${copy.host} is a second copy; it is destroyed`);
    if (copy.drift !== undefined)
      this.#fleet.note(keyOf(copy.id), copy.id.slot, `${copy.name} was changed by someone (${copy.drift}); it is replaced`);
    if (this.giveBack(copy)) return;
    copy.work = 'destroy';
    const uuid = copy.uuid;
    unit.destroy(uuid, (error) => {
      if (error === undefined) this.#fleet.stats.destroyed++;
      else this.#fleet.log(`${copy.name}: not destroyed: ${error.code}: ${error.message}`);
      // The host shows that it is gone; if it does not, it is asked.
      this.#later(error === undefined ? showMs : retryMs, () => {
        if (!this.#there(copy)) return;
        void unit.link
          .look(uuid)
          .then((vm) => {
            if (vm === undefined) this.#fleet.copies.gone(copy.host, uuid);
          })
          .catch(() => {})
          .finally(() => {
            copy.work = undefined;
            this.#fleet.poke(keyOf(copy.id));
          });
      });
    });
  }

  /**
   * `to` has the addresses it was started for, and `from` has them no more: asked of the host, and only then so in the ledger. That it is
   * asked is written down before, for after a crash either of the two may have them.
   */
  move(from: Tracked | undefined, to: Tracked, drainMs: number): void {
    const { takes } = to.record;
    const unit = this.#fleet.units.get(to.host);
    if (unit === undefined || takes === undefined || to.uuid === undefined) return;
    // One that runs need not wait for the others that were launched in the same call.
    const isBusy = (copy: Tracked): boolean => copy.work !== undefined && !(copy.work === 'launch' && copy.state === 'running');
    if (isBusy(to) || (from !== undefined && isBusy(from))) return;
    for (const copy of [from, to]) if (copy !== undefined) copy.work = 'move';
    const { uuid } = to;
    const done = (error: ShoalError | undefined): void => {
      for (const copy of [from, to]) if (copy?.work === 'move') copy.work = undefined;
      if (this.#closed || !this.#there(to) || to.record.takes === undefined) return;
      if (error === undefined) this.#took(from, to, drainMs);
      else if (error.code === 'VALUE_NOT_SUPPORTED') this.#cannotMove(to);
      else {
        this.#fleet.note(keyOf(to.id), to.id.slot, `${to.host}: addresses not moved: ${error.code}: ${error.message}`);
        this.#later(retryMs, () => this.#fleet.poke(keyOf(to.id)));
      }
    };
    this.#rewrite(to, { ...to.record, takes: { ...takes, sent: true } }).then(
      () => unit.move({ moves: takes.addresses.map(({ ip }) => ({ from: takes.uuid, to: uuid, ip, drainMs })), done }),
      (error: unknown) => done(asShoalError(error)),
    );
  }

  #rewrite(...pairs: (Tracked | Tracked['record'])[]): Promise<void> {
    const { copies, state } = this.#fleet;
    const changes: Change[] = [];
    for (let i = 0; i < pairs.length; i += 2) {
      const [copy, record] = [pairs[i] as Tracked, pairs[i + 1] as Tracked['record']];
      copies.rewrite(copy, record);
      changes.push(state.set('copy', String(record.id.serial), record));
      this.#fleet.tellVm(copy);
    }
    return state.write(changes);
  }

  #took(from: Tracked | undefined, to: Tracked, drainMs: number): void {
    const { takes, ...rest } = to.record;
    const taken = takes?.addresses ?? [];
    const pairs: (Tracked | Tracked['record'])[] = [to, { ...rest, addresses: [...taken, ...rest.addresses] }];
    if (from !== undefined && this.#there(from)) {
      const left = from.record.addresses.filter(({ network, ip }) => !taken.some((each) => each.network === network && each.ip === ip));
      pairs.push(from, { ...from.record, addresses: left, retired: { sinceMs: this.#fleet.now(), drainMs } });
    }
    // Were this not written, the next controller would ask the host again, which changes nothing.
    this.#rewrite(...pairs).catch((error: unknown) => this.#fleet.log(`the state could not be written: ${(error as Error).message}`));
    this.#fleet.poke(keyOf(to.id));
  }

  /** The host has not that function: the copy keeps the address it has, or, where that will not do, gives way. */
  #cannotMove(to: Tracked): void {
    const key = keyOf(to.id);
    this.#fleet.cannotMove.add(to.host);
    this.#fleet.note(key, to.id.slot, `${to.host} moves no addresses: copies there are replaced without`);
    const { takes: _, own: __, ...rest } = to.record;
    const spec = this.#fleet.versionAt(key, to.id.slot)?.spec;
    const own = spec !== undefined && spec.networks.every(({ addresses }) => addresses.from === 'host');
    void this.#rewrite(to, rest).catch(() => {});
    if (own) this.#fleet.poke(key);
    else this.end(to, 'failed');
  }

  /**
   * A copy that may have taken its addresses, and is not to stay: they go back first to the one that it took them from. True while that
   * is under way.
   */
  giveBack(copy: Tracked): boolean {
    const { takes } = copy.record;
    const unit = this.#fleet.units.get(copy.host);
    const to = takes === undefined ? undefined : this.#fleet.copies.get(takes.from);
    if (takes?.sent !== true || unit === undefined || copy.work !== undefined) return false;
    if (to?.uuid === undefined || copy.uuid === undefined || to.retired !== undefined || to.work === 'destroy') return false;
    const [uuid, back] = [copy.uuid, to.uuid];
    copy.work = 'move';
    unit.move({
      moves: takes.addresses.map(({ ip }) => ({ from: uuid, to: back, ip, drainMs: 0 })),
      done: (error) => {
        copy.work = undefined;
        if (this.#closed || !this.#there(copy)) return;
        if (error === undefined || !isUnknown(error))
          void this.#rewrite(copy, { ...copy.record, takes: { ...takes, sent: false } }).catch(() => {});
        this.#later(error === undefined ? 0 : retryMs, () => this.#fleet.poke(keyOf(copy.id)));
      },
    });
    return true;
  }

  /** As `giveBack`, of a copy that vanished before anybody knew what it had. */
  recover(copy: Tracked, uuid: Uuid): void {
    const { takes } = copy.record;
    const to = takes?.sent === true ? this.#fleet.copies.get(takes.from) : undefined;
    const unit = this.#fleet.units.get(copy.host);
    if (takes === undefined || to?.uuid === undefined || unit === undefined) return;
    const back = to.uuid;
    unit.move({
      moves: takes.addresses.map(({ ip }) => ({ from: uuid, to: back, ip, drainMs: 0 })),
      done: (error) => {
        if (error !== undefined) this.#fleet.log(`${to.name}: its addresses did not come back: ${error.code}: ${error.message}`);
      },
    });
  }

  run(copy: Tracked, what: 'start' | 'restart'): void {
    const unit = this.#fleet.units.get(copy.host);
    if (unit === undefined || copy.work !== undefined || copy.uuid === undefined) return;
    copy.work = what;
    const uuid = copy.uuid;
    const beganMs = this.#fleet.now();
    // A dead copy is not to be taken for one that answers before its new life begins.
    if (what === 'restart') this.#fleet.copies.set(copy, 'busy', false);
    unit.single(async () => {
      let failure: ShoalError | undefined;
      try {
        await (what === 'start' ? unit.link.start(uuid) : unit.link.restart(uuid));
      } catch (thrown) {
        failure = asShoalError(thrown);
      }
      copy.work = undefined;
      const vm = await unit.link.look(uuid).catch(() => 'away' as const);
      if (!this.#there(copy) || vm === 'away') return;
      if (vm === undefined) this.#fleet.copies.gone(copy.host, uuid);
      else this.#fleet.copies.see(unit.record.name, vm);
      if (failure === undefined || failure.code === 'OTHER_OPERATION_IN_PROGRESS')
        return this.#later(retryMs, () => this.#fleet.poke(keyOf(copy.id)));
      const memory = this.#fleet.memoryOf(keyOf(copy.id), copy.id.slot);
      // The death that this failure is about may have been counted when it was seen.
      if (memory === undefined || memory.lastFailureMs < beganMs) this.#failed(copy, failure);
      else this.#fleet.poke(keyOf(copy.id));
    });
  }
}
