/**
 * Starts, stops and settles single VMs. Each method is one turn in the VM's lane; `settle` brings a VM's record and its domain
 * together again (verdict.ts says how) and is what every path ends in: a guest that powered off, one that crashed, a domain that
 * vanished, a shutdown that was waited for, an agent that starts.
 */
import type { DomainFacts, Snapshot } from '../hypervisor/port.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Domid } from '../model/ids.ts';
import { Lanes, throwIfAborted } from './lanes.ts';
import type { Launched } from './launch.ts';
import { refOf } from './refs.ts';
import { verdict, type Action } from './verdict.ts';
import { Starter, type SpecialStart, type StarterOptions } from './starter.ts';
import type { Power, Vm } from './vm.ts';

export type RunnerOptions = StarterOptions;

/** Bytes kept of a crashed guest's console. */
const lastWordsBytes = 2048;
const condemnedRetryMs = 2000;
/** A guest that reboots by itself sooner would do so for ever. */
const soonestRebootMs = 5000;

export class Runner {
  readonly lanes: Lanes;
  readonly starter: Starter;
  readonly #o: RunnerOptions;
  /** Who waits for news of a domain. */
  readonly #watchers = new Map<Domid, () => void>();
  /** Domains that could not be destroyed yet. */
  readonly #condemned = new Set<Domid>();
  #retry: NodeJS.Timeout | undefined;
  readonly #unsubscribe: () => void;

