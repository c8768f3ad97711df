/**
 * Every VM the fleet knows of: the ledger's copies joined with what hosts show of them, and VMs on the same hosts that belong to
 * others. One index each by serial, by service and by uuid, so that news of one VM costs the same with ten VMs and with 10,000.
 *
 * A copy that is in the ledger and not seen is "asked": it may be on its way. What a host that is away showed last stays, for it
 * may still be so.
 */
import { parseIpv4 } from './links/records.ts';
import type { SeenVm } from './port.ts';
import type { CopyRecord } from './state.ts';
import { vmNameOf, type Copy, type CopyId, type HostName } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';
import { serviceKey } from '../model/service.ts';
import { FleetAddresses } from '../place/addresses.ts';

export type Work = 'launch' | 'start' | 'restart' | 'destroy' | 'move';

export interface Tracked extends Copy {
  record: CopyRecord;
  name: string;
  /** Its host has shown it since the controller began. */
  seen: boolean;
  /** Its host may have been asked for it. */
  sent: boolean;
  /** What is under way on it, in this controller. */
  work: Work | undefined;
  runningSinceMs: number;
  /** Differs from what it was made as: what of it, for people. */
  drift: string | undefined;
}

export interface Foreign {
  uuid: Uuid;
  host: HostName;
  name: string;
  state: SeenVm['state'];
  memoryKib: number;
  addresses: { network: string; ip: string }[];
}

export interface OnHost {
  vms: number;
  vifs: number;
  promisedKib: number;
}

export interface CopiesOptions {
  fleet: string;
  now: () => number;
  /** What a copy of this revision runs; undefined when nobody knows any more. */
  expected: (key: string, slot: number, revision: string) => { image: string; args: string } | undefined;
  /** Something about a copy changed; `before` is its state until now, undefined for one that is new. */
  changed: (copy: Tracked, before: Copy['state'] | undefined) => void;
  /** `uuid`: what it had; undefined when its host is gone for good. */
  gone: (copy: Tracked, uuid: Uuid | undefined) => void;
  /** A VM of ours that is not in the ledger: from an older ledger, or one that was struck out too early. */
  adopted: (record: CopyRecord) => void;
  foreign: (vm: Foreign, gone: boolean) => void;
  /** Whether a copy that runs answers; asked when one begins to run. */
  readyAtOnce: (key: string) => boolean;
}

/** Of a copy that is not as it was made. */
export const driftedRevision = '00000000';

export const keyOf = (id: CopyId): string => serviceKey(id.tenant, id.service);

export class Copies {
  readonly addresses = new FleetAddresses();
  readonly #o: CopiesOptions;
  readonly #bySerial = new Map<number, Tracked>();
  readonly #byService = new Map<string, Set<Tracked>>();
  readonly #bySlot = new Map<string, Set<Tracked>>();
  readonly #byUuid = new Map<Uuid, Tracked>();
  readonly #foreign = new Map<Uuid, Foreign>();
  readonly #onHost = new Map<HostName, Set<Tracked>>();
  readonly #perServiceHost = new Map<string, number>();

  constructor(options: CopiesOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#bySerial.size;
  }

  get(serial: number): Tracked | undefined {
    return this.#bySerial.get(serial);
  }

  withUuid(uuid: string): Tracked | undefined {
    return this.#byUuid.get(uuid as Uuid);
  }

  foreignWithUuid(uuid: string): Foreign | undefined {
    return this.#foreign.get(uuid as Uuid);
  }

  all(): IterableIterator<Tracked> {
    return this.#bySerial.values();
  }

  foreign(): IterableIterator<Foreign> {
    return this.#foreign.values();
  }

  of(key: string): ReadonlySet<Tracked> {
    return this.#byService.get(key) ?? none;
  }

  /** Copies of one slot; rarely more than two. */
  slot(key: string, slot: number): ReadonlySet<Tracked> {
    return this.#bySlot.get(`${key} ${slot}`) ?? none;
  }

  on(host: HostName): ReadonlySet<Tracked> {
    return this.#onHost.get(host) ?? none;
  }

  countOn(key: string, host: HostName): number {
    return this.#perServiceHost.get(`${key} ${host}`) ?? 0;
  }

