/** How long tasks of the controller take, by its events: the last of them is done when a client that watches is told so. */
import type { Control } from '../../src/cli/control.ts';
import type { Task } from '../../src/cli/task.ts';
import { asShoalError, ShoalError } from '../../src/model/errors.ts';

const longMs = 900_000;

/** Milliseconds from just before `begin` until all tasks it began are done. Throws TASK_CANCELLED, TIMEOUT, what `begin` threw. */
export async function untilDone(control: Control, begin: () => Promise<Task[]>, timeoutMs = longMs): Promise<number> {
  const ended = new Map<string, { status: string; at: number }>();
  const stop = new AbortController();
  let news: () => void = () => undefined;
  let failure: ShoalError | undefined;
  let open = false;
  const until = async (holds: () => boolean): Promise<void> => {
    const timer = setTimeout(() => ((failure ??= new ShoalError('TIMEOUT', `The tasks were not done in ${timeoutMs / 1000} s.`)), news()), timeoutMs);
    try {
      while (!holds()) {
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => (news = resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  };
  const stream = control
    .events(['task'], stop.signal, ({ kind, data: { key, data = {} } }) => {
      if (kind === 'hello') open = true;
      if (data['status'] === 'done' || data['status'] === 'cancelled') ended.set(key, { status: String(data['status']), at: performance.now() });
      news();
    })
    .catch((error: unknown) => ((failure = asShoalError(error)), news()));
  try {
    await until(() => open);
    const began = performance.now();
    const tasks = await begin();
    await until(() => tasks.every(({ id }) => ended.has(id)));
    const cancelled = tasks.find(({ id }) => ended.get(id)!.status !== 'done');
    if (cancelled !== undefined) throw new ShoalError('TASK_CANCELLED', `${cancelled.kind} ${cancelled.subject} was cancelled.`);
    return Math.max(...tasks.map(({ id }) => ended.get(id)!.at)) - began;
  } finally {
    stop.abort();
    await stream;
  }
}
