/**
 * A hypervisor in memory that keeps the port's promises, with faults to inject. It outlives the agent that uses it, as Xen does:
 * a test drops one agent and gives the same simulator to the next. Deterministic: nothing is random, delays are settable and 0 by
 * default.
 */
import type { AddressMove, DomainConfig, DomainFacts, DomainShape, DomainState, HostFacts, Hypervisor, MemoryReader, MemoryWriter, Snapshot, VbdConfig, VifConfig, VifCounters } from '../port.ts';
import { ShoalError } from '../../model/errors.ts';
import { asDomid, type Domid, type Uuid } from '../../model/ids.ts';
import { isVmUuid, newVmUuid } from '../../model/uuid.ts';
import { SimAddresses } from './addresses.ts';
import { expectFree } from './disks.ts';
import { factsOf, newDomain, SimSnapshot, type SimDomain, type SimGuest } from './domain.ts';
import { SimReader, SimWriter } from './memory.ts';
import { SimMirror } from './mirror.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

export type { SimGuest };

export type SimStep = 'create' | 'build' | 'register' | 'attachVif' | 'sealEarly' | 'seal' | 'unpause' | 'pause' | 'snapshot' | 'suspend' | 'readMemory' | 'writeMemory' | 'writeEnd' | 'resume' | 'destroy' | 'facts' | 'readdress' | 'move';

export interface SimOptions {
  totalKib?: number;

  dom0Kib?: number;
  networks?: string[];
  cpuFeatures?: Uint8Array;
  /** Milliseconds a step takes. */
  delaysMs?: Partial<Record<SimStep, number>>;
  guest?: SimGuest;
  maxDomains?: number;
}

const overheadKib = 72;
const ringBytes = 2048;
const typedBytes = 1024;

export class SimHypervisor implements Hypervisor {
  readonly delaysMs: Partial<Record<SimStep, number>>;
  /** How guests created from now on behave. */
  guest: SimGuest;
  /** Every step done, "create 3": for tests of order. */
  readonly trail: string[] = [];
  readonly addresses = new SimAddresses();
  readonly #domains = new Map<Domid, SimDomain>();
  readonly #totalKib: number;
  readonly #networks: string[];
  readonly #cpuFeatures: Uint8Array;
  readonly #maxDomains: number;
  #freeKib: number;
  #nextDomid = 1;
  readonly #faults: { step: SimStep; skip: number; times: number; error: Error }[] = [];
  readonly #listeners = new Set<(domid: Domid) => void>();

  constructor(options: SimOptions = {}) {
    this.#totalKib = options.totalKib ?? 16 * 1024 * 1024;
    this.#freeKib = this.#totalKib - (options.dom0Kib ?? 1024 * 1024);
    this.#networks = options.networks ?? ['default'];
    this.#cpuFeatures = options.cpuFeatures ?? new Uint8Array(4);
    this.#maxDomains = options.maxDomains ?? 0x7fef;
    this.delaysMs = options.delaysMs ?? {};
    this.guest = options.guest ?? 'obeys';
  }

  // Faults

  /** Lets a step fail: after `skip` further successes, `times` times. */
  failStep(step: SimStep, error: Error, options: { skip?: number; times?: number } = {}): void {
    this.#faults.push({ step, error, skip: options.skip ?? 0, times: options.times ?? 1 });
  }

  crash(domid: Domid, lastWords = ''): void {
    const domain = this.#need(domid);
    this.#print(domain, lastWords);
    this.#become(domain, 'crashed');
  }

  powerOff(domid: Domid): void {
    this.#become(this.#need(domid), 'shutdown', 'poweroff');
  }

  /** The guest reboots by itself. */
  reboot(domid: Domid): void {
    this.#become(this.#need(domid), 'shutdown', 'reboot');
  }

  /** The domain vanishes, as if another toolstack had destroyed it. `silent`: nobody is told. */
  lose(domid: Domid, silent = false): void {
    this.#free(this.#need(domid));
    if (!silent) this.#tell(domid);
  }

  /** The guest prints. */
  print(domid: Domid, text: string): void {
    this.#print(this.#need(domid), text);
  }

  /** A frame goes through a vif; for its mirror, if it has one. */
  frame(domid: Domid, handle: number, bytes: Uint8Array): void {
    const { mirrors } = this.#need(domid);
    if (mirrors.get(handle)?.frame(bytes) === false) this.#endMirror(mirrors, handle);
  }