  constructor(options: RunnerOptions) {
    this.#o = options;
    this.starter = new Starter(options, (domid) => this.removeDomain(domid), (domid) => this.#condemn(domid));
    this.lanes = new Lanes((uuid) => {
      const vm = options.fleet.get(uuid);
      if (vm !== undefined) options.fleet.changed(vm);
    });
    this.#unsubscribe = options.hypervisor.onChange((domid) => this.#news(domid));
  }

  close(): void {
    this.#unsubscribe();
    clearTimeout(this.#retry);
  }

  // Operations of users

  start(vm: Vm, paused: boolean, signal?: AbortSignal): Promise<Launched> {
    return this.lanes.run(vm.uuid, 'start', 'refuse', signal, (s) => {
      this.expect(vm, ['Halted']);
      return this.launch(vm, paused, s);
    });
  }

  /** What copies of a running VM are made from. Throws VM_BAD_POWER_STATE, VALUE_NOT_SUPPORTED, TIMEOUT. */
  snapshot(vm: Vm, signal?: AbortSignal): Promise<Snapshot> {
    return this.lanes.run(vm.uuid, 'clone', 'refuse', signal, async () => {
      this.expect(vm, ['Running']);
      return this.#o.hypervisor.snapshot(vm.domid!, await this.starter.shapeOf(vm));
    });
  }

  /** Starts a halted VM, which has the shape of the snapshot, as a copy. */
  startCopy(vm: Vm, from: Snapshot, signal?: AbortSignal): Promise<Launched> {
    return this.lanes.run(vm.uuid, 'start', 'refuse', signal, (s) => {
      this.expect(vm, ['Halted']);
      return this.launch(vm, false, s, { fill: (domid, shape) => this.#o.hypervisor.build(domid, shape, from) });
    });
  }

  pause(vm: Vm, signal?: AbortSignal): Promise<void> {
    return this.lanes.run(vm.uuid, 'pause', 'refuse', signal, async () => {
      this.expect(vm, ['Running']);
      vm.wanted = 'paused';
      await this.#o.fleet.keep(vm);
      try {
        await this.#o.hypervisor.pause(vm.domid!);
      } catch (error) {
        vm.wanted = 'running';
        await this.#o.fleet.keep(vm);
        await this.settle(vm);
        throw error;
      }
      this.become(vm, 'Paused');
    });
  }

  unpause(vm: Vm, signal?: AbortSignal): Promise<void> {
    return this.lanes.run(vm.uuid, 'unpause', 'refuse', signal, async () => {
      this.expect(vm, ['Paused']);
      await this.#o.hypervisor.unpause(vm.domid!).catch((error: unknown) => this.settle(vm).then(() => Promise.reject(error)));
      vm.wanted = 'running';
      this.become(vm, 'Running');
      await this.#o.fleet.keep(vm);
    });
  }

  /** Asks the guest to power off and waits for it. Throws TIMEOUT; the guest then goes on and may still power off later. */
  cleanShutdown(vm: Vm, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return this.lanes.run(vm.uuid, 'clean_shutdown', 'refuse', signal, async (s) => {
      this.expect(vm, ['Running']);
      await this.#ask(vm, 'poweroff', timeoutMs, s, () => vm.power === 'Halted');
    });
  }

  /** The guest makes room, and a fresh domain takes its place. */
  cleanReboot(vm: Vm, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return this.lanes.run(vm.uuid, 'clean_reboot', 'refuse', signal, async (s) => {
      this.expect(vm, ['Running']);
      const before = vm.domid;
      vm.wanted = 'rebooting';
      await this.#o.fleet.keep(vm);
      try {
        await this.#ask(vm, 'reboot', timeoutMs, s, () => vm.domid !== before);
      } catch (error) {
        if (vm.wanted === 'rebooting') {
          vm.wanted = 'running';
          await this.#o.fleet.keep(vm);
        }
        throw error;
      }
    });
  }

  /** Ends the domain at once, and any operation under way on the VM before it. */
  async hardShutdown(vm: Vm, signal?: AbortSignal): Promise<void> {
    expectHere(vm);
    const preempted = this.lanes.current(vm.uuid) !== undefined;
    return this.lanes.run(vm.uuid, 'hard_shutdown', 'preempt', signal, async () => {
      if (preempted && vm.power === 'Halted') return;
      this.expect(vm, ['Running', 'Paused', 'Suspended']);
      expectHere(vm);
      await this.#bury(vm);
    });
  }

  hardReboot(vm: Vm, signal?: AbortSignal): Promise<void> {
    return this.lanes.run(vm.uuid, 'hard_reboot', 'preempt', signal, async (s) => {
      this.expect(vm, ['Running', 'Paused']);
      await this.#bury(vm);
      await this.launch(vm, false, s);
    });
  }

  /** Takes the VM out for good. With `force` a running one is ended first. Throws VM_BAD_POWER_STATE. */
  async destroy(vm: Vm, force: boolean, signal?: AbortSignal): Promise<void> {
    expectHere(vm);
    return this.lanes.run(vm.uuid, 'destroy', force ? 'preempt' : 'refuse', signal, async () => {
      if (this.#o.fleet.get(vm.uuid) === undefined) return;
      expectHere(vm);
      if (force && vm.power !== 'Halted') await this.#bury(vm);
      this.expect(vm, ['Halted']);
      await this.#o.fleet.drop(vm);
    });
  }

  // Looking again

  /** "Look at this domain again", from the hypervisor. */
  #news(domid: Domid): void {
    const watcher = this.#watchers.get(domid);
    if (watcher !== undefined) {
      watcher();
      return;
    }
    const vm = this.#o.fleet.inDomain(domid);
    if (vm !== undefined) this.look(vm);
  }

  /** Settles the VM when its turn comes. */
  look(vm: Vm): void {
    void this.lanes
      .run(vm.uuid, 'look', 'wait', undefined, (signal) => this.settle(vm, signal))
      .catch((error: unknown) => this.#o.log(`vm ${vm.name}: could not be settled: ${asShoalError(error).message}`));
  }

  /** Inside the VM's lane: makes record and domain agree. */
  async settle(vm: Vm, signal: AbortSignal = new AbortController().signal): Promise<Action> {
    if (vm.domid === undefined) return 'nothing';
    const action = verdict(vm, await this.#o.hypervisor.get(vm.domid));
    await this.apply(action, vm, undefined, signal);
    return action;
  }

  /** Carries out a verdict on a known VM. `domain` is given where the record does not yet name it (adoption). */
  async apply(action: Action, vm: Vm, domain: DomainFacts | undefined, signal: AbortSignal): Promise<void> {
    const { fleet, hypervisor, log } = this.#o;
    if (domain !== undefined && action !== 'discard') fleet.place(vm, domain.domid);
    switch (action) {
      case 'nothing':
      case 'adopt':
        return;
      case 'discard':
        return this.removeDomain(domain?.domid ?? vm.domid!);
      case 'hold':
        log(`vm ${vm.name}: suspended in the middle of a migration; its target is asked`);
        return this.become(vm, 'Suspended');
      case 'thaw':
        log(`vm ${vm.name}: it was suspended; it goes on`);
        await hypervisor.resume(vm.domid!);
        return this.#noteRunning(vm, 'Running');
      case 'resume':
        await hypervisor.unpause(vm.domid!);
        return this.#noteRunning(vm, 'Running');
      case 'note': {
        const state = domain?.state ?? (await hypervisor.get(vm.domid!))?.state;
        return this.#noteRunning(vm, state === 'paused' ? 'Paused' : 'Running');
      }
      case 'mark-halted':
        log(`vm ${vm.name}: its domain ${vm.domid} is gone`);
        // Whoever took the domain away knew nothing of its devices.
        return this.#bury(vm);
      case 'bury':
        log(`vm ${vm.name}: the guest powered off`);
        return this.#bury(vm);
      case 'bury-crashed':
        return this.#buryCrashed(vm);
      case 'restart': {
        // Below nothing where the clock was set back, or was another host's at its start: then nobody knows.
        const ranMs = this.#o.now() - vm.startedMs;
        const asked = vm.wanted === 'rebooting';
        await this.#bury(vm);
        if (!asked && ranMs >= 0 && ranMs < soonestRebootMs) return log(`vm ${vm.name}: rebooted by itself after ${ranMs} ms; it stays halted`);
        if (!asked) log(`vm ${vm.name}: reboots by itself`);
        await this.launch(vm, false, signal);
      }
    }
  }

  /** Destroys a domain; when that fails it is tried again until it is gone. */
  async removeDomain(domid: Domid): Promise<void> {
    try {
      await this.#o.hypervisor.destroy(domid);
      this.#condemned.delete(domid);
    } catch (thrown) {
      const { code, message } = asShoalError(thrown);
      this.#o.log(`domain ${domid}: could not be destroyed: ${message}`);
      // Another toolstack's by now: Xen gave the number to someone else.
      if (code === 'OPERATION_NOT_ALLOWED') this.#condemned.delete(domid);
      else this.#condemn(domid);
    }
  }

  // Parts

  /** Inside the VM's lane. */
  async launch(vm: Vm, paused: boolean, signal: AbortSignal, special?: SpecialStart): Promise<Launched> {
    const launched = await this.starter.start(vm, paused, signal, special);
    this.become(vm, paused ? 'Paused' : 'Running');
    return launched;
  }

  /** Sends a request to the guest, then settles the VM at each piece of news until `done`. */
  async #ask(vm: Vm, what: 'poweroff' | 'reboot', timeoutMs: number, signal: AbortSignal, done: () => boolean): Promise<void> {
    const domid = vm.domid!;
    const deadline = performance.now() + timeoutMs;
    let news = false;
    let wake = () => {};
    const watcher = () => {
      news = true;
      wake();
    };
    this.#watchers.set(domid, watcher);
    signal.addEventListener('abort', watcher, { once: true });
    try {
      await this.#o.hypervisor.requestShutdown(domid, what);
      for (;;) {
        const leftMs = deadline - performance.now();
        if (!news && leftMs > 0) {
          const timer = setTimeout(() => wake(), leftMs);
          await new Promise<void>((resolve) => (wake = resolve));
          clearTimeout(timer);
        }
        news = false;
        await this.settle(vm, signal);
        if (done()) return;
        throwIfAborted(signal);
        if (performance.now() >= deadline) {
          throw new ShoalError(
            'TIMEOUT',
            `The guest did not ${what === 'reboot' ? 'reboot' : 'power off'} within ${timeoutMs} ms.`,
            {
              hint: 'Shut it down hard, or give it more time.',
              data: { vm: vm.uuid, timeoutMs },
            },
          );
        }
      }
    } finally {
      signal.removeEventListener('abort', watcher);
      this.#watchers.delete(domid);
    }
  }

  async #buryCrashed(vm: Vm): Promise<void> {
    const { hypervisor, fleet, log, now } = this.#o;
    const domid = vm.domid!;
    const words = await hypervisor.readConsole(domid, 0).then(
      ({ text }) => printable(Buffer.from(text).toString('latin1')).slice(-lastWordsBytes),
      () => '',
    );
    if (fleet.get(vm.uuid) === undefined) return;
    vm.otherConfig = {
      ...vm.otherConfig,
      last_crash: `The guest crashed (domain ${domid}, ${Math.round((now() - vm.startedMs) / 1000)} s after its start).\n${words}`,
      last_crash_at: new Date(now()).toISOString(),
    };
    log(`vm ${vm.name}: crashed in domain ${domid}: ${JSON.stringify(words.slice(-200))}`);
    await this.#bury(vm);
  }

  async #bury(vm: Vm): Promise<void> {
    if (vm.domid !== undefined) await this.removeDomain(vm.domid);
    await this.#halted(vm);
  }

  async #halted(vm: Vm): Promise<void> {
    this.#o.fleet.place(vm, undefined);
    if (vm.wanted !== 'rebooting') vm.wanted = 'halted';
    this.become(vm, 'Halted');
    await this.#o.fleet.keep(vm);
  }

  async #noteRunning(vm: Vm, power: Power): Promise<void> {
    const wanted = power === 'Paused' ? 'paused' : 'running';
    const known = vm.wanted === wanted || vm.wanted === 'rebooting';
    this.become(vm, power);
    if (known) return;
    vm.wanted = wanted;
    await this.#o.fleet.keep(vm);
  }

  /** Inside the VM's lane. */
  become(vm: Vm, power: Power): void {
    vm.power = power;
    this.#o.fleet.changed(vm, true);
  }

  /** Throws HANDLE_INVALID, VM_BAD_POWER_STATE. */
  expect(vm: Vm, states: Power[]): void {
    if (this.#o.fleet.get(vm.uuid) === undefined) {
      throw new ShoalError('HANDLE_INVALID', 'The VM is gone.', { params: ['VM', refOf(vm.uuid)] });
    }
    if (states.includes(vm.power)) return;
    const [expected, actual] = [states.join(' or ').toLowerCase(), vm.power.toLowerCase()];
    throw new ShoalError('VM_BAD_POWER_STATE', `VM "${vm.name}" is ${actual}; this needs it ${expected}.`, {
      params: [refOf(vm.uuid), expected, actual],
      data: { vm: vm.uuid, expected, actual },
    });
  }

  #condemn(domid: Domid): void {
    this.#condemned.add(domid);
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      for (const each of [...this.#condemned]) void this.removeDomain(each);
    }, condemnedRetryMs).unref();
  }
}

/** A VM that may run elsewhere by now is not ended here: nobody could tell what that means. */
function expectHere(vm: Vm): void {
  if (vm.leaving === undefined || vm.power !== 'Suspended') return;
  throw new ShoalError('MIGRATION_IN_DOUBT', `VM "${vm.name}" may have migrated to ${vm.leaving.url}.`, { data: { vm: vm.uuid, target: vm.leaving.url } });
}

/** Console output as text that every protocol can carry: control characters but tab and newline become spaces. */
export const printable = (text: string): string => text.replace(/\r\n?/g, '\n').replace(/[^\n\t\x20-\x7e]/g, ' ');
