/** One migration from here: the work of each state of migrate/table.ts. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DomainShape, Hypervisor, MemoryReader } from '../hypervisor/port.ts';
import type { ImageStore } from '../image/store.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Domid } from '../model/ids.ts';
import { enoughBytes, estimate, formula, learned, mostPasses, unknownFilled, type Estimate, type Load, type Past } from '../migrate/estimate.ts';
import { nextOfSource, type SourceEvent, type SourceState } from '../migrate/table.ts';
import { recordOf } from './arrival.ts';
import { DepartureLink, Lost, Refused, type Credentials, type Ticket } from './departure-link.ts';
import type { Fleet } from './fleet.ts';
import type { Neighbours } from './neighbours.ts';
import type { Runner } from './runner.ts';
import { readAhead, readNow } from './reading.ts';
import { SavedEncoder, type SavedRecord } from './saved.ts';
import type { Takeover } from './takeover.ts';
import type { Vm } from './vm.ts';

/** A target that is slower than that is not waited for. */
const mostTakenMs = 2_000;

export interface DeparturesOptions {
  hypervisor: Hypervisor;
  fleet: Fleet;
  runner: Runner;
  images: ImageStore;
  credentials: Credentials | undefined;
  neighbours: Neighbours;
  takeover: Takeover;
  log: (line: string) => void;
  hook?: ((moment: string) => void | Promise<void>) | undefined;
}

export interface DepartureChoices {
  live?: boolean;
  /** That host's network by the name of the network here. */
  networks?: Record<string, string>;
  /** Address of its vif 0 there. */
  ip?: string;
}

export interface Departed {
  /** As the target gave them, in the order of the vifs. */
  addresses: string[];
  bytes: number;
  /** Of the memory over the connection. */
  passes: number;
  connections: number;
  totalMs: number;
  /** From before the suspension until the target said that the VM runs; and the look at it before it was copied live. */
  downtimeMs: number;
  /** Parts of the standstill in milliseconds, in their order: here look (live), suspend, open, ship, filled, commit; there what the target says of its own. */
  phases: { here: Record<string, number>; there: Record<string, number> };
  predicted: Estimate;
}

export function loadOf(vm: Vm, past: readonly Past[]): Load {
  const { filled, dirtyBps } = learned(past);
  return { memoryKib: vm.memoryKib, filled: filled ?? unknownFilled, dirtyBps: dirtyBps ?? 0 };
}

/** Inside the VM's lane. */
export class Departure {
  readonly #o: DeparturesOptions & { closing: AbortSignal };
  readonly #vm: Vm;
  readonly #ticket: Ticket;
  readonly #credentials: Credentials;
  readonly #choices: DepartureChoices;
  readonly #signal: AbortSignal;
  readonly #progress: (part: number) => void;
  readonly #patiently: (once: () => Promise<SourceEvent>) => Promise<SourceEvent>;
  readonly #link: DepartureLink;
  readonly #encoder = new SavedEncoder();
  #record: SavedRecord | undefined;
  #shape: DomainShape | undefined;
  #reader: MemoryReader | undefined;
  #suspended = false;
  #suspendedAt = 0;
  #downtimeMs = 0;
  readonly #here: Record<string, number> = {};
  #there: Record<string, number> = {};
  #passes = 0;
  #bytesOfPasses: number[] = [];
  #shipMs = 0;
  #addresses: string[] = [];
  #reason: ShoalError | undefined;

  constructor(
    options: DeparturesOptions & { closing: AbortSignal }, vm: Vm, ticket: Ticket, credentials: Credentials, choices: DepartureChoices, signal: AbortSignal,
    progress: (part: number) => void, patiently: (once: () => Promise<SourceEvent>) => Promise<SourceEvent>,
  ) {
    this.#o = options;
    this.#vm = vm;
    this.#ticket = ticket;
    this.#credentials = credentials;
    this.#choices = choices;
    this.#signal = signal;
    this.#progress = progress;
    this.#patiently = patiently;
    const { networks, ip } = choices;
    const { id, token } = ticket;
    this.#link = new DepartureLink(ticket, credentials, () => ({ say: 'hello', id, token, record: this.#record, networks, ip }), signal);
  }

