/**
 * A host over XenAPI, with the package xen-api. Its sessions, transports and calls are used; its cache of all objects is not: one
 * record of a VM has some 70 fields, and of 10,000 VMs ten fields each are kept here. So the loop over event.from is here too, and
 * says at once when the host went away and when it is back.
 *
 * Only what any XAPI has is needed. Where the host has our plugin, VMs are launched and destroyed many in one call.
 */
import type { FetchOrder, FetchReport, ImageSource } from '../../model/distribution.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { copyKey, formatCopyId } from '../../model/fleet.ts';
import type { Uuid } from '../../model/ids.ts';
import type { AddressMove, HostLink, LaunchItem, LaunchOutcome, LinkListener, Migrated, SeenHost, SeenVm, VifCounters } from '../port.ts';
import { moveAddresses, trafficOf } from './addresses.ts';
import { errorOf, parsed, type ErrorShown } from './shown.ts';
import { callTimeoutMs, linkError, makeConnection, type Connection, type HostAddress } from './connection.ts';
import { askOffer, orderFetch, pushImage } from './images.ts';
import { launchOneByOne } from './one-by-one.ts';
import { Picture, type Happening } from './picture.ts';
import { vmRecord, type Record_ } from './records.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

export interface XenApiLinkOptions extends Omit<HostAddress, 'password'> {
  /** Asked for at each connection, so that a password that was changed is taken up. Throws when it cannot be had. */
  password: string | (() => string);
  /** One event.from waits so long at most; a host that gives no answer for so long and `patienceMs` more is away. */
  pollS?: number;
  patienceMs?: number;
  /** First wait after a failed attempt; doubled up to 16 times. */
  retryMs?: number;
  log?: (line: string) => void;
}

const watched = ['VM', 'VIF', 'network', 'host', 'host_metrics'];
/** While a host starts many VMs it answers so often: a call alone is some ten milliseconds of the lab's dom0. */
const holdMs = 150;
const migrationTimeoutMs = 600_000;
/** An offer costs its host nothing: from one that takes longer nobody should fetch. */
const offerTimeoutMs = 2000;
/** Launching takes a second a VM at the very most. */
const launchTimeoutMs = (count: number): number => callTimeoutMs + 1000 * count;

export class XenApiLink implements HostLink {
  readonly #o: Required<Pick<XenApiLinkOptions, 'pollS' | 'patienceMs' | 'retryMs' | 'log'>> & XenApiLinkOptions;
  #connection: Connection | undefined;
  #listener: LinkListener | undefined;
  #closed = false;
  #loop: Promise<void> = Promise.resolve();
  #wake: () => void = () => {};
  #hostRef = '';
  #plugin = false;
  /** Changes come through the plugin, which tells of a VM only what counts here. */
  #lean = false;
  #host: SeenHost = { version: '', totalKib: 0, freeKib: 0, cpuCount: 0, networks: [], shortfalls: [] };
  readonly #picture = new Picture();

  constructor(options: XenApiLinkOptions) {
    this.#o = { pollS: 10, patienceMs: 10_000, retryMs: 250, log: () => {}, ...options };
  }

  open(listener: LinkListener): void {
    this.#listener = listener;
    this.#loop = this.#run();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#drop();
    await this.#loop;
  }

