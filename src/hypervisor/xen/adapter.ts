/**
 * The port of hypervisor/port.ts over a real Xen: policy and order of steps in TypeScript, hypercalls and netlink in the addon, xenstore over
 * its socket. Runs in dom0 as root. Keeps in memory only what it could read again: records of sealed domains, frames of consoles.
 *
 * Calls into the addon block for microseconds to milliseconds; building or destroying a domain above `apartPages` runs on another thread.
 */
import { asDomid, type Domid, type Uuid } from '../../model/ids.ts';
import { isVmUuid } from '../../model/uuid.ts';
import { ShoalError } from '../../model/errors.ts';
import {
  calling, callingAsync, domainFlags, failureErrno, loadNative, nativeError, shutdownReasons, type Built, type Native, type NativeDomain,
} from './native.ts';
import { Networks, vifName, type NetworkConfig } from './networks.ts';
import {
  backendErrorPath, backendPath, backendRoot, introduceRequests, recordPath, registerRequests, removeErrorRequests, removeRequests, scriptMark, sealRequest,
  shutdownRequests,
} from './nodes.ts';
import { readRequest, type Request } from './xenstore/wire.ts';
import { StoreClient, StoreRefusal, storeSockets } from './xenstore/client.ts';
import type { DomainConfig, DomainFacts, DomainState, HostFacts, Hypervisor, VifConfig } from '../port.ts';

