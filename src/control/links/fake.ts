/**
 * A host in memory behind the port: for tests of the controller, and for fleets larger than any machine here. It outlives the
 * links to it, as a host does; it can be slow, full, away, wiped, and it can lie.
 */
import { newVmUuid } from '../../model/uuid.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Uuid } from '../../model/ids.ts';
import type { AddressMove, HostLink, LaunchItem, LaunchOutcome, LinkListener, Migrated, SeenHost, SeenNetwork, SeenVm, VifCounters } from '../port.ts';
import { formatIpv4, parseIpv4 } from './records.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

export interface FakeOptions {
  totalKib?: number;
  networks?: SeenNetwork[];
  launchMs?: number;
}

export const fakeNetwork = (cidr = '10.64.0.0', first = '10.64.1.0', last = '10.64.250.255'): SeenNetwork => ({
  name: 'default',
  range: { first: parseIpv4(first)!, last: parseIpv4(last)!, gateway: parseIpv4(cidr)! + 1, prefix: 16 },
});

export class FakeHost {
  readonly name: string;
  readonly vms = new Map<Uuid, SeenVm>();
  networks: SeenNetwork[];
  totalKib: number;
  launchMs: number;
  /** Asked of each launch: an error refuses it. */
  refuse: (item: LaunchItem) => ShoalError | undefined = () => undefined;
  /** Launches are answered as done, and are not. */
  lies = false;
  /** The next so many launch calls are done, and their answers lost. */
  loseAnswers = 0;
  /** The next so many moves of addresses are done, and their answers lost. */
  loseMoves = 0;
  /** Whether it can move addresses. */
  moves = true;
  /** What holdAddress was asked for. */
  readonly held: { network: string; ip: string; ms: number }[] = [];
  trafficOf: (network: string, ip: string) => AddressTraffic | undefined = () => undefined;
  /** Moves that were done, for tests. */
  readonly moved: AddressMove[] = [];
  consoleOf: (vm: SeenVm) => string = (vm) => `console of ${vm.name}\n`;
  countersOf: (vm: SeenVm, handle: number) => VifCounters | undefined = () => undefined;
  /** Launches of any life, for tests: names in the order they were made. */
  readonly launched: string[] = [];
  readonly #links = new Set<FakeLink>();
  #promised = new Set<string>();
  #reachable = true;

  constructor(name: string, options: FakeOptions = {}) {
    this.name = name;
    this.totalKib = options.totalKib ?? 4 * 1024 * 1024;
    this.networks = options.networks ?? [fakeNetwork()];
    this.launchMs = options.launchMs ?? 0;
  }

  get reachable(): boolean {
    return this.#reachable;
  }