  // Looking

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed) {
      try {
        this.#connection ??= makeConnection(addressOf(this.#o), (method) =>
          method === 'event.from' ? this.#o.pollS * 1000 + this.#o.patienceMs : 10 * callTimeoutMs,
        );
        await this.#bounded(this.#connection.xapi.connect(), this.#o.patienceMs);
        let token = await this.#whole();
        failures = 0;
        while (!this.#closed) token = await this.#changes(token);
      } catch (thrown) {
        const error = linkError(thrown, this.#o.url);
        if (error.code === 'EVENTS_LOST') continue;
        await this.#drop();
        if (this.#closed) return;
        this.#listener?.away(error);
        // A wrong password is asked seldom: each attempt costs every other client at that address a wait.
        const seldom = error.code === 'SESSION_AUTHENTICATION_FAILED' ? 16 : 1;
        await this.#sleep(Math.min(this.#o.retryMs * 16, this.#o.retryMs * 2 ** failures++) * seldom);
      }
    }
  }

  async #drop(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    await connection.xapi.disconnect().catch(() => {});
    await connection.dispatcher.destroy().catch(() => {});
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }

  /** Everything there is; returns the token from which on changes count. */
  async #whole(): Promise<string> {
    const hosts = (await this.#raw('host.get_all')) as string[];
    if (hosts.length !== 1)
      throw new ShoalError('HOST_UNSUPPORTED', `${this.#o.url} is a pool of ${hosts.length} hosts; a fleet takes each host by itself.`);
    this.#hostRef = hosts[0]!;
    await this.#findPlugin();
    const answer = await this.#from('', 0);
    this.#picture.clear();
    this.#picture.take(answer.events);
    this.#host = await this.lookAtHost();
    this.#listener?.picture(this.#host, this.#picture.vms());
    return answer.token;
  }

  async #changes(token: string): Promise<string> {
    const answer = await this.#from(token, this.#o.pollS);
    const vms = this.#picture.take(answer.events);
    for (const [ref, gone] of vms) {
      const vm = this.#picture.seen(ref);
      if (vm !== undefined) this.#listener?.vm(vm);
      else if (gone !== undefined) this.#listener?.gone(gone);
    }
    if (answer.events.some((event) => event.class === 'network' || event.class === 'host_metrics')) {
      this.#host = { ...this.#host, networks: this.#picture.networks() };
      this.#listener?.host(this.#host);
    }
    return answer.token;
  }

  async #from(token: string, waitS: number): Promise<{ events: Happening[]; token: string }> {
    if (this.#lean) {
      try {
        const args = { token, timeoutS: String(Math.ceil(waitS)), holdMs: String(holdMs) };
        return await this.#bounded(this.#callPlugin('events', args), waitS * 1000 + this.#o.patienceMs);
      } catch (error) {
        // An agent that is older than this function, or another host at this address.
        const { code } = asShoalError(error);
        if (code !== 'XENAPI_MISSING_PLUGIN' && code !== 'XENAPI_PLUGIN_FAILURE' && code !== 'HANDLE_INVALID') throw error;
        this.#lean = false;
      }
    }
    // A float, for over XML-RPC it must be one.
    return (await this.#raw('event.from', watched, token, waitS + 0.001)) as { events: Happening[]; token: string };
  }

  async lookAtHost(): Promise<SeenHost> {
    const [freeBytes, record] = await Promise.all([
      this.#raw('host.compute_free_memory', this.#hostRef),
      this.#raw('host.get_record', this.#hostRef),
    ]);
    const host = record as { metrics: string; software_version: Record<string, string>; cpu_info: Record<string, string> };
    const metrics = (await this.#raw('host_metrics.get_record', host.metrics)) as { memory_total: unknown };
    const v = host.software_version;
    return (this.#host = {
      version: [v['product_brand'], v['product_version'], v['xen']].filter(Boolean).join(' '),
      totalKib: Math.floor(Number(metrics.memory_total) / 1024),
      freeKib: Math.floor(Number(freeBytes) / 1024),
      cpuCount: Number(host.cpu_info['cpu_count'] ?? 0),
      networks: this.#picture.networks(),
      shortfalls: this.#plugin
        ? []
        : ['This host has not the plugin "shoal": VMs are made and ended one by one, and images must be there as templates.'],
    });
  }

  async look(uuid: Uuid): Promise<SeenVm | undefined> {
    try {
      const ref = (await this.#raw('VM.get_by_uuid', uuid)) as string;
      return this.#picture.seen(ref, vmRecord((await this.#raw('VM.get_record', ref)) as Record_));
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }

  async #findPlugin(): Promise<void> {
    try {
      await this.#callPlugin('held', { names: '[]' });
      this.#plugin = true;
      this.#lean = true;
    } catch (error) {
      const { code } = asShoalError(error);
      if (code !== 'XENAPI_MISSING_PLUGIN' && code !== 'XENAPI_PLUGIN_FAILURE') throw error;
      if (this.#plugin) this.#o.log(`${this.#o.url}: the plugin "shoal" is gone`);
      this.#plugin = false;
      this.#lean = false;
    }
  }

  // Moving

  async launch(items: readonly LaunchItem[], signal: AbortSignal): Promise<LaunchOutcome[]> {
    if (!this.#plugin) {
      return launchOneByOne((method, ...args) => this.#raw(method, ...args), items, this.#picture.networkRefs(), signal);
    }
    const specs = items.map(({ copy, ...item }) => ({ ...item, otherConfig: { [copyKey]: formatCopyId(copy) } }));
    const { results } = await this.#bounded(
      this.#callPlugin<{ results: { vm?: { uuid: Uuid }; error?: ErrorShown }[] }>('launch-each', {
        specs: JSON.stringify(specs),
      }),
      launchTimeoutMs(items.length),
    );
    return results.map(({ vm, error }) => (vm !== undefined ? { uuid: vm.uuid } : { error: errorOf(error) }));
  }

  async start(uuid: Uuid): Promise<void> {
    const ref = (await this.#raw('VM.get_by_uuid', uuid)) as string;
    const { power_state: power } = (await this.#raw('VM.get_record', ref)) as { power_state: string };
    if (power === 'Running') return;
    const call = power === 'Paused' ? 'VM.unpause' : power === 'Suspended' ? 'VM.resume' : 'VM.start';
    await this.#bounded(power === 'Paused' ? this.#raw(call, ref) : this.#raw(call, ref, false, false), callTimeoutMs);
  }

  async restart(uuid: Uuid): Promise<void> {
    await this.#bounded(this.#raw('VM.hard_reboot', await this.#raw('VM.get_by_uuid', uuid)), callTimeoutMs);
  }

  async stop(uuid: Uuid): Promise<void> {
    await this.#bounded(this.#raw('VM.hard_shutdown', await this.#raw('VM.get_by_uuid', uuid)), callTimeoutMs);
  }

  async destroy(uuids: readonly Uuid[]): Promise<{ uuid: Uuid; error: ShoalError }[]> {
    const failed: { uuid: Uuid; error: ShoalError }[] = [];
    if (this.#plugin) {
      const answer = await this.#bounded(
        this.#callPlugin<{ failed: ({ uuid: Uuid } & ErrorShown)[] }>('destroy', { vms: JSON.stringify(uuids) }),
        launchTimeoutMs(uuids.length),
      );
      for (const each of answer.failed)
        if (each.code !== 'UUID_INVALID' && each.code !== 'HANDLE_INVALID')
          failed.push({ uuid: each.uuid, error: errorOf(each) });
      return failed;
    }
    for (const uuid of uuids) {
      try {
        const ref = (await this.#raw('VM.get_by_uuid', uuid)) as string;
        await this.#raw('VM.hard_shutdown', ref).catch((error: unknown) => {
          if (asShoalError(error).code !== 'VM_BAD_POWER_STATE') throw error;
        });
        await this.#raw('VM.destroy', ref);
      } catch (error) {
        if (!isGone(error)) failed.push({ uuid, error: asShoalError(error) });
      }
    }
    return failed;
  }

  async held(names: readonly string[]): Promise<string[]> {
    if (this.#plugin) return (await this.#callPlugin<{ held: string[] }>('held', { names: JSON.stringify(names) })).held;
    const found = await Promise.all(names.map((name) => this.#raw('VM.get_by_name_label', name)));
    return names.filter((_, i) => (found[i] as string[]).length > 0);
  }

  console(uuid: Uuid, cursor: number): Promise<{ text: string; cursor: number }> {
    return this.#callPlugin('console', { vm: uuid, cursor: String(cursor) });
  }

  async counters(uuid: Uuid, handle: number): Promise<VifCounters | undefined> {
    if (!this.#plugin) return undefined;
    return this.#callPlugin<VifCounters>('vif', { vm: uuid, handle: String(handle) }).catch((error: unknown) => {
      if (asShoalError(error).code === 'VALUE_NOT_SUPPORTED') return undefined;
      throw error;
    });
  }

  async migrate(uuid: Uuid, to: HostLink, live: boolean): Promise<Migrated> {
    if (!this.#plugin) throw new ShoalError('HOST_UNSUPPORTED', `${this.#o.url} sends no VMs to other hosts by itself.`);
    const { agent } = await this.#callPlugin<{ agent: { fingerprint: string | null } }>('facts', {});
    const dest = JSON.stringify(await to.admit(agent.fingerprint ?? ''));
    return this.#bounded(this.#callPlugin<Migrated>('migrate', { vm: uuid, dest, live: String(live) }), migrationTimeoutMs);
  }

  async admit(fingerprint: string): Promise<Record<string, string>> {
    if (!this.#plugin) throw new ShoalError('HOST_UNSUPPORTED', `${this.#o.url} takes no VMs of other hosts.`);
    return (await this.#raw('host.migrate_receive', this.#hostRef, '', { fingerprint })) as Record<string, string>;
  }

  async moveAddress(moves: readonly AddressMove[]): Promise<{ move: AddressMove; error: ShoalError }[]> {
    if (!this.#plugin) throw new ShoalError('VALUE_NOT_SUPPORTED', 'This host moves no addresses.');
    return moveAddresses((fn, args) => this.#bounded(this.#callPlugin(fn, args), launchTimeoutMs(moves.length)), moves);
  }

  async holdAddress(network: string, ip: string, ms: number): Promise<void> {
    if (!this.#plugin) throw new ShoalError('VALUE_NOT_SUPPORTED', 'This host holds no addresses.');
    await this.#bounded(this.#callPlugin('hold-address', { network, ip, ms: String(ms) }), callTimeoutMs);
  }

  async addressTraffic(network: string, ips: readonly string[]): Promise<(AddressTraffic | undefined)[]> {
    if (!this.#plugin) return ips.map(() => undefined);
    return trafficOf((fn, args) => this.#bounded(this.#callPlugin(fn, args), callTimeoutMs), network, ips);
  }

  async putImage(digest: string, bytes: Uint8Array): Promise<void> {
    const refusal = await pushImage(this.#need(), this.#o.url, digest, bytes);
    if (refusal === undefined) return;
    throw errorOf(parsed(refusal.refused) ?? { code: 'CONNECTION_FAILED', message: `The host answered ${refusal.status}.`, hint: '' });
  }

  async images(): Promise<string[] | undefined> {
    if (!this.#plugin) return undefined;
    const images = await this.#bounded(this.#callPlugin<{ digest: string }[]>('images', {}), callTimeoutMs);
    return images.map(({ digest }) => digest);
  }

  fetchImage(order: FetchOrder): Promise<FetchReport> {
    return this.#bounded(orderFetch(this.#callPlugin.bind(this), this.#o.url, order), order.timeoutMs + this.#o.patienceMs);
  }

  offerImage(digest: string): Promise<ImageSource> {
    return this.#bounded(askOffer(this.#callPlugin.bind(this), this.#o.url, this.#o.fingerprint, digest), offerTimeoutMs);
  }

  async #callPlugin<T>(fn: string, args: Record<string, string>): Promise<T> {
    return JSON.parse((await this.#raw('host.call_plugin', this.#hostRef, 'shoal', fn, args)) as string) as T;
  }

  #need(): Connection {
    if (this.#connection === undefined || this.#connection.xapi.status !== 'connected')
      throw new ShoalError('HOST_AWAY', `${this.#o.url} is not connected.`);
    return this.#connection;
  }

  async #raw(method: string, ...args: unknown[]): Promise<unknown> {
    try {
      return await this.#need().xapi.call(method, ...args);
    } catch (error) {
      throw linkError(error, this.#o.url);
    }
  }

  #bounded<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new ShoalError('TIMEOUT', `${this.#o.url} gave no answer within ${timeoutMs} ms.`)),
        timeoutMs,
      );
    });
    return Promise.race([work, late]).finally(() => clearTimeout(timer));
  }
}

const addressOf = ({ password, ...rest }: XenApiLinkOptions): HostAddress => ({
  ...rest,
  password: typeof password === 'string' ? password : password(),
});

/** Throws CONFIG_INVALID when a connection cannot even be tried: the address, the certificate or the password is missing. */
export function checkLink(options: XenApiLinkOptions): void {
  void makeConnection(addressOf(options), () => 0).dispatcher.destroy();
}

const isGone = (error: unknown): boolean => {
  const { code } = asShoalError(error);
  return code === 'UUID_INVALID' || code === 'HANDLE_INVALID';
};
