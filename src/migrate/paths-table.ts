/**
 * The move of connections from one waypoint to another as a table [state, event, next]: each state is one effect under way, each may be repeated, and what ends
 * well is "done". Pure; paths.ts does the effects and keeps the state on disk before each.
 *
 * Make before break: the target answers under its own address before the source is touched. Break before make: the source is
 * suspended first (it is dying, or its state must not exist twice), and the target drops what comes early, never resets it.
 * Until `releasing` every failure and every wish to stop goes back; from there only on.
 */
import { ShoalError } from '../model/errors.ts';

export type MoveKind = 'make-before-break' | 'break-before-make';

export const states = [
  'planned',
  // forward, make before break
  'copying', 'announcing', 'joining', 'demoting', 'draining', 'suspending',
  // forward, break before make
  'holding', 'announcing-early', 'stopping', 'starting', 'joining-late',
  // forward, both
  'burying', 'withdrawing', 'releasing', 'moved',
  // back
  'reviving', 'returning', 'rejoining', 'promoting', 'emptying', 'retracting', 'discarding', 'stayed',
] as const;
export type MoveState = (typeof states)[number];

export type MoveEvent = 'done' | 'failed' | 'abort' | 'break';

/**
 * [state, event, next]. What each state does: paths.ts. `break` is the start of the second kind.
 */
export const table: readonly (readonly [MoveState, MoveEvent, MoveState])[] = [
  ['planned', 'done', 'copying'],
  ['copying', 'done', 'announcing'],
  ['announcing', 'done', 'joining'],
  ['joining', 'done', 'demoting'],
  ['demoting', 'done', 'draining'],
  ['draining', 'done', 'suspending'],
  ['suspending', 'done', 'burying'],

  ['planned', 'break', 'holding'],
  ['holding', 'done', 'announcing-early'],
  ['announcing-early', 'done', 'stopping'],
  ['stopping', 'done', 'starting'],
  ['starting', 'done', 'joining-late'],
  ['joining-late', 'done', 'burying'],

  ['burying', 'done', 'withdrawing'],
  ['withdrawing', 'done', 'releasing'],
  ['releasing', 'done', 'moved'],

  ['planned', 'abort', 'stayed'],
  // The source runs as it did: nothing has to be brought back but what was set on connections.
  ...(['copying', 'announcing', 'joining', 'demoting', 'draining', 'holding', 'announcing-early'] as const).flatMap((state) => [
    [state, 'failed', 'promoting'], [state, 'abort', 'promoting'],
  ] as const),
  // The source was suspended, or may have been.
  ...(['suspending', 'stopping', 'starting', 'joining-late', 'burying', 'withdrawing'] as const).flatMap((state) => [
    [state, 'failed', 'reviving'], [state, 'abort', 'reviving'],
  ] as const),

  ['reviving', 'done', 'returning'],
  ['returning', 'done', 'rejoining'],
  ['rejoining', 'done', 'promoting'],
  ['promoting', 'done', 'emptying'],
  ['emptying', 'done', 'retracting'],
  ['retracting', 'done', 'discarding'],
  ['discarding', 'done', 'stayed'],
];

const index = new Map(table.map(([state, event, next]) => [`${state} ${event}`, next]));

/** Throws OPERATION_NOT_ALLOWED for a pair that the table has not. */
export function nextState(state: MoveState, event: MoveEvent): MoveState {
  const next = index.get(`${state} ${event}`);
  if (next === undefined) throw new ShoalError('OPERATION_NOT_ALLOWED', `A move that is ${state} cannot take "${event}".`, { hint: allows(state, 'done') ? 'It goes on by itself; wait for its end.' : 'The move has ended.' });
  return next;
}

export const allows = (state: MoveState, event: MoveEvent): boolean => index.has(`${state} ${event}`);
export const isEnd = (state: MoveState): boolean => state === 'moved' || state === 'stayed';
const back: readonly MoveState[] = ['reviving', 'returning', 'rejoining', 'promoting', 'emptying', 'retracting', 'discarding'];
export const isBack = (state: MoveState): boolean => back.includes(state);

/**
 * What a move does that was found after a kill, by the state it was last in. While the source still runs untouched it goes back, for whoever wanted it may have gone too;
 * once the source may be suspended it goes on, which ends sooner and with what was prepared.
 */
export const whenFound = (state: MoveState): 'abort' | 'again' => (!isBack(state) && !isEnd(state) && (nextOfAbort(state) === 'promoting' || state === 'planned') ? 'abort' : 'again');

const nextOfAbort = (state: MoveState): MoveState | undefined => index.get(`${state} abort`);

/** The table as a Mermaid diagram, for the documents. */
export const diagram = (): string => ['stateDiagram-v2', ...table.map(([state, event, next]) => `  ${state.replaceAll('-', '_')} --> ${next.replaceAll('-', '_')}: ${event}`)].join('\n');
