/**
 * The rollout as a table: (phase, event) -> phase. Everything it knows is in its state, everything it hears is an event, so whoever
 * runs it may be killed after any row and goes on from what was kept. docs/design/0051-rollout.md shows the table.
 */
import { ShoalError } from '../model/errors.ts';
import type { Phase, RolloutEntry, RolloutPolicy, Version } from '../model/rollout.ts';
import { rowFor, stepBy, type Row } from '../model/table.ts';
import { isEnded, isLastWave, isOnTrial, settledVersion, type Rollout, type RolloutEvent } from './state.ts';

/** Without a "ready" gate, a wave may stand still for so long. */
const usualStallMs = 120_000;
const goodsKept = 10;
const entriesKept = 60;

type R = Row<Rollout, Phase, RolloutEvent>;
type Of<K extends RolloutEvent['on']> = Extract<RolloutEvent, { on: K }>;
const as = <K extends RolloutEvent['on']>(event: RolloutEvent): Of<K> => event as Of<K>;

/** So long no copy of a wave may come to be ready. */
export const stallMs = ({ gates }: RolloutPolicy): number =>
  gates.reduce((found, gate) => (gate.kind === 'ready' ? gate.withinMs : found), usualStallMs);

const fresh = { leftMs: 0, stalledMs: 0, ready: 0 };
const trial: readonly Phase[] = ['replacing', 'gating', 'observing'];
const active: readonly Phase[] = [...trial, 'promoting', 'paused'];

/** Where a failure leads. */
const failing = (state: Rollout): Phase =>
  state.policy.onFailure === 'pause' ? 'paused' : state.good === undefined ? 'failed' : 'rolling-back';
const failingWords = 'rolling-back, or paused by policy, or failed without a good one';
const back = (state: Rollout): Phase => (state.good === undefined ? 'failed' : 'rolling-back');
const failed = (state: Rollout, reason: string): Partial<Rollout> => ({
  ...fresh,
  reason,
  resumes: state.policy.onFailure === 'pause' ? state.phase : undefined,
  // Watched anew when it goes on.
  leftMs: state.phase === 'observing' ? state.policy.observeMs : 0,
});
/** The same release as the good one: to go back to it is to arrive. */
const backIsThere = (state: Rollout): boolean => state.good !== undefined && state.target.revision === state.good.revision;
const arrived = (state: Rollout): Partial<Rollout> => ({
  ...fresh,
  reason: '',
  goods: [...state.goods.filter(({ revision }) => revision !== state.target.revision), state.target].slice(-goodsKept),
});
const tooMany = (state: Rollout, more: number): boolean => state.failures + more > state.policy.failuresAllowed;
/** A wave with nobody in it is one; one whose hosts are all away is not. */
const allThere = (state: Rollout, { ready, missing }: Of<'progress'>): boolean => missing === 0 && (ready > 0 || state.count === 0);
const isBack = (state: Rollout, event: Of<'progress'>): boolean => allThere(state, event) && event.left === 0;
const stalls = (state: Rollout, { elapsedMs, missing }: Of<'tick'>): boolean =>
  missing > 0 && state.stalledMs + elapsedMs >= stallMs(state.policy);
const watched = (state: Rollout): boolean => state.policy.mode === 'waves' && state.policy.observeMs > 0;
const nextWave = (state: Rollout): Partial<Rollout> => ({ ...fresh, wave: state.wave + 1 });

