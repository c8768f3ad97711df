/**
 * How image bytes get to a host: the order a controller gives, and what the host says of it. Plain data, spoken between src/control and
 * src/host through the plugin function "fetch-image"; docs/formats/distribution.md tells it to people.
 */
import type { Digest } from './ids.ts';

/** Where bytes can be had. They are believed for their digest, never for where they came from. */
export type ImageSource =
  /** A file served by a controller or another host: the whole image, or with `from` a delta against that one. */
  | {
      /** https://HOST:PORT/…, with the capability in it. */
      url: string;
      /** SHA-256 of the server's certificate, "AB:CD:…": that very one, or nothing is sent. */
      fingerprint: string;
      from?: Digest;
    }
  /** A delta in the order itself, in base64: a fix of a line is smaller than the connection that would fetch it. */
  | { delta: string; from: Digest };

export interface FetchOrder {
  digest: Digest;
  /** Of the whole image. */
  sizeBytes: number;
  /** Tried in this order. A delta whose `from` the host has not got is passed over. */
  sources: ImageSource[];
  /** Milliseconds for all of it. */
  timeoutMs: number;
}

/** Bounds of an order: who gives a larger one is refused. */
export const orderLimits = { sources: 8, inlineDeltaBytes: 64 << 10, timeoutMs: 600_000 } as const;

export interface FetchReport {
  digest: Digest;
  how: 'had' | 'delta' | 'whole';
  /** Place in the order's sources of the one that gave it; -1 when the host had it. */
  source: number;
  /** Taken over the network for it or out of the order, from all sources, useless ones included. */
  bytes: number;
  /** What sources that were tried before failed with. */
  failures: { source: number; code: string; message: string }[];
}
