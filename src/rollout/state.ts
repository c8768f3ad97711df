/**
 * Where a service is on its way from one release to the next: plain data that is kept whole, and what follows from it. Time is counted
 * in what went by while it was watched, never as a time of day: a clock that jumps ends no wave, and a day of pause is no day of watching.
 */
import type { Phase, RolloutEntry, RolloutPolicy, Version } from '../model/rollout.ts';
import { lastWave, slotsIn } from './waves.ts';

export interface Rollout {
  tenant: string;
  service: string;
  /** 1, 2, …: rollouts of this service. */
  number: number;
  phase: Phase;
  /** Where every copy is to go. */
  target: Version;
  /** Where every copy goes back to; undefined before the first release passed. */
  good: Version | undefined;
  /** Those that passed everything, the newest last; bounded. */
  goods: Version[];
  policy: RolloutPolicy;
  /** Copies of the service. */
  count: number;
  /** 0: the canary. */
  wave: number;
  /** While paused: where it goes on. */
  resumes: Phase | undefined;
  /** Of observing: so long it is still watched. */
  leftMs: number;
  /** Went by since the last copy came to be ready. */
  stalledMs: number;
  /** Copies that were ready when this was last said. */
  ready: number;
  failures: number;
  /** Why it is where it is; "" when it goes as it should. */
  reason: string;
  /** What the deployment repository asked for last: asked for again, it changes nothing. */
  asked: { commit: string; counter: number; revision: string; spec: string };
  beganMs: number;
  changedMs: number;
  /** The last steps; bounded. */
  entries: RolloutEntry[];
  /** Entries up to this number were handed on. */
  recordedUpTo: number;
}

export type RolloutEvent =
  /** Of the slots that matter now: ready, and missing but not excused; `left`: copies of other versions that are still there. */
  | { on: 'progress'; ready: number; missing: number; left: number }
  | { on: 'tick'; elapsedMs: number; missing: number }
  | { on: 'copy-failed'; text: string }
  | { on: 'gates-passed' }
  | { on: 'gate-failed'; text: string }
  | { on: 'pause' | 'resume' | 'abort' | 'promote' }
  /** `to`: a version that passed once; the last good one when undefined. */
  | { on: 'rollback'; to: Version | undefined };

/** Nothing happens any more by itself. */
export const isEnded = ({ phase }: Pick<Rollout, 'phase'>): boolean =>
  phase === 'done' || phase === 'rolled-back' || phase === 'failed';

/** The phase that says what is wanted: a pause changes nothing about it. */
export const wantedPhase = (state: Rollout): Phase => (state.phase === 'paused' ? (state.resumes ?? 'replacing') : state.phase);

/** Whether the target has still to earn its trust: its copies are asked the gates. */
export function isOnTrial(state: Rollout): boolean {
  const phase = wantedPhase(state);
  return phase === 'replacing' || phase === 'gating' || phase === 'observing';
}

/** Slots below this are to be on the target. */
export function slotsOnTarget(state: Rollout): number {
  switch (wantedPhase(state)) {
    case 'done':
    case 'promoting':
      return Infinity;
    case 'rolling-back':
    case 'rolled-back':
      return 0;
    case 'failed':
      return state.good === undefined ? slotsIn(state.policy, state.count, state.wave) : 0;
    default:
      return isLastWave(state) ? Infinity : slotsIn(state.policy, state.count, state.wave);
  }
}

/** The version that a slot's copy should have; undefined: it should have none. */
export const versionOf = (state: Rollout, slot: number): Version | undefined =>
  slot < slotsOnTarget(state) ? state.target : state.good;

export const isLastWave = (state: Rollout): boolean => state.wave >= lastWave(state.policy, state.count);

/** Slots that are to be replaced before it goes on. */
export const slotsThatMatter = (state: Rollout): number =>
  isOnTrial(state) || (state.phase === 'failed' && state.good === undefined) ? Math.min(state.count, slotsOnTarget(state)) : state.count;

/** Copies replaced at once; 0: none now. */
export const budgetOf = (state: Rollout): number => (state.phase === 'paused' ? 0 : Math.max(1, state.policy.budget));

/** The version that counts as good now. */
export const settledVersion = (state: Rollout): Version | undefined => (state.phase === 'done' ? state.target : state.good);
