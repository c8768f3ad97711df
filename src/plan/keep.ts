/**
 * Of several copies of one slot, which stays? There is more than one while a copy is replaced, and when a host comes back whose
 * copies had been given up. The order is total, so that whoever asks gets the same answer, whatever order he asks in.
 */
import type { Copy, CopyState } from '../model/fleet.ts';

/** How much a copy is worth that is in this state. */
const worth: Record<CopyState, number> = { running: 4, busy: 3, asked: 3, paused: 2, halted: 1, failed: 0 };

export interface Standing {
  /** Made from the spec as it is now. */
  current: (copy: Copy) => boolean;
  /** On a host that is up and not drained. */
  settled: (copy: Copy) => boolean;
  /** May stand for its slot; whether it runs and answers when left out. */
  serves?: (copy: Copy) => boolean;
}

export const serves = (copy: Copy): boolean => copy.state === 'running' && copy.ready;

/**
 * Better first: one that serves before one that does not, then one that need not be replaced, then the younger one: a copy that
 * came back with its host gives way to the one that took its place, for that is the one clients were told of.
 */
export function compareCopies(a: Copy, b: Copy, { current, settled, serves: good = serves }: Standing): number {
  const stays = (copy: Copy): number => (current(copy) ? 2 : 0) + (settled(copy) ? 1 : 0);
  return (
    Number(good(b)) - Number(good(a)) || stays(b) - stays(a) || worth[b.state] - worth[a.state] || b.id.serial - a.id.serial
  );
}
