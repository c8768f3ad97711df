/** event.from and event.inject: waiting for changes, and marking a point among them. */
import { ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { Filter, type Batch, type Happening } from './events.ts';
import { jsonPieces } from './json-rpc.ts';
import { classes, listedClasses, type ListedClass } from './model/model.ts';
import { leanRecordFor, needRecord, recordFor } from './records.ts';
import type { Session } from './sessions.ts';
import { nextTurn, SlicedList, SlicedText } from './sliced.ts';
import { WireInt32 } from './wire.ts';

/** A client that asks for more waits so long and asks again. */
const maxTimeoutS = 300;
/** Clients that wait at once; each holds one connection and one timer. */
const maxWaiting = 1000;

/** Throws SESSION_INVALID also when the session ends while it waits. */
export async function eventFrom(api: Api, caller: Caller, [words, token, timeout]: unknown[]): Promise<unknown> {
  const filter = new Filter(words as string[]);
  const batch = await nextBatch(api, caller, filter, token as string, timeout as number);
  return {
    events: new SlicedList(eventsOf(batch.happenings, (name, ref) => recordFor(api, name, ref))),
    token: batch.token,
    valid_ref_counts: Object.fromEntries(
      listedClasses.filter((name) => filter.touches(name)).map((name) => [name.toLowerCase(), new WireInt32(api.events.live(name))]),
    ),
  };
}

/** What changed after the token; waited for, at most `timeoutS`, when nothing did. */
async function nextBatch(api: Api, caller: Caller, filter: Filter, token: string, timeoutS: number, holdMs: () => number | undefined = () => undefined): Promise<Batch> {
  const { events } = api;
  const session = caller.session!;
  const since = events.parseToken(token);
  const waitMs = Math.min(Math.max(timeoutS, 0), maxTimeoutS) * 1000;
  const deadline = performance.now() + waitMs;
  let batch = events.since(since, filter);
  // Who asks again in the midst of a burst is held back too; not so who wants everything, or will not wait.
  let held = batch.size > 0 && since >= 0 && waitMs > 0;
  while ((held || batch.size === 0) && performance.now() < deadline && !caller.gone.aborted) {
    if (batch.size === 0) {
      if (events.waiting >= maxWaiting) throw new ShoalError('HOST_LIMIT', `${maxWaiting} clients wait for events.`);
      await events.wait(filter, deadline - performance.now(), [caller.gone, session.ended]);
      if (session.ended.aborted) throw new ShoalError('SESSION_INVALID', 'The session has ended.');
    }
    if (!caller.gone.aborted) await hold(session, holdMs() ?? api.eventBatchMs);
    held = false;
    // A burst beyond the gravestones may have passed while this client waited.
    events.parseToken(token);
    batch = events.since(since, filter);
  }
  if (batch.size > 0) session.lastEventsMs = performance.now();
  return batch;
}

const leanClasses = ['VM', 'VIF', 'network', 'host', 'host_metrics'];

/**
 * The plugin's `events`: event.from for a client that follows thousands of VMs, and needs of each only what it is and where. Of VMs and
 * VIFs the snapshots have the fields of leanVm and leanVif; the JSON of all is a text in pieces. `holdMs`: while many VMs start
 * an answer goes out so often at most, for each costs the host a call.
 */
export async function leanEvents(api: Api, caller: Caller, token: string, timeoutS: number, holdMs?: number): Promise<SlicedText> {
  const batch = await nextBatch(api, caller, new Filter(leanClasses), token, timeoutS, () => (api.agent.runner.starter.starting > 1 ? holdMs : undefined));
  const events = new SlicedList(eventsOf(batch.happenings, (name, ref) => leanRecordFor(api, name, ref)));
  return new SlicedText(jsonPieces({ token: batch.token, events }));
}

/**
 * Changes come in bursts, and a client is to get many of them at once: after a pause a change goes out at the end of the turn it
 * happened in; the next answer to the same session waits its time.
 */
function hold(session: Session, batchMs: number): Promise<void> {
  const ms = session.lastEventsMs + batchMs - performance.now();
  return ms > 0 ? new Promise((resolve) => setTimeout(resolve, ms)) : nextTurn();
}

type SnapshotOf = (name: ListedClass, ref: string) => unknown;

function* eventsOf(happenings: Iterable<Happening>, snapshotOf: SnapshotOf): Generator<unknown> {
  const timestamp = String(Date.now() / 1000);
  for (const { id, class: name, ref, operation } of happenings) {
    const snapshot = operation === 'del' ? undefined : snapshotOf(name as ListedClass, ref);
    // Gone since the answer began: the client is told with the next one.
    if (operation !== 'del' && snapshot === undefined) continue;
    yield {
      id: String(id),
      timestamp,
      class: name.toLowerCase(),
      operation,
      ref,
      ...(snapshot === undefined ? {} : { snapshot }),
    };
  }
}

/** A change of an object that changes nothing; the token is right at it, so a client that starts there does not see it. */
export function eventInject(api: Api, _caller: Caller, [className, ref]: unknown[]): string {
  const lower = (className as string).toLowerCase();
  const name = listedClasses.find((listed) => listed.toLowerCase() === lower);
  if (name === undefined || !Object.hasOwn(classes, name)) {
    throw new ShoalError('VALUE_NOT_SUPPORTED', 'No such class has events.', {
      params: ['class', (className as string).slice(0, 64), 'has no events'],
    });
  }
  needRecord(api, name, ref as string);
  return api.events.tokenAt(api.note(name, ref as string, 'mod'));
}
