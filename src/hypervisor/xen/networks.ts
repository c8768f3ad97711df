/**
 * Vifs and the bridges they hang on: waits for the links that netback makes, chooses a bridge with room, connects, disconnects. How ARP and
 * broadcasts are kept from a thousand guests is told in native/bridge.h.
 *
 * The kernel is the only memory: at the start everything is read back from it (links, their bridges, permanent neighbours), so that an agent
 * that was killed leaves nothing behind that the next one does not know of.
 */
import { ShoalError } from '../../model/errors.ts';
import { failureErrno, nativeError, type Native, type NativeLink } from './native.ts';
import type { VifBackend, VifConfig } from '../port.ts';

export interface NetworkConfig {
  name: string;
  /** Linux bridge that has the uplink as a port; further ones are made beside it when it is full. */
  bridge: string;
  /** For vifs of which nothing else is said; netback when left out. */
  backend?: VifBackend | undefined;
}

/** A bridge takes 1,024 ports (compiled into Linux); the rest is for uplinks and for the ways to further bridges. */
export const mostVifsPerBridge = 1000;
/** Names of links have at most 15 characters, and a shard's add up to five to that of its bridge. */
const longestBridgeName = 10;
const vifWaitMs = 15_000;
/** netback makes links one after the other, about a tenth of a second each in emulation. */
const vifMadeMs = 5_000;

interface Bridge {
  index: number;
  /** Link index of the first bridge's port towards this one; 0 for the first itself. */
  way: number;
  ports: number;
}

interface Network {
  name: string;
  bridge: string;
  /** The first is the bridge with the uplink. Empty until it was found. */
  bridges: Bridge[];
}

interface Attached {
  network: Network;
  bridge: Bridge;
  root: number;
  mac: Buffer;
  addresses: Buffer;
}

export const vifName = (domid: number, handle: number): string => `vif${domid}.${handle}`;
export const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

export function addressBytes(addresses: string[]): Buffer {
  return Buffer.from(addresses.flatMap((address) => address.split('.').map(Number)));
}

export class Networks {
  private readonly native: Native;
  private readonly networks: Map<string, Network>;
  private readonly mostVifs: number;
  /** Vifs that exist, by name: their link index. */
  private readonly vifs = new Map<string, number>();
  private readonly attached = new Map<string, Attached>();
  private readonly appearing = new Map<string, (index: number) => void>();
  private readonly vanishing = new Map<string, () => void>();

  constructor(native: Native, networks: NetworkConfig[], mostVifs = mostVifsPerBridge) {
    this.native = native;
    this.mostVifs = mostVifs;
    this.networks = new Map(networks.map(({ name, bridge }) => [name, { name, bridge, bridges: [] }]));
    for (const { bridge } of networks) {
      if (bridge.length > longestBridgeName) {
        throw new ShoalError('VALUE_NOT_SUPPORTED', `the name of the bridge ${bridge} is longer than ${longestBridgeName} characters`);
      }
    }
  }

  names(): string[] {
    return [...this.networks.keys()];
  }

  /** Reads everything back from the kernel. `macs`: MAC of every vif of ours, by name of its link. Removes neighbours of vifs long gone. */
  start(macs: Map<string, string>): void {
    this.native.watchLinks((links) => (links ? links.forEach((link) => this.take(link)) : this.listAgain()));
    const links = this.listAgain();
    const neighbours = this.native.neighbours();
    for (const network of this.networks.values()) this.find(network, links);
    for (const network of this.networks.values()) {
      const root = network.bridges[0]?.index;
      if (root === undefined) continue;
      const addresses = new Map<string, string[]>();
      for (const entry of neighbours) {
        if (entry.index === root) addresses.set(entry.mac, [...(addresses.get(entry.mac) ?? []), entry.ipv4]);
      }
      for (const link of links) {
        const mac = macs.get(link.name);
        const bridge = network.bridges.find((candidate) => candidate.index === link.master);
        if (!mac || !bridge || !this.vifs.has(link.name)) continue;
        const mine = addressBytes(addresses.get(mac) ?? []);
        this.attached.set(link.name, { network, bridge, root, mac: macBytes(mac), addresses: mine });
        addresses.delete(mac);
      }
      // Xen's own prefix: what else is a permanent neighbour was set by somebody else.
      for (const [mac, stale] of addresses) {
        if (!mac.startsWith('00:16:3e:')) continue;
        for (const address of stale) this.detach(root, 0, macBytes(mac), addressBytes([address]));
      }
    }
  }