  async run(from: SourceState = 'reserve'): Promise<Departed> {
    const begun = performance.now();
    let state = from;
    try {
      while (state !== 'stayed' && state !== 'left') {
        const event = await this.#do(state);
        await this.#o.hook?.(`${state}:${event}`);
        state = nextOfSource(state, event);
      }
    } finally {
      this.#reader?.close();
      this.#link.close();
    }
    if (state === 'stayed') throw this.#reason ?? new ShoalError('MIGRATION_FAILED', `VM "${this.#vm.name}" runs on here.`);
    return this.#outcome(performance.now() - begun);
  }

  async #do(state: Exclude<SourceState, 'stayed' | 'left'>): Promise<SourceEvent> {
    if (state === 'ask') return this.#patiently(() => this.#askOnce());
    try {
      await this.#o.hook?.(state);
      if (state === 'commit') return await this.#commit();
      await this[`_${state}`]();
      return 'done';
    } catch (thrown) {
      if (state === 'commit') {
        this.#reason = thrown instanceof Refused ? thrown.reason : new ShoalError('MIGRATION_FAILED', 'The target did not take the VM in the end.');
        return 'lost';
      }
      if (state === 'undo' || state === 'release') throw thrown;
      if (thrown instanceof Lost) this.#reason ??= new ShoalError('MIGRATION_FAILED', `${thrown.message}.`, { cause: thrown });
      else this.#reason ??= thrown instanceof Refused ? thrown.reason : asShoalError(thrown);
      if (this.#signal.aborted) return 'cancelled';
      return thrown instanceof Lost ? 'lost' : 'refused';
    }
  }

