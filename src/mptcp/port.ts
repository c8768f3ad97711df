/**
 * The one interface to a kernel's MPTCP: which connections there are and what they run over, and the few things that a path manager may do to them. One port is
 * one network namespace. The truth is in the kernel: nothing here is remembered, and whoever was killed looks again.
 *
 * Addresses are IPv4 or IPv6 in text. A connection is named by its token, a number that the kernel gives out; it means nothing on another machine.
 */

export interface Endpoint {
  address: string;
  port: number;
}

export type SubflowState = 'connecting' | 'established' | 'closing';

export interface Subflow {
  local: Endpoint;
  remote: Endpoint;
  /** The ids by which the two ends name the addresses to each other; 0 is that of the connection's first subflow. */
  localId: number;
  remoteId: number;
  state: SubflowState;
  /** Either end asked that it carry data only when nothing else does. */
  backup: boolean;
  /** Bytes the other end has acknowledged, and bytes it has sent, on this subflow. */
  ackedBytes: number;
  receivedBytes: number;
  /** Bytes handed to this subflow that are not acknowledged yet, sent or not. */
  queuedBytes: number;
  rttUs: number;
}

/** An address that was announced to the other end of a connection. */
export interface Announced {
  address: string;
  id: number;
}

export interface Connection {
  token: number;
  local: Endpoint;
  remote: Endpoint;
  subflows: Subflow[];
  announced: Announced[];
  /** Addresses of this end that the kernel gave an id by itself, for a join it took, and that are not announced: such a join came after the address was taken back. */
  numbered: Announced[];
  /** Of the whole connection, each byte counted once. */
  sentBytes: number;
  receivedBytes: number;
}

/** A connection without MPTCP: it lives and dies with its addresses. */
export interface PlainConnection {
  local: Endpoint;
  remote: Endpoint;
}

/** What happened; the word is a reason to look at the connection, not a fact to act on. `lost`: the kernel dropped news, look at everything. */
export type PathEvent =
  | { kind: 'created' | 'established' | 'closed' | 'subflow' | 'subflow-closed' | 'priority'; token: number }
  | { kind: 'announced'; token: number; remoteId: number; remote: Endpoint }
  | { kind: 'removed'; token: number; remoteId: number }
  | { kind: 'lost' };

export interface MptcpPort {
  /**
   * `connection`: every call is about one connection. `namespace`: the kernel's own path manager is at work, and what is announced, withdrawn or set backup
   * is so for every connection of the namespace, those to come too; createSubflow is refused.
   */
  readonly scope: 'connection' | 'namespace';
  /** Waits for nothing; throws MPTCP_FAILED. */
  connections(): Connection[];
  /** TCP without MPTCP that is established. Throws MPTCP_FAILED. */
  plain(): PlainConnection[];
  /**
   * Tells the other end of an address it may join. `id`: 1 to 255, not used by another address of the connection, nor in `numbered`; what the kernel numbered of the
   * address by itself is dropped. Once more is no error. NOT_FOUND when the connection is gone.
   */
  announce(token: number, announced: Announced): void;
  /** Takes back an address: the peer is told, and ends its subflows to it. This end's may stay until then. What is not announced, or gone, is no error. */
  withdraw(token: number, announced: Announced): void;
  /** Begins a subflow; it is there once `connections` has it as established. NOT_FOUND, VALUE_NOT_SUPPORTED. */
  createSubflow(token: number, local: Announced, remote: Endpoint): void;
  /** Ends a subflow at once; data it had not delivered go by others. One that is gone is no error. */
  destroySubflow(token: number, local: Endpoint, remote: Endpoint): void;
  /** Has both ends use a subflow only when nothing else is there, or again like any other. NOT_FOUND when it is gone. */
  setBackup(token: number, subflow: Subflow, backup: boolean): void;
  /** Calls back for each event until the returned function is called. */
  onEvent(listener: (event: PathEvent) => void): () => void;
  close(): void;
}
