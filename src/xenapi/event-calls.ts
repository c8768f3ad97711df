/** event.from and event.inject: waiting for changes, and marking a point among them. */
import { ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { Filter } from './events.ts';
import { classes, listedClasses, type ListedClass } from './model/model.ts';
import { needRecord, recordFor } from './records.ts';
import { WireInt32 } from './wire.ts';

/** A client that asks for more waits so long and asks again. */
const maxTimeoutS = 300;
/** Clients that wait at once; each holds one connection and one timer. */
const maxWaiting = 1000;

/** Throws SESSION_INVALID also when the session ends while it waits. */
export async function eventFrom(api: Api, caller: Caller, [words, token, timeout]: unknown[]): Promise<unknown> {
  const { events, sessions } = api;
  const filter = new Filter(words as string[]);
  const since = events.parseToken(token as string);
  const deadline = performance.now() + Math.min(Math.max(timeout as number, 0), maxTimeoutS) * 1000;
  let batch = events.since(since, filter);
  while (batch.happenings.length === 0 && performance.now() < deadline && !caller.gone.aborted) {
    if (events.waiting >= maxWaiting) throw new ShoalError('HOST_LIMIT', `${maxWaiting} clients wait for events.`);
    await events.wait(filter, deadline - performance.now(), caller.gone);
    if (!sessions.has(caller.session!)) throw new ShoalError('SESSION_INVALID', 'The session has ended.');
    // What changes together arrives together.
    if (!caller.gone.aborted) await new Promise((resolve) => setTimeout(resolve, api.eventBatchMs));
    // A burst beyond the gravestones may have passed while this client waited.
    events.parseToken(token as string);
    batch = events.since(since, filter);
  }
  const timestamp = String(Date.now() / 1000);
  return {
    events: batch.happenings.map(({ id, class: name, ref, operation }) => {
      const snapshot = operation === 'del' ? undefined : recordFor(api, name as ListedClass, ref);
      return {
        id: String(id),
        timestamp,
        class: name.toLowerCase(),
        operation,
        ref,
        ...(snapshot === undefined ? {} : { snapshot }),
      };
    }),
    token: batch.token,
    valid_ref_counts: Object.fromEntries(
      listedClasses.filter((name) => filter.touches(name)).map((name) => [name.toLowerCase(), new WireInt32(events.live(name))]),
    ),
  };
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
