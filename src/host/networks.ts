/**
 * The networks a host gives to its VMs, and who holds which IPv4 and which MAC address on them. Addresses are handed out in a
 * ring, so that one that was just given back is the last to be used again (neighbours may still have its old owner in their ARP
 * caches). One map an address space answers both "is it free?" and "whose is it?".
 *
 * Hosts of one subnet have a range each. An address that went with its VM to another host is away: it is used there, and not handed out here.
 */
import { ShoalError } from '../model/errors.ts';
import type { Uuid } from '../model/ids.ts';

export interface Subnet {
  /** Prefix length, 1..30. */
  prefix: number;
  /** All addresses as unsigned 32-bit numbers. */
  gateway: number;
  /** First and last address that VMs may have. */
  first: number;
  last: number;
}

export interface Network {
  name: string;
  bridge: string;
  /** Without a subnet the guests ask DHCP. */
  subnet: Subnet | undefined;
}

/** Unsigned 32-bit value of "a.b.c.d"; undefined for anything else. */
export function parseIpv4(text: string): number | undefined {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (m === null) return undefined;
  let value = 0;
  for (const part of m.slice(1)) {
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export const formatIpv4 = (n: number): string => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;

export class AddressBook {
  readonly network: Network;
  readonly #holders = new Map<number, Uuid>();
  readonly #away = new Set<number>();
  #next: number;

  constructor(network: Network) {
    this.network = network;
    this.#next = network.subnet?.first ?? 0;
  }

  get held(): number {
    return this.#holders.size;
  }

  holder(address: string): Uuid | undefined {
    return this.#holders.get(parseIpv4(address) ?? -1);
  }

  /** The next free address, now held by `owner`. Throws ADDRESSES_EXHAUSTED. */
  take(owner: Uuid): string {
    const { first, last } = this.#subnet();
    for (let tried = 0; tried <= last - first; tried++) {
      const address = this.#next;
      this.#next = address >= last ? first : address + 1;
      if (this.#reserved(address) || this.#holders.has(address) || this.#away.has(address)) continue;
      this.#holders.set(address, owner);
      return formatIpv4(address);
    }
    const away = this.#away.size;
    throw new ShoalError('ADDRESSES_EXHAUSTED', `All addresses of network "${this.network.name}" are in use.`, {
      ...(away === 0 ? {} : { hint: `${away} of them went with VMs to other hosts; one that is no longer used there can be asked for by name.` }),
      data: { network: this.network.name, first: formatIpv4(first), last: formatIpv4(last), ...(away === 0 ? {} : { away }) },
    });
  }

  /** Holds one given address; `anywhere`: one of another host's range too. Throws ADDRESS_INVALID, ADDRESS_IN_USE. */
  claim(text: string, owner: Uuid, anywhere = false): string {
    const address = parseIpv4(this.check(text, anywhere))!;
    const holder = this.#holders.get(address);
    if (holder !== undefined) {
      throw new ShoalError('ADDRESS_IN_USE', `${text} is in use on network "${this.network.name}".`, {
        data: { address: text, network: this.network.name, vm: holder },
      });
    }
    this.#holders.set(address, owner);
    this.#away.delete(address);
    return text;
  }

  /** That a VM of the network could have it; `anywhere`: on any host of the subnet. Throws ADDRESS_INVALID. */
  check(text: string, anywhere = false): string {
    const { first, last, prefix, gateway } = this.#subnet();
    const address = parseIpv4(text);
    const size = 2 ** (32 - prefix);
    const [least, most] = anywhere ? [gateway - (gateway % size), gateway - (gateway % size) + size - 1] : [first, last];
    if (address === undefined || address < least || address > most || this.#reserved(address)) {
      throw new ShoalError(
        'ADDRESS_INVALID',
        `"${text}" is not an address for VMs of network "${this.network.name}" (${formatIpv4(first)} to ${formatIpv4(last)}).`,
        { data: { address: text, network: this.network.name, first: formatIpv4(first), last: formatIpv4(last) } },
      );
    }
    return text;
  }

  /** One of the own range that is in use on another host; until a VM here has it again. */
  goesAway(text: string): void {
    const { subnet } = this.network;
    const address = parseIpv4(text);
    if (subnet !== undefined && address !== undefined && address >= subnet.first && address <= subnet.last) this.#away.add(address);
  }

  away(): string[] {
    return [...this.#away].map(formatIpv4);
  }

  release(text: string, owner: Uuid): void {
    const address = parseIpv4(text);
    if (address !== undefined && this.#holders.get(address) === owner) this.#holders.delete(address);
  }

  #subnet(): Subnet {
    if (this.network.subnet !== undefined) return this.network.subnet;
    throw new ShoalError('ADDRESS_INVALID', `Network "${this.network.name}" gives addresses by DHCP only.`, {
      hint: 'Leave the address out.',
      data: { network: this.network.name },
    });
  }

  /** Gateway, network and broadcast address, in case the range covers them. */
  #reserved(address: number): boolean {
    const { prefix, gateway } = this.#subnet();
    const hostMask = 2 ** (32 - prefix) - 1;
    const hostPart = (address & hostMask) >>> 0;
    return address === gateway || hostPart === 0 || hostPart === hostMask;
  }
}

const macForm = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;

/** MAC addresses of all vifs of the host: 00:16:3e (Xen's own prefix) and 24 bits out of the VM's uuid, which is random. */
export class MacBook {
  readonly #holders = new Map<string, Uuid>();

  get held(): number {
    return this.#holders.size;
  }

  take(owner: Uuid, handle: number): string {
    let low = (Number.parseInt(owner.slice(-6), 16) + handle) & 0xffffff;
    for (;;) {
      const hex = low.toString(16).padStart(6, '0');
      const mac = `00:16:3e:${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4)}`;
      if (!this.#holders.has(mac)) {
        this.#holders.set(mac, owner);
        return mac;
      }
      low = (low + 1) & 0xffffff;
    }
  }

  /** Holds one given MAC, in lower case. Throws ADDRESS_INVALID (also for group addresses), ADDRESS_IN_USE. */
  claim(text: string, owner: Uuid): string {
    const mac = text.toLowerCase();
    if (!macForm.test(mac) || (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1 || mac === '00:00:00:00:00:00') {
      throw new ShoalError('ADDRESS_INVALID', `"${text}" is not a MAC address of one station.`, {
        hint: 'Leave the MAC address out to have one assigned.',
        data: { address: text },
      });
    }
    const holder = this.#holders.get(mac);
    if (holder !== undefined) {
      throw new ShoalError('ADDRESS_IN_USE', `The MAC address ${mac} is in use.`, { data: { address: mac, vm: holder } });
    }
    this.#holders.set(mac, owner);
    return mac;
  }

  isFree(mac: string): boolean {
    return !this.#holders.has(mac.toLowerCase());
  }

  release(mac: string, owner: Uuid): void {
    if (this.#holders.get(mac) === owner) this.#holders.delete(mac);
  }
}
