/**
 * The host agent as one object: what it knows (Fleet), how records change (Definitions), how VMs run (Runner), many at once
 * (Bulk). `openAgent` is also how an agent finds its way back after a crash: it reads the journal, asks Xen which domains there
 * are, and lets verdict.ts say what each of them is. Xen is believed about what runs, the journal about what was wanted.
 */
import { X509Certificate } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import type { DomainFacts, HostFacts, Hypervisor, SwitchTotals, VifCounters } from '../hypervisor/port.ts';
import type { ImageStore } from '../image/store.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Digest, Uuid } from '../model/ids.ts';
import { newVmUuid } from '../model/uuid.ts';
import { Addresses, keyOf, pendingFrom, type PendingMove } from './addresses.ts';
import { Arrivals, type Arrived } from './arrivals.ts';
import { Bulk } from './bulk.ts';
import { Captures } from './capture.ts';
import { Definitions } from './definitions.ts';
import type { Credentials } from './departure-link.ts';
import { Departures } from './departures.ts';
import { DiskKeeper } from './disk-keeper.ts';
import { diskFrom, type Disk } from './disks.ts';
import { Fetching } from './fetching.ts';
import { Fleet, type NetworkAddress } from './fleet.ts';
import { Journal, type Entry } from '../journal/journal.ts';
import type { StepHook } from './launch.ts';
import { Neighbours } from './neighbours.ts';
import type { Network } from './networks.ts';
import { refOf } from './refs.ts';
import { Runner } from './runner.ts';
import { Suspender } from './suspender.ts';
import { Takeover } from './takeover.ts';
import { Tombstones } from './tombstones.ts';
import { verdict, verdictAtStart } from './verdict.ts';
import { fromJournal, toJournal, unseal, type Vm } from './vm.ts';

export type { SwitchTotals };

export interface AgentOptions {
  hypervisor: Hypervisor;
  images: ImageStore;
  stateDir: string;
  /** For what need not outlive the agent; `run` in the state folder by default. */
  runDir?: string | undefined;
  networks: Network[];
  /** Launches at once; 2 keeps one in hypercalls while another waits for its backend. */
  launches?: number;
  /** Shells at most, of all shapes together; 32 by default, 0 for none. */
  shells?: number;
  /** Milliseconds in which starts are counted to size the pool; a minute by default. */
  shellWindowMs?: number;
  /** Memory that launches leave free; 8 MiB by default. */
  memoryReserveKib?: number;
  /** Of the agent itself, which it shows to other agents; without them it neither sends VMs nor takes any. */
  credentials?: Credentials | undefined;
  /** How long the source of a migration may be away; 30,000 by default. */
  migrationPatienceMs?: number | undefined;
  /** Tests stop the agent at moments of a migration: "source STATE", "source STATE:EVENT", "target filled", "target commit", "target committed". */
  migrationHook?: ((moment: string) => void | Promise<void>) | undefined;
  /** Milliseconds after which a capture that nobody reads ends; 10,000 by default. */
  capturePatienceMs?: number | undefined;
  /** Makes a file of zeros an object store; without it no disk is made with one. */
  makeStore?: ((path: string) => Promise<void>) | undefined;
  /** Milliseconds without a byte after which a transfer's connection is given up; 10,000 by default. */
  fetchStallMs?: number | undefined;
  hook?: StepHook | undefined;
  log?: (line: string) => void;
  now?: () => number;
}

export interface Console {
  text: string;
  cursor: number;
  /** False when the text is what a crashed guest left behind. */
  live: boolean;
}

export class HostAgent {
  readonly fleet: Fleet;
  readonly images: ImageStore;
  readonly definitions: Definitions;
  readonly runner: Runner;
  readonly bulk: Bulk;
  readonly captures: Captures;
  readonly suspender: Suspender;
  readonly arrivals: Arrivals;
  readonly departures: Departures;
  readonly neighbours: Neighbours;
  readonly disks: DiskKeeper;
  readonly fetching: Fetching;
  readonly addresses: Addresses;
  readonly tombstones: Tombstones;
  readonly uuid: Uuid;
  readonly hostname: string = hostname();
  readonly startedMs: number;
  /** As last asked; see `facts`. */
  lastFacts: HostFacts;
  readonly #hypervisor: Hypervisor;

