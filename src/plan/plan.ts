/**
 * What is to be done for one service, from what is wanted, what is seen, and the time: a pure function, asked again whenever one
 * of them changes. It keeps nothing and assumes nothing of what it said before: a step that was not done, or done twice, shows in
 * what is seen next time. Updates, restarts, drains, scaling and the loss of a host are not cases of their own: each is a
 * difference between the copy a slot has and the copy it should have.
 */
import type { Copy, EndReason, Host, HostName, SlotMemory, Step } from '../model/fleet.ts';
import { hasListedAddresses, type ServiceSpec } from '../model/service.ts';
import { mayTryAtMs } from './backoff.ts';
import { compareCopies, serves, type Standing } from './keep.ts';

export interface Wanted {
  spec: ServiceSpec;
  revision: string;
  /** While a release rolls out. */
  rolling?: Rolling | undefined;
}

export interface Rolling {
  /** What the copy of a slot should be made from; undefined: it should have none. */
  revisionOf: (slot: number) => string | undefined;
  /** Copies replaced at once, in place of the spec's update policy. */
  budget: number;
  /** Slots below this are what `Plan.progress` is about. */
  slots: number;
  /** Replaced copies hand their addresses over, and keep their connections for so long; undefined: they do not. */
  moveMs: number | undefined;
}

export interface Observed {
  /** All copies of the service, those on hosts that are away included. */
  copies: readonly Copy[];
  host: (name: HostName) => Pick<Host, 'state' | 'awaySinceMs' | 'drained' | 'dead'> | undefined;
  memory: (slot: number) => SlotMemory | undefined;
  /** Whether a copy that answers may take the place of another one: it passed its gates. All do when left out. */
  passed?: (copy: Copy) => boolean;
  /** Whether a copy can be started beside another one and take its addresses. */
  canMove?: (copy: Copy) => boolean;
}

export interface PlanOptions {
  /** So long a host may be away before its copies are made elsewhere. */
  graceMs: number;
}

export interface Plan {
  steps: Step[];
  /** Without any news, plan again at this time; undefined when only news can change the plan. */
  lookAgainAtMs: number | undefined;
  counts: Counts;
  progress: Progress;
}

export interface Progress {
  /** Slots that have the copy they should have, in order and passed. */
  ready: number;
  /** Slots that have not, though their hosts are there. */
  missing: number;
  /** Copies that can be reached and are made from something else than their slots should have. */
  left: number;
}

export interface Counts {
  wanted: number;
  /** Slots with a copy that runs, answers, and is made from the spec as it is now. */
  ready: number;
  /** Slots with a copy that runs and answers, whatever it was made from. */
  serving: number;
  /** Slots whose copy is on its way. */
  starting: number;
  /** Slots that wait, for back-off, for a host, or for the operator. */
  waiting: number;
}

/** A copy whose start failed so often on one host is made on another. */
const givesUpAfter = 3;

