/**
 * The port of hypervisor/port.ts over a real Xen: policy and order of steps in TypeScript, hypercalls and netlink in the addon, xenstore over
 * its socket. Runs in dom0 as root. Keeps in memory only what it could read again: records of sealed domains, frames of consoles.
 *
 * Calls into the addon block for microseconds to milliseconds; building or destroying a domain above `apartPages` runs on another thread.
 */
import { asDomid, type Digest, type Domid, type Uuid } from '../../model/ids.ts';
import { isVmUuid, newVmUuid } from '../../model/uuid.ts';
import { ShoalError } from '../../model/errors.ts';
import { calling, callingAsync, failureErrno, loadNative, nativeError, type Built, type Native } from './native.ts';
import { Changes, watchEnds } from './changes.ts';
import { Disks } from './disks.ts';
import { bitmapOf, handleOf, uuidOf } from './domain.ts';
import { Networks, vifName, type NetworkConfig } from './networks.ts';
import { backendErrorPath, backendRoot, diskErrorPath, introduceRequests, registerRequests, removeErrorRequests, removeRequests, removeWiredRequests, shutdownRequests } from './nodes.ts';
import { copyInto, Memory, XenSnapshot } from './memory.ts';
import { Records } from './records.ts';
import { sweep } from './sweep.ts';
import { SwitchClient } from './switch-client.ts';
import { Templates } from './templates.ts';
import { Wired, wiredMacs } from './wired.ts';
import type { Request } from './xenstore/wire.ts';
import { StoreClient, StoreRefusal, storeSockets } from './xenstore/client.ts';
import type { AddressMove, DomainConfig, DomainFacts, DomainShape, HostFacts, Hypervisor, MemoryReader, MemoryWriter, Snapshot, SwitchTotals, VifConfig, VifCounters } from '../port.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

export interface XenOptions {
  /** Absolute path of shoal_xen.node. */
  addonPath: string;
  networks: NetworkConfig[];
  /** Where the daemon's socket may be. */
  storePaths?: string[];
  /** Vifs on one bridge before a further one is made. */
  mostVifsPerBridge?: number;
  /** Where the switch listens; without it all vifs are netback's. */
  switchPath?: string | undefined;
  /** Processors that guests run on, so that dom0 has the others to itself; all when left out. */
  guestCpus?: number[] | undefined;
}

const kibPerPage = 4;
/** The guest's event channels: store, console, timer, one or two for each device, and room. */
const mostEventPort = 127;
/** 512 grants each: two rings of 256 slots for the vif, console, store, and room for block devices. */
const mostGrantFrames = 8;
const mostRecordBytes = 2048;
const mostCommandLineBytes = 1023;
/** 64 MiB: below it a build or a destroy takes a few milliseconds. */
const apartPages = 16_384;

export interface XenHypervisor extends Hypervisor {
  /** Running totals of requests to the store: for benchmarks. */
  storeCounts(): { requests: number; changes: number; retries: number };
}

/** Opens Xen, the store and the networks. Throws HYPERVISOR_UNAVAILABLE, XENSTORE_FAILED. */
export async function openXen(options: XenOptions): Promise<XenHypervisor> {
  const native = loadNative(options.addonPath);
  calling('Xen cannot be reached', () => native.open(bitmapOf(options.guestCpus ?? [])));
  const store = new StoreClient(options.storePaths ?? storeSockets);
  try {
    const switchboard = options.switchPath === undefined ? undefined : SwitchClient.connect(options.switchPath);
    const wired = new Wired(native, switchboard, options.networks);
    const xen = new Xen(native, store, new Networks(native, options.networks, options.mostVifsPerBridge), wired);
    await xen.start();
    return xen;
  } catch (error) {
    store.close();
    native.close();
    throw error;
  }
}

class Xen implements XenHypervisor {
  private readonly native: Native;
  private readonly store: StoreClient;
  private readonly nets: Networks;
  private readonly built = new Map<number, Built & { wired: boolean; name: string }>();
  private readonly records: Records;
  private readonly changes: Changes;
  private readonly templates: Templates;
  private readonly wired: Wired;
  private readonly memory: Memory;
  private readonly disks: Disks;

  constructor(native: Native, store: StoreClient, nets: Networks, wired: Wired) {
    this.native = native;
    this.store = store;
    this.nets = nets;
    this.wired = wired;
    this.changes = new Changes(native, (domid) => void wired.disconnect(domid).catch(() => {}));
    this.templates = new Templates(native);
    this.memory = new Memory(native, this.templates, (domid) => this.requestShutdown(domid, 'suspend'));
    this.disks = new Disks(native);
    this.records = new Records(store);
  }

