/**
 * What a coordinator asks of the end of connections that do not move, in the words of a move: from one address of that end to another. Spoken by the
 * path agent itself and by its client over HTTPS.
 */
import type { Connection, Endpoint, PlainConnection } from './port.ts';

/** The subflows of one connection that use one address. */
export interface PathState {
  established: number;
  connecting: number;
  /** Every established one is backup. */
  backup: boolean;
  ackedBytes: number;
  receivedBytes: number;
  queuedBytes: number;
}

export interface ConnectionPaths {
  token: number;
  local: Endpoint;
  remote: Endpoint;
  from: PathState;
  to: PathState;
  /** Whether the address it moves to was announced to it. */
  announced: boolean;
  subflows: number;
}

export interface PathStatus {
  /** A new word when anything may have changed; what `after` takes. */
  change: string;
  connections: ConnectionPaths[];
  /** TCP on the address that is left. */
  plain: PlainConnection[];
}

export interface StatusQuestion {
  from: string;
  to: string;
  /** Answer when something is different from this `change`, or after waitMs, whichever comes first. */
  after?: string | undefined;
  waitMs?: number | undefined;
}

export interface Outcome {
  token: number;
  result: 'done' | 'already' | 'refused';
  why?: string;
}

/** Tokens narrow a call down to those connections; without them it is about all that it fits. What was done already is no error: each may be repeated. */
export interface PathSide {
  status(question: StatusQuestion): Promise<PathStatus>;
  /**
   * Announces `address` to the connections that have a subflow on `from`. `anew`: what was announced of it before, and its subflows, are taken back, and it gets another id,
   * so that the two words cannot be taken for one another on the way. Throws FORBIDDEN for an address outside of the policy.
   */
  announce(what: { address: string; from: string; anew?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]>;
  /** Takes the address back from every connection, and ends its subflows; `gently`: after their peers had time to, for an address that still carries frames. FORBIDDEN. */
  withdraw(what: { address: string; gently?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]>;
  /** Sets the subflows on an address backup, or takes that back. */
  backup(what: { address: string; backup: boolean; tokens?: readonly number[] | undefined }): Promise<Outcome[]>;
}

export function pathState({ subflows }: Connection, address: string): PathState {
  const on = subflows.filter(({ local, state }) => local.address === address && state !== 'closing');
  const established = on.filter(({ state }) => state === 'established');
  const sum = (of: (subflow: (typeof on)[number]) => number): number => established.reduce((total, one) => total + of(one), 0);
  return {
    established: established.length,
    connecting: on.length - established.length,
    backup: established.length > 0 && established.every(({ backup }) => backup),
    ackedBytes: sum((one) => one.ackedBytes),
    receivedBytes: sum((one) => one.receivedBytes),
    queuedBytes: sum((one) => one.queuedBytes),
  };
}