/** `wanted` undefined: the service is to be no more. */
export function planService(wanted: Wanted | undefined, observed: Observed, nowMs: number, options: PlanOptions): Plan {
  const steps: Step[] = [];
  const counts: Counts = { wanted: wanted?.spec.count ?? 0, ready: 0, serving: 0, starting: 0, waiting: 0 };
  const progress: Progress = { ready: 0, missing: 0, left: 0 };
  let lookAgainAtMs: number | undefined;
  const at = (ms: number): void => void (lookAgainAtMs = Math.min(lookAgainAtMs ?? Infinity, ms));

  const { rolling } = wanted ?? {};
  const revisionAt = (slot: number): string | undefined => (rolling === undefined ? wanted?.revision : rolling.revisionOf(slot));
  const reachable = (copy: Copy): boolean => observed.host(copy.host)?.state === 'up';
  const bySlot = new Map<number, Copy[]>();
  for (const copy of observed.copies) {
    const { slot } = copy.id;
    if (wanted === undefined || slot >= wanted.spec.count || revisionAt(slot) === undefined) {
      if (reachable(copy)) steps.push({ do: 'destroy', copy, why: 'unwanted' });
      continue;
    }
    const copies = bySlot.get(slot);
    if (copies === undefined) bySlot.set(slot, [copy]);
    else copies.push(copy);
  }
  if (wanted === undefined) return { steps, lookAgainAtMs, counts, progress };

  const { spec } = wanted;
  const passed = observed.passed ?? (() => true);
  const listed = hasListedAddresses(spec);
  const stopFirst = listed || spec.update.order === 'stop-first';
  const standing: Standing = {
    current: (copy) => copy.id.revision === revisionAt(copy.id.slot),
    settled: (copy) => observed.host(copy.host)?.drained === false,
    serves: (copy) => serves(copy) && passed(copy) && copy.takesFrom === undefined,
  };
  const stays = (copy: Copy): boolean => standing.current(copy) && standing.settled(copy);
  const whyEnd = (copy: Copy, otherwise: EndReason): EndReason =>
    !standing.current(copy) ? 'outdated' : !standing.settled(copy) ? 'drained' : otherwise;

  /** Slots whose only copy is good but for being outdated or on a drained host. */
  const toReplace: Copy[] = [];
  let unsettledSlots = 0;

  const moves = (copy: Copy): boolean =>
    rolling?.moveMs !== undefined && standing.settled(copy) && copy.uuid !== undefined && observed.canMove?.(copy) === true;

  /** Copies that gave their addresses away: out of the count, and out of the way when their connections had their time. */
  const retire = (copy: Copy, { sinceMs, drainMs }: NonNullable<Copy['retired']>): void => {
    if (!standing.current(copy)) progress.left++;
    const over = copy.state !== 'running' || nowMs >= sinceMs + drainMs || nowMs < sinceMs;
    if (over) steps.push({ do: 'destroy', copy, why: 'outdated' });
    else at(sinceMs + drainMs);
  };

  /** Makes a copy when the slot's back-off allows it. */
  const create = (slot: number, replaces: Copy | undefined): void => {
    const memory = observed.memory(slot);
    const tryAtMs = mayTryAtMs(spec.restart, memory);
    if (tryAtMs > nowMs) {
      at(tryAtMs);
      if (replaces === undefined) counts.waiting++;
      return;
    }
    const beside = replaces !== undefined && moves(replaces);
    steps.push({ do: 'create', slot, replaces, avoid: memory?.host, ...(beside ? { beside: true } : {}) });
    if (replaces === undefined) counts.starting++;
  };

  for (let slot = 0; slot < spec.count; slot++) {
    if (revisionAt(slot) === undefined) continue;
    const matters = slot < (rolling?.slots ?? spec.count);
    // A release on trial is not kept waiting by what is wrong with the one before.
    const unsettle = (): void => void (unsettledSlots += matters ? 1 : 0);
    const all = bySlot.get(slot) ?? [];
    const there = all.filter(reachable);
    for (const copy of there) if (copy.retired !== undefined) retire(copy, copy.retired);
    const here = there.filter((copy) => copy.retired === undefined).sort((a, b) => compareCopies(a, b, standing));
    const best = here[0];
    for (const copy of here) if (!standing.current(copy)) progress.left++;
    if (best === undefined) {
      let excused = false;
      const away = all.filter((copy) => !reachable(copy) && copy.retired === undefined && observed.host(copy.host)?.dead === false);
      const graceEndsMs = Math.max(0, ...away.map((copy) => observed.host(copy.host)!.awaySinceMs + options.graceMs));
      if (graceEndsMs > nowMs) {
        excused = true;
        at(graceEndsMs);
        counts.waiting++;
      } else if (away.length > 0 && listed) {
        excused = true;
        const hosts = [...new Set(away.map((copy) => copy.host))].sort().join(', ');
        steps.push({
          do: 'note',
          slot,
          text: `its address may still be in use on ${hosts}, which is away; say that the host is dead to have it moved`,
        });
        counts.waiting++;
      } else create(slot, undefined);
      if (matters && !excused) progress.missing++;
      if (rolling === undefined || !excused) unsettle();
      continue;
    }

    const good = standing.serves!(best);
    if (good || serves(best)) counts.serving++;
    if (good && standing.current(best)) counts.ready++;
    if (matters) good && standing.current(best) ? progress.ready++ : progress.missing++;
    let replacing = false;
    // One that passed takes its addresses now: from the one that serves, or from one that is no more.
    const taker = here.find((copy) => copy.takesFrom !== undefined && serves(copy) && passed(copy) && standing.current(copy));
    if (taker !== undefined) {
      const from = all.find((copy) => copy.id.serial === taker.takesFrom);
      steps.push({ do: 'move', from, to: taker, drainMs: rolling?.moveMs ?? 0 });
      replacing = true;
    }
    for (const other of here.slice(1)) {
      // The move that is under way says what becomes of it.
      if (other === taker || (taker !== undefined && other.id.serial === taker.takesFrom)) continue;
      if (other.state === 'asked' || other.state === 'busy') replacing = true;
      else if (good && stays(other) && !stays(best) && other.state === 'running') replacing = true;
      else if (good || other.state === 'halted' || other.state === 'failed')
        steps.push({
          do: 'destroy',
          copy: other,
          why: other.state === 'running' ? whyEnd(other, 'double') : whyEnd(other, 'failed'),
        });
    }

    switch (best.state) {
      case 'asked':
      case 'busy':
        unsettle();
        counts.starting++;
        break;
      case 'running':
        if (!good) {
          unsettle();
          counts.starting++;
        } else if (replacing) unsettle();
        if (!stays(best) && !replacing) toReplace.push(best);
        break;
      case 'paused':
        steps.push(
          { do: 'note', slot, text: `${best.id.service} ${slot} was paused by someone; it goes on` },
          { do: 'start', copy: best },
        );
        unsettle();
        counts.starting++;
        break;
      case 'halted':
      case 'failed': {
        unsettle();
        const memory = observed.memory(slot);
        if (!stays(best)) {
          steps.push({ do: 'destroy', copy: best, why: whyEnd(best, 'failed') });
          counts.waiting++;
        } else if (
          memory !== undefined &&
          memory.failures >= givesUpAfter &&
          memory.failures % givesUpAfter === 0 &&
          memory.host === best.host &&
          !listed
        ) {
          steps.push({ do: 'destroy', copy: best, why: 'failed' });
          counts.waiting++;
        } else {
          const tryAtMs = mayTryAtMs(spec.restart, memory);
          if (tryAtMs > nowMs) {
            at(tryAtMs);
            counts.waiting++;
          } else {
            steps.push({ do: best.state === 'halted' ? 'start' : 'restart', copy: best });
            counts.starting++;
          }
        }
        break;
      }
    }
  }

  // Replaced are no more at once than asked for, counting every slot that is not in order for whatever reason.
  let allowed = (rolling?.budget ?? spec.update.maxAtOnce) - unsettledSlots;
  for (const copy of toReplace) {
    // One that does not answer yet is no loss: it counts among the unsettled already.
    if (serves(copy) && allowed-- <= 0) continue;
    if (stopFirst && !moves(copy)) steps.push({ do: 'destroy', copy, why: whyEnd(copy, 'outdated') });
    else create(copy.id.slot, copy);
  }
  return { steps, lookAgainAtMs, counts, progress };
}
