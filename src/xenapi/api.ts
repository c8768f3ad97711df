/** What every call of the server works on: the host agent, the events and tasks of this API, and who is calling. */
import type { HostAgent } from '../host/agent.ts';
import { derivedUuid, partUuid, refOf, vbdUuid, vifUuid } from '../host/refs.ts';
import type { Change } from '../host/fleet.ts';
import { Capabilities } from '../image/capability.ts';
import type { Shelf } from '../image/serving.ts';
import { buildOf } from './build.ts';
import { EventLog, type EventKind } from './events.ts';
import { listedClasses, type ListedClass } from './model/model.ts';
import { Sessions, type Session, type SessionOptions } from './sessions.ts';
import { Tasks } from './tasks.ts';

export interface ApiOptions extends SessionOptions {
  agent: HostAgent;
  /** Version of Shoal. */
  version: string;
  /** Which build of the agent this is; by default that of the program that runs. */
  build?: string;
  /** Where clients reach the host; for host.address and the consoles' locations. */
  address: string;
  /** Least time between two answers with events to one session, so that a burst comes as few answers; 20 ms by default. */
  eventBatchMs?: number;
  maxGravestones?: number;
}

/** Who calls, and how the call can be ended or watched. */
export interface Caller {
  session: Session | undefined;
  /** Where the call comes from. */
  address: string;
  /** Aborted by task.cancel; a plain call cannot be cancelled, and goes on when its client hangs up. */
  signal: AbortSignal;
  /** Aborted when the client hangs up. */
  gone: AbortSignal;
  progress: (part: number) => void;
}

export class Api {
  readonly agent: HostAgent;
  readonly version: string;
  readonly build: string;
  readonly address: string;
  readonly sessions: Sessions;
  readonly events: EventLog;
  readonly tasks: Tasks;
  /** Images that a neighbour may fetch from here. */
  readonly shelf: Shelf;
  readonly eventBatchMs: number;
  readonly refs: { host: string; pool: string; hostMetrics: string; sr: string };
  /** pool.other_config: clients park barriers there. */
  poolOtherConfig: Record<string, string> = {};
  readonly #networkRefs = new Map<string, string>();
  readonly #unsubscribe: () => void;

  constructor(options: ApiOptions) {
    this.agent = options.agent;
    this.version = options.version;
    this.build = options.build ?? buildOf(process.argv[1]);
    this.address = options.address;
    this.sessions = new Sessions(options);
    this.shelf = { capabilities: new Capabilities(options.now), blob: (digest) => options.agent.images.file(digest) };
    this.events = new EventLog(listedClasses, options.maxGravestones);
    this.eventBatchMs = options.eventBatchMs ?? 20;
    this.tasks = new Tasks((task, kind) => this.note('task', task.ref, kind));
    const { uuid, fleet } = options.agent;
    this.refs = {
      host: refOf(uuid),
      pool: refOf(derivedUuid(uuid, 'pool')),
      hostMetrics: refOf(derivedUuid(uuid, 'host_metrics')),
      sr: refOf(derivedUuid(uuid, 'SR')),
    };
    this.note('pool', this.refs.pool, 'add');
    this.note('host', this.refs.host, 'add');
    this.note('host_metrics', this.refs.hostMetrics, 'add');
    this.note('SR', this.refs.sr, 'add');
    for (const { uuid: disk } of fleet.disks.all()) this.#see({ of: 'disk', kind: 'add', disk });
    for (const { name } of fleet.networks()) {
      const ref = refOf(derivedUuid(uuid, 'network', name));
      this.#networkRefs.set(ref, name);
      this.note('network', ref, 'add');
    }
    for (const vm of fleet.all()) {
      this.#see({ of: 'vm', kind: 'add', vm: vm.uuid, parts: true });
      for (const { handle } of vm.vifs) this.#see({ of: 'vif', kind: 'add', vm: vm.uuid, handle });
      for (const { index, disk } of vm.vbds) this.#see({ of: 'vbd', kind: 'add', vm: vm.uuid, index, disk });
    }
    this.#unsubscribe = fleet.onChange((change) => this.#see(change));
  }

  close(): void {
    this.#unsubscribe();
  }

  note(className: ListedClass, ref: string, kind: EventKind): number {
    return this.events.note(className, ref, kind);
  }

  networkName(ref: string): string | undefined {
    return this.#networkRefs.get(ref);
  }

  networkRefs(): IterableIterator<string> {
    return this.#networkRefs.keys();
  }

  networkRef(name: string): string {
    return refOf(derivedUuid(this.agent.uuid, 'network', name));
  }

  /** Something in the host changed: its objects here changed with it. */
  #see(change: Change): void {
    if (change.of === 'host') {
      this.note('host_metrics', this.refs.hostMetrics, 'mod');
      return;
    }
    if (change.of === 'vif') {
      this.note('VIF', refOf(vifUuid(change.vm, change.handle)), change.kind);
      if (change.kind !== 'mod' && this.agent.fleet.get(change.vm) !== undefined) this.note('VM', refOf(change.vm), 'mod');
      return;
    }
    if (change.of === 'disk') {
      this.note('VDI', refOf(change.disk), change.kind);
      this.note('SR', this.refs.sr, 'mod');
      return;
    }
    if (change.of === 'vbd') {
      this.note('VBD', refOf(vbdUuid(change.vm, change.index)), change.kind);
      if (change.kind === 'mod') return;
      if (this.agent.fleet.disks.get(change.disk) !== undefined) this.note('VDI', refOf(change.disk), 'mod');
      if (this.agent.fleet.get(change.vm) !== undefined) this.note('VM', refOf(change.vm), 'mod');
      return;
    }
    this.note('VM', refOf(change.vm), change.kind);
    if (!change.parts) return;
    this.note('VM_metrics', refOf(partUuid(change.vm, 'VM_metrics')), change.kind);
    this.note('VM_guest_metrics', refOf(partUuid(change.vm, 'VM_guest_metrics')), change.kind);
    if (change.kind !== 'mod') this.note('console', refOf(partUuid(change.vm, 'console')), change.kind);
    else {
      const vm = this.agent.fleet.get(change.vm);
      for (const { handle } of vm?.vifs ?? []) this.note('VIF', refOf(vifUuid(change.vm, handle)), 'mod');
      for (const { index } of vm?.vbds ?? []) this.note('VBD', refOf(vbdUuid(change.vm, index)), 'mod');
    }
  }
}
