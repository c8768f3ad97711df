/**
 * How a service gets from one release to the next: the policy as the deployment repository says it. Plain data; src/rollout decides by it,
 * src/desired reads it, docs/formats/deployment-repository.md tells it to people.
 */

import type { ServiceNetwork } from './service.ts';

/** What a wave has to pass; each is asked of every copy of the wave but `command`, which is asked once a wave. */
export type Gate =
  /** The copy runs, and its health check says ready. */
  | { kind: 'ready'; withinMs: number }
  | { kind: 'icmp'; timesInRow: number; timeoutMs: number }
  | { kind: 'http'; port: number; path: string; status: number; timesInRow: number; timeoutMs: number }
  /** Sends `send` (hex) and wants an answer that begins with `expect` (hex; "" for any). */
  | { kind: 'udp'; port: number; send: string; expect: string; timeoutMs: number }
  /** Against the copies of the release before, over `windowMs`: the rate of failed probes and their median time. */
  | { kind: 'compare'; windowMs: number; maxErrorRate: number; maxLatencyRatio: number }
  /** A program of the controller's operator, by name, with the wave as JSON on its standard input; 0 passes. */
  | { kind: 'command'; name: string; timeoutMs: number };

export interface RolloutPolicy {
  /** `waves`: canary, then waves, each watched. `hot-fix`: canary, then all the others at once, not watched; bounded by `budget`. */
  mode: 'waves' | 'hot-fix';
  /** Copies of the canary, at least 1. */
  canary: number;
  /** Per cent of the copies that are on the new release after each wave: rising, the last is 100. */
  waves: number[];
  /** A wave that passed its gates is watched for so long before the next. */
  observeMs: number;
  /** Simultaneous replacements. */
  budget: number;
  gates: Gate[];
  /** Copies that may fail in all, until the rollout stops by itself; 0: none. */
  failuresAllowed: number;
  onFailure: 'rollback' | 'pause';
  replace: {
    /** `move`: the new copy takes the old one's addresses when it passed its gates. `new`: it has its own. */
    address: 'move' | 'new';
    /** The old copy keeps the connections it has for at most so long. */
    drainMs: number;
  };
}

/** What a copy of a service is made from: what differs between two of these is what a rollout replaces. Plain data, kept. */
export interface Version {
  /** Of the release; 0 for what was applied by hand. */
  counter: number;
  /** Digest of the image. */
  image: string;
  /** Commit of the image's source; "" when nobody knows. */
  source: string;
  memoryKib: number;
  args: string;
  networks: ServiceNetwork[];
  /** Eight hex digits: the same for versions whose copies need not be replaced by each other. */
  revision: string;
}

/**
 * replacing: the wave's copies are made. gating: those gates are asked that are for a whole wave. observing: watched. promoting:
 * everything goes to the target, no gate is asked. rolling-back: everything goes to the good one. The rest is at its end;
 * failed: it could not go back either, for there is nothing good, or it does not come up.
 */
export type Phase =
  'replacing' | 'gating' | 'observing' | 'promoting' | 'paused' | 'rolling-back' | 'done' | 'rolled-back' | 'failed';

/** One entry of a rollout's record: what happened, for people and programs. */
export interface RolloutEntry {
  /** 1, 2, … over all rollouts of the service. */
  number: number;
  /** RFC 3339. */
  at: string;
  rollout: number;
  release: number;
  event: string;
  phase: Phase;
  /** 0: the canary. */
  wave: number;
  text: string;
}
