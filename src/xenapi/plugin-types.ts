/** What goes into and comes out of the plugin "shoal", for the host that serves it and the clients here that call it. */
import type { LaunchedVm as LaunchedOnHost, LaunchSpec } from '../host/bulk.ts';
import type { AddressTraffic } from '../model/traffic.ts';

export type { LaunchSpec };
/** A VM's reference is its uuid behind a fixed word, so that `list` need not send both. */
export { refOf } from '../host/refs.ts';

/** A VM of the result of `launch`. Which steps there are is the host's business. */
export interface LaunchedVm extends Omit<LaunchedOnHost, 'steps'> {
  ref: string;
  /** Milliseconds on the host, step by step. */
  steps: Record<string, number>;
}

/** An error inside of a result, where XenAPI's list of strings would have no place. */
export interface WireError {
  code: string;
  message: string;
  hint: string;
  data?: Record<string, unknown>;
}

/** The result of `launch`; `error` is LAUNCH_INCOMPLETE when not all could be started. */
export interface LaunchResult {
  vms: LaunchedVm[];
  error?: WireError;
}

/** An element of the result of `shells`: what is ready of one shape, and how many are to be. */
export type { ShellFacts } from '../host/shells.ts';

/** What `shells` is asked for with `prepare`. */
export interface ShellSpec {
  image: string;
  memoryKib: number;
  /** By default the host's first network; "" for none. */
  network?: string;
  count: number;
}

/** Its answer. */
export interface ShellsPrepared {
  ready: number;
}

/** Its answer to `drain`. */
export interface ShellsDrained {
  ended: number;
}

/** Its answer to `most`. */
export interface ShellsLimited {
  most: number;
  before: number;
}

/** The results of `migrate` and `migrate-plan`. */
export type { Departed } from '../host/departure.ts';
export type { Plan } from '../host/departures.ts';

/** The result of `capture-read`. */
export interface CaptureRead {
  /** The next part of a pcap file, in base64. */
  data: string;
  frames: number;
  dropped: number;
  ended: boolean;
}

/** The result of `bury`: the tombstone. */
export interface Buried {
  uuid: string;
  name: string;
  addresses: string[];
}

/** The result of `move-address` and `release-address`: those that failed, by their place in the list. */
export interface AddressesMoved {
  failed: ({ index: number } & WireError)[];
}

/** The result of `hold-address`. */
export interface AddressesHeld {
  heldMs: number;
}

/** The result of `address-traffic`, in the order of the question; null where nobody has the address. */
export interface AddressTrafficOf {
  traffic: (AddressTraffic | null)[];
}

/** What the switch counts, in the result of `facts`. */
export type { SwitchTotals } from '../host/agent.ts';

/** The result of `stop` and `destroy`. */
export interface BulkOutcome {
  done: number;
  failed: ({ uuid: string } & WireError)[];
}

/** In the order of a row when none are chosen. */
export const listColumns = ['uuid', 'name', 'state', 'domid', 'memoryKib', 'addresses', 'lockingModes', 'image', 'args'] as const;
export type ListColumn = (typeof listColumns)[number];

/** The result of `list`. */
export interface Listing {
  /** For event.from: what changes after it is not in the rows, or only in some. */
  token: string;
  columns: ListColumn[];
  /** Cells of `state`, `image` and `args` are places in `texts`; `domid` is 0 while halted; `addresses` has blanks between. */
  rows: (string | number)[][];
  texts: string[];
}