  hasMirror(domid: Domid, handle: number): boolean {
    return this.#domains.get(domid)?.mirrors.has(handle) === true;
  }

  typed(domid: Domid): string {
    return this.#need(domid).typed;
  }

  cmdline(domid: Domid): string {
    return this.#need(domid).cmdline;
  }

  vifs = (domid: Domid): VifConfig[] => this.#need(domid).vifs;
  vbds = (domid: Domid): VbdConfig[] => this.#need(domid).vbds;

  /** A domain of another toolstack. */
  addForeign(uuid: string, memoryKib: number): Domid {
    const domain = this.#add({ uuid: uuid as Uuid, name: 'foreign', memoryKib, cmdline: '' });
    domain.state = 'running';
    return domain.domid;
  }

  // The port

  async facts(): Promise<HostFacts> {
    await this.#step('facts', asDomid(0));
    return {
      version: 'Simulated hypervisor',
      totalKib: this.#totalKib,
      freeKib: this.#freeKib,
      cpuCount: 2,
      domainCount: this.#domains.size + 1,
    };
  }

  async create({ memoryKib }: DomainShape): Promise<Domid> {
    await this.#step('create', asDomid(this.#nextDomid));
    if (this.#domains.size >= this.#maxDomains) throw new ShoalError('HOST_LIMIT', `The host has ${this.#maxDomains} domains.`);
    return this.#add({ uuid: newVmUuid(), name: '', memoryKib, cmdline: '' }).domid;
  }

  async build(domid: Domid, config: DomainShape, from?: Snapshot): Promise<void> {
    await this.#step('build', domid);
    const domain = this.#need(domid);
    if (from instanceof SimSnapshot) domain.console = from.console;
    if (config.image.memoryBytes > config.memoryKib * 1024) throw new ShoalError('IMAGE_TOO_LARGE', 'The image does not fit.');
    this.#take(domain, config.memoryKib);
    domain.built = true;
  }

  async register(domid: Domid, { uuid, name, cmdline, vbds = [] }: DomainConfig): Promise<void> {
    await this.#step('register', domid);
    expectFree(vbds, [...this.#domains.values()].filter((other) => other.domid !== domid));
    Object.assign(this.#need(domid), { uuid, name, cmdline, vbds, registered: true });
  }

  async attachVif(domid: Domid, vif: VifConfig): Promise<void> {
    if (!this.#networks.includes(vif.network)) throw new ShoalError('NETWORK_UNKNOWN', `No network "${vif.network}".`);
    await this.#step('attachVif', domid);
    this.#need(domid).vifs.push({ ...vif, ipv4: [...vif.ipv4] });
  }

  async seal(domid: Domid, record: string): Promise<void> {
    await this.#step('seal', domid);
    const domain = this.#need(domid);
    if (record === '' || Buffer.byteLength(record) > 2048) throw new ShoalError('INTERNAL_ERROR', 'A sealed record has 1 to 2,048 bytes.');
    domain.record = record;
    domain.sealed = true;
  }

  async sealEarly(domid: Domid, { uuid, name }: DomainConfig, record: string): Promise<void> {
    await this.#step('sealEarly', domid);
    Object.assign(this.#need(domid), { uuid, name, record, sealed: true });
  }

  async unpause(domid: Domid): Promise<void> {
    await this.#step('unpause', domid);
    const domain = this.#need(domid);
    if (domain.state !== 'paused') return;
    domain.state = 'running';
    if (domain.guest === 'crashes-at-boot') this.crash(domid, 'Page fault at 0x0, IP 0x400123\n');
    if (domain.guest === 'powers-off-at-boot') this.powerOff(domid);
  }

  async pause(domid: Domid): Promise<void> {
    await this.#step('pause', domid);
    const domain = this.#need(domid);
    if (domain.state === 'running') domain.state = 'paused';
  }

  async requestShutdown(domid: Domid, reason: 'poweroff' | 'reboot' | 'suspend'): Promise<void> {
    const domain = this.#need(domid);
    if (domain.guest === 'obeys' && domain.state === 'running') setImmediate(() => this.#become(domain, 'shutdown', reason));
  }

  async suspend(domid: Domid): Promise<void> {
    await this.#step('suspend', domid);
    const domain = this.#need(domid);
    if (domain.guest !== 'obeys' || domain.state !== 'running') throw new ShoalError('TIMEOUT', `Domain ${domid} did not suspend itself.`);
    this.#become(domain, 'shutdown', 'suspend');
  }

  readMemory(domid: Domid, _shape: DomainShape, passes: boolean): MemoryReader {
    this.#fail('readMemory', domid);
    const domain = this.#need(domid);
    const check = (running: boolean): void => {
      if (this.#domains.get(domid) === domain && (domain.state === 'running') === running) return;
      throw new ShoalError('HYPERCALL_FAILED', `Domain ${domid} is ${domain.state}.`, { data: { errno: 'EBUSY' } });
    };
    if (domain.state !== 'running' || domain.guest !== 'obeys') check(false);
    return new SimReader(domain.pages, passes, () => JSON.stringify({ memoryKib: domain.memoryKib, console: domain.console }), check);
  }

  writeMemory(domid: Domid, shape: DomainShape): MemoryWriter {
    this.#fail('writeMemory', domid);
    const domain = this.#need(domid);
    this.#take(domain, shape.memoryKib);
    return new SimWriter(shape.memoryKib / 4, (pages, state) => {
      this.#fail('writeEnd', domid);
      const { memoryKib, console } = state as { memoryKib: number; console: string };
      if (memoryKib !== shape.memoryKib) throw new ShoalError('SAVED_VM_INVALID', 'The state is of a guest of another size.');
      Object.assign(domain, { pages, console, built: true });
    });
  }

  cpuFeatures = async (): Promise<Uint8Array> => this.#cpuFeatures;

  /** The guest writes a page of its memory. */
  writePage(domid: Domid, frame: number, content: string): void {
    this.#need(domid).pages.set(frame, Buffer.from(content));
  }

  page = (domid: Domid, frame: number): string => this.#need(domid).pages.get(frame)?.toString() ?? '';

  /** A copy has what the original had printed. */
  async snapshot(domid: Domid, shape: DomainShape): Promise<Snapshot> {
    await this.#step('snapshot', domid);
    return new SimSnapshot(shape, this.#need(domid).console);
  }

  async resume(domid: Domid): Promise<void> {
    await this.#step('resume', domid);
    const domain = this.#need(domid);
    if (domain.shutdownReason === 'suspend') this.#become(domain, 'running');
  }

  async destroy(domid: Domid): Promise<void> {
    await this.#step('destroy', domid);
    const domain = this.#domains.get(domid);
    if (domain === undefined) return;
    if (!isVmUuid(domain.uuid)) throw new ShoalError('OPERATION_NOT_ALLOWED', `Domain ${domid} belongs to another toolstack.`);
    this.#free(domain);
    this.#tell(domid);
  }

  async list(): Promise<DomainFacts[]> {
    return [...this.#domains.values()].map(factsOf);
  }

  async get(domid: Domid): Promise<DomainFacts | undefined> {
    const domain = this.#domains.get(domid);
    return domain === undefined ? undefined : factsOf(domain);
  }

  async readConsole(domid: Domid, cursor: number): Promise<{ text: Uint8Array; cursor: number }> {
    const { console } = this.#need(domid);
    const from = Math.max(cursor, console.length - ringBytes);
    return { text: Buffer.from(console.slice(from), 'latin1'), cursor: console.length };
  }

  async writeConsole(domid: Domid, text: Uint8Array): Promise<number> {
    const domain = this.#need(domid);
    const taken = Math.min(text.length, typedBytes - domain.typed.length);
    domain.typed += Buffer.from(text.subarray(0, taken)).toString('latin1');
    return taken;
  }

  async forgetImage(): Promise<void> {}

  async vifCounters(domid: Domid, handle: number): Promise<VifCounters | undefined> {
    const vif = this.#need(domid).vifs.find((each) => each.handle === handle);
    if (vif === undefined || vif.backend === 'netback') return undefined;
    return { rxFrames: 0, rxBytes: 0, txFrames: 1, txBytes: 42, rxDropped: 0, txDropped: 0 };
  }

  async mirrorVif(domid: Domid, handle: number, path?: string): Promise<boolean> {
    const domain = this.#domains.get(domid);
    if (domain === undefined || (await this.vifCounters(domid, handle)) === undefined) return false;
    const made = path === undefined ? undefined : new SimMirror(path);
    this.#endMirror(domain.mirrors, handle);
    if (made !== undefined) domain.mirrors.set(handle, made);
    return true;
  }

  async setGuestAddresses(domid: Domid, ipv4: readonly string[]): Promise<void> {
    await this.#step('readdress', domid);
    const domain = this.#need(domid);
    if (domain.vifs.some(({ backend }) => backend === 'netback')) throw new ShoalError('VALUE_NOT_SUPPORTED', 'The guest has its devices from the store.');
    domain.addresses = [...ipv4];
  }

  async moveAddress(move: AddressMove): Promise<void> {
    await this.#step('move', (move.to ?? move.from)!.domid);
    for (const each of [move.from, move.to]) if (each !== undefined) this.#need(each.domid);
    this.addresses.move(move, this.#domains.values());
  }

  async holdAddress(network: string, ip: string, ms: number, mac?: string): Promise<void> {
    this.addresses.hold(network, ip, ms, mac);
  }

  async announceAddress(network: string, ip: string): Promise<void> {
    this.addresses.announce(network, ip, this.#domains.values());
  }

  async addressTraffic(network: string, ip: string): Promise<AddressTraffic | undefined> {
    return this.addresses.traffic(network, ip, this.#domains.values());
  }

  /** What a running guest was given. */
  guestAddresses(domid: Domid): string[] | undefined {
    return this.#need(domid).addresses;
  }

  networks(): string[] {
    return [...this.#networks];
  }

  onChange(listener: (domid: Domid) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
  }

  // Parts

  /** Takes the step's time. */
  async #step(step: SimStep, domid: Domid): Promise<void> {
    const delayMs = this.delaysMs[step] ?? 0;
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    this.#fail(step, domid);
  }

  /** Fails when a fault says so. */
  #fail(step: SimStep, domid: Domid): void {
    if (step !== 'facts') this.trail.push(`${step} ${domid}`);
    const fault = this.#faults.find((f) => f.step === step);
    if (fault === undefined) return;
    if (fault.skip > 0) {
      fault.skip--;
      return;
    }
    if (--fault.times === 0) this.#faults.splice(this.#faults.indexOf(fault), 1);
    throw fault.error;
  }

  #add(config: Pick<DomainConfig, 'uuid' | 'name' | 'memoryKib' | 'cmdline'>): SimDomain {
    const domain = newDomain(asDomid(this.#nextDomid++), config, this.guest);
    this.#take(domain, overheadKib);
    this.#domains.set(domain.domid, domain);
    return domain;
  }

  #take(domain: SimDomain, kib: number): void {
    if (kib > this.#freeKib) {
      throw new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', `${kib} KiB are needed, ${this.#freeKib} KiB are free.`, {
        params: [String(kib * 1024), String(this.#freeKib * 1024)],
        data: { needKib: kib, availableKib: this.#freeKib },
      });
    }
    this.#freeKib -= kib;
    domain.takenKib += kib;
  }

  #free(domain: SimDomain): void {
    for (const handle of [...domain.mirrors.keys()]) this.#endMirror(domain.mirrors, handle);
    this.#freeKib += domain.takenKib;
    this.#domains.delete(domain.domid);
  }

  #endMirror(mirrors: Map<number, SimMirror>, handle: number): void {
    mirrors.get(handle)?.end();
    mirrors.delete(handle);
  }

  #become(domain: SimDomain, state: DomainState, reason?: DomainFacts['shutdownReason']): void {
    if (!this.#domains.has(domain.domid)) return;
    domain.state = state;
    domain.shutdownReason = reason;
    this.#tell(domain.domid);
  }

  #print(domain: SimDomain, text: string): void {
    domain.console += text;
  }

  #tell(domid: Domid): void {
    for (const listener of this.#listeners) setImmediate(() => this.#listeners.has(listener) && listener(domid));
  }

  #need(domid: Domid): SimDomain {
    const domain = this.#domains.get(domid);
    if (domain !== undefined) return domain;
    throw new ShoalError('HYPERCALL_FAILED', `There is no domain ${domid}.`, { data: { domid } });
  }
}
