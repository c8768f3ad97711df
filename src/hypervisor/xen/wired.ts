/**
 * Guests whose devices are laid out by the builder (unikernels/include/wiring.h), and the switch that is at the other end of their rings. Such
 * a guest knows no store: orders reach it by a word in its memory, its network by ring pages that the switch maps.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../../model/errors.ts';
import { failureErrno, nativeError, type Built, type Native } from './native.ts';
import { macBytes, type NetworkConfig } from './networks.ts';
import type { AddressMove, DomainConfig, DomainShape, SwitchTotals, VifBackend, VifCounters } from '../port.ts';
import type { SwitchClient } from './switch-client.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

/** WIRING_VIFS of wiring.h. */
const mostVifs = 4;
/** WIRING_NOTHING, WIRING_POWEROFF, WIRING_REBOOT, WIRING_SUSPEND of wiring.h. */
const orders = { nothing: 0, poweroff: 1, reboot: 2, suspend: 3 } as const;
/** A guest takes new addresses in less than a millisecond when it has a processor; one whose kernel does not know the order never does. */
const readdressMs = 3000;
const readdressAgainMs = 250;

/** What is asked for people to look at does not wait for a switch that is away. */
const soonMs = 500;

export class Wired {
  private readonly native: Native;
  private readonly switchboard: SwitchClient | undefined;
  private readonly networks: Map<string, NetworkConfig>;
  /** Who domains will be whose memory is still to come. */
  private readonly comers = new Map<number, DomainConfig>();

  constructor(native: Native, switchboard: SwitchClient | undefined, networks: readonly NetworkConfig[]) {
    this.native = native;
    this.switchboard = switchboard;
    this.networks = new Map(networks.map((network) => [network.name, network]));
  }

  /** Whether a domain of this shape is wired. Throws VALUE_NOT_SUPPORTED for one that can be neither. */
  wants({ image, vifs, vbds = [] }: DomainShape): boolean {
    if (vbds.length > 0) {
      if (!vifs.some(({ backend }) => backend === 'switch')) return false;
      throw unsupported('a VM with disks takes its devices from the store, and cannot be on the switch', 'Leave the backend out, or use netback.');
    }
    const able = image.wired && vifs.length <= mostVifs && this.switchboard !== undefined;
    const backends = new Set(vifs.map((vif): VifBackend => vif.backend ?? (able ? (this.networks.get(vif.network)?.backend ?? 'netback') : 'netback')));
    if (backends.size > 1) throw unsupported('the vifs of a VM must all have the same backend', 'Give all vifs of the VM the same backend.');
    if (backends.size === 0) return able;
    if (!backends.has('switch')) return false;
    if (able) return true;
    if (!image.wired) throw unsupported('this image cannot use the switch: its kernel takes its devices from the store', 'Use the backend netback.');
    if (vifs.length > mostVifs) throw unsupported(`a VM has at most ${mostVifs} vifs on the switch`, 'Use fewer vifs, or the backend netback.');
    throw new ShoalError('SWITCH_UNAVAILABLE', 'this host runs no switch');
  }

  /** It will be that one, and is connected as such when its memory is there. */
  expect(domid: number, config: DomainConfig): void {
    this.comers.set(domid, config);
  }

  expected(domid: number): DomainConfig | undefined {
    return this.comers.get(domid);
  }

  /** Puts the rings of a built domain on the switch; nothing flows yet, unless it is known who it will be. */
  async connect(domid: number, shape: DomainShape, built: Built): Promise<void> {
    if (shape.vifs.length === 0) return;
    const attach = async (): Promise<void> => {
      const done: Promise<unknown>[] = [];
      for (const [i, { handle, network }] of shape.vifs.entries()) {
        const { port, txMfn, rxMfn } = built.vifs[i]!;
        done.push(this.switchboard!.network(network, this.networks.get(network)!.bridge));
        done.push(this.switchboard!.attach(domid, handle, { network, port, txMfn, rxMfn }));
      }
      // With the same write: the switch does one after the other.
      await all([...done, ...this.identities(domid, this.comers.get(domid))]);
    };
    await twice(attach, async () => {
      // What it took before it went away it remembers.
      await this.switchboard!.detach(domid);
      await attach();
    });
  }

  async identify(domid: number, config: DomainConfig): Promise<void> {
    const done = this.comers.get(domid) === config;
    this.comers.delete(domid);
    if (!done) await twice(() => all(this.identities(domid, config)));
  }

  private identities(domid: number, config: DomainConfig | undefined): Promise<void>[] {
    return (config?.vifs ?? []).map(({ handle, mac, ipv4, rateKbit, lockingMode, ipv6 }) =>
      this.switchboard!.identity(domid, handle, { mac, ipv4, rateKbit, flood: ipv6 === 'other', unlocked: lockingMode === 'unlocked' }));
  }

