/** A toy fleet for the planner's tests: copies and hosts by short words, and a world that does what steps say. */
import { afterFailure } from '../../../src/plan/backoff.ts';
import type { Observed, Plan, Wanted } from '../../../src/plan/plan.ts';
import type { Copy, CopyState, Host, SlotMemory } from '../../../src/model/fleet.ts';
import { completed, type ServiceSpec } from '../../../src/model/service.ts';
import type { Uuid } from '../../../src/model/ids.ts';

export const now = 1_000_000;
export const graceMs = 30_000;
export const specOf = (more: object = {}): ServiceSpec =>
  completed({ tenant: 't', name: 's', image: 'sha256:0', count: 1, memoryKib: 4096, ...more });
export const wantedOf = (more: object = {}, revision = 'r2'): Wanted => ({ spec: specOf(more), revision });

/** "0#7 a running r2": slot, serial, host, state, revision; "unready" after it when it does not answer. */
export function copy(text: string): Copy {
  const [slotSerial = '', host = '', state = '', revision = 'r2', unready] = text.split(' ');
  const [slot = 0, serial = 0] = slotSerial.split('#').map(Number);
  return {
    id: { fleet: 'f', tenant: 't', service: 's', slot, serial, revision },
    host,
    uuid: `u${serial}` as Uuid,
    state: state as CopyState,
    memoryKib: 4096,
    addresses: [],
    sinceMs: now,
    ready: unready === undefined && state === 'running',
  };
}

type HostWord = Pick<Host, 'state' | 'awaySinceMs' | 'drained' | 'dead'>;
/** "a b:drained c:away:5000": away since so many milliseconds. */
export function hosts(text: string): (name: string) => HostWord | undefined {
  const all = new Map(
    text.split(' ').map((word) => {
      const [name = '', what, forMs] = word.split(':');
      return [
        name,
        {
          state: what === 'away' || what === 'dead' ? ('away' as const) : ('up' as const),
          awaySinceMs: now - Number(forMs ?? 0),
          drained: what === 'drained',
          dead: what === 'dead',
        },
      ];
    }),
  );
  return (name) => all.get(name);
}

/** "0:2:1500:a": slot, failures, so many milliseconds ago, host. */
export function memories(text: string): (slot: number) => SlotMemory | undefined {
  const all = new Map(
    text.split(' ').map((word) => {
      const [slot, failures, ago, host] = word.split(':');
      return [Number(slot), { failures: Number(failures), lastFailureMs: now - Number(ago), host }];
    }),
  );
  return (slot) => all.get(slot);
}

export const shown = (plan: Plan): string[] =>
  plan.steps.map((step) => {
    switch (step.do) {
      case 'create':
        return `create ${step.slot}${step.replaces === undefined ? '' : ` for #${step.replaces.id.serial}`}${step.avoid === undefined ? '' : ` not ${step.avoid}`}${step.beside === true ? ' beside' : ''}`;
      case 'destroy':
        return `destroy #${step.copy.id.serial} ${step.why}`;
      case 'note':
        return `note ${step.slot}`;
      case 'move':
        return `move ${step.from === undefined ? 'nothing' : `#${step.from.id.serial}`} to #${step.to.id.serial}`;
      default:
        return `${step.do} #${step.copy.id.serial}`;
    }
  });

/** Does what a plan says, at once; new copies go to the first host in turn that is up and not drained. */
export class World {
  copies: Copy[] = [];
  hosts: Record<string, HostWord & { downFor?: number }> = {};
  memory = new Map<number, SlotMemory>();
  nowMs = now;
  serial = 0;
  /** The most copies that were not there, of those wanted and once there. */
  constructor(names: string) {
    for (const name of names.split(' ')) this.hosts[name] = { state: 'up', awaySinceMs: 0, drained: false, dead: false };
  }

  get observed(): Observed {
    return { copies: this.copies, host: (name) => this.hosts[name], memory: (slot) => this.memory.get(slot) };
  }

  do(plan: Plan, wanted: Wanted | undefined): void {
    for (const step of plan.steps) {
      if (step.do === 'create') {
        const free = Object.keys(this.hosts).filter((name) => this.hosts[name]!.state === 'up' && !this.hosts[name]!.drained);
        const host = free[this.serial % free.length];
        if (host !== undefined)
          this.copies.push({
            ...copy(`${step.slot}#${++this.serial} ${host} asked`),
            id: { fleet: 'f', tenant: 't', service: 's', slot: step.slot, serial: this.serial, revision: wanted!.revision },
          });
      } else if (step.do === 'destroy') this.copies = this.copies.filter((c) => c !== step.copy);
      else if (step.do === 'start' || step.do === 'restart') this.become(step.copy, 'busy');
    }
  }

  /** Whatever is under way ends well. */
  finish(): void {
    for (const c of this.copies)
      if (
        this.hosts[c.host]!.state === 'up' &&
        (c.state === 'asked' || c.state === 'busy' || (c.state === 'running' && !c.ready))
      )
        this.become(c, 'running');
  }

  become(c: Copy, state: CopyState): void {
    if (state === 'halted' || state === 'failed')
      this.memory.set(
        c.id.slot,
        afterFailure(specOf().restart, this.memory.get(c.id.slot), this.nowMs, this.nowMs - c.sinceMs, c.host),
      );
    this.copies[this.copies.indexOf(c)] = { ...c, state, ready: state === 'running', sinceMs: this.nowMs };
  }
}
