/**
 * The source's end of migrations: does what each state of migrate/table.ts says, and takes the table's next one. The VM's record holds the
 * order (`leaving`) from before its suspension on, so that an agent that comes after a kill knows whom to ask.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Uuid } from '../model/ids.ts';
import { advise, estimate, type Advice, type Estimate } from '../migrate/estimate.ts';
import { sourceAfterKill, type SourceEvent } from '../migrate/table.ts';
import { Departure, loadOf, type Departed, type DepartureChoices, type DeparturesOptions } from './departure.ts';
import type { Ticket } from './departure-link.ts';
import { ownerPrefix, type Vm } from './vm.ts';

export interface Plan extends Estimate {
  rttMs: number | undefined;
  bandwidthBps: number | undefined;
  afreshMs: number;
  advice: Advice;
  /** Migrations to that host that the estimate rests on. */
  migrations: number;
}

/** Where nothing was started yet. */
const unknownAfreshMs = 100;
const askEveryMs = 500;
const askAtMostEveryMs = 15_000;
/** After so long without an answer whoever ordered the migration is told that it is in doubt. */
const doubtMs = 10_000;

export class Departures {
  readonly #o: DeparturesOptions;
  readonly #closing = new AbortController();
  /** VMs in doubt, and how an operator decides. */
  readonly #deciders = new Map<Uuid, (here: boolean) => void>();
  readonly #asking = new Set<Promise<unknown>>();

  constructor(options: DeparturesOptions) {
    this.#o = options;
  }

  /**
   * Moves a running VM. Throws MIGRATION_REFUSED, MIGRATION_FAILED and what the target had against it, with the VM running here; MIGRATION_IN_DOUBT, with
   * the VM suspended here until the target was asked.
   */
  async send(vm: Vm, ticket: Ticket, choices: DepartureChoices, signal?: AbortSignal, progress: (part: number) => void = () => {}): Promise<Departed> {
    const { credentials, runner } = this.#o;
    if (credentials === undefined) throw new ShoalError('MIGRATION_REFUSED', 'This host speaks without TLS.', { hint: 'Give its agent a certificate.' });
    runner.expect(vm, ['Running']);
    // Its controller's ledger binds it, and its addresses, to this host: it would make another one.
    if (Object.keys(vm.otherConfig).some((key) => key.startsWith(ownerPrefix)))
      throw new ShoalError('MIGRATION_REFUSED', `VM "${vm.name}" belongs to a fleet.`, { hint: 'Have its controller drain the host: a new copy is made elsewhere first.' });
    if (vm.leaving !== undefined) throw new ShoalError('MIGRATION_IN_DOUBT', `VM "${vm.name}" may have migrated already.`);
    let told: (error: ShoalError) => void = () => {};
    const doubt = new Promise<never>((_, reject) => (told = reject));
    doubt.catch(() => {});
    const work = runner.lanes.run(vm.uuid, 'migrate_send', 'refuse', signal, (s) => new Departure({ ...this.#o, closing: this.#closing.signal }, vm, ticket, credentials, choices, s, progress, (run) => this.#ask(vm, run, told)).run());
    this.#follow(work);
    return Promise.race([work, doubt]);
  }

  /** After the start of the agent: asks the targets of those that were leaving. */
  recover(): void {
    for (const vm of this.#o.fleet.all()) {
      if (vm.leaving === undefined) continue;
      const work = this.#o.runner.lanes.run(vm.uuid, 'migrate_send', 'wait', undefined, () => this.#recoverOne(vm));
      this.#follow(work);
    }
  }

  /** The operator decides in the target's place. Throws VM_BAD_POWER_STATE when nothing is in doubt. */
  resolve(vm: Vm, here: boolean): void {
    const decide = this.#deciders.get(vm.uuid);
    if (decide !== undefined) return decide(here);
    throw new ShoalError('VM_BAD_POWER_STATE', `No migration of VM "${vm.name}" is in doubt.`, { params: [vm.uuid, 'in doubt', vm.power.toLowerCase()] });
  }

  /** What a migration would be like. `rttToVmMs`: of whoever uses the VM, as it moves; by default the way between the hosts. */
  async plan(vm: Vm, url: string, live: boolean, afreshMs = unknownAfreshMs, rttToVmMs?: number): Promise<Plan> {
    const { neighbours } = this.#o;
    await neighbours.measure(url);
    const way = neighbours.way(url);
    const past = neighbours.past(url);
    const said = estimate(loadOf(vm, past), way, live, past);
    const advice = advise(rttToVmMs ?? way.rttMs ?? Infinity, said.totalMs, afreshMs);
    return { ...said, rttMs: way.rttMs, bandwidthBps: way.bandwidthBps, afreshMs, advice, migrations: past.length };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#asking]);
  }

  #follow(work: Promise<unknown>): void {
    const quiet = work.catch(() => {}).finally(() => this.#asking.delete(quiet));
    this.#asking.add(quiet);
  }

  async #recoverOne(vm: Vm): Promise<void> {
    const { fleet, log, runner } = this.#o;
    const state = sourceAfterKill(vm.power === 'Suspended' || vm.domid === undefined, vm.leaving !== undefined);
    if (state === 'undo') {
      // Its domain runs: no commit was ever sent.
      delete vm.leaving;
      return fleet.keep(vm);
    }
    if (state === 'stayed' || this.#o.credentials === undefined) return;
    const { id, token, url, fingerprint } = vm.leaving!;
    log(`vm ${vm.name}: asking ${url} whether it arrived`);
    const departure = new Departure({ ...this.#o, closing: this.#closing.signal }, vm, { id, token, url, fingerprint }, this.#o.credentials, {}, this.#closing.signal, () => {}, (run) => this.#ask(vm, run, () => {}));
    await departure.run(state).catch((error: unknown) => {
      if (asShoalError(error).code === 'TASK_CANCELLED') return;
      log(`vm ${vm.name}: ${asShoalError(error).message}`);
    });
    if (fleet.get(vm.uuid) !== undefined && vm.leaving === undefined && vm.domid === undefined && vm.power !== 'Halted') {
      // Its domain went with the host.
      vm.wanted = 'halted';
      runner.become(vm, 'Halted');
      await fleet.keep(vm);
    }
  }

  /** Asks until there is an answer. */
  async #ask(vm: Vm, once: () => Promise<SourceEvent>, told: (error: ShoalError) => void): Promise<SourceEvent> {
    const begun = performance.now();
    let decided: SourceEvent | undefined;
    let wake = (): void => {};
    this.#deciders.set(vm.uuid, (here) => {
      decided = here ? 'unknown' : 'committed';
      wake();
    });
    const { signal } = this.#closing;
    try {
      for (let waitMs = askEveryMs; ; waitMs = Math.min(askAtMostEveryMs, 2 * waitMs)) {
        if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The agent ends.');
        const said = await once();
        if (decided !== undefined) return decided;
        if (said !== 'lost') return said;
        if (performance.now() - begun > doubtMs)
          told(new ShoalError('MIGRATION_IN_DOUBT', `The target did not say whether VM "${vm.name}" arrived; it is suspended here and asked for.`, { data: { vm: vm.uuid } }));
        await Promise.race([sleep(waitMs, undefined, { signal, ref: false }).catch(() => {}), new Promise<void>((resolve) => (wake = resolve))]);
        if (decided !== undefined) return decided;
      }
    } finally {
      this.#deciders.delete(vm.uuid);
    }
  }
}