  constructor(options: AgentOptions, fleet: Fleet, uuid: Uuid, facts: HostFacts, arrived: Map<string, Arrived>) {
    const launches = options.launches ?? 2;
    this.#hypervisor = options.hypervisor;
    this.fleet = fleet;
    this.images = options.images;
    this.uuid = uuid;
    this.lastFacts = facts;
    this.startedMs = (options.now ?? Date.now)();
    this.definitions = new Definitions(fleet, (digest) => this.images.has(digest));
    this.runner = new Runner({
      hypervisor: options.hypervisor,
      fleet,
      kernel: (digest) => this.images.kernel(digest),
      launches,
      shells: options.shells ?? 32,
      shellWindowMs: options.shellWindowMs,
      memoryReserveKib: options.memoryReserveKib ?? 8192,
      hook: options.hook,
      log: options.log ?? (() => {}),
      now: options.now ?? Date.now,
    });
    this.bulk = new Bulk(fleet, this.definitions, this.runner, launches);
    this.disks = new DiskKeeper({ fleet, makeStore: options.makeStore, log: options.log ?? (() => {}) });
    this.tombstones = new Tombstones(fleet, this.runner, this.definitions);
    this.fetching = new Fetching({ images: options.images, stallMs: options.fetchStallMs, log: options.log });
    const isMigrating = (vm: Uuid): boolean => this.runner.lanes.current(vm)?.name.startsWith('migrate_') === true || fleet.get(vm)?.leaving !== undefined;
    this.addresses = new Addresses(fleet, options.hypervisor, options.log ?? (() => {}), isMigrating);
    const { hypervisor, images, credentials, migrationPatienceMs: patienceMs, migrationHook } = options;
    const log = options.log ?? (() => {});
    const fingerprint = credentials === undefined ? undefined : new X509Certificate(credentials.cert).fingerprint256;
    const takeover = new Takeover({ hypervisor, log });
    this.arrivals = new Arrivals({ takeover, hypervisor, fleet, runner: this.runner, images, fingerprint, log, now: options.now ?? Date.now, patienceMs, hook: (moment) => migrationHook?.(`target ${moment}`), committed: arrived });
    this.neighbours = new Neighbours();
    this.departures = new Departures({ takeover, hypervisor, fleet, runner: this.runner, images, credentials, log, hook: (moment) => migrationHook?.(`source ${moment}`), neighbours: this.neighbours });
    this.suspender = new Suspender({
      hypervisor: options.hypervisor,
      fleet,
      runner: this.runner,
      hasImage: (digest) => this.images.has(digest as Digest),
      folder: join(options.stateDir, 'suspended'),
      log: options.log ?? (() => {}),
    });
    this.captures = new Captures({
      hypervisor: options.hypervisor,
      folder: join(options.runDir ?? join(options.stateDir, 'run'), 'captures'),
      log: options.log ?? (() => {}),
      patienceMs: options.capturePatienceMs,
    });
  }

  /** What Xen says of the host now. */
  async facts(): Promise<HostFacts> {
    const before = this.lastFacts;
    this.lastFacts = await this.#hypervisor.facts();
    if (before.freeKib !== this.lastFacts.freeKib) this.fleet.emit({ of: 'host' });
    return this.lastFacts;
  }

  /**
   * The guest's console beyond `cursor`; of a VM that crashed, its last words. Throws VM_BAD_POWER_STATE when there is neither.
   */
  async readConsole(vm: Vm, cursor: number): Promise<Console> {
    if (vm.domid !== undefined) {
      const { text, cursor: next } = await this.#hypervisor.readConsole(vm.domid, cursor);
      return { text: Buffer.from(text).toString('utf8'), cursor: next, live: true };
    }
    const words = vm.otherConfig['last_crash'];
    if (words !== undefined) return { text: cursor === 0 ? words : '', cursor: Buffer.byteLength(words), live: false };
    throw notRunning(vm);
  }

  /** The image must not be in use; who uses images is the fleet's to say. Throws IMAGE_UNKNOWN. */
  async removeImage(digest: Digest): Promise<void> {
    await this.images.remove(digest);
    await this.runner.starter.shells.drain(digest);
    await this.#hypervisor.forgetImage(digest);
  }

  /** What went through a vif. Throws VM_BAD_POWER_STATE, VALUE_NOT_SUPPORTED for one that netback carries. */
  async vifCounters(vm: Vm, handle: number): Promise<VifCounters> {
    if (vm.domid === undefined) throw notRunning(vm);
    const counters = await this.#hypervisor.vifCounters(vm.domid, handle);
    if (counters !== undefined) return counters;
    const why = `vif ${handle} of "${vm.name}" is not on the switch`;
    throw new ShoalError('VALUE_NOT_SUPPORTED', why, { hint: 'See the statistics of its link in dom0.', params: ['handle', String(handle), why] });
  }

