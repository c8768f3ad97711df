/** What is known of an address's traffic: plain data, counted by a host's switch, asked for by whoever judges idleness. */

/** Frames of TCP and UDP to and from an address, since its holder got it or the backend was started. */
export interface AddressTraffic {
  frames: number;
  bytes: number;
  /** Since the last of them, or since the counting began. */
  idleMs: number;
  /** Former holders that may have connections left. */
  drains: number;
  /** Whether frames are kept for it, and how many. */
  held: boolean;
  waiting: number;
}
