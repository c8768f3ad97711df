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
}

export interface Observed {
  /** All copies of the service, those on hosts that are away included. */
  copies: readonly Copy[];
  host: (name: HostName) => Pick<Host, 'state' | 'awaySinceMs' | 'drained' | 'dead'> | undefined;
  memory: (slot: number) => SlotMemory | undefined;
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
  let lookAgainAtMs: number | undefined;
  const at = (ms: number): void => void (lookAgainAtMs = Math.min(lookAgainAtMs ?? Infinity, ms));

  const reachable = (copy: Copy): boolean => observed.host(copy.host)?.state === 'up';
  const bySlot = new Map<number, Copy[]>();
  for (const copy of observed.copies) {
    const { slot } = copy.id;
    if (wanted === undefined || slot >= wanted.spec.count) {
      if (reachable(copy)) steps.push({ do: 'destroy', copy, why: 'unwanted' });
      continue;
    }
    const copies = bySlot.get(slot);
    if (copies === undefined) bySlot.set(slot, [copy]);
    else copies.push(copy);
  }
  if (wanted === undefined) return { steps, lookAgainAtMs, counts };

  const { spec, revision } = wanted;
  const listed = hasListedAddresses(spec);
  const stopFirst = listed || spec.update.order === 'stop-first';
  const standing: Standing = {
    current: (copy) => copy.id.revision === revision,
    settled: (copy) => observed.host(copy.host)?.drained === false,
  };
  const stays = (copy: Copy): boolean => standing.current(copy) && standing.settled(copy);
  const whyEnd = (copy: Copy, otherwise: EndReason): EndReason =>
    !standing.current(copy) ? 'outdated' : !standing.settled(copy) ? 'drained' : otherwise;

  /** Slots whose only copy is good but for being outdated or on a drained host. */
  const toReplace: Copy[] = [];
  let unsettledSlots = 0;

  /** Makes a copy when the slot's back-off allows it. */
  const create = (slot: number, replaces: Copy | undefined): void => {
    const memory = observed.memory(slot);
    const tryAtMs = mayTryAtMs(spec.restart, memory);
    if (tryAtMs > nowMs) {
      at(tryAtMs);
      if (replaces === undefined) counts.waiting++;
      return;
    }
    steps.push({ do: 'create', slot, replaces, avoid: memory?.host });
    if (replaces === undefined) counts.starting++;
  };

  for (let slot = 0; slot < spec.count; slot++) {
    const all = bySlot.get(slot) ?? [];
    const here = all.filter(reachable).sort((a, b) => compareCopies(a, b, standing));
    const best = here[0];
    if (best === undefined) {
      unsettledSlots++;
      const away = all.filter((copy) => observed.host(copy.host)?.dead === false);
      const graceEndsMs = Math.max(0, ...away.map((copy) => observed.host(copy.host)!.awaySinceMs + options.graceMs));
      if (graceEndsMs > nowMs) {
        at(graceEndsMs);
        counts.waiting++;
      } else if (away.length > 0 && listed) {
        const hosts = [...new Set(away.map((copy) => copy.host))].sort().join(', ');
        steps.push({
          do: 'note',
          slot,
          text: `its address may still be in use on ${hosts}, which is away; say that the host is dead to have it moved`,
        });
        counts.waiting++;
      } else create(slot, undefined);
      continue;
    }

    const good = serves(best);
    if (good) counts.serving++;
    if (good && standing.current(best)) counts.ready++;
    let replacing = false;
    for (const other of here.slice(1)) {
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
        unsettledSlots++;
        counts.starting++;
        break;
      case 'running':
        if (!good) {
          unsettledSlots++;
          counts.starting++;
        } else if (replacing) unsettledSlots++;
        if (!stays(best) && !replacing) toReplace.push(best);
        break;
      case 'paused':
        steps.push(
          { do: 'note', slot, text: `${best.id.service} ${slot} was paused by someone; it goes on` },
          { do: 'start', copy: best },
        );
        unsettledSlots++;
        counts.starting++;
        break;
      case 'halted':
      case 'failed': {
        unsettledSlots++;
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
  let allowed = spec.update.maxAtOnce - unsettledSlots;
  for (const copy of toReplace) {
    // One that does not answer yet is no loss: it counts among the unsettled already.
    if (serves(copy) && allowed-- <= 0) break;
    if (stopFirst) steps.push({ do: 'destroy', copy, why: whyEnd(copy, 'outdated') });
    else create(copy.id.slot, copy);
  }
  return { steps, lookAgainAtMs, counts };
}