  /** Begins a capture of a vif's frames and gives its name. Throws VM_BAD_POWER_STATE, and as Captures.start. */
  async capture(vm: Vm, handle: number): Promise<string> {
    if (vm.domid === undefined) throw notRunning(vm);
    return this.captures.start(vm.domid, handle, `vif ${handle} of "${vm.name}"`);
  }

  /** Undefined where there is no switch that answers. */
  async switchTotals(): Promise<SwitchTotals | undefined> {
    return this.#hypervisor.switchTotals?.();
  }

  /** Returns the number of bytes the guest's ring had room for. */
  writeConsole(vm: Vm, text: string): Promise<number> {
    if (vm.domid === undefined) return Promise.reject(notRunning(vm));
    return this.#hypervisor.writeConsole(vm.domid, Buffer.from(text));
  }

  /** Ends the agent, not the VMs. */
  async close(): Promise<void> {
    this.addresses.close();
    await this.captures.close();
    this.neighbours.close();
    await this.arrivals.close();
    await this.departures.close();
    await this.runner.lanes.idle();
    await this.runner.starter.shells.close();
    this.runner.close();
    await this.fleet.journal?.close();
  }
}

const notRunning = (vm: Vm): ShoalError =>
  new ShoalError('VM_BAD_POWER_STATE', `VM "${vm.name}" has no console while it is halted.`, {
    params: [refOf(vm.uuid), 'running', 'halted'],
    data: { vm: vm.uuid },
  });

/** Reads the journal, adopts what runs, clears what was half built. Throws STATE_UNREADABLE, HYPERVISOR_UNAVAILABLE. */
export async function openAgent(options: AgentOptions): Promise<HostAgent> {
  const log = options.log ?? (() => {});
  const fleet = new Fleet(options.networks, join(options.stateDir, 'disks'));
  await mkdir(options.stateDir, { recursive: true, mode: 0o700 });

  let uuid: Uuid | undefined;
  const vms = new Map<string, Vm>();
  const arrived = new Map<string, Arrived>();
  const disks = new Map<string, Disk>();
  const moves = new Map<string, PendingMove>();
  const away = new Map<string, NetworkAddress>();
  const unknown = (): ShoalError => new ShoalError('STATE_UNREADABLE', 'The journal has an entry this agent does not know.');
  const apply = (entry: Entry): void => {
    if (typeof entry['host'] === 'string') uuid = entry['host'] as Uuid;
    else if (typeof entry['del'] === 'string') {
      vms.delete(entry['del']);
      noteAway(away, entry['away']);
    } else if (entry['away'] !== undefined) noteAway(away, entry['away']);
    else if (typeof entry['arrivalOver'] === 'string') arrived.delete(entry['arrivalOver']);
    else if (entry['arrived'] !== undefined && entry['put'] === undefined) noteArrived(arrived, entry['arrived']);
    else if (typeof entry['undisk'] === 'string') disks.delete(entry['undisk']);
    else if (entry['disk'] !== undefined) {
      const disk = diskFrom(entry['disk']);
      if (disk === undefined) throw unknown();
      disks.set(disk.uuid, disk);
    } else {
      noteArrived(arrived, entry['arrived']);
      for (const key of (entry['moved'] ?? []) as string[]) moves.delete(key);
      for (const put of (entry['puts'] ?? (entry['put'] === undefined ? [] : [entry['put']])) as Record<string, unknown>[]) {
        const vm = fromJournal(put);
        if (vm === undefined) throw unknown();
        vms.set(vm.uuid, vm);
        for (const { network, ipv4 } of away.size === 0 ? [] : vm.vifs) for (const ip of ipv4) away.delete(keyOf({ network, ip }));
      }
      for (const each of (entry['moves'] ?? []) as unknown[]) {
        const move = pendingFrom(each);
        if (move === undefined) throw unknown();
        moves.set(keyOf(move), move);
      }
      if (['put', 'puts', 'moves', 'moved'].every((kind) => entry[kind] === undefined)) throw unknown();
    }
  };
  // While it opens, the fleet is still empty and what counts is what was read.
  let opened = false;
  let moving: Addresses | undefined;
  const live = function* (): Generator<Entry> {
    if (uuid !== undefined) yield { host: uuid };
    for (const each of [...arrived.values()]) yield { arrived: each as unknown as Entry };
    if (opened) yield* fleet.keptEntries();
    else {
      for (const disk of disks.values()) yield { disk };
      for (const vm of vms.values()) yield { put: toJournal(vm) };
      if (away.size > 0) yield { away: [...away.values()] };
    }
    if (moving !== undefined) yield* moving.entries();
    else if (moves.size > 0) yield { moves: [...moves.values()] };
  };
  const journal = await Journal.open(join(options.stateDir, 'agent.journal'), apply, live, log);
  fleet.journal = journal;
  if (uuid === undefined) {
    uuid = newVmUuid();
    await journal.append({ host: uuid });
  }
  await new DiskKeeper({ fleet, makeStore: options.makeStore, log }).open(disks.values());
  fleet.goesAway([...away.values()]);
  for (const vm of vms.values()) takeIn(fleet, vm, log);
  // Marks them as kept; their entries are in the file already.
  fleet.markKept([...vms.keys()] as Uuid[]);
  opened = true;

  const agent = new HostAgent(options, fleet, uuid, await options.hypervisor.facts(), arrived);
  moving = agent.addresses;
  moving.restore(moves.values());
  await agent.captures.clear();
  await agent.suspender.open();
  await adopt(agent, await options.hypervisor.list(), log);
  await moving.redo();
  return agent;
}

