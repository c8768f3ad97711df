/** A simulated domain, and what the port says of it. */
import type { DomainFacts, DomainShape, DomainState, Snapshot, VbdConfig, VifConfig } from '../port.ts';
import type { Domid, Uuid } from '../../model/ids.ts';
import { isVmUuid } from '../../model/uuid.ts';
import type { SimPages } from './memory.ts';
import type { SimMirror } from './mirror.ts';

/** What a guest does by itself. */
export type SimGuest =
  | 'obeys' // powers off and reboots when asked
  | 'ignores' // never reacts to a request
  | 'crashes-at-boot'
  | 'powers-off-at-boot';

export interface SimDomain {
  domid: Domid;
  uuid: Uuid;
  name: string;
  state: DomainState;
  shutdownReason: DomainFacts['shutdownReason'];
  memoryKib: number;
  /** Taken from the host's free memory. */
  takenKib: number;
  cmdline: string;
  built: boolean;
  registered: boolean;
  vifs: VifConfig[];
  vbds: VbdConfig[];
  mirrors: Map<number, SimMirror>;
  addresses?: string[];
  sealed: boolean;
  record: string;
  guest: SimGuest;
  console: string;
  /** What was typed into the console. */
  typed: string;
  pages: SimPages;
}

export const factsOf = (d: SimDomain): DomainFacts => ({
  domid: d.domid,
  uuid: d.uuid,
  state: d.state,
  shutdownReason: d.shutdownReason,
  ours: isVmUuid(d.uuid),
  sealed: d.sealed,
  record: d.record,
  memoryKib: d.built ? d.memoryKib : 0,
  cpuTimeNs: 0n,
});

export class SimSnapshot implements Snapshot {
  readonly shape: DomainShape;
  readonly console: string;

  constructor(shape: DomainShape, console: string) {
    this.shape = shape;
    this.console = console;
  }
}

export const newDomain = (domid: Domid, config: Pick<SimDomain, 'uuid' | 'name' | 'memoryKib' | 'cmdline'>, guest: SimGuest): SimDomain => ({
  domid,
  uuid: config.uuid,
  name: config.name,
  state: 'paused',
  shutdownReason: undefined,
  memoryKib: config.memoryKib,
  takenKib: 0,
  cmdline: config.cmdline,
  built: false,
  registered: false,
  vifs: [],
  vbds: [],
  mirrors: new Map(),
  sealed: false,
  record: '',
  guest,
  console: '',
  typed: '',
  pages: new Map(),
});