  /** Waits until netback has made the link of a vif, then connects it. `why` says what the kernel complains of when it does not. */
  async attach(domid: number, vif: VifConfig, why: () => Promise<string | undefined>): Promise<void> {
    const network = this.known(vif.network);
    const name = vifName(domid, vif.handle);
    const index = this.vifs.get(name) ?? (await this.appears(name, why));
    const bridge = this.roomy(network);
    const root = network.bridges[0]!.index;
    const attached: Attached = { network, bridge, root, mac: macBytes(vif.mac), addresses: addressBytes(vif.ipv4) };
    try {
      this.native.attachVif(index, bridge.index, root, bridge.way, attached.mac, attached.addresses, vif.ipv6 !== undefined);
    } catch (thrown) {
      this.detach(root, bridge.way, attached.mac, attached.addresses);
      throw this.vifError(thrown, `${name} cannot be connected to ${network.bridge}`);
    }
    bridge.ports++;
    this.attached.set(name, attached);
  }

  /** Throws NETWORK_UNKNOWN. */
  known(name: string): Network {
    const network = this.networks.get(name);
    if (!network) throw new ShoalError('NETWORK_UNKNOWN', `this host has no network ${JSON.stringify(name)}`, { data: { known: this.names() } });
    return network;
  }

  /** Takes away what a domain's vifs left on bridges. The links themselves go with their backends: wait for gone(). */
  release(domid: number): void {
    for (const name of this.of(this.attached, domid)) {
      const { root, bridge, mac, addresses } = this.attached.get(name)!;
      this.detach(root, bridge.way, mac, addresses);
      bridge.ports--;
      this.attached.delete(name);
    }
  }

  /** Resolves once no link of the domain is left. */
  async gone(domid: number): Promise<void> {
    await Promise.all([...this.of(this.vifs, domid)].map((name) => this.vanishes(name)));
  }

  private *of(map: Map<string, unknown>, domid: number): Generator<string> {
    // Handles are small and dense: a look at each possible name instead of a walk over all domains.
    for (let handle = 0; handle < 8; handle++) {
      const name = vifName(domid, handle);
      if (map.has(name)) yield name;
    }
  }

  private take(link: NativeLink): void {
    if (!link.name.startsWith('vif')) return;
    if (link.gone) {
      if (this.vifs.get(link.name) !== link.index) return;
      this.vifs.delete(link.name);
      this.vanishing.get(link.name)?.();
    } else if (this.vifs.get(link.name) !== link.index) {
      this.vifs.set(link.name, link.index);
      this.appearing.get(link.name)?.(link.index);
    }
  }

  private listAgain(): NativeLink[] {
    const links = this.native.links();
    const present = new Set(links.map((link) => link.name));
    for (const [name, index] of [...this.vifs]) {
      if (!present.has(name)) this.take({ index, name, master: 0, kind: '', gone: 1 });
    }
    for (const link of links) this.take(link);
    return links;
  }

  /** Waits until netback is done with making a link, well or badly (`why` then says how), or long enough. Nobody else may wait for it. */
  async made(name: string, why: () => Promise<string | undefined>): Promise<void> {
    if (this.vifs.has(name) || (await why()) !== undefined || this.vifs.has(name)) return;
    await this.appears(name, why, vifMadeMs).catch(() => undefined);
  }