function noteArrived(arrived: Map<string, Arrived>, value: unknown): void {
  const { id, tokenHash, fingerprint } = (value ?? {}) as Partial<Arrived>;
  if (typeof id === 'string' && typeof tokenHash === 'string' && typeof fingerprint === 'string') arrived.set(id, { id, tokenHash, fingerprint });
}

function noteAway(away: Map<string, NetworkAddress>, value: unknown): void {
  for (const { network, ip } of (Array.isArray(value) ? value : []) as Partial<NetworkAddress>[])
    if (typeof network === 'string' && typeof ip === 'string') away.set(keyOf({ network, ip }), { network, ip });
}

/** A VM of a record into the fleet. A conflict with one that is there already is reported, and the VM comes in all the same. */
function takeIn(fleet: Fleet, vm: Vm, log: (line: string) => void): void {
  const { vifs, vbds } = vm;
  vm.vifs = [];
  vm.vbds = [];
  if (fleet.named(vm.name) !== undefined) {
    const name = `${vm.name.slice(0, 50)}-${vm.uuid.slice(-12)}`;
    log(`vm ${vm.name}: another VM has this name; it is now called ${name}`);
    vm.name = name;
  }
  fleet.add(vm);
  for (const vif of vifs) for (const conflict of fleet.restoreVif(vm, vif)) log(`vm ${vm.name}: ${conflict}`);
  for (const vbd of vbds) fleet.addVbd(vm, vbd, true);
}

async function adopt(agent: HostAgent, domains: DomainFacts[], log: (line: string) => void): Promise<void> {
  const { fleet, runner } = agent;
  const counts = { adopted: 0, discarded: 0, halted: 0 };
  const one = async (domain: DomainFacts): Promise<void> => {
    if (!domain.ours) return;
    let vm = fleet.get(domain.uuid);
    const sealed = domain.sealed ? unseal(domain.uuid, domain.record) : undefined;
    let action = verdictAtStart(vm, domain, sealed);
    if (action === 'adopt') {
      if (sealed === undefined) {
        log(`domain ${domain.domid}: its sealed record is of another version; it is left alone`);
        return;
      }
      vm = sealed.vm;
      takeIn(fleet, vm, log);
      action = verdict(vm, domain, sealed.paused);
      await fleet.keep(vm);
    }
    if (vm === undefined || action === 'discard') {
      counts.discarded++;
      log(`domain ${domain.domid}: half built or left behind; destroyed`);
      return runner.removeDomain(domain.domid);
    }
    if (sealed !== undefined) vm.startedMs = sealed.vm.startedMs;
    counts.adopted++;
    if (action === 'restart') {
      fleet.place(vm, domain.domid);
      return runner.look(vm);
    }
    await runner.apply(action, vm, domain, new AbortController().signal);
  };
  for (const domain of domains) {
    await one(domain).catch((error: unknown) => log(`domain ${domain.domid}: not adopted: ${asShoalError(error).message}`));
  }
  for (const vm of fleet.all()) {
    if (vm.wanted === 'halted' || vm.domid !== undefined || vm.power === 'Suspended' || vm.leaving !== undefined) continue;
    counts.halted++;
    vm.wanted = 'halted';
    await fleet.keep(vm);
    fleet.changed(vm, true);
  }
  agent.departures.recover();
  log(
    `agent: ${fleet.size} VMs; ${counts.adopted} domains adopted, ${counts.discarded} destroyed, ${counts.halted} VMs found halted`,
  );
}
