/**
 * What must outlive the controller, by name: what is wanted (services, releases, pools, quotas), whom it serves (tokens), whom it
 * serves with (hosts), and the ledger of copies. The ledger is written before a host is asked for a copy and struck out after the
 * copy is known to be gone, so after any crash it names every VM that could exist and every address that could be in use. What
 * runs is not in here: hosts know that.
 */
import { randomBytes } from 'node:crypto';
import type { CopyId, HostName } from '../model/fleet.ts';
import type { Uuid } from '../model/ids.ts';
import type { ServiceSpec } from '../model/service.ts';
import type { Rollout } from '../rollout/state.ts';
import type { Change, StateStore } from './port.ts';

export interface ServiceRecord {
  spec: ServiceSpec;
  /** Counts up when a restart of all copies is asked for. */
  nonce: number;
  createdMs: number;
  changedMs: number;
  /** Is to be no more; stays until its last copy is gone. */
  deleting: boolean;
}

export interface HostRecord {
  name: HostName;
  url: string;
  fingerprint?: string;
  /** PEM. */
  ca?: string;
  /** Name of a file in the controller's folder of credentials, which has the password. */
  credential: string;
  labels: Record<string, string>;
  drained: boolean;
  dead: boolean;
  maxVifs: number;
}

export interface TokenRecord {
  id: string;
  /** SHA-256 of the secret, hex. The secret has 256 random bits, so that a slow hash would add nothing. */
  hash: string;
  role: 'operator' | 'tenant' | 'ci' | 'viewer';
  /** Undefined for the operator, and for a viewer of everything. */
  tenant?: string;
  note: string;
  createdMs: number;
  /** Undefined: never. */
  expiresMs?: number;
}

export interface Quota {
  vms?: number;
  memoryKib?: number;
  addresses?: number;
}

export interface PoolRecord {
  name: string;
  network: string;
  first: string;
  last: string;
}

export interface CopyRecord {
  id: CopyId;
  host: HostName;
  memoryKib: number;
  addresses: { network: string; ip: string }[];
  /** Digest of its image, and the release it is of; copies from before these were kept have none. */
  image?: string;
  release?: number;
  /** Those of its addresses that it does not hand on: it had them until it took others. */
  own?: string[];
  takes?: Taking;
  /** Its addresses were handed on; it is ended when its connections had their time. */
  retired?: { sinceMs: number; drainMs: number };
}

/** Addresses that a copy takes from the one beside which it was started. */
export interface Taking {
  /** Serial and uuid of that one. */
  from: number;
  uuid: Uuid;
  addresses: { network: string; ip: string }[];
  /** Its host may have been asked: until the answer is known, either of the two may have them. */
  sent: boolean;
}

interface Kinds {
  service: ServiceRecord;
  host: HostRecord;
  token: TokenRecord;
  quota: Quota;
  release: { digest: string };
  pool: PoolRecord;
  copy: CopyRecord;
  rollout: Rollout;
}
export type Kind = keyof Kinds;

/** Serials are taken from the store so many at a time; those left over at a crash are never used. */
const serialBlock = 1000;

export class State {
  readonly store: StateStore;
  /** Eight hex digits. */
  readonly fleet: string;
  readonly #maps: { [K in Kind]: Map<string, Kinds[K]> } = {
    service: new Map(),
    host: new Map(),
    token: new Map(),
    quota: new Map(),
    release: new Map(),
    pool: new Map(),
    copy: new Map(),
    rollout: new Map(),
  };
  #serial: number;
  #serialsUpTo: number;

  private constructor(store: StateStore, fleet: string, serialsUpTo: number) {
    this.store = store;
    this.fleet = fleet;
    this.#serial = serialsUpTo;
    this.#serialsUpTo = serialsUpTo;
    for (const [key, value] of store.entries) {
      const slash = key.indexOf('/');
      const map = this.#maps[key.slice(0, slash) as Kind] as Map<string, unknown> | undefined;
      map?.set(key.slice(slash + 1), value);
    }
  }

  static async open(store: StateStore): Promise<State> {
    let fleet = store.entries.get('fleet') as string | undefined;
    if (fleet === undefined) {
      fleet = randomBytes(4).toString('hex');
      await store.write([{ key: 'fleet', value: fleet }]);
    }
    return new State(store, fleet, (store.entries.get('serials') as number | undefined) ?? 0);
  }

  get<K extends Kind>(kind: K, key: string): Kinds[K] | undefined {
    return this.#maps[kind].get(key);
  }

  all<K extends Kind>(kind: K): ReadonlyMap<string, Kinds[K]> {
    return this.#maps[kind];
  }

  /** The change of one record, in memory at once; to be given to `write`. */
  set<K extends Kind>(kind: K, key: string, value: Kinds[K] | undefined): Change {
    if (value === undefined) this.#maps[kind].delete(key);
    else this.#maps[kind].set(key, value);
    return { key: `${kind}/${key}`, value };
  }

  write(changes: readonly Change[]): Promise<void> {
    return this.store.write(changes);
  }

  /**
   * As `write`, for what a next controller would find out by itself: that a copy is gone. When the disk is full it is said, and the
   * fleet goes on.
   */
  later(changes: readonly Change[]): void {
    this.store
      .write(changes)
      .catch((error: unknown) => this.onTrouble(`the state could not be written: ${(error as Error).message}`));
  }

  onTrouble: (line: string) => void = () => {};

  /** A number never given before. The change that makes it so comes along when there is one; it must be written before its use. */
  nextSerial(): { serial: number; change: Change | undefined } {
    const serial = ++this.#serial;
    if (serial <= this.#serialsUpTo) return { serial, change: undefined };
    this.#serialsUpTo = serial + serialBlock;
    return { serial, change: { key: 'serials', value: this.#serialsUpTo } };
  }
}
