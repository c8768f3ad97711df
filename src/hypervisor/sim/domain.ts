/** A domain of the simulator. */
import type { Domid, Uuid } from '../../model/ids.ts';
import type { DomainFacts, DomainShape, DomainState, Snapshot, VbdConfig, VifConfig } from '../port.ts';
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
}

export class SimSnapshot implements Snapshot {
  readonly shape: DomainShape;
  readonly console: string;

  constructor(shape: DomainShape, console: string) {
    this.shape = shape;
    this.console = console;
  }
}
