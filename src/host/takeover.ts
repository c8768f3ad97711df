/**
 * The addresses of a VM that moves within its subnet, on either host. While it stands still, frames for it go to the target and wait there: whoever speaks with it is
 * answered as it goes on, without waiting for a retransmission. Once it goes on, wherever that is, everybody outside is told, for each of its devices: a guest announces
 * only what its own stack has. Nothing here is needed for the VM to be right, so nothing that fails here ends a migration.
 *
 * By the switch; behind netback what a guest announces is all.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Hypervisor } from '../hypervisor/port.ts';
import { asShoalError } from '../model/errors.ts';
import type { Vm } from './vm.ts';

export interface TakeoverOptions {
  hypervisor: Hypervisor;
  log: (line: string) => void;
  /** When to say it, in milliseconds after the VM goes on: what is said once may be lost. */
  announceAtMs?: readonly number[];
}

/** Longer than a VM stands still, shorter than what waited is worth. */
const holdMs = 10_000;
const announceAtMs = [0, 100, 1_000];

export class Takeover {
  readonly #hypervisor: Hypervisor;
  readonly #log: (line: string) => void;
  readonly #announceAtMs: readonly number[];
  /** Addresses that wait, by VM. */
  readonly #held = new WeakMap<Vm, { network: string; ip: string }[]>();

  constructor({ hypervisor, log, announceAtMs: at = announceAtMs }: TakeoverOptions) {
    this.#hypervisor = hypervisor;
    this.#log = log;
    this.#announceAtMs = at;
  }

  /** It stands still elsewhere, and is about to come here with these of its addresses. */
  async hold(vm: Vm, along: readonly string[]): Promise<void> {
    const held = vm.vifs.filter(({ backend }) => backend !== 'netback').flatMap(({ network, mac, ipv4 }) => ipv4.filter((ip) => along.includes(ip)).map((ip) => ({ network, ip, mac })));
    this.#held.set(vm, held);
    await Promise.all(held.map(({ network, ip, mac }) => this.#try(`frames for ${ip} do not wait`, () => this.#hypervisor.holdAddress(network, ip, holdMs, mac))));
  }

  /** It does not come. */
  async giveUp(vm: Vm): Promise<void> {
    const held = this.#held.get(vm) ?? [];
    this.#held.delete(vm);
    await Promise.all(held.map(({ network, ip }) => this.#try(`frames for ${ip} wait on`, () => this.#hypervisor.holdAddress(network, ip, 0))));
  }

  /** It goes on here. Resolves when it was said for the last time, or it is not here any more. */
  async announce(vm: Vm): Promise<void> {
    const { domid } = vm;
    this.#held.delete(vm);
    let said = 0;
    for (const at of this.#announceAtMs) {
      if (at > said) await sleep(at - said, undefined, { ref: false });
      said = at;
      if (vm.domid !== domid || domid === undefined) return;
      const addresses = vm.vifs.filter(({ backend }) => backend !== 'netback').flatMap(({ network, ipv4 }) => ipv4.map((ip) => ({ network, ip })));
      await Promise.all(addresses.map(({ network, ip }) => this.#try(`${ip} is not announced`, () => this.#hypervisor.announceAddress(network, ip))));
    }
  }

  async #try(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      const { code, message, data } = asShoalError(thrown);
      // Without a switch there is nothing to tell; EEXIST: it is up already; ENOENT: it is on netback, or gone.
      if (code !== 'VALUE_NOT_SUPPORTED' && data['errno'] !== 'EEXIST' && data['errno'] !== 'ENOENT') this.#log(`${what}: ${message}`);
    }
  }
}