  private appears(name: string, why: () => Promise<string | undefined>, waitMs = vifWaitMs): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.appearing.delete(name);
        why().then(
          (reason) => reject(new ShoalError('VIF_FAILED', `no link ${name} within ${waitMs} ms${reason ? `; dom0's kernel says: ${reason}` : ''}`)),
          reject,
        );
      }, waitMs);
      this.appearing.set(name, (index) => {
        clearTimeout(timer);
        this.appearing.delete(name);
        resolve(index);
      });
    });
  }

  private vanishes(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const before = this.vanishing.get(name);
      const timer = setTimeout(() => {
        this.vanishing.delete(name);
        reject(new ShoalError('VIF_FAILED', `the link ${name} is still there after ${vifWaitMs} ms`));
      }, vifWaitMs);
      this.vanishing.set(name, () => {
        clearTimeout(timer);
        this.vanishing.delete(name);
        before?.();
        resolve();
      });
    });
  }

  private detach(root: number, way: number, mac: Buffer, addresses: Buffer): void {
    try {
      this.native.detachVif(0, 0, root, way, mac, addresses, false);
    } catch (thrown) {
      throw this.vifError(thrown, 'a vif cannot be disconnected');
    }
  }

  private vifError(thrown: unknown, doing: string): unknown {
    const error = nativeError(thrown, doing);
    return error instanceof ShoalError ? new ShoalError('VIF_FAILED', error.message, { data: error.data, cause: thrown }) : error;
  }

  /** The network's bridges as the kernel has them now. */
  private find(network: Network, links: NativeLink[]): void {
    const byName = new Map(links.map((link) => [link.name, link]));
    const ports = (index: number): number => links.filter((link) => link.master === index).length;
    const root = byName.get(network.bridge);
    network.bridges = [];
    if (!root) return;
    network.bridges.push({ index: root.index, way: 0, ports: ports(root.index) });
    for (let number = 1; byName.has(`${network.bridge}.${number}`); number++) {
      const { index, way } = this.makeShard(network.bridge, root.index, number, byName);
      network.bridges.push({ index, way, ports: ports(index) });
    }
  }

  /** A bridge with room for one more vif; made when all are full. */
  private roomy(network: Network): Bridge {
    if (network.bridges.length === 0) this.find(network, this.native.links());
    const root = network.bridges[0];
    if (!root) throw new ShoalError('VIF_FAILED', `there is no bridge ${network.bridge} on this host`, { data: { bridge: network.bridge } });
    const roomy = network.bridges.find((bridge) => bridge.ports < this.mostVifs);
    if (roomy) return roomy;
    if (network.bridges.length > 24) throw new ShoalError('HOST_LIMIT', `${network.bridge} and its further bridges are full`);
    const byName = new Map(this.native.links().map((link) => [link.name, link]));
    const made = this.makeShard(network.bridge, root.index, network.bridges.length, byName);
    const bridge = { ...made, ports: 0 };
    network.bridges.push(bridge);
    return bridge;
  }

  /** Makes what is missing of bridge number `number` and of the pair of links that joins it to the first one. */
  private makeShard(rootName: string, root: number, number: number, links: Map<string, NativeLink>): { index: number; way: number } {
    const name = `${rootName}.${number}`;
    const rootSide = `${rootName}-${number}`;
    const shardSide = `${rootName}-${number}u`;
    try {
      const index = links.get(name)?.index ?? this.native.createBridge(name);
      let way = links.get(rootSide)?.index;
      let up = links.get(shardSide)?.index;
      if (way === undefined || up === undefined) [way, up] = this.native.createPair(rootSide, shardSide);
      this.native.joinShard(root, way, index, up);
      return { index, way };
    } catch (thrown) {
      throw this.vifError(thrown, `the further bridge ${name} cannot be made (${failureErrno(thrown) ?? 'error'})`);
    }
  }
}