  /** Whoever the domain was: of one that was not wired the switch knows nothing. */
  async disconnect(domid: number): Promise<void> {
    this.comers.delete(domid);
    if (this.switchboard !== undefined) await twice(() => this.switchboard!.detach(domid));
  }

  /** Undefined for a vif that the switch does not have. */
  async counters(domid: number, handle: number): Promise<VifCounters | undefined> {
    try {
      return await this.switchboard?.stats(domid, handle);
    } catch (error) {
      if (error instanceof ShoalError && error.data['errno'] === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** As the port's mirrorVif. */
  async mirror(domid: number, handle: number, path?: string): Promise<boolean> {
    try {
      await this.switchboard?.mirror(domid, handle, path);
      return this.switchboard !== undefined;
    } catch (error) {
      if (!(error instanceof ShoalError) || error.data['errno'] !== 'ENOENT') throw error;
      // There is no such vif, or no such folder.
      if (path === undefined || (await this.counters(domid, handle)) === undefined) return false;
      throw error;
    }
  }

  async totals(): Promise<SwitchTotals | undefined> {
    return Promise.race([this.switchboard?.totals().catch(() => undefined), sleep(soonMs, undefined, { ref: false })]);
  }

  /** As the port's setGuestAddresses. */
  async readdress(domid: number, ipv4: readonly string[]): Promise<void> {
    const list = Uint8Array.from(ipv4.flatMap((address) => address.split('.').map(Number)));
    const beganMs = performance.now();
    let askedMs = -Infinity;
    for (let pauseMs = 0.5; ; pauseMs = Math.min(pauseMs * 2, 20)) {
      const nowMs = performance.now();
      let wanted = 0;
      try {
        wanted = this.native.readdress(domid, list, nowMs - askedMs >= readdressAgainMs);
        if (nowMs - askedMs >= readdressAgainMs) askedMs = nowMs;
        if (this.native.readdressed(domid) === wanted) return;
      } catch (thrown) {
        const errno = failureErrno(thrown);
        if (errno === 'EINVAL') throw unsupported('the address of a guest that has its devices from the store cannot change while it runs', 'Give the VM the backend switch.');
        // Another order is under way; it may be one that ends the guest.
        if (errno !== 'EBUSY') throw nativeError(thrown, `giving domain ${domid} addresses`);
      }
      if (nowMs - beganMs > readdressMs)
        throw unsupported(`domain ${domid} did not take its addresses: its kernel does not know how, or it does not run`, 'Start the VM from an image built with this version.');
      await sleep(pauseMs);
    }
  }

  /** As the port's moveAddress, holdAddress, addressTraffic. */
  async move({ network, ip, from, to, drainMs }: AddressMove): Promise<void> {
    await this.network(network);
    await twice(() => this.needSwitch().move(network, ip, from, to, drainMs));
  }

  async hold(network: string, ip: string, ms: number, mac?: string): Promise<void> {
    await this.network(network);
    await twice(() => this.needSwitch().hold(network, ip, ms, mac));
  }

  async announce(network: string, ip: string): Promise<void> {
    await twice(() => this.needSwitch().announce(network, ip));
  }

  async traffic(network: string, ip: string): Promise<AddressTraffic | undefined> {
    try {
      return await this.switchboard?.traffic(network, ip);
    } catch (error) {
      if (error instanceof ShoalError && error.data['errno'] === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** The switch knows a network once a guest of it was attached; before that it is told. */
  private async network(name: string): Promise<void> {
    const config = this.networks.get(name);
    if (config === undefined) throw new ShoalError('NETWORK_UNKNOWN', `there is no network "${name}"`);
    await twice(() => this.needSwitch().network(name, config.bridge));
  }

  private needSwitch(): SwitchClient {
    if (this.switchboard !== undefined) return this.switchboard;
    throw unsupported('this host runs no switch, so its addresses stay where they are', 'Run shoal-switch on the host.');
  }

  /** False when the domain is not a wired one. */
  order(domid: number, what: keyof typeof orders): boolean {
    try {
      this.native.order(domid, orders[what]);
      return true;
    } catch (thrown) {
      if (failureErrno(thrown) === 'EINVAL') return false;
      throw thrown;
    }
  }

  /** Undefined when it cannot be told: the domain's memory is gone already. */
  is(domid: number): boolean | undefined {
    try {
      return this.order(domid, 'nothing');
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.switchboard?.close();
  }
}

export const wiredMacs = (config: DomainConfig): Buffer => Buffer.concat(config.vifs.map(({ mac }) => macBytes(mac)));

/** A switch that went away in the middle of it is back in a moment; `again` is what is to be done then. */
async function twice<T>(work: () => Promise<T>, again: () => Promise<T> = work): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ShoalError) || error.code !== 'SWITCH_UNAVAILABLE') throw error;
    return again();
  }
}

/** All are waited for, so that nothing is under way when the first failure is told. */
async function all(work: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason;
}

const unsupported = (why: string, hint: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', why, { hint, params: ['backend', '', why] });