  async start(): Promise<void> {
    this.changes.start();
    this.templates.start(this.native.domains());
    const { macs, leftOver } = await sweep(this.store, new Set(this.native.domains().map((domain) => domain.domid)));
    for (const domid of leftOver) await this.remove([...removeRequests(domid), ...removeErrorRequests(domid)]);
    this.nets.start(macs);
    await watchEnds(this.store, () => this.changes.scanSoon());
  }

  async facts(): Promise<HostFacts> {
    const machine = calling('the facts of the host', () => this.native.machine());
    const { totalKib, freeKib, cpus: cpuCount } = machine;
    return {
      version: `Xen ${machine.major}.${machine.minor}${machine.extra}`, totalKib, freeKib, cpuCount,
      domainCount: this.changes.count + 1,
    };
  }

  async create({ memoryKib, image, vifs, vbds = [] }: DomainShape): Promise<Domid> {
    if (!Number.isSafeInteger(memoryKib) || memoryKib < kibPerPage || memoryKib % kibPerPage !== 0) {
      throw new ShoalError('MEMORY_INVALID', `${memoryKib} KiB is no whole number of pages of ${kibPerPage} KiB`);
    }
    if (image.memoryBytes > memoryKib * 1024) {
      throw new ShoalError('IMAGE_TOO_LARGE', `the image needs ${image.memoryBytes} bytes, the VM has ${memoryKib * 1024}`);
    }
    for (const vif of vifs) this.nets.known(vif.network);
    const wired = this.wired.wants({ memoryKib, image, vifs, vbds });
    const domid = calling('creating a domain', () => this.native.create(handleOf(newVmUuid()), memoryKib / kibPerPage, mostEventPort, mostGrantFrames, wired ? vifs.length : 0));
    this.changes.made(domid);
    this.records.forget(asDomid(domid));
    return asDomid(domid);
  }

  async build(domid: Domid, shape: DomainShape, from?: Snapshot): Promise<void> {
    if (from instanceof XenSnapshot) return copyInto(this.writeMemory(domid, shape), from);
    const { image, memoryKib, vifs } = shape;
    const pages = memoryKib / kibPerPage;
    const wired = this.wired.wants(shape);
    const built = await callingAsync(`building domain ${domid}`, () =>
      this.native.build(
        domid, pages, image.pages, image.memoryBytes, image.virtBase, image.entry, image.hypercallPage,
        wired ? Uint8Array.from(vifs, ({ handle }) => handle) : undefined, this.templates.of(image), pages > apartPages,
      ));
    await this.made(domid, shape, built, wired);
  }

  private async made(domid: Domid, shape: DomainShape, built: Built, wired: boolean): Promise<void> {
    this.built.set(domid, { ...built, wired, name: '' });
    if (wired) await this.wired.connect(domid, shape, built);
  }

  async suspend(domid: Domid): Promise<void> {
    this.ours(domid);
    await this.changes.own(() => this.memory.suspend(domid));
  }

  readMemory(domid: Domid, shape: DomainShape, passes: boolean): MemoryReader {
    this.ours(domid);
    return this.memory.read(domid, shape, passes);
  }

  writeMemory(domid: Domid, shape: DomainShape): MemoryWriter {
    const wired = this.wired.wants(shape);
    return this.memory.write(domid, shape, wired, this.wired.expected(domid), (built) => this.made(domid, shape, built, wired));
  }

  async cpuFeatures(): Promise<Uint8Array> {
    return calling('the features of the processors', () => this.native.cpuFeatures());
  }

  async register(domid: Domid, config: DomainConfig): Promise<void> {
    const { cmdline } = config;
    const built = this.built.get(domid);
    if (!built) throw new ShoalError('INTERNAL_ERROR', `domain ${domid} was not built here`);
    if (!built.wired && config.vifs.some(({ also = [] }) => also.length > 0)) {
      const why = 'on netback a guest would answer for addresses that are not its own yet';
      throw new ShoalError('VALUE_NOT_SUPPORTED', why, { hint: 'Leave "also" out, or give the VM the backend switch.', params: ['also', '', why] });
    }
    if (Buffer.byteLength(cmdline) > mostCommandLineBytes) {
      throw new ShoalError('COMMAND_LINE_TOO_LONG', `the command line has ${Buffer.byteLength(cmdline)} bytes; ${mostCommandLineBytes} is the limit`);
    }
    if (this.wired.expected(domid) !== config)
      calling(`naming domain ${domid}`, () => this.native.name(domid, handleOf(config.uuid), built.startInfoMfn, cmdline, built.wired ? wiredMacs(config) : noMacs));
    this.records.forget(domid, config.uuid);
    built.name = config.name;
    if (built.wired) await this.wired.identify(domid, config);
    else await this.registerInStore(domid, config, built);
  }

