/** What a host showed over XenAPI, kept by reference: of VMs, their vifs and the networks only what counts here, and which VMs a change is news of. */
import type { Uuid } from '../../model/ids.ts';
import type { SeenHost, SeenVm } from '../port.ts';
import { networkRecord, vifRecord, vmRecord, type Record_, type VifRecord, type VmRecord } from './records.ts';

export interface Happening {
  class: string;
  operation: 'add' | 'mod' | 'del';
  ref: string;
  snapshot?: Record_;
}

export class Picture {
  readonly #vms = new Map<string, VmRecord>();
  readonly #vifs = new Map<string, VifRecord>();
  readonly #vifsOfVm = new Map<string, Set<string>>();
  readonly #networks = new Map<string, SeenHost['networks'][number]>();

  clear(): void {
    for (const each of [this.#vms, this.#vifs, this.#vifsOfVm, this.#networks]) each.clear();
  }

  vms(): SeenVm[] {
    return [...this.#vms.keys()].map((ref) => this.seen(ref)!);
  }

  networks(): SeenHost['networks'] {
    return [...this.#networks.values()];
  }

  /** References by name. */
  networkRefs(): Map<string, string> {
    return new Map([...this.#networks].map(([ref, { name }]) => [name, ref]));
  }

  /** Returns the VMs to tell of: reference, and the uuid of one that is gone. */
  take(events: readonly Happening[]): Map<string, Uuid | undefined> {
    const touched = new Map<string, Uuid | undefined>();
    for (const { class: name, operation, ref, snapshot } of events) {
      const gone = operation === 'del' || snapshot === undefined;
      if (name === 'network') gone ? this.#networks.delete(ref) : this.#networks.set(ref, networkRecord(snapshot));
      else if (name === 'vif') {
        const before = this.#vifs.get(ref);
        if (before !== undefined) {
          this.#vifsOfVm.get(before.vm)?.delete(ref);
          if (!touched.has(before.vm)) touched.set(before.vm, undefined);
        }
        this.#vifs.delete(ref);
        if (gone) continue;
        const vif = vifRecord(snapshot);
        this.#vifs.set(ref, vif);
        const siblings = this.#vifsOfVm.get(vif.vm);
        if (siblings === undefined) this.#vifsOfVm.set(vif.vm, new Set([ref]));
        else siblings.add(ref);
        if (!touched.has(vif.vm)) touched.set(vif.vm, undefined);
      } else if (name === 'vm') {
        const before = this.#vms.get(ref);
        const vm = gone ? undefined : vmRecord(snapshot);
        if (vm !== undefined) this.#vms.set(ref, vm);
        else this.#vms.delete(ref);
        if (vm === undefined) this.#vifsOfVm.delete(ref);
        touched.set(ref, vm === undefined ? before?.uuid : undefined);
      }
    }
    return touched;
  }

  /** `vm`: another record of it than the one that is kept. */
  seen(ref: string, vm: VmRecord | undefined = this.#vms.get(ref)): SeenVm | undefined {
    if (vm === undefined) return undefined;
    const vifs = [...(this.#vifsOfVm.get(ref) ?? [])].map((vif) => this.#vifs.get(vif)!).sort((a, b) => a.device - b.device);
    return {
      ...vm,
      addresses: vifs.flatMap(({ network, ips }) => ips.map((ip) => ({ network: this.#networks.get(network)?.name ?? '', ip }))),
    };
  }
}
