/** What can be asked of services and hosts: checked whole, written down whole, then left to the fleet's loop. */
import type { Fleet } from './fleet.ts';
import { impossible, pastQuota } from './possible.ts';
import { readSpec, refused } from './schema.ts';
import type { Change } from './port.ts';
import type { HostRecord, ServiceRecord } from './state.ts';
import type { Task, Tasks } from './tasks.ts';
import { ShoalError } from '../model/errors.ts';
import { scaled, serviceKey, type Reason, type ServiceSpec } from '../model/service.ts';

const notFound = (what: string): ShoalError => new ShoalError('NOT_FOUND', `There is no ${what}.`);

type Found = Record<'SPEC_INVALID' | 'SPEC_IMPOSSIBLE' | 'QUOTA_EXCEEDED', Reason[]>;

/** Throws when anything is in the way: all of it, under the code of the first kind there is. */
function refuse(found: Found): void {
  const code = (Object.keys(found) as (keyof Found)[]).find((each) => found[each].length > 0);
  if (code !== undefined) throw refused(code, Object.values(found).flat());
}

export class Services {
  readonly #fleet: Fleet;
  readonly #tasks: Tasks;
  /** A service was changed by hand: what else is to be kept with that. */
  onChanged: (record: ServiceRecord) => Change[] = () => [];

  constructor(fleet: Fleet, tasks: Tasks) {
    this.#fleet = fleet;
    this.#tasks = tasks;
    fleet.onPlanned((key) => tasks.look(key));
    fleet.onPlanned(() => {
      for (const unit of fleet.units.values()) if (unit.record.drained) tasks.look(unit.record.name);
    });
  }

  need(key: string): ServiceRecord {
    const record = this.#fleet.state.get('service', key);
    if (record === undefined) throw notFound(`service ${key}`);
    return record;
  }

