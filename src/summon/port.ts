/**
 * What the summoner needs of the fleet. Names are "tenant/name". Calls throw ShoalError; NOT_FOUND where something is gone, CONNECTION_FAILED,
 * HOST_AWAY and TIMEOUT where nobody knows.
 */
import type { ServiceSpec } from '../model/service.ts';

export interface Release {
  counter: number;
  /** Of the source the image was built from, 40 or 64 hex digits. */
  source: string;
  digest: string;
}

export interface SummonService {
  id: string;
  spec: ServiceSpec;
  deleting: boolean;
}

export interface SummonCopy {
  address: string | undefined;
  /** It runs and its probe passes. */
  ready: boolean;
  /** Its host keeps the first frames for it until it is up. */
  held: boolean;
  /** It cannot be made, or its start failed. */
  failed: boolean;
}

export interface SummonTraffic {
  address: string;
  /** TCP and UDP, both ways. */
  frames: number;
  idleMs: number;
}

export interface SummonFleet {
  services(): Promise<SummonService[]>;
  /** A release of the service that runs now, and how it may be summoned; undefined when nobody deploys it. */
  policy(tenant: string, name: string): Promise<{ idleS: number } | undefined>;
  /** Every release there ever was, newest first. */
  releases(tenant: string, name: string): Promise<Release[]>;
  /** Makes the image of a release bootable, out of history when it must be. */
  ensureImage(tenant: string, name: string, release: Release): Promise<void>;
  apply(spec: ServiceSpec): Promise<void>;
  scale(tenant: string, name: string, count: number): Promise<void>;
  /** One that is gone counts as removed. */
  remove(tenant: string, name: string): Promise<void>;
  /** Copies as they are now; those under way are asked to be held by their host. With `waitMs` the first is waited for. */
  copies(tenant: string, name: string, holdMs: number, waitMs: number): Promise<SummonCopy[]>;
  /** Undefined where nobody counts. */
  traffic(tenant: string, name: string): Promise<SummonTraffic[] | undefined>;
  close(): void;
}
