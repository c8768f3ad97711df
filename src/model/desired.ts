/**
 * What a deployment repository asks for at one commit: services with the release each is to run and how it gets there. Plain data:
 * src/desired reads it, src/control rolls it out.
 */
import type { ReleaseManifest } from './manifest.ts';
import type { RolloutPolicy } from './rollout.ts';
import type { ServiceSpec } from './service.ts';

/** A service that is stopped after `idleS` seconds without traffic, and started by whoever asks DNS for it. */
export interface SummonPolicy {
  idleS: number;
}

export interface DesiredService {
  /** Complete; its image is the digest of `release`. */
  spec: ServiceSpec;
  release: ReleaseManifest;
  rollout: RolloutPolicy;
  summon?: SummonPolicy;
}

export interface Desired {
  /** Of the deployment repository: 40 or 64 hex digits. */
  commit: string;
  services: DesiredService[];
}
