/**
 * A migration as two tables, one a host. They speak by messages that may be lost, and each host may be killed in any state; still exactly one
 * of them runs the VM in the end. It is a two-phase commit in which the target decides: its journal entry "committed" is the one
 * moment. Before it the source has the VM, after it the target; a source that does not know asks, and asks until it is told. Whoever steers
 * (controller, command) only gave the order: its end changes nothing. docs/design/0060-migration.md says why; test/unit/migrate walks through every
 * order of losses and kills.
 */

/** Where the VM is: running in reserve and copy, suspended from suspend on, gone in release. */
export type SourceState = 'reserve' | 'copy' | 'suspend' | 'ship' | 'verify' | 'commit' | 'ask' | 'undo' | 'release' | 'stayed' | 'left';

/**
 * done: the state's work ended well. refused: the other side said no, or the work failed. lost: the other side does not answer, after all
 * attempts. cancelled: on request. committed, unknown: what the target says of this migration.
 */
export type SourceEvent = 'done' | 'refused' | 'lost' | 'cancelled' | 'committed' | 'unknown';

type Row<S, E> = readonly [state: S, event: E, next: S];

export const sourceTable: readonly Row<SourceState, SourceEvent>[] = [
  ['reserve', 'done', 'copy'],
  ['reserve', 'refused', 'stayed'],
  ['reserve', 'lost', 'stayed'],
  ['reserve', 'cancelled', 'undo'],
  ['copy', 'done', 'suspend'],
  ['copy', 'refused', 'undo'],
  ['copy', 'lost', 'undo'],
  ['copy', 'cancelled', 'undo'],
  ['suspend', 'done', 'ship'],
  ['suspend', 'refused', 'undo'],
  ['suspend', 'lost', 'undo'],
  ['suspend', 'cancelled', 'undo'],
  ['ship', 'done', 'verify'],
  ['ship', 'refused', 'undo'],
  ['ship', 'lost', 'undo'],
  ['ship', 'cancelled', 'undo'],
  ['verify', 'done', 'commit'],
  ['verify', 'refused', 'undo'],
  ['verify', 'lost', 'undo'],
  ['verify', 'cancelled', 'undo'],
  // From the first byte of the commit on the target decides.
  ['commit', 'committed', 'release'],
  ['commit', 'unknown', 'undo'],
  ['commit', 'lost', 'ask'],
  ['ask', 'committed', 'release'],
  ['ask', 'unknown', 'undo'],
  ['ask', 'lost', 'ask'],
  ['undo', 'done', 'stayed'],
  ['release', 'done', 'left'],
];

export type TargetState = 'none' | 'reserved' | 'filled' | 'committed';

/**
 * filled: all bytes came, their digest is right, the domain is paused and its memory whole; it is being connected and sealed. expired: the source
 * was away for too long. asked: by a source that does not know; what is not committed then will never be. killed: what is not in the journal is
 * forgotten.
 */
export type TargetEvent = 'hello' | 'filled' | 'failed' | 'commit' | 'abort' | 'expired' | 'asked' | 'released' | 'killed';

export const targetTable: readonly Row<TargetState, TargetEvent>[] = [
  ['none', 'hello', 'reserved'],
  ['none', 'commit', 'none'],
  ['none', 'abort', 'none'],
  ['none', 'asked', 'none'],
  ['none', 'released', 'none'],
  ['none', 'killed', 'none'],
  ['reserved', 'filled', 'filled'],
  ['reserved', 'failed', 'none'],
  ['reserved', 'abort', 'none'],
  ['reserved', 'expired', 'none'],
  ['reserved', 'asked', 'none'],
  ['reserved', 'killed', 'none'],
  ['filled', 'commit', 'committed'],
  ['filled', 'failed', 'none'],
  ['filled', 'abort', 'none'],
  ['filled', 'expired', 'none'],
  ['filled', 'asked', 'none'],
  ['filled', 'killed', 'none'],
  ['committed', 'commit', 'committed'],
  ['committed', 'abort', 'committed'],
  ['committed', 'asked', 'committed'],
  ['committed', 'killed', 'committed'],
  ['committed', 'released', 'none'],
];

function next<S, E>(table: readonly Row<S, E>[], state: S, event: E): S {
  const row = table.find(([from, on]) => from === state && on === event);
  if (row === undefined) throw new Error(`migration: ${String(event)} is no event of ${String(state)}`);
  return row[2];
}

/** Throws for a pair that is not in the table. */
export const nextOfSource = (state: SourceState, event: SourceEvent): SourceState => next(sourceTable, state, event);
export const nextOfTarget = (state: TargetState, event: TargetEvent): TargetState => next(targetTable, state, event);

/** What a source that was killed begins with, by what Xen and its journal have. */
export const sourceAfterKill = (suspended: boolean, inJournal: boolean): SourceState => (!inJournal ? 'stayed' : suspended ? 'ask' : 'undo');