export const table: readonly R[] = [
  // The wave's copies are made.
  {
    from: ['replacing'],
    on: 'progress',
    when: { says: 'all of the wave are ready', holds: (s, e) => allThere(s, as<'progress'>(e)) },
    to: 'gating',
    change: () => fresh,
  },
  {
    from: ['promoting'],
    on: 'progress',
    when: { says: 'all are ready', holds: (s, e) => allThere(s, as<'progress'>(e)) },
    to: 'done',
    change: arrived,
  },
  {
    from: ['rolling-back', 'failed'],
    on: 'progress',
    when: { says: 'all are on the good one, which is the target', holds: (s, e) => backIsThere(s) && isBack(s, as<'progress'>(e)) },
    to: 'done',
    change: arrived,
  },
  {
    from: ['rolling-back', 'failed'],
    on: 'progress',
    when: { says: 'all are on the good one', holds: (s, e) => s.good !== undefined && isBack(s, as<'progress'>(e)) },
    to: 'rolled-back',
    change: () => fresh,
  },
  {
    from: ['replacing', 'promoting', 'rolling-back'],
    on: 'progress',
    to: (s) => s.phase,
    toWords: 'as it was',
    change: (s, e) => (as<'progress'>(e).ready > s.ready ? { ready: as<'progress'>(e).ready, stalledMs: 0 } : {}),
  },
  // Time goes by.
  {
    from: ['replacing'],
    on: 'tick',
    when: { says: 'stalled, within the failures allowed', holds: (s, e) => stalls(s, as<'tick'>(e)) && !tooMany(s, as<'tick'>(e).missing) },
    to: 'gating',
    change: (s, e) => ({ ...fresh, failures: s.failures + as<'tick'>(e).missing }),
  },
  {
    from: ['replacing'],
    on: 'tick',
    when: { says: 'stalled', holds: (s, e) => stalls(s, as<'tick'>(e)) },
    to: failing,
    toWords: failingWords,
    change: (s, e) => ({
      failures: s.failures + as<'tick'>(e).missing,
      ...failed(s, `${as<'tick'>(e).missing} copies were not ready within ${stallMs(s.policy)} ms`),
    }),
  },
  {
    from: ['promoting'],
    on: 'tick',
    when: { says: 'stalled', holds: (s, e) => stalls(s, as<'tick'>(e)) },
    to: 'paused',
    change: (s, e) => ({ ...fresh, resumes: s.phase, reason: `${as<'tick'>(e).missing} copies do not come up; nothing else is done until someone says what` }),
  },
  {
    from: ['rolling-back'],
    on: 'tick',
    when: { says: 'stalled', holds: (s, e) => stalls(s, as<'tick'>(e)) },
    to: 'failed',
    change: (s, e) => ({ ...fresh, reason: `${s.reason === '' ? '' : `${s.reason}; `}${as<'tick'>(e).missing} copies of the good release do not come up` }),
  },
  {
    from: ['replacing', 'promoting', 'rolling-back'],
    on: 'tick',
    to: (s) => s.phase,
    toWords: 'as it was',
    change: (s, e) => (as<'tick'>(e).missing > 0 ? { stalledMs: s.stalledMs + as<'tick'>(e).elapsedMs } : {}),
  },
  {
    from: ['observing'],
    on: 'tick',
    when: { says: 'watched long enough, the last wave', holds: (s, e) => s.leftMs <= as<'tick'>(e).elapsedMs && isLastWave(s) },
    to: 'done',
    change: arrived,
  },
  {
    from: ['observing'],
    on: 'tick',
    when: { says: 'watched long enough', holds: (s, e) => s.leftMs <= as<'tick'>(e).elapsedMs },
    to: 'replacing',
    change: nextWave,
  },
  { from: ['observing'], on: 'tick', to: 'observing', change: (s, e) => ({ leftMs: s.leftMs - as<'tick'>(e).elapsedMs }) },
  // Gates.
  {
    from: ['gating'],
    on: 'gates-passed',
    when: { says: 'to be watched', holds: watched },
    to: 'observing',
    change: (s) => ({ ...fresh, leftMs: s.policy.observeMs }),
  },
  { from: ['gating'], on: 'gates-passed', when: { says: 'the last wave', holds: isLastWave }, to: 'done', change: arrived },
  { from: ['gating'], on: 'gates-passed', to: 'replacing', change: nextWave },
  { from: ['gating'], on: 'gate-failed', to: failing, toWords: failingWords, change: (s, e) => failed(s, as<'gate-failed'>(e).text) },
  {
    from: trial,
    on: 'copy-failed',
    when: { says: 'more than allowed', holds: (s) => tooMany(s, 1) },
    to: failing,
    toWords: failingWords,
    change: (s, e) => ({ failures: s.failures + 1, ...failed(s, as<'copy-failed'>(e).text) }),
  },
  { from: trial, on: 'copy-failed', to: (s) => s.phase, toWords: 'as it was', change: (s) => ({ failures: s.failures + 1 }) },
  // People.
  {
    from: [...trial, 'promoting', 'rolling-back'],
    on: 'pause',
    to: 'paused',
    change: (s) => ({ resumes: s.phase, reason: 'paused by someone' }),
  },
  {
    from: ['paused'],
    on: 'resume',
    to: (s) => s.resumes ?? 'replacing',
    toWords: 'where it was',
    change: () => ({ resumes: undefined, reason: '', failures: 0, stalledMs: 0 }),
  },
  { from: active, on: 'abort', to: back, toWords: 'rolling-back, or failed without a good one', change: () => ({ ...fresh, resumes: undefined, reason: 'aborted by someone' }) },
  {
    from: [...active, 'rolling-back', 'rolled-back', 'failed'],
    on: 'promote',
    to: 'promoting',
    change: () => ({ ...fresh, resumes: undefined, reason: '' }),
  },
  {
    from: active,
    on: 'rollback',
    to: (s, e) => (as<'rollback'>(e).to === undefined ? back(s) : 'rolling-back'),
    toWords: 'rolling-back, or failed without a good one',
    change: (s, e) => ({ ...fresh, resumes: undefined, reason: 'rolled back by someone', good: as<'rollback'>(e).to ?? s.good }),
  },
  {
    from: ['done', 'rolling-back', 'rolled-back', 'failed'],
    on: 'rollback',
    when: { says: 'to a version that passed once', holds: (_s, e) => as<'rollback'>(e).to !== undefined },
    to: 'rolling-back',
    change: (s, e) => ({
      ...fresh,
      resumes: undefined,
      reason: 'rolled back by someone',
      good: as<'rollback'>(e).to,
      // What is left on purpose is never gone back to.
      goods: s.goods.filter(({ revision }) => revision !== settledVersion(s)?.revision || revision === as<'rollback'>(e).to?.revision),
    }),
  },
];