  link(): HostLink {
    const link = new FakeLink(this, (it) => this.#links.delete(it));
    this.#links.add(link);
    return link;
  }

  /** Nobody reaches it; what runs goes on. */
  disconnect(): void {
    this.#reachable = false;
    for (const link of this.#links) link.listener?.away(new ShoalError('CONNECTION_FAILED', `Cannot reach ${this.name}.`));
  }

  connect(): void {
    this.#reachable = true;
    for (const link of this.#links) link.greet();
  }

  /** Everything on it is gone. */
  wipe(): void {
    this.vms.clear();
  }

  facts(): SeenHost {
    let usedKib = 64 * 1024;
    for (const vm of this.vms.values()) if (vm.state !== 'halted') usedKib += vm.memoryKib + 128;
    return {
      version: 'fake',
      totalKib: this.totalKib,
      freeKib: Math.max(0, this.totalKib - usedKib),
      cpuCount: 1,
      networks: this.networks,
      shortfalls: [],
    };
  }

  /** What someone else does to a VM. */
  change(uuid: Uuid, change: Partial<SeenVm>): void {
    const vm = { ...this.vms.get(uuid)!, ...change };
    this.vms.set(uuid, vm);
    this.#tell((listener) => listener.vm(vm));
  }

  put(vm: SeenVm): void {
    this.vms.set(vm.uuid, vm);
    this.#tell((listener) => listener.vm(vm));
  }

  remove(uuid: Uuid, silently = false): void {
    this.vms.delete(uuid);
    if (!silently) this.#tell((listener) => listener.gone(uuid));
  }

  named(name: string): SeenVm | undefined {
    for (const vm of this.vms.values()) if (vm.name === name) return vm;
    return undefined;
  }

  isHeld(name: string): boolean {
    return this.#promised.has(name) || this.named(name) !== undefined;
  }

  async launch(items: readonly LaunchItem[]): Promise<LaunchOutcome[]> {
    const held = items.map(({ name }) => this.isHeld(name));
    items.forEach(({ name }, i) => !held[i] && this.#promised.add(name));
    const outcomes: LaunchOutcome[] = [];
    for (const [i, item] of items.entries()) {
      if (this.launchMs > 0) await new Promise((resolve) => setTimeout(resolve, this.launchMs));
      outcomes.push(held[i] ? { error: new ShoalError('NAME_IN_USE', item.name) } : this.#one(item));
      if (!held[i]) this.#promised.delete(item.name);
    }
    return outcomes;
  }

  move(moves: readonly AddressMove[]): { move: AddressMove; error: ShoalError }[] {
    if (!this.moves) throw new ShoalError('VALUE_NOT_SUPPORTED', 'This host moves no addresses.');
    const failed: { move: AddressMove; error: ShoalError }[] = [];
    for (const move of moves) {
      const to = this.vms.get(move.to);
      const from = this.vms.get(move.from);
      const entry = from?.addresses.find(({ ip }) => ip === move.ip);
      if (to === undefined) {
        failed.push({ move, error: new ShoalError('UUID_INVALID', `No VM has the uuid ${move.to}.`) });
        continue;
      }
      if (to.addresses.some(({ ip }) => ip === move.ip)) continue;
      this.moved.push(move);
      // First away, then there: nobody ever sees it on both.
      if (from !== undefined) this.change(move.from, { addresses: from.addresses.filter(({ ip }) => ip !== move.ip) });
      this.change(move.to, { addresses: [{ network: entry?.network ?? 'default', ip: move.ip }, ...to.addresses] });
    }
    return failed;
  }

  #one(item: LaunchItem): LaunchOutcome {
    const error = this.refuse(item);
    if (error !== undefined) return { error };
    if (this.facts().freeKib < item.memoryKib)
      return { error: new ShoalError('HOST_NOT_ENOUGH_FREE_MEMORY', 'The host is full.') };
    const taken = new Set([...this.vms.values()].flatMap((vm) => vm.addresses.map(({ ip }) => ip)));
    const addresses: SeenVm['addresses'] = [];
    for (const { network, ip } of item.vifs) {
      const own = this.networks.find(({ name }) => name === network);
      if (own === undefined) return { error: new ShoalError('NETWORK_UNKNOWN', network) };
      if (ip !== undefined && taken.has(ip)) return { error: new ShoalError('ADDRESS_IN_USE', ip) };
      let free = own.range?.first ?? 1;
      while (taken.has(formatIpv4(free))) free++;
      addresses.push({ network, ip: ip ?? formatIpv4(free) });
    }
    const uuid = newVmUuid();
    this.launched.push(item.name);
    if (!this.lies)
      this.put({
        uuid,
        name: item.name,
        copy: item.copy,
        state: 'running',
        memoryKib: item.memoryKib,
        image: item.image,
        args: item.args,
        addresses,
      });
    return { uuid };
  }

  #tell(what: (listener: LinkListener) => void): void {
    for (const link of this.#links) if (this.#reachable && link.listener !== undefined) what(link.listener);
  }
}

class FakeLink implements HostLink {
  listener: LinkListener | undefined;
  readonly #host: FakeHost;
  readonly #closed: (link: FakeLink) => void;

  constructor(host: FakeHost, closed: (link: FakeLink) => void) {
    this.#host = host;
    this.#closed = closed;
  }

  open(listener: LinkListener): void {
    this.listener = listener;
    setImmediate(() =>
      this.#host.reachable ? this.greet() : this.listener?.away(new ShoalError('CONNECTION_FAILED', 'Cannot reach it.')),
    );
  }

  greet(): void {
    this.listener?.picture(this.#host.facts(), [...this.#host.vms.values()]);
  }

  async close(): Promise<void> {
    this.listener = undefined;
    this.#closed(this);
  }

  async #reach(): Promise<void> {
    await Promise.resolve();
    if (!this.#host.reachable) throw new ShoalError('HOST_AWAY', `${this.#host.name} is away.`);
  }

  async launch(items: readonly LaunchItem[]): Promise<LaunchOutcome[]> {
    await this.#reach();
    const outcomes = await this.#host.launch(items);
    if (this.#host.loseAnswers-- > 0) throw new ShoalError('CONNECTION_FAILED', 'The connection broke.');
    await this.#reach();
    return outcomes;
  }

  async start(uuid: Uuid): Promise<void> {
    await this.#reach();
    this.#need(uuid);
    this.#host.change(uuid, { state: 'running' });
  }

  restart(uuid: Uuid): Promise<void> {
    return this.start(uuid);
  }

  async stop(uuid: Uuid): Promise<void> {
    await this.#reach();
    this.#need(uuid);
    this.#host.change(uuid, { state: 'halted' });
  }

  async destroy(uuids: readonly Uuid[]): Promise<{ uuid: Uuid; error: ShoalError }[]> {
    await this.#reach();
    for (const uuid of uuids) this.#host.remove(uuid);
    return [];
  }

  async held(names: readonly string[]): Promise<string[]> {
    await this.#reach();
    return names.filter((name) => this.#host.isHeld(name));
  }

  async look(uuid: Uuid): Promise<SeenVm | undefined> {
    await this.#reach();
    return this.#host.vms.get(uuid);
  }

  async lookAtHost(): Promise<SeenHost> {
    await this.#reach();
    return this.#host.facts();
  }

  async moveAddress(moves: readonly AddressMove[]): Promise<{ move: AddressMove; error: ShoalError }[]> {
    await this.#reach();
    const failed = this.#host.move(moves);
    await this.#reach();
    if (this.#host.loseMoves-- > 0) throw new ShoalError('CONNECTION_FAILED', 'The connection broke.');
    return failed;
  }

  async holdAddress(network: string, ip: string, ms: number): Promise<void> {
    await this.#reach();
    if (!this.#host.moves) throw new ShoalError('VALUE_NOT_SUPPORTED', 'This host holds no addresses.');
    this.#host.held.push({ network, ip, ms });
  }

  async addressTraffic(network: string, ips: readonly string[]): Promise<(AddressTraffic | undefined)[]> {
    await this.#reach();
    return ips.map((ip) => this.#host.trafficOf(network, ip));
  }

  async putImage(): Promise<void> {
    await this.#reach();
  }

  async migrate(uuid: Uuid, to: HostLink): Promise<Migrated> {
    await this.#reach();
    const vm = this.#need(uuid);
    await to.admit('');
    (to as FakeLink).#host.put(vm);
    this.#host.remove(uuid);
    return { addresses: vm.addresses.map(({ ip }) => ip), bytes: 4096, totalMs: 2, downtimeMs: 1 };
  }

  async admit(): Promise<Record<string, string>> {
    await this.#reach();
    return {};
  }

  async images(): Promise<string[] | undefined> {
    await this.#reach();
    return undefined;
  }

  fetchImage(): Promise<never> {
    return Promise.reject(new ShoalError('HOST_UNSUPPORTED', `${this.#host.name} is made up.`));
  }

  offerImage(): Promise<never> {
    return this.fetchImage();
  }

  async counters(uuid: Uuid, handle: number): Promise<VifCounters | undefined> {
    await this.#reach();
    return this.#host.countersOf(this.#need(uuid), handle);
  }

  async console(uuid: Uuid, cursor: number): Promise<{ text: string; cursor: number }> {
    await this.#reach();
    const text = this.#host.consoleOf(this.#need(uuid));
    return { text: text.slice(cursor), cursor: text.length };
  }

  #need(uuid: Uuid): SeenVm {
    const vm = this.#host.vms.get(uuid);
    if (vm === undefined) throw new ShoalError('UUID_INVALID', `No VM has the uuid ${uuid}.`);
    return vm;
  }
}
