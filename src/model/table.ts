/**
 * State machines as tables: one row says from where, on which event, under which condition, to where, and what is changed on the
 * way. The first row that fits is taken; a pair without a row is not allowed. Pure: a step gives a new state.
 */
import { ShoalError } from './errors.ts';

export interface Row<S extends { phase: P }, P extends string, E extends { on: string }> {
  from: readonly P[];
  on: E['on'];
  /** Of the rows for one pair the first whose condition holds; none: always. */
  when?: { says: string; holds: (state: S, event: E) => boolean };
  to: P | ((state: S, event: E) => P);
  /** Names what `to` may be when it depends, for the picture. */
  toWords?: string;
  change?: (state: S, event: E) => Partial<S>;
}

/** The row for a pair, or undefined when the pair is not allowed. */
export function rowFor<S extends { phase: P }, P extends string, E extends { on: string }>(
  table: readonly Row<S, P, E>[],
  state: S,
  event: E,
): Row<S, P, E> | undefined {
  return table.find(
    (row) => row.from.includes(state.phase) && row.on === event.on && (row.when === undefined || row.when.holds(state, event)),
  );
}

/** The state after the event. Throws CONFLICT for a pair that no row has. */
export function stepBy<S extends { phase: P }, P extends string, E extends { on: string }>(
  table: readonly Row<S, P, E>[],
  state: S,
  event: E,
): S {
  const row = rowFor(table, state, event);
  if (row === undefined) throw new ShoalError('CONFLICT', `"${event.on}" means nothing while it is ${state.phase}.`);
  const phase = typeof row.to === 'string' ? row.to : row.to(state, event);
  return { ...state, ...(row.change?.(state, event) ?? {}), phase };
}

/** The table as text, one row a line, for documents. */
export const tableText = <S extends { phase: P }, P extends string, E extends { on: string }>(
  table: readonly Row<S, P, E>[],
): string =>
  table
    .map(
      ({ from, on, when, to, toWords }) =>
        `| ${from.join(', ')} | ${on} | ${when?.says ?? ''} | ${typeof to === 'string' ? to : (toWords ?? '')} |`,
    )
    .join('\n');
