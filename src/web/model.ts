/**
 * What the console knows of the fleet: what was listed, and what was told since. Pure state; who shows it asks `version` whether
 * anything changed, and `shape` whether VMs came, went or moved.
 */
import { isBad, rolloutWords } from './rollout-words.ts';
import { standingOf, standings, type Standing } from './standing.ts';
import type { Change, Host, Lists, Note, Rollout, Service, Task, Vm } from './types.ts';

export interface News {
  number: number;
  atMs: number;
  kind: string;
  key: string;
  text: string;
  /** Something is not as it should be. */
  bad: boolean;
}

const newsKept = 500;

export class FleetModel {
  readonly vms = new Map<string, Vm>();
  readonly services = new Map<string, Service>();
  readonly hosts = new Map<string, Host>();
  readonly tasks = new Map<string, Task>();
  readonly rollouts = new Map<string, Rollout>();
  /** Newest first; bounded. */
  readonly news: News[] = [];
  /** False until the first lists are there. */
  loaded = false;
  version = 0;
  shape = 0;
  #told = 0;

  clear(): void {
    for (const each of [this.vms, this.services, this.hosts, this.tasks, this.rollouts]) each.clear();
    this.news.length = 0;
    this.loaded = false;
    this.version++;
    this.shape++;
  }

  /** Everything as it was listed; what is not in the lists is gone. */
  replace(lists: Lists): void {
    refill(this.vms, lists.vms);
    refill(this.services, lists.services);
    refill(this.hosts, lists.hosts);
    refill(this.tasks, lists.tasks);
    refill(this.rollouts, lists.rollouts);
    this.loaded = true;
    this.version++;
    this.shape++;
  }

  apply(change: Change, nowMs: number): void {
    const { kind, key } = change;
    const gone = change.op === 'del';
    this.version++;
    if (kind === 'vm') {
      const before = this.vms.get(key);
      const vm = gone ? undefined : (change.data as Vm);
      if (vm === undefined) this.vms.delete(key);
      else this.vms.set(key, vm);
      if (before === undefined || vm === undefined || before.host !== vm.host) this.shape++;
      if (before?.state === vm?.state && before?.ready === vm?.ready) return;
      const words = vm === undefined ? 'gone' : this.standing(vm);
      this.#tell(nowMs, kind, key, vm === undefined ? words : `${words} on ${vm.host}`, words === 'failed' || words === 'halted');
    } else if (kind === 'service') {
      const service = put(this.services, key, gone ? undefined : (change.data as Service));
      if (service === undefined) this.#tell(nowMs, kind, key, 'gone', false);
      else {
        const { ready, wanted } = service.copies;
        this.#tell(nowMs, kind, key, `${ready} of ${wanted} ready${service.deleting ? ', being deleted' : ''}`, false);
      }
    } else if (kind === 'host') {
      const before = this.hosts.get(key);
      const host = put(this.hosts, key, gone ? undefined : (change.data as Host));
      if (before?.state !== host?.state || before?.drained !== host?.drained) {
        const words = host === undefined ? 'gone' : `${host.state}${host.drained ? ', drained' : ''}`;
        this.#tell(nowMs, kind, key, words, host !== undefined && host.state !== 'up');
      }
    } else if (kind === 'task') {
      const task = put(this.tasks, key, gone ? undefined : (change.data as Task));
      if (task !== undefined) this.#tell(nowMs, kind, key, `${task.kind} ${task.subject}: ${task.status}, ${task.detail}`, false);
    } else if (kind === 'rollout') {
      const before = this.rollouts.get(key);
      const rollout = put(this.rollouts, key, gone ? undefined : (change.data as Rollout | undefined));
      if (rollout !== undefined && (before?.phase !== rollout.phase || before.wave !== rollout.wave))
        this.#tell(nowMs, kind, key, rolloutWords(rollout), isBad(rollout));
    } else if (kind === 'note' && !gone) {
      const note = change.data as Note;
      this.#tell(Date.parse(note.at), kind, note.service, `copy ${note.slot}: ${note.text}`, true);
    }
  }

  standing(vm: Vm): Standing {
    const host = this.hosts.get(vm.host);
    return standingOf(vm, this.hosts.size === 0 ? undefined : host === undefined ? undefined : host.state === 'up');
  }

  /** Made from the spec as it was before. */
  isOutdated(vm: Vm): boolean {
    if (vm.foreign) return false;
    const service = this.services.get(`${vm.tenant}/${vm.service}`);
    // Copies of a release on its way are ahead, not behind.
    const ahead = this.rollouts.get(`${vm.tenant}/${vm.service}`)?.release.revision === vm.revision;
    return service !== undefined && service.revision !== vm.revision && !ahead;
  }

  counts(vms: Iterable<Vm> = this.vms.values()): Record<Standing, number> {
    const counts = Object.fromEntries(standings.map((each) => [each, 0])) as Record<Standing, number>;
    for (const vm of vms) counts[this.standing(vm)]++;
    return counts;
  }

  /** What the filter box looks into. */
  fieldsOf(vm: Vm): Record<string, string> {
    return {
      name: vm.name,
      uuid: vm.uuid ?? '',
      host: vm.host,
      tenant: vm.tenant ?? '',
      service: vm.service === undefined ? '' : `${vm.tenant}/${vm.service}`,
      state: `${vm.state} ${this.standing(vm)}${this.isOutdated(vm) ? ' outdated' : ''}`,
      ip: vm.addresses.join(' '),
    };
  }

  #tell(atMs: number, kind: string, key: string, text: string, bad: boolean): void {
    const latest = this.news[0];
    // Counts of one thing, one after the other, are one line.
    if (latest !== undefined && latest.kind === kind && latest.key === key && (kind === 'service' || kind === 'task')) this.news.shift();
    this.news.unshift({ number: ++this.#told, atMs, kind, key, text, bad });
    if (this.news.length > newsKept) this.news.length = newsKept;
  }
}

function refill<T extends { id: string }>(map: Map<string, T>, items: readonly T[]): void {
  map.clear();
  for (const item of items) map.set(item.id, item);
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined): T | undefined {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
  return value;
}