export interface XenOptions {
  /** Absolute path of shoal_xen.node. */
  addonPath: string;
  networks: NetworkConfig[];
  /** Where the daemon's socket may be. */
  storePaths?: string[];
  /** Vifs on one bridge before a further one is made. */
  mostVifsPerBridge?: number;
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
const destroyWaitMs = 30_000;
/** Domains are compared at most this often while many die. */
const scanIntervalMs = 20;

export interface XenHypervisor extends Hypervisor {
  /** Running totals of requests to the store: for benchmarks. */
  storeCounts(): { requests: number; changes: number; retries: number };
}

/** Opens Xen, the store and the networks. Throws HYPERVISOR_UNAVAILABLE, XENSTORE_FAILED. */
export async function openXen(options: XenOptions): Promise<XenHypervisor> {
  const native = loadNative(options.addonPath);
  calling('Xen cannot be reached', () => native.open());
  const store = new StoreClient(options.storePaths ?? storeSockets);
  try {
    const xen = new Xen(native, store, new Networks(native, options.networks, options.mostVifsPerBridge));
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
  private readonly built = new Map<number, Built>();
  private readonly records = new Map<number, { uuid: Uuid; record: string }>();
  private readonly listeners = new Set<(domid: Domid) => void>();
  private readonly departures = new Map<number, () => void>();
  /** Domains there are, dom0 left out: as this adapter made and ended them, and as the last look at all of them found them. */
  private alive = new Set<number>();
  /** Made since that look: one that goes before the next would otherwise come and go unseen. */
  private readonly unseen = new Set<number>();
  private lastScan = 0;
  private scanTimer: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(native: Native, store: StoreClient, nets: Networks) {
    this.native = native;
    this.store = store;
    this.nets = nets;
  }

  async start(): Promise<void> {
    this.alive = new Set(this.native.changedDomains());
    this.nets.start(await this.sweep());
    await this.store.watch('@releaseDomain', () => this.scanSoon());
  }

  /**
   * MAC of every vif of ours that has a backend, by name of its link. What a domain of ours left in the store when it went away while nobody
   * looked is removed; what others left is theirs.
   */
  private async sweep(): Promise<Map<string, string>> {
    const macs = new Map<string, string>();
    const alive = new Set(this.native.domains().map((domain) => domain.domid));
    const dead = (names: string[]): number[] => names.map(Number).filter((domid) => domid > 0 && !alive.has(domid));
    // Each question is asked for all at once: a thousand answers arrive in the time of a few.
    const homeless = dead(await this.store.directory('/local/domain'));
    const records = await this.readAll(homeless.map(recordPath));
    const backends = (await this.store.directory(backendRoot)).map(Number);
    const handles = await Promise.all(backends.map((domid) => this.store.directory(`${backendRoot}/${domid}`)));
    const devices = backends.flatMap((domid, i) => handles[i]!.map((handle) => ({ domid, handle: Number(handle) })));
    const scripts = await this.readAll(devices.map(({ domid, handle }) => `${backendPath(domid, handle)}/script`));
    const addresses = await this.readAll(devices.map(({ domid, handle }) => `${backendPath(domid, handle)}/mac`));
    const leftOver = new Set(homeless.filter((_, i) => records[i] !== undefined));
    for (const [i, { domid, handle }] of devices.entries()) {
      if (scripts[i] !== scriptMark) continue;
      if (alive.has(domid)) macs.set(vifName(domid, handle), addresses[i] ?? '');
      else leftOver.add(domid);
    }
    for (const domid of leftOver) await this.remove([...removeRequests(domid), ...removeErrorRequests(domid)]);
    return macs;
  }

  async facts(): Promise<HostFacts> {
    const machine = calling('the facts of the host', () => this.native.machine());
    return {
      version: `Xen ${machine.major}.${machine.minor}${machine.extra}`,
      totalKib: machine.totalKib,
      freeKib: machine.freeKib,
      cpuCount: machine.cpus,
      domainCount: this.alive.size + 1,
    };
  }

  async create(config: DomainConfig): Promise<Domid> {
    const { memoryKib, cmdline } = config;
    if (!Number.isSafeInteger(memoryKib) || memoryKib < kibPerPage || memoryKib % kibPerPage !== 0) {
      throw new ShoalError('MEMORY_INVALID', `${memoryKib} KiB is no whole number of pages of ${kibPerPage} KiB`);
    }
    if (Buffer.byteLength(cmdline) > mostCommandLineBytes) {
      throw new ShoalError('COMMAND_LINE_TOO_LONG', `the command line has ${Buffer.byteLength(cmdline)} bytes; ${mostCommandLineBytes} is the limit`);
    }
    if (config.image.memoryBytes > memoryKib * 1024) {
      throw new ShoalError('IMAGE_TOO_LARGE', `the image needs ${config.image.memoryBytes} bytes, the VM has ${memoryKib * 1024}`);
    }
    for (const vif of config.vifs) this.nets.known(vif.network);
    const handle = Buffer.from(config.uuid.replaceAll('-', ''), 'hex');
    const domid = calling(`creating a domain for ${config.name}`, () =>
      this.native.create(handle, memoryKib / kibPerPage, mostEventPort, mostGrantFrames));
    this.alive.add(domid);
    this.unseen.add(domid);
    this.records.delete(domid);
    return asDomid(domid);
  }

  async build(domid: Domid, config: DomainConfig): Promise<void> {
    const { image, memoryKib } = config;
    const pages = memoryKib / kibPerPage;
    const result = await callingAsync(`building domain ${domid}`, () =>
      this.native.build(domid, pages, image.pages, image.memoryBytes, image.virtBase, image.entry, image.hypercallPage, config.cmdline, pages > apartPages));
    this.built.set(domid, result);
  }

  async register(domid: Domid, config: DomainConfig): Promise<void> {
    const frames = this.built.get(domid);
    if (!frames) throw new ShoalError('INTERNAL_ERROR', `domain ${domid} was not built here`);
    await this.store.transaction(registerRequests(domid, config), introduceRequests(domid, frames.storeMfn, storePort));
  }

  async attachVif(domid: Domid, vif: VifConfig): Promise<void> {
    await this.nets.attach(domid, vif, () => this.store.read(backendErrorPath(domid, vif.handle)));
  }

  async seal(domid: Domid, record: string): Promise<void> {
    const domain = this.ours(domid);
    if (record === '' || Buffer.byteLength(record) > mostRecordBytes) {
      throw new ShoalError('INTERNAL_ERROR', `a record of ${Buffer.byteLength(record)} bytes; 1 to ${mostRecordBytes} are possible`);
    }
    await this.store.batch([sealRequest(domid, record)]);
    this.records.set(domid, { uuid: domain.uuid, record });
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
    await this.store.batch(shutdownRequests(domid, reason));
  }

  async destroy(domid: Domid): Promise<void> {
    const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
    if (domain && !isVmUuid(uuidOf(domain))) throw notOurs(domid);
    this.nets.release(domid);
    if (domain) {
      try {
        await this.native.destroy(domid, domain.totalPages > apartPages);
      } catch (thrown) {
        if (failureErrno(thrown) !== 'ESRCH') throw nativeError(thrown, `destroying domain ${domid}`);
      }
    }
    await this.vifsMade(domid);
    await this.remove(removeRequests(domid));
    await this.nets.gone(domid);
    await this.remove(removeErrorRequests(domid));
    await this.departed(domid);
    this.alive.delete(domid);
    this.built.delete(domid);
    this.records.delete(domid);
  }

  async list(): Promise<DomainFacts[]> {
    const domains = calling('listing domains', () => this.native.domains());
    this.alive = new Set(domains.map(({ domid }) => domid));
    const unknown = domains.filter((domain) => this.mustRead(domain));
    const answers = await this.store.settle(unknown.map((domain) => readRequest(recordPath(domain.domid))));
    unknown.forEach((domain, i) => this.remember(domain, answers[i]!));
    return domains.map((domain) => this.describe(domain));
  }

  async get(domid: Domid): Promise<DomainFacts | undefined> {
    const domain = calling(`looking at domain ${domid}`, () => this.native.domain(domid));
    if (!domain) return undefined;
    if (this.mustRead(domain)) {
      const [answer] = await this.store.settle([readRequest(recordPath(domid))]);
      this.remember(domain, answer!);
    }
    return this.describe(domain);
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

  networks(): string[] {
    return this.nets.names();
  }

  onChange(listener: (domid: Domid) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  storeCounts(): { requests: number; changes: number; retries: number } {
    return { ...this.store.counts };
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.scanTimer);
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

  private mustRead(domain: NativeDomain): boolean {
    const uuid = uuidOf(domain);
    return isVmUuid(uuid) && this.records.get(domain.domid)?.uuid !== uuid;
  }

  private remember(domain: NativeDomain, answer: PromiseSettledResult<Buffer>): void {
    if (answer.status === 'rejected') {
      if (answer.reason instanceof StoreRefusal) return; // no such node: not registered, so not sealed
      throw answer.reason;
    }
    const record = answer.value.toString('utf8');
    if (record !== '') this.records.set(domain.domid, { uuid: uuidOf(domain), record });
  }

  private describe(domain: NativeDomain): DomainFacts {
    const uuid = uuidOf(domain);
    const cached = this.records.get(domain.domid);
    const record = cached?.uuid === uuid ? cached.record : '';
    return {
      domid: asDomid(domain.domid),
      uuid,
      state: stateOf(domain),
      ours: isVmUuid(uuid),
      sealed: record !== '',
      record,
      memoryKib: domain.totalPages * kibPerPage,
      cpuTimeNs: domain.cpuTimeNs,
    };
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

  /** Values of many nodes; undefined for those that are not there. */
  private async readAll(paths: string[]): Promise<(string | undefined)[]> {
    const answers = await this.store.settle(paths.map(readRequest));
    return answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.toString('utf8') : undefined));
  }

  private async remove(requests: Request[]): Promise<void> {
    for (const answer of await this.store.settle(requests)) {
      if (answer.status === 'fulfilled') continue;
      if (!(answer.reason instanceof StoreRefusal) || !goneAlready.has(answer.reason.errno)) throw answer.reason;
    }
  }

  /** Resolves once Xen has no domain of that number: told by the store's watch, looked up only then. */
  private departed(domid: number): Promise<void> {
    if (!this.native.domain(domid)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.departures.delete(domid);
        reject(new ShoalError('HYPERCALL_FAILED', `domain ${domid} is still dying after ${destroyWaitMs} ms: something maps its memory`));
      }, destroyWaitMs);
      this.departures.set(domid, () => {
        clearTimeout(timer);
        this.departures.delete(domid);
        resolve();
      });
      this.scanSoon();
    });
  }