  /** What copies take of a host; foreign VMs are in it but for their promised memory. */
  load(host: HostName): OnHost {
    const load: OnHost = { vms: 0, vifs: 0, promisedKib: 0 };
    for (const copy of this.on(host)) {
      load.vms++;
      load.vifs += copy.addresses.length;
      if (copy.state === 'asked' || copy.state === 'busy') load.promisedKib += copy.memoryKib;
    }
    for (const vm of this.#foreign.values()) if (vm.host === host) (load.vms++, (load.vifs += vm.addresses.length));
    return load;
  }

  /** Into the index; its addresses are held from here on. */
  add(record: CopyRecord): Tracked {
    const copy: Tracked = {
      id: record.id,
      host: record.host,
      uuid: undefined,
      state: 'asked',
      memoryKib: record.memoryKib,
      addresses: record.addresses.map(({ ip }) => ip),
      sinceMs: this.#o.now(),
      ready: false,
      takesFrom: record.takes?.from,
      retired: record.retired,
      record,
      name: vmNameOf(record.id),
      seen: false,
      sent: true,
      work: undefined,
      runningSinceMs: 0,
      drift: undefined,
    };
    this.#bySerial.set(record.id.serial, copy);
    addTo(this.#byService, keyOf(record.id), copy);
    addTo(this.#bySlot, `${keyOf(record.id)} ${record.id.slot}`, copy);
    addTo(this.#onHost, record.host, copy);
    this.#count(copy, 1);
    this.#hold(copy, heldBy(record));
    return copy;
  }

  /** The record of a copy is another one now: its addresses are held by it, and no others. */
  rewrite(copy: Tracked, record: CopyRecord): void {
    const before = heldBy(copy.record);
    copy.record = record;
    copy.addresses = record.addresses.map(({ ip }) => ip);
    copy.takesFrom = record.takes?.from;
    copy.retired = record.retired;
    const now = heldBy(record);
    this.#hold(copy, now);
    for (const { network, ip } of before)
      if (!now.some((each) => each.network === network && each.ip === ip)) this.#release(network, ip, ownerOf(copy));
  }

  /** Out of the index; its addresses are free. */
  remove(copy: Tracked): void {
    const { id, host, uuid } = copy;
    if (!this.#bySerial.delete(id.serial)) return;
    takeFrom(this.#byService, keyOf(id), copy);
    takeFrom(this.#bySlot, `${keyOf(id)} ${id.slot}`, copy);
    this.#onHost.get(host)?.delete(copy);
    this.#count(copy, -1);
    if (uuid !== undefined) this.#byUuid.delete(uuid);
    for (const { network, ip } of heldBy(copy.record)) this.#release(network, ip, ownerOf(copy));
  }

  set(copy: Tracked, state: Copy['state'], ready: boolean): void {
    if (copy.state === state && copy.ready === ready) return;
    const before = copy.state;
    if (before !== state) {
      copy.sinceMs = this.#o.now();
      if (state === 'running') copy.runningSinceMs = copy.sinceMs;
    }
    copy.state = state;
    copy.ready = ready;
    this.#o.changed(copy, before);
  }

  /** All that a host shows. Copies it does not show and that were seen there before are gone. */
  picture(host: HostName, vms: readonly SeenVm[]): void {
    const shown = new Set(vms.map(({ uuid }) => uuid));
    for (const copy of [...this.on(host)]) if (copy.uuid !== undefined && !shown.has(copy.uuid)) this.gone(host, copy.uuid);
    for (const vm of [...this.#foreign.values()]) if (vm.host === host && !shown.has(vm.uuid)) this.gone(host, vm.uuid);
    for (const vm of vms) this.see(host, vm);
  }

  see(host: HostName, vm: SeenVm): void {
    const id = vm.copy;
    let copy = id === undefined || id.fleet !== this.#o.fleet ? undefined : this.#bySerial.get(id.serial);
    if (id !== undefined && id.fleet === this.#o.fleet && copy === undefined && !this.#foreign.has(vm.uuid)) {
      const record: CopyRecord = { id, host, memoryKib: vm.memoryKib, addresses: vm.addresses };
      copy = this.add(record);
      this.#o.adopted(record);
    }
    // A clone that someone made of a copy says it is that copy, and is not.
    if (copy === undefined || copy.host !== host || (copy.uuid !== undefined && copy.uuid !== vm.uuid))
      return this.#seeForeign(host, vm);
    this.#byUuid.set(vm.uuid, copy);
    copy.uuid = vm.uuid;
    const fresh = !copy.seen;
    copy.seen = true;
    this.#compare(copy, vm);
    // A launch of ours shows its VM halted until the domain is there.
    const state = vm.state === 'halted' && (copy.work === 'launch' || copy.work === 'start') ? 'busy' : vm.state;
    if (state === 'running') {
      if (copy.state === 'failed') return;
      const already = copy.state === 'running' && !fresh;
      return this.set(copy, 'running', already ? copy.ready : this.#o.readyAtOnce(keyOf(copy.id)));
    }
    this.set(copy, state, false);
  }

  gone(host: HostName, uuid: Uuid): void {
    const foreign = this.#foreign.get(uuid);
    if (foreign !== undefined && foreign.host === host) {
      this.#foreign.delete(uuid);
      for (const { network, ip } of foreign.addresses) this.#release(network, ip, uuid);
      this.#o.foreign(foreign, true);
      return;
    }
    const copy = this.#byUuid.get(uuid);
    if (copy === undefined || copy.host !== host) return;
    // Under launch it may be taken away again: what became of it is the launch's to say.
    this.#byUuid.delete(uuid);
    copy.uuid = undefined;
    if (copy.work === 'launch') return;
    this.remove(copy);
    this.#o.gone(copy, uuid);
  }

  /** Nothing that a host showed counts any more: the operator says that it is gone for good. */
  forget(host: HostName): Tracked[] {
    const copies = [...this.on(host)];
    for (const copy of copies) {
      this.remove(copy);
      this.#o.gone(copy, undefined);
    }
    for (const vm of [...this.#foreign.values()]) if (vm.host === host) this.gone(host, vm.uuid);
    return copies;
  }

  #seeForeign(host: HostName, vm: SeenVm): void {
    const before = this.#foreign.get(vm.uuid);
    for (const { network, ip } of before?.addresses ?? []) this.#release(network, ip, vm.uuid);
    const { uuid, name, state, memoryKib, addresses } = vm;
    const foreign: Foreign = { uuid, host, name, state, memoryKib, addresses };
    this.#foreign.set(uuid, foreign);
    for (const { network, ip } of addresses) this.#holdOne(network, ip, uuid);
    this.#o.foreign(foreign, false);
  }

  #compare(copy: Tracked, vm: SeenVm): void {
    const { record } = copy;
    // Which addresses it still shows says nothing any more, and it is on its way out.
    if (record.retired !== undefined) return;
    const differ: string[] = [];
    if (vm.memoryKib !== record.memoryKib) differ.push(`memory ${vm.memoryKib} KiB`);
    const expected = this.#o.expected(keyOf(record.id), record.id.slot, record.id.revision);
    if (expected !== undefined && vm.image !== '' && vm.image !== expected.image) differ.push('image');
    if (expected !== undefined && vm.args !== expected.args) differ.push('arguments');
    for (const { network, ip } of vm.addresses) {
      if (heldBy(record).some((own) => own.network === network && own.ip === ip)) continue;
      if (copy.work === undefined) differ.push(`address ${ip}`);
      this.#holdOne(network, ip, ownerOf(copy));
      record.addresses = [...record.addresses, { network, ip }];
    }
    copy.drift = differ.length === 0 ? undefined : differ.join(', ');
    const revision = copy.drift === undefined ? record.id.revision : driftedRevision;
    if (copy.id.revision !== revision) copy.id = { ...record.id, revision };
  }

  #hold(copy: Tracked, addresses: CopyRecord['addresses']): void {
    for (const { network, ip } of addresses) this.#holdOne(network, ip, ownerOf(copy));
  }

  #holdOne(network: string, ip: string, owner: string): void {
    const address = parseIpv4(ip);
    if (address !== undefined) this.addresses.hold(network, address, owner);
  }

  #release(network: string, ip: string, owner: string): void {
    const address = parseIpv4(ip);
    if (address !== undefined) this.addresses.release(network, address, owner);
  }

  #count(copy: Tracked, by: number): void {
    const key = `${keyOf(copy.id)} ${copy.host}`;
    const count = (this.#perServiceHost.get(key) ?? 0) + by;
    if (count === 0) this.#perServiceHost.delete(key);
    else this.#perServiceHost.set(key, count);
  }
}

const none: ReadonlySet<Tracked> = new Set();
/** Addresses that nobody else may have on account of this copy. */
const heldBy = ({ addresses, takes }: CopyRecord): CopyRecord['addresses'] =>
  takes === undefined ? addresses : [...addresses, ...takes.addresses];
export const ownerOf = (copy: { id: CopyId }): string => ownerOfSerial(copy.id.serial);
export const ownerOfSerial = (serial: number): string => `c${serial}`;

function addTo<K>(map: Map<K, Set<Tracked>>, key: K, copy: Tracked): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([copy]));
  else set.add(copy);
}

function takeFrom<K>(map: Map<K, Set<Tracked>>, key: K, copy: Tracked): void {
  const set = map.get(key);
  set?.delete(copy);
  if (set?.size === 0) map.delete(key);
}
