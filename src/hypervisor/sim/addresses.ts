/** The simulator's switch as far as addresses go: whose they are, which are held, and what a test says was counted. */
import { ShoalError } from '../../model/errors.ts';
import type { Domid } from '../../model/ids.ts';
import type { AddressMove, VifConfig } from '../port.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

type Guests = Iterable<{ domid: Domid; vifs: VifConfig[] }>;

export class SimAddresses {
  /** Who gets new connections, by "network/address", where something was moved. */
  readonly holders = new Map<string, Domid>();
  /** What is told of an address that somebody has. */
  trafficOf: (ip: string) => Partial<AddressTraffic> = () => ({});
  readonly #held = new Set<string>();
  /** What those outside were told, in order: "hold", "give-up" or "announce", address, and a MAC that was said. */
  readonly told: string[] = [];

  move({ network, ip, to }: AddressMove, guests: Guests): void {
    for (const { domid, vifs } of guests)
      for (const vif of vifs) {
        if (vif.network !== network) continue;
        const others = vif.ipv4.filter((own) => own !== ip);
        vif.ipv4 = domid === to?.domid ? [ip, ...others] : others;
      }
    if (to === undefined) this.holders.delete(`${network}/${ip}`);
    else this.holders.set(`${network}/${ip}`, to.domid);
  }

  hold(network: string, ip: string, ms: number, mac?: string): void {
    this.told.push([ms === 0 ? 'give-up' : 'hold', ip, ...(mac === undefined ? [] : [mac])].join(' '));
    if (ms === 0) this.#held.delete(`${network}/${ip}`);
    else this.#held.add(`${network}/${ip}`);
  }

  announce(network: string, ip: string, guests: Guests): void {
    if (![...guests].some(({ vifs }) => vifs.some((vif) => vif.network === network && vif.ipv4.includes(ip))))
      throw new ShoalError('SWITCH_REFUSED', 'switch: nobody has this address', { data: { errno: 'ENOENT' } });
    this.told.push(`announce ${ip}`);
    this.#held.delete(`${network}/${ip}`);
  }

  traffic(network: string, ip: string, guests: Guests): AddressTraffic | undefined {
    const held = this.#held.has(`${network}/${ip}`);
    const has = [...guests].some(({ vifs }) => vifs.some((vif) => vif.network === network && vif.ipv4.includes(ip)));
    return has || held ? { frames: 0, bytes: 0, idleMs: 0, drains: 0, waiting: 0, held, ...this.trafficOf(ip) } : undefined;
  }
}
