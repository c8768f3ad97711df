/**
 * Who holds which address in the whole fleet. An address is held from the moment a copy is asked for until the copy is known to
 * be gone, and on a host that cannot be asked it is held for as long as that lasts: no two VMs ever have one address, even when
 * nobody can say whether the first still runs. Addresses go round in a ring, so that one just given back is the last to be used.
 */

export interface Range {
  /** Unsigned 32-bit numbers, both included. */
  first: number;
  last: number;
  /** Not to be given: gateway, network and broadcast addresses. */
  except?: (address: number) => boolean;
}

export class FleetAddresses {
  /** network -> address -> owners: more than one only where hosts say so. */
  readonly #held = new Map<string, Map<number, Set<string>>>();
  readonly #next = new Map<string, number>();

  holders(network: string, address: number): readonly string[] {
    return [...(this.#held.get(network)?.get(address) ?? [])];
  }

  isFree(network: string, address: number): boolean {
    return this.#held.get(network)?.has(address) !== true;
  }

  /** Notes that an owner has it, whoever else does. */
  hold(network: string, address: number, owner: string): void {
    let held = this.#held.get(network);
    if (held === undefined) this.#held.set(network, (held = new Map()));
    const owners = held.get(address);
    if (owners === undefined) held.set(address, new Set([owner]));
    else owners.add(owner);
  }

  release(network: string, address: number, owner: string): void {
    const held = this.#held.get(network);
    const owners = held?.get(address);
    if (owners?.delete(owner) === true && owners.size === 0) held!.delete(address);
  }

  /** The next free address of a range, now held; undefined when there is none. */
  take(network: string, range: Range, owner: string): number | undefined {
    const key = `${network} ${range.first} ${range.last}`;
    const held = this.#held.get(network);
    let address = this.#next.get(key) ?? range.first;
    for (let tried = range.last - range.first; tried >= 0; tried--) {
      if (address > range.last) address = range.first;
      const candidate = address++;
      if (held?.has(candidate) === true || range.except?.(candidate) === true) continue;
      this.#next.set(key, address);
      this.hold(network, candidate, owner);
      return candidate;
    }
    return undefined;
  }

  /** Addresses that more than one owner has: what must never be. */
  doubles(): { network: string; address: number; owners: string[] }[] {
    const found: { network: string; address: number; owners: string[] }[] = [];
    for (const [network, held] of this.#held)
      for (const [address, owners] of held) if (owners.size > 1) found.push({ network, address, owners: [...owners].sort() });
    return found;
  }

  size(network: string): number {
    return this.#held.get(network)?.size ?? 0;
  }
}
