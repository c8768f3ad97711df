/** Domains as the hypervisor port tells of them: what Xen says, and the sealed record, which is read from the store once for each domain of ours. */
import { asDomid, type Domid, type Uuid } from '../../model/ids.ts';
import { isVmUuid } from '../../model/uuid.ts';
import { reasonOf, stateOf, uuidOf } from './domain.ts';
import type { NativeDomain } from './native.ts';
import { nameRequest, recordPath, sealRequest } from './nodes.ts';
import { StoreRefusal, type StoreClient } from './xenstore/client.ts';
import { readRequest } from './xenstore/wire.ts';
import type { DomainFacts } from '../port.ts';

const kibPerPage = 4;

export class Records {
  readonly #store: StoreClient;
  readonly #known = new Map<number, { uuid: Uuid; record: string }>();

  constructor(store: StoreClient) {
    this.#store = store;
  }

  /** `name`: for a domain that has no other nodes. What is there already is not written again. Throws XENSTORE_FAILED. */
  async seal(domid: Domid, uuid: Uuid, record: string, name: string | undefined): Promise<void> {
    const known = this.#known.get(domid);
    if (known?.uuid === uuid && known.record === record) return;
    await this.#store.batch([...(name === undefined ? [] : [nameRequest(domid, name)]), sealRequest(domid, record)]);
    this.#known.set(domid, { uuid, record });
  }

  /** It is read anew when it is asked for, unless it is known to be that one's. */
  forget(domid: Domid, unless?: Uuid): void {
    if (unless === undefined || this.#known.get(domid)?.uuid !== unless) this.#known.delete(domid);
  }

  /** Throws XENSTORE_FAILED. */
  async describe(domains: readonly NativeDomain[]): Promise<DomainFacts[]> {
    const unknown = domains.filter((domain) => this.#mustRead(domain));
    const answers = unknown.length === 0 ? [] : await this.#store.settle(unknown.map((domain) => readRequest(recordPath(domain.domid))));
    unknown.forEach((domain, i) => this.#remember(domain, answers[i]!));
    return domains.map((domain) => this.#describe(domain));
  }

  #mustRead(domain: NativeDomain): boolean {
    const uuid = uuidOf(domain);
    return isVmUuid(uuid) && this.#known.get(domain.domid)?.uuid !== uuid;
  }

  #remember(domain: NativeDomain, answer: PromiseSettledResult<Buffer>): void {
    if (answer.status === 'rejected') {
      if (answer.reason instanceof StoreRefusal) return; // no such node: not registered, so not sealed
      throw answer.reason;
    }
    const record = answer.value.toString('utf8');
    if (record !== '') this.#known.set(domain.domid, { uuid: uuidOf(domain), record });
  }

  #describe(domain: NativeDomain): DomainFacts {
    const uuid = uuidOf(domain);
    const cached = this.#known.get(domain.domid);
    const record = cached?.uuid === uuid ? cached.record : '';
    return {
      domid: asDomid(domain.domid),
      uuid,
      state: stateOf(domain),
      shutdownReason: reasonOf(domain),
      ours: isVmUuid(uuid),
      sealed: record !== '',
      record,
      memoryKib: domain.totalPages * kibPerPage,
      cpuTimeNs: domain.cpuTimeNs,
    };
  }
}