/** Whether the event means anything now. */
export const mayHappen = (state: Rollout, event: RolloutEvent): boolean => rowFor(table, state, event) !== undefined;

/** The state after the event, with an entry when it is worth one. Throws CONFLICT for an event that means nothing now. */
export function advance(state: Rollout, event: RolloutEvent, nowMs: number, by = ''): Rollout {
  const next = stepBy(table, state, event);
  const told = next.phase !== state.phase || next.wave !== state.wave || next.failures !== state.failures;
  if (!told && (event.on === 'progress' || event.on === 'tick')) return next;
  const failure = event.on === 'copy-failed' || event.on === 'gate-failed' ? event.text : '';
  return noted(next, event.on, [failure, next.reason === failure ? '' : next.reason, by].filter((text) => text !== '').join('; '), nowMs);
}

function noted(state: Rollout, event: string, text: string, nowMs: number): Rollout {
  const number = (state.entries.at(-1)?.number ?? state.recordedUpTo) + 1;
  const entry: RolloutEntry = {
    number,
    at: new Date(nowMs).toISOString(),
    rollout: state.number,
    release: state.target.counter,
    event,
    phase: state.phase,
    wave: state.wave,
    text: text.slice(0, 500),
  };
  return { ...state, changedMs: nowMs, entries: [...state.entries, entry].slice(-entriesKept) };
}

export interface Push {
  tenant: string;
  service: string;
  commit: string;
  version: Version;
  policy: RolloutPolicy;
  count: number;
  /** Of all that the repository says of the service, its release left out: differs when any of it does. */
  spec: string;
}

/**
 * What a push makes of what was. The newer one takes over whatever is under way; what never passed is never gone back to. `running`:
 * the version that runs where no rollout was before.
 */
export function begin(before: Rollout | undefined, running: Version | undefined, push: Push, nowMs: number): Rollout {
  const { commit, version, policy, count } = push;
  const asked = { commit, counter: version.counter, revision: version.revision, spec: push.spec };
  if (before !== undefined && before.asked.counter === version.counter && before.asked.revision === version.revision)
    // What was changed by hand since stays, until the repository says something else.
    return before.asked.spec === push.spec ? { ...before, asked } : { ...before, policy, count, asked };
  const good = before === undefined ? running : settledVersion(before);
  const base: Rollout = {
    tenant: push.tenant,
    service: push.service,
    number: (before?.number ?? 0) + 1,
    phase: 'replacing',
    target: version,
    good,
    goods: before?.goods ?? (running === undefined ? [] : [running]),
    policy,
    count,
    wave: 0,
    resumes: undefined,
    ...fresh,
    failures: 0,
    reason: '',
    asked,
    beganMs: nowMs,
    changedMs: nowMs,
    entries: before?.entries ?? [],
    recordedUpTo: before?.recordedUpTo ?? 0,
  };
  // The same bytes as what is on trial: it goes on, under the new number.
  if (before !== undefined && !isEnded(before) && before.phase !== 'rolling-back' && before.target.revision === version.revision)
    return noted({ ...before, number: base.number, target: version, policy, count, asked }, 'same', 'the same version under another number', nowMs);
  if (good?.revision === version.revision) {
    const still = before === undefined || before.phase === 'done' || before.phase === 'rolled-back';
    const same: Rollout = { ...base, phase: still ? 'done' : 'rolling-back', good: version };
    return noted(still ? { ...same, ...arrived(same) } : same, 'begin', still ? 'the same version runs: nothing is replaced' : 'back to the version before', nowMs);
  }
  const over = before !== undefined && !isEnded(before) ? `takes over from release ${before.target.counter}` : '';
  return noted(base, 'begin', over, nowMs);
}

/** Someone applied another version by hand: that is what runs now, and nothing is on trial. */
export function takenOver(before: Rollout, version: Version, count: number, nowMs: number): Rollout {
  const next: Rollout = { ...before, phase: 'done', target: version, good: version, count, resumes: undefined };
  return noted({ ...next, ...arrived(next) }, 'taken-over', 'applied by hand', nowMs);
}

/** The version that a rollback goes to when it is not said: the last that passed, and is not the one that is left. Throws NOT_FOUND. */
export function rollbackTo(state: Rollout, counter: number | undefined): Version | undefined {
  if (counter !== undefined) {
    const found = [...state.goods].reverse().find((version) => version.counter === counter);
    if (found === undefined)
      throw new ShoalError('NOT_FOUND', `Release ${counter} is none that passed here.`, {
        hint: `There are: ${state.goods.map((version) => version.counter).join(', ') || 'none'}.`,
      });
    return found;
  }
  if (isOnTrial(state) || state.phase === 'promoting' || state.phase === 'paused') return undefined;
  const left = settledVersion(state)?.revision;
  const found = [...state.goods].reverse().find((version) => version.revision !== left);
  if (found === undefined)
    throw new ShoalError('CONFLICT', 'There is no earlier release that passed.', { hint: 'Push one.' });
  return found;
}