  /**
   * Makes services so, all of them or none. `tenant`: the only one the caller may speak for. Throws SPEC_INVALID, SPEC_IMPOSSIBLE,
   * QUOTA_EXCEEDED, each with all reasons.
   */
  async apply(values: readonly unknown[], tenant: string | undefined, dry = false): Promise<Task[]> {
    const many = values.length > 1;
    const found: Found = {
      SPEC_INVALID: [],
      SPEC_IMPOSSIBLE: [],
      QUOTA_EXCEEDED: [],
    };
    const specs: ServiceSpec[] = [];
    const keys = new Set<string>();
    values.forEach((value, i) => {
      const at = many ? `services/${i}/` : '';
      const { spec, reasons } = readSpec(value);
      found.SPEC_INVALID.push(...reasons.map((reason) => ({ ...reason, path: at + reason.path })));
      if (spec === undefined) return;
      if (tenant !== undefined && spec.tenant !== tenant)
        found.SPEC_INVALID.push({ path: `${at}tenant`, message: 'is not yours.', hint: `Say "${tenant}".` });
      const key = serviceKey(spec.tenant, spec.name);
      if (keys.has(key))
        found.SPEC_INVALID.push({ path: `${at}name`, message: 'is given twice.', hint: 'Give each service once.' });
      keys.add(key);
      specs.push(spec);
      found.SPEC_IMPOSSIBLE.push(...impossible(this.#fleet, spec, at));
    });
    for (const each of new Set(specs.map((spec) => spec.tenant)))
      found.QUOTA_EXCEEDED.push(...pastQuota(this.#fleet, each, specs));
    refuse(found);
    return dry ? [] : this.#want(specs.map((spec) => ({ spec, kind: 'apply' })));
  }

  async scale(key: string, count: number): Promise<Task> {
    const { spec } = this.#needAlive(key);
    const wanted = scaled(spec, count);
    refuse({
      SPEC_INVALID: readSpec(wanted).reasons,
      SPEC_IMPOSSIBLE: impossible(this.#fleet, wanted),
      QUOTA_EXCEEDED: pastQuota(this.#fleet, spec.tenant, [wanted]),
    });
    return (await this.#want([{ spec: wanted, kind: 'scale' }]))[0]!;
  }

  /** Every copy is replaced, as an update would. */
  async restart(key: string): Promise<Task> {
    const { spec, nonce } = this.#needAlive(key);
    return (await this.#want([{ spec, kind: 'restart', nonce: nonce + 1 }]))[0]!;
  }

  async remove(key: string): Promise<Task> {
    const before = this.#needAlive(key);
    const total = Math.max(1, this.#fleet.copies.of(key).size);
    await this.#write(key, { ...before, deleting: true, changedMs: this.#fleet.now() });
    return this.#tasks.begin('delete', key, before.spec.tenant, {
      look: () => {
        const left = this.#fleet.copies.of(key).size;
        return { progress: Math.max(0, 1 - left / total), done: left === 0, detail: `${left} left` };
      },
      undo: () => this.#write(key, before),
    });
  }

  #needAlive(key: string): ServiceRecord {
    const record = this.need(key);
    if (record.deleting)
      throw new ShoalError('CONFLICT', `The service ${key} is being deleted.`, {
        hint: 'Wait until it is gone, or cancel its deletion.',
      });
    return record;
  }

  async #want(wishes: readonly { spec: ServiceSpec; kind: Task['kind']; nonce?: number }[]): Promise<Task[]> {
    const { state, now } = this.#fleet;
    const befores = wishes.map(({ spec }) => state.get('service', serviceKey(spec.tenant, spec.name)));
    const records = wishes.map(({ spec, nonce }, i): ServiceRecord => ({
      spec,
      nonce: nonce ?? befores[i]?.nonce ?? 0,
      createdMs: befores[i]?.createdMs ?? now(),
      changedMs: now(),
      deleting: false,
    }));
    await state.write(
      records.flatMap((record) => [
        state.set('service', serviceKey(record.spec.tenant, record.spec.name), record),
        ...this.onChanged(record),
      ]),
    );
    return wishes.map(({ spec, kind }, i) => {
      const key = serviceKey(spec.tenant, spec.name);
      const before = befores[i];
      this.#touched(key);
      return this.#tasks.begin(kind, key, spec.tenant, {
        look: () => {
          const { ready, wanted } = this.#fleet.counts.get(key) ?? { ready: 0, wanted: spec.count };
          const total = this.#fleet.copies.of(key).size;
          const known = this.#fleet.counts.has(key) && wanted === spec.count;
          return {
            progress: !known ? 0 : wanted === 0 ? 1 / (1 + total) : Math.min(ready / wanted, total > wanted ? 0.99 : 1),
            done: known && ready === wanted && total === wanted,
            detail: `${ready} of ${spec.count} ready${total > spec.count ? `, ${total - spec.count} to go` : ''}`,
          };
        },
        undo: () => this.#write(key, before ?? { ...records[i]!, deleting: true }),
      });
    });
  }

  async #write(key: string, record: ServiceRecord): Promise<void> {
    const { state } = this.#fleet;
    await state.write([state.set('service', key, record), ...this.onChanged(record)]);
    this.#touched(key);
  }

  #touched(key: string): void {
    this.#fleet.forgive(key);
    this.#fleet.notes.delete(key);
    this.#fleet.tellService(key);
    this.#fleet.poke(key);
  }

  // Hosts

  needHost(name: string): HostRecord {
    const record = this.#fleet.state.get('host', name);
    if (record === undefined) throw notFound(`host ${name}`);
    return record;
  }

  async addHost(record: HostRecord): Promise<void> {
    const { state } = this.#fleet;
    if (state.get('host', record.name) !== undefined)
      throw new ShoalError('CONFLICT', `There is a host ${record.name} already.`, {
        hint: 'Choose another name, or remove it first.',
      });
    for (const other of state.all('host').values())
      if (other.url === record.url)
        throw new ShoalError('CONFLICT', `${record.url} is the host ${other.name} already.`, {
          hint: 'A host that is in the fleet twice would count twice.',
        });
    // Made first: a record whose link cannot be made must not be kept.
    const unit = this.#fleet.addUnit(record);
    try {
      await state.write([state.set('host', record.name, record)]);
    } catch (error) {
      this.#fleet.units.delete(record.name);
      await unit.close();
      throw error;
    }
    this.#fleet.pokeUnplaced();
  }

  async changeHost(
    name: string,
    change: Partial<Pick<HostRecord, 'labels' | 'drained' | 'dead' | 'maxVifs'>>,
  ): Promise<HostRecord> {
    const before = this.needHost(name);
    const unit = this.#fleet.units.get(name)!;
    if (change.dead === true && unit.up)
      throw new ShoalError('CONFLICT', `${name} is reached: it is not dead.`, { hint: 'Drain it instead.' });
    const record = { ...before, ...change };
    const { state } = this.#fleet;
    await state.write([state.set('host', name, record)]);
    unit.record = record;
    if (record.dead && !before.dead) this.#fleet.copies.forget(name);
    this.#fleet.tellHost(unit);
    for (const key of this.#fleet.keys()) this.#fleet.poke(key);
    return record;
  }

  async drain(name: string): Promise<Task> {
    const { drained } = this.needHost(name);
    await this.changeHost(name, { drained: true });
    const total = Math.max(1, this.#fleet.copies.on(name).size);
    const task = this.#tasks.begin('drain', name, undefined, {
      look: () => {
        const left = this.#fleet.copies.on(name).size;
        return { progress: Math.max(0, 1 - left / total), done: left === 0, detail: `${left} left` };
      },
      undo: async () => void (await this.changeHost(name, { drained })),
    });
    this.#tasks.look(name);
    return task;
  }

  /** Throws CONFLICT while there may be copies on it. */
  async removeHost(name: string): Promise<void> {
    this.needHost(name);
    const left = this.#fleet.copies.on(name).size;
    if (left > 0)
      throw new ShoalError('CONFLICT', `There are ${left} copies on ${name}.`, {
        hint: 'Drain it first; when it is gone for good, say that it is dead.',
      });
    const { state } = this.#fleet;
    await state.write([state.set('host', name, undefined)]);
    const unit = this.#fleet.units.get(name);
    this.#fleet.units.delete(name);
    this.#fleet.copies.forget(name);
    this.#fleet.changes.tell('host', name, undefined, undefined);
    await unit?.close();
  }
}