  async _reserve(): Promise<void> {
    const { hypervisor, fleet, images } = this.#o;
    const vm = this.#vm;
    this.#record = recordOf(vm, fleet, await hypervisor.cpuFeatures(), (await hypervisor.facts()).version);
    await this.#link.connect();
    let reserved = await this.#link.word(['reserved']);
    if (reserved['needImage'] === true) {
      this.#link.image(await images.bytes(vm.image));
      this.#link.say({ say: 'image-end' });
      reserved = await this.#link.word(['reserved']);
    }
    this.#addresses = (reserved['addresses'] as string[] | undefined) ?? [];
    const { id, token, url, fingerprint } = this.#ticket;
    const along = vm.vifs.flatMap(({ ipv4 }) => ipv4).filter((each) => this.#addresses.includes(each));
    vm.leaving = { id, token, url, fingerprint, along };
    await fleet.keep(vm);
  }

  /** While it runs: its memory as it is; live also what changed meanwhile, until that is little. */
  async _copy(): Promise<void> {
    await this.#link.data(this.#encoder.header(this.#record!));
    this.#shape = await this.#o.runner.starter.shapeOf(this.#vm);
    const live = this.#choices.live === true;
    const domid = this.#vm.domid!;
    this.#reader = readAhead(this.#o.hypervisor, domid, this.#shape, true);
    if (this.#reader === undefined) {
      if (!live) return;
      await this.#phase('look', async () => {
        await this.#suspend(domid);
        this.#open(domid);
        await this.#goOn(domid);
      });
    }
    for (let before = Infinity; this.#passes < mostPasses; ) {
      const bytes = await this.#pass();
      // What it has still to lay in it would lay in while the VM stands still.
      await this.#link.taken(mostTakenMs);
      if (!live || bytes <= enoughBytes || bytes >= before) return;
      before = bytes;
    }
  }

  async _suspend(): Promise<void> {
    const domid = this.#vm.domid!;
    // Before it does: what is sent to it meanwhile waits at the target, and saying so is no part of the standstill.
    this.#link.say({ say: 'still' });
    this.#suspendedAt = performance.now();
    await this.#phase('suspend', () => this.#suspend(domid));
    await this.#phase('open', async () => this.#open(domid));
  }

  async #phase<T>(name: string, work: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    try {
      return await work();
    } finally {
      this.#here[name] = performance.now() - begun;
    }
  }

  async _ship(): Promise<void> {
    await this.#phase('ship', async () => {
      const parts: Buffer[] = [];
      await this.#pass(parts);
      // With the last of the memory, in one go.
      await this.#link.data(...parts, this.#encoder.state(this.#reader!.state()), this.#encoder.end());
    });
  }

  async _verify(): Promise<void> {
    const begun = performance.now();
    // Before the target may have it, and while it has its own work.
    this.#o.runner.become(this.#vm, 'Suspended');
    await this.#phase('filled', () => this.#link.word(['filled']));
    this.#shipMs += performance.now() - begun;
    this.#progress(0.9);
  }

  /** A target that was cut off meanwhile still waits for the word. */
  async #commit(): Promise<SourceEvent> {
    for (let again = false; ; again = true) {
      this.#link.say({ say: 'commit' });
      try {
        const said = await this.#phase('commit', () => this.#link.word(['committed'], true));
        this.#there = (said['phases'] as Record<string, number> | undefined) ?? {};
        break;
      } catch (error) {
        if (again || !(error instanceof Lost) || this.#signal.aborted) throw error;
        await this.#link.connect();
        await this.#link.word(['filled'], true);
      }
    }
    this.#downtimeMs = performance.now() - this.#suspendedAt + (this.#here['look'] ?? 0);
    return 'committed';
  }

  async #askOnce(): Promise<SourceEvent> {
    const { id, token } = this.#ticket;
    const link = new DepartureLink(this.#ticket, this.#credentials, () => ({ say: 'ask', id, token }), new AbortController().signal);
    try {
      await link.connect();
      return (await link.word(['committed', 'unknown'], true))['say'] === 'committed' ? 'committed' : 'unknown';
    } catch {
      return 'lost';
    } finally {
      link.close();
    }
  }

  /** The VM is ours, and goes on where it is. */
  async _undo(): Promise<void> {
    const { fleet, runner } = this.#o;
    const vm = this.#vm;
    this.#link.say({ say: 'abort' });
    this.#reader?.close();
    delete vm.leaving;
    // Where the disk is full the order stays in the journal: the next agent asks a target that knows nothing of it, and comes to the same.
    await fleet.keep(vm).catch((error: unknown) => this.#o.log(`vm ${vm.name}: stays, which could not be written: ${asShoalError(error).message}`));
    if (vm.domid === undefined || (!this.#suspended && vm.power !== 'Suspended')) return;
    await this.#goOn(vm.domid);
    runner.become(vm, 'Running');
    runner.look(vm);
    void this.#o.takeover.announce(vm);
  }

  /** The VM is the target's. */
  async _release(): Promise<void> {
    const { fleet } = this.#o;
    const vm = this.#vm;
    const { id, token } = this.#ticket;
    const along = vm.leaving?.along ?? [];
    this.#reader?.close();
    if (vm.domid !== undefined) await this.#remove(vm.domid);
    fleet.place(vm, undefined);
    try {
      await fleet.drop(vm, along);
    } catch (error) {
      // The next agent finds it in the journal and asks: so the target must not forget.
      this.#o.log(`vm ${vm.name}: is gone, which could not be written: ${asShoalError(error).message}`);
      return fleet.drop(vm, along);
    }
    // The target may forget now. When it does not hear that, it remembers: 200 bytes.
    const link = new DepartureLink(this.#ticket, this.#credentials, () => ({ say: 'released', id, token }), new AbortController().signal);
    void link
      .connect()
      .then(() => link.word(['committed', 'unknown'], true))
      .catch(() => {})
      .finally(() => link.close());
  }

  /**
   * Until the domain is no more: its record goes after it. Without one the next agent would take the domain for a VM that it lost the record of, and let
   * it go on. Throws TASK_CANCELLED when the agent ends; the next one asks the target anew.
   */
  async #remove(domid: Domid): Promise<void> {
    const { hypervisor, runner, closing } = this.#o;
    for (let waitMs = 50; ; waitMs = Math.min(5000, 2 * waitMs)) {
      await runner.removeDomain(domid);
      const left = await hypervisor.get(domid).catch(() => 'unknown' as const);
      if (left === undefined || (left !== 'unknown' && (!left.ours || left.uuid !== this.#vm.uuid || left.state === 'dying'))) return;
      await sleep(waitMs, undefined, { signal: closing, ref: false }).catch(() => {});
      if (closing.aborted) throw new ShoalError('TASK_CANCELLED', 'The agent ends.');
    }
  }

  async #suspend(domid: Domid): Promise<void> {
    await this.#o.hypervisor.suspend(domid);
    this.#suspended = true;
  }

  async #goOn(domid: Domid): Promise<void> {
    await this.#o.hypervisor.resume(domid);
    this.#suspended = false;
  }

  #open(domid: Domid): void {
    const ahead = this.#reader;
    this.#reader = undefined;
    this.#reader = readNow(this.#o.hypervisor, domid, this.#shape!, this.#choices.live === true, ahead);
  }

  /** Over its memory while it runs; or, with `last`, while it stands still: what is still to be sent then is in there. */
  async #pass(last?: Buffer[]): Promise<number> {
    const begun = performance.now();
    const running = last === undefined;
    let bytes = 0;
    for (let piece = this.#reader!.piece(running); piece !== undefined; piece = this.#reader!.piece(running)) {
      bytes += piece.length;
      if (last !== undefined && last.length > 0) await this.#link.data(...last.splice(0));
      if (last === undefined) await this.#link.data(...this.#encoder.piece(piece));
      else last.push(...this.#encoder.piece(piece));
      if (this.#signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The migration was cancelled.');
      this.#progress(Math.min(0.8, this.#link.sentBytes / (this.#vm.memoryKib * 1024)));
    }
    this.#passes++;
    this.#bytesOfPasses.push(bytes);
    this.#shipMs += performance.now() - begun;
    return bytes;
  }

  #outcome(totalMs: number): Departed {
    const { neighbours } = this.#o;
    const vm = this.#vm;
    const { url } = this.#ticket;
    const live = this.#choices.live === true;
    const past = neighbours.past(url);
    const way = neighbours.way(url);
    const load = loadOf(vm, past);
    const predicted = estimate(load, way, live, past);
    const bytes = this.#link.sentBytes;
    const filled = Math.min(1, (this.#bytesOfPasses[0] ?? 0) / (vm.memoryKib * 1024));
    const bandwidthBps = (bytes / Math.max(1, this.#shipMs)) * 1000;
    const dirtyBps = live && this.#shipMs > 0 ? ((bytes - (this.#bytesOfPasses[0] ?? 0)) / this.#shipMs) * 1000 : 0;
    // What the formula says of the way and load as they were: what is left is what the formula lacks.
    const real = formula({ memoryKib: vm.memoryKib, filled, dirtyBps }, { rttMs: way.rttMs, bandwidthBps }, live);
    neighbours.learn(url, { formula: real, bytes, totalMs, downtimeMs: this.#downtimeMs, live, filled, dirtyBps, bandwidthBps });
    return {
      addresses: this.#addresses, bytes, passes: this.#passes, connections: this.#link.connections, totalMs, downtimeMs: this.#downtimeMs,
      phases: { here: this.#here, there: this.#there }, predicted,
    };
  }
}