  private async registerInStore(domid: Domid, config: DomainConfig, built: Built): Promise<void> {
    const vbds = config.vbds ?? [];
    const disks = await this.disks.open(domid, vbds);
    try {
      await this.store.transaction(registerRequests(domid, config, disks), introduceRequests(domid, built.storeMfn, storePort));
      await this.disks.taken(domid, vbds, (index) => this.store.read(diskErrorPath(domid, index)));
    } finally {
      this.disks.release(domid);
    }
  }

  async attachVif(domid: Domid, vif: VifConfig): Promise<void> {
    if (this.built.get(domid)?.wired) return;
    await this.nets.attach(domid, vif, () => this.store.read(backendErrorPath(domid, vif.handle)));
  }

  async seal(domid: Domid, record: string): Promise<void> {
    const domain = this.ours(domid);
    if (record === '' || Buffer.byteLength(record) > mostRecordBytes) {
      throw new ShoalError('INTERNAL_ERROR', `a record of ${Buffer.byteLength(record)} bytes; 1 to ${mostRecordBytes} are possible`);
    }
    const built = this.built.get(domid);
    await this.records.seal(domid, domain.uuid, record, built?.wired ? built.name : undefined);
  }

  async sealEarly(domid: Domid, config: DomainConfig, record: string): Promise<void> {
    // One that has its devices from the store gets all its nodes in one transaction.
    if (!this.wired.wants(config)) return;
    calling(`naming domain ${domid}`, () => this.native.setHandle(domid, handleOf(config.uuid)));
    await this.records.seal(domid, config.uuid, record, config.name);
    this.wired.expect(domid, config);
  }

  async unpause(domid: Domid): Promise<void> {
    calling(`unpausing domain ${domid}`, () => this.native.unpause(domid));
  }

  async pause(domid: Domid): Promise<void> {
    this.ours(domid);
    calling(`pausing domain ${domid}`, () => this.native.pause(domid));
  }

  async requestShutdown(domid: Domid, reason: 'poweroff' | 'reboot' | 'suspend'): Promise<void> {
    this.ours(domid);
    if (this.built.get(domid)?.wired !== false && calling(`asking domain ${domid}`, () => this.wired.order(domid, reason))) return;
    await this.store.batch(shutdownRequests(domid, reason));
  }

  async snapshot(domid: Domid, shape: DomainShape): Promise<Snapshot> {
    this.ours(domid);
    return this.changes.own(() => this.memory.snapshot(domid, shape));
  }

  async resume(domid: Domid): Promise<void> {
    this.ours(domid);
    calling(`resuming domain ${domid}`, () => this.native.resume(domid));
  }

  destroy(domid: Domid): Promise<void> {
    return this.changes.own(() => this.destroyOne(domid));
  }

  private async destroyOne(domid: Domid): Promise<void> {
    const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
    if (domain && !isVmUuid(uuidOf(domain))) throw notOurs(domid);
    const wired = this.built.get(domid)?.wired ?? (domain === undefined ? undefined : this.wired.is(domid));
    if (wired !== true) this.nets.release(domid);
    // What the switch maps of a domain keeps it from going away.
    if (wired !== false) await this.wired.disconnect(domid);
    if (domain) {
      try {
        await this.native.destroy(domid, domain.totalPages > apartPages);
      } catch (thrown) {
        if (failureErrno(thrown) !== 'ESRCH') throw nativeError(thrown, `destroying domain ${domid}`);
      }
    }
    if (wired) {
      await this.remove(removeWiredRequests(domid));
    } else {
      await this.vifsMade(domid);
      await this.remove(removeRequests(domid));
      await this.nets.gone(domid);
      await this.disks.gone(domid);
      await this.remove(removeErrorRequests(domid));
    }
    await this.changes.departed(domid);
    this.changes.ended(domid);
    this.built.delete(domid);
    this.records.forget(domid);
  }

