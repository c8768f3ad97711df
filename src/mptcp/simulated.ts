/**
 * A kernel's MPTCP in memory: connections that answer announcements as their peers are told to. For tests of what speaks to the port; it has no clock and
 * no loss, so nothing about time is shown by it.
 */
import { ShoalError } from '../model/errors.ts';
import type { Announced, Connection, Endpoint, MptcpPort, PathEvent, PlainConnection, Subflow } from './port.ts';

/** What a peer does with an announced address: joins it, does not, or joins when `join` is called. */
export type Peer = 'joins' | 'refuses' | 'waits';

const copyOf = <T>(value: T): T => structuredClone(value);

export class SimulatedMptcp implements MptcpPort {
  readonly scope: 'connection' | 'namespace';
  readonly #connections = new Map<number, Connection & { peer: Peer }>();
  readonly #listeners = new Set<(event: PathEvent) => void>();
  readonly plainConnections: PlainConnection[] = [];
  /** Calls in order, for tests of what was asked. */
  readonly calls: string[] = [];
  /** The next calls of these names fail. */
  readonly failing = new Set<string>();
  /** Peers end their subflows on an address that is taken back, a turn later. */
  peersLeave = false;
  #tokens = 100;

  constructor(scope: 'connection' | 'namespace' = 'connection') {
    this.scope = scope;
  }

  connect(local: Endpoint, remote: Endpoint, peer: Peer = 'joins'): number {
    const token = ++this.#tokens;
    this.#connections.set(token, { token, local, remote, peer, subflows: [subflowOf(local, remote, 0)], announced: [], numbered: [], sentBytes: 0, receivedBytes: 0 });
    this.#tell({ kind: 'established', token });
    return token;
  }

  disconnect(token: number): void {
    if (this.#connections.delete(token)) this.#tell({ kind: 'closed', token });
  }

  /** The peer joins what was announced to it. */
  join(token: number): void {
    const connection = this.#need(token, 'join');
    for (const { address, id } of connection.announced) {
      if (connection.subflows.some(({ local }) => local.address === address)) continue;
      connection.subflows.push(subflowOf({ address, port: connection.local.port }, { ...connection.remote, port: connection.remote.port + id }, id));
      this.#tell({ kind: 'subflow', token });
    }
  }

  /** The peer joins an address that is not announced any more; `ended`: and ends that join at once, so that what is left is an id, the lowest that is free. */
  joinLate(token: number, address: string, { ended = true } = {}): void {
    const connection = this.#need(token, 'joinLate');
    const taken = new Set([...connection.announced, ...connection.numbered].map(({ id }) => id));
    let id = 1;
    while (taken.has(id)) id++;
    connection.numbered.push({ address, id });
    if (ended) return;
    connection.subflows.push(subflowOf({ address, port: connection.local.port }, { ...connection.remote, port: connection.remote.port + id }, id));
    this.#tell({ kind: 'subflow', token });
  }

  /** Bytes both ways on the subflows of an address. */
  carry(token: number, address: string, bytes: number): void {
    for (const subflow of this.#need(token, 'carry').subflows)
      if (subflow.local.address === address) {
        subflow.ackedBytes += bytes;
        subflow.receivedBytes += bytes;
      }
  }

  #tell(event: PathEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #need(token: number, call: string): Connection & { peer: Peer } {
    this.calls.push(`${call} ${token}`);
    if (this.failing.delete(call)) throw new ShoalError('MPTCP_FAILED', `${call}: simulated (EIO).`);
    const connection = this.#connections.get(token);
    if (connection === undefined) throw new ShoalError('NOT_FOUND', `There is no connection ${token}.`);
    return connection;
  }

  connections(): Connection[] {
    return [...this.#connections.values()].map(({ peer: _, ...connection }) => copyOf(connection));
  }

  plain(): PlainConnection[] {
    return copyOf(this.plainConnections);
  }

  announce(token: number, announced: Announced): void {
    const connection = this.#need(token, 'announce');
    const about = this.scope === 'connection' ? [connection] : [...this.#connections.values()];
    for (const one of about) {
      if (one.announced.some(({ id }) => id === announced.id)) continue;
      if (one.numbered.some(({ id }) => id === announced.id)) throw new ShoalError('MPTCP_FAILED', `announce: the id ${announced.id} is in use (EINVAL).`);
      one.numbered = one.numbered.filter(({ address }) => address !== announced.address);
      one.announced.push({ ...announced });
      if (one.peer === 'joins') this.join(one.token);
    }
  }

  withdraw(token: number, { id }: Announced): void {
    const connection = this.#need(token, 'withdraw');
    for (const one of this.scope === 'connection' ? [connection] : this.#connections.values()) {
      one.announced = one.announced.filter((was) => was.id !== id);
      // Like the kernel: this end's subflows stay until they are ended, here or by the peer.
      if (this.peersLeave) setImmediate(() => void (one.subflows = one.subflows.filter(({ localId }) => localId !== id)));
      this.#tell({ kind: 'subflow-closed', token: one.token });
    }
  }

  createSubflow(token: number, local: Announced, remote: Endpoint): void {
    if (this.scope === 'namespace') throw new ShoalError('VALUE_NOT_SUPPORTED', "The kernel's own path manager creates its subflows by itself.");
    const connection = this.#need(token, 'create');
    connection.subflows.push({ ...subflowOf({ address: local.address, port: 50_000 + connection.subflows.length }, remote, local.id), state: connection.peer === 'joins' ? 'established' : 'connecting' });
    this.#tell({ kind: 'subflow', token });
  }

  destroySubflow(token: number, local: Endpoint, remote: Endpoint): void {
    const connection = this.#need(token, 'destroy');
    connection.subflows = connection.subflows.filter((one) => !(isSame(one.local, local) && isSame(one.remote, remote)));
    this.#tell({ kind: 'subflow-closed', token });
  }

  setBackup(token: number, subflow: Subflow, backup: boolean): void {
    const found = this.#need(token, 'backup').subflows.find((one) => isSame(one.local, subflow.local) && isSame(one.remote, subflow.remote));
    if (found === undefined) throw new ShoalError('NOT_FOUND', 'The subflow is gone.');
    found.backup = backup;
    this.#tell({ kind: 'priority', token });
  }

  /** News that nothing here made: an announcement of the other end, news that were lost. */
  tell(event: PathEvent): void {
    this.#tell(event);
  }

  onEvent(listener: (event: PathEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
  }
}

const isSame = (a: Endpoint, b: Endpoint): boolean => a.address === b.address && a.port === b.port;

const subflowOf = (local: Endpoint, remote: Endpoint, localId: number): Subflow => ({
  local: { ...local }, remote: { ...remote }, localId, remoteId: 0, state: 'established', backup: false, ackedBytes: 0, receivedBytes: 0, queuedBytes: 0, rttUs: 0,
});