  /** One comparison of all domains for any number of news; it happens in the addon, and only changes come back. */
  private scanSoon(): void {
    if (this.scanTimer || this.closed) return;
    const waitMs = Math.max(0, this.lastScan + scanIntervalMs - performance.now());
    this.scanTimer = setTimeout(() => this.scan(), waitMs);
  }

  private scan(): void {
    this.scanTimer = undefined;
    this.lastScan = performance.now();
    let changed: Set<number>;
    try {
      changed = new Set(this.native.changedDomains());
    } catch {
      return this.scanSoon(); // a hypercall that failed: the news are not lost, the next comparison has them
    }
    for (const domid of this.unseen) changed.add(domid);
    this.unseen.clear();
    for (const domid of changed) {
      if (this.native.domain(domid)) this.alive.add(domid);
      else this.alive.delete(domid);
    }
    for (const domid of this.departures.keys()) if (!this.native.domain(domid)) this.departures.get(domid)!();
    for (const domid of changed) for (const listener of this.listeners) listener(asDomid(domid));
  }
}

/** No such node; or no such domain: its number is not known to the daemon, as oxenstored puts it. */
const goneAlready = new Set(['ENOENT', 'EINVAL']);

/** Guest's port of the store's event channel: the first that Xen gives out (native/control.h). */
const storePort = 1;

const notOurs = (domid: number): ShoalError =>
  new ShoalError('OPERATION_NOT_ALLOWED', `domain ${domid} belongs to another toolstack`, { hint: 'Use the toolstack that made it, for example xl.' });

function uuidOf(domain: NativeDomain): Uuid {
  const h = domain.handle.toString('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}` as Uuid;
}

function stateOf(domain: NativeDomain): DomainState {
  if (domain.flags & domainFlags.dying) return 'dying';
  if (domain.flags & domainFlags.shutdown) {
    const reason = shutdownReasons[domain.shutdownReason];
    return reason === 'crash' || reason === 'watchdog' ? 'crashed' : 'shutdown';
  }
  return domain.flags & domainFlags.paused ? 'paused' : 'running';
}