  async list(): Promise<DomainFacts[]> {
    const domains = calling('listing domains', () => this.native.domains());
    this.changes.seen(domains.map(({ domid }) => domid));
    return this.records.describe(domains);
  }

  async get(domid: Domid): Promise<DomainFacts | undefined> {
    const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
    return domain === undefined ? undefined : (await this.records.describe([domain]))[0];
  }

  async readConsole(domid: Domid, cursor: number): Promise<{ text: Uint8Array; cursor: number }> {
    this.ours(domid);
    const mfn = this.built.get(domid)?.consoleMfn ?? 0;
    return calling(`reading the console of domain ${domid}`, () => this.native.readConsole(domid, mfn, cursor >>> 0));
  }

  async writeConsole(domid: Domid, text: Uint8Array): Promise<number> {
    this.ours(domid);
    const mfn = this.built.get(domid)?.consoleMfn ?? 0;
    const bytes = new Uint8Array(text.buffer, text.byteOffset, text.byteLength);
    return calling(`typing into the console of domain ${domid}`, () => this.native.writeConsole(domid, mfn, bytes));
  }

  async forgetImage(digest: Digest): Promise<void> {
    await callingAsync(`taking away the template of ${digest}`, () => this.templates.forget(digest));
  }

  vifCounters(domid: Domid, handle: number): Promise<VifCounters | undefined> {
    return this.wired.counters(domid, handle);
  }

  mirrorVif(domid: Domid, handle: number, path?: string): Promise<boolean> {
    return this.wired.mirror(domid, handle, path);
  }

  async setGuestAddresses(domid: Domid, ipv4: readonly string[]): Promise<void> {
    this.ours(domid);
    await this.wired.readdress(domid, ipv4);
  }

  moveAddress(move: AddressMove): Promise<void> {
    return this.wired.move(move);
  }

  holdAddress(network: string, ip: string, ms: number, mac?: string): Promise<void> {
    return this.wired.hold(network, ip, ms, mac);
  }

  announceAddress(network: string, ip: string): Promise<void> {
    return this.wired.announce(network, ip);
  }

  addressTraffic(network: string, ip: string): Promise<AddressTraffic | undefined> {
    return this.wired.traffic(network, ip);
  }

  switchTotals(): Promise<SwitchTotals | undefined> {
    return this.wired.totals();
  }

  networks(): string[] {
    return this.nets.names();
  }

  onChange(listener: (domid: Domid) => void): () => void {
    return this.changes.onChange(listener);
  }

  storeCounts(): { requests: number; changes: number; retries: number } {
    return { ...this.store.counts };
  }

  async close(): Promise<void> {
    this.changes.close();
    this.wired.close();
    this.store.close();
    this.native.close();
  }

  /** The domain, which has to exist and to be one of ours. */
  private ours(domid: Domid): { uuid: Uuid } {
    const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
    if (!domain) throw new ShoalError('HYPERCALL_FAILED', `there is no domain ${domid}`, { hint: 'List the domains again.', data: { errno: 'ESRCH' } });
    const uuid = uuidOf(domain);
    if (!isVmUuid(uuid)) throw notOurs(domid);
    return { uuid };
  }

  /**
   * netback writes into a backend's folder while it makes the device. What it writes after a removal would stand there for ever and keep the
   * device alive without a domain, so a device that is being made is waited for before it is taken away.
   */
  private async vifsMade(domid: number): Promise<void> {
    for (const handle of await this.store.directory(`${backendRoot}/${domid}`)) {
      await this.nets.made(vifName(domid, Number(handle)), () => this.store.read(backendErrorPath(domid, Number(handle))));
    }
  }

  private async remove(requests: Request[]): Promise<void> {
    for (const answer of await this.store.settle(requests)) {
      if (answer.status === 'fulfilled') continue;
      if (!(answer.reason instanceof StoreRefusal) || !goneAlready.has(answer.reason.errno)) throw answer.reason;
    }
  }
}

/** No such node; or no such domain: its number is not known to the daemon, as oxenstored puts it. */
const goneAlready = new Set(['ENOENT', 'EINVAL']);

/** Guest's port of the store's event channel: the first that Xen gives out (native/control.h). */
const storePort = 1;

const notOurs = (domid: number): ShoalError =>
  new ShoalError('OPERATION_NOT_ALLOWED', `domain ${domid} belongs to another toolstack`, { hint: 'Use the toolstack that made it, for example xl.' });

const noMacs = new Uint8Array(0);
