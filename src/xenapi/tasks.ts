/**
 * Operations under way, as XenAPI shows them. Every Async. call makes a task; a client watches it, reads its result and destroys
 * it. Tasks of clients that never came back are dropped oldest first once there are many; none outlives the agent, so no ghosts
 * are left by a restart.
 */
import { randomUUID } from 'node:crypto';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { refOf } from '../host/refs.ts';
import { toFailure } from './errors.ts';
import type { EventKind } from './events.ts';
import { formatXmlValue } from './xml-rpc.ts';

export type TaskStatus = 'pending' | 'success' | 'failure' | 'cancelling' | 'cancelled';

export interface Task {
  readonly uuid: string;
  readonly ref: string;
  readonly label: string;
  readonly description: string;
  readonly createdMs: number;
  finishedMs: number;
  status: TaskStatus;
  /** 0..1 */
  progress: number;
  result: string;
  errorInfo: string[];
  otherConfig: Record<string, string>;
  /** Undefined for tasks that their client steers. */
  readonly abort: AbortController | undefined;
}

const maxEnded = 4096;
/** Characters of results that ended tasks may hold together: the result of one bulk launch has about 300 a VM. */
const maxResults = 32 << 20;
const maxPending = 16_384;
/** Least time between two changes of a task's progress that are told. */
const progressMs = 100;

export const hasEnded = (task: Task): boolean => task.status !== 'pending' && task.status !== 'cancelling';

export class Tasks {
  readonly #tasks = new Map<string, Task>();
  /** Ended ones, oldest first. */
  readonly #ended = new Set<Task>();
  #results = 0;
  readonly #note: (task: Task, kind: EventKind) => void;
  readonly #now: () => number;

  /** `now` is monotonic, in milliseconds. */
  constructor(note: (task: Task, kind: EventKind) => void, now: () => number = () => performance.now()) {
    this.#note = note;
    this.#now = now;
  }

  all(): IterableIterator<Task> {
    return this.#tasks.values();
  }

  get(ref: string): Task | undefined {
    return this.#tasks.get(ref);
  }

  /** A task that its client steers. */
  create(label: string, description: string): Task {
    return this.#add(label, description, undefined);
  }

  /** A task for work that begins now. What the work resolves to is the result, what it throws the error. */
  run(label: string, work: (signal: AbortSignal, progress: (part: number) => void) => Promise<unknown>): Task {
    const task = this.#add(label, '', new AbortController());
    let toldMs = -Infinity;
    const progress = (part: number) => {
      if (hasEnded(task)) return;
      task.progress = part;
      // Work of thousands of steps: its client is told now and then, and of its end in any case.
      const nowMs = this.#now();
      if (nowMs - toldMs < progressMs) return;
      toldMs = nowMs;
      this.#note(task, 'mod');
    };
    // In a turn of its own, so that the caller has the reference before anything can end.
    setImmediate(() => {
      work(task.abort!.signal, progress).then(
        (value) => this.end(task, value),
        (error: unknown) => this.fail(task, error),
      );
    });
    return task;
  }

  end(task: Task, value: unknown): void {
    if (hasEnded(task)) return;
    task.result = value === undefined ? '' : formatXmlValue(value);
    this.#finish(task, 'success');
  }

  fail(task: Task, thrown: unknown): void {
    if (hasEnded(task)) return;
    const error = asShoalError(thrown);
    const cancelled = error.code === 'TASK_CANCELLED' && task.abort?.signal.aborted !== false;
    task.errorInfo = cancelled ? ['TASK_CANCELLED', task.ref] : toFailure(error);
    this.#finish(task, cancelled ? 'cancelled' : 'failure');
  }

  /** Asks the work to stop; a task that ended is left as it is. */
  cancel(task: Task): void {
    if (hasEnded(task)) return;
    if (task.abort === undefined) {
      task.errorInfo = ['TASK_CANCELLED', task.ref];
      this.#finish(task, 'cancelled');
      return;
    }
    task.status = 'cancelling';
    this.#note(task, 'mod');
    task.abort.abort();
  }

  /** Throws OPERATION_NOT_ALLOWED for work still under way. */
  destroy(task: Task): void {
    if (task.abort !== undefined && !hasEnded(task)) {
      throw new ShoalError('OPERATION_NOT_ALLOWED', 'The task is still under way.', {
        hint: 'Cancel it first.',
        params: ['The task is still under way; cancel it first.'],
      });
    }
    this.#remove(task);
  }

  /** Of a task that its client steers. Throws OPERATION_NOT_ALLOWED for others. */
  steer(task: Task, change: { status?: string; progress?: number }): void {
    if (task.abort !== undefined) throw new ShoalError('OPERATION_NOT_ALLOWED', 'The host itself steers this task.');
    if (change.progress !== undefined) task.progress = Math.min(Math.max(change.progress, 0), 1);
    const { status } = change;
    if (status === 'success' || status === 'failure' || status === 'cancelled') this.#finish(task, status);
    else if (status === 'pending' || status === 'cancelling' || status === undefined) {
      task.status = status ?? task.status;
      this.#note(task, 'mod');
    } else {
      throw new ShoalError('VALUE_NOT_SUPPORTED', `"${status}" is not a status of a task.`, {
        params: ['status', status, 'unknown'],
      });
    }
  }

  changed(task: Task): void {
    this.#note(task, 'mod');
  }

  #add(label: string, description: string, abort: AbortController | undefined): Task {
    if (this.#tasks.size - this.#ended.size >= maxPending) {
      throw new ShoalError('HOST_LIMIT', `${maxPending} tasks are under way.`, { hint: 'Wait until some have ended.' });
    }
    const uuid = randomUUID();
    const task: Task = {
      uuid,
      ref: refOf(uuid),
      label,
      description,
      createdMs: Date.now(),
      finishedMs: 0,
      status: 'pending',
      progress: 0,
      result: '',
      errorInfo: [],
      otherConfig: {},
      abort,
    };
    this.#tasks.set(task.ref, task);
    this.#note(task, 'add');
    return task;
  }

  #finish(task: Task, status: TaskStatus): void {
    task.status = status;
    task.finishedMs = Date.now();
    if (status === 'success') task.progress = 1;
    if (!this.#ended.has(task)) this.#results += task.result.length;
    this.#ended.add(task);
    this.#note(task, 'mod');
    while (this.#ended.size > maxEnded || (this.#results > maxResults && this.#ended.size > 1))
      this.#remove(this.#ended.values().next().value!);
  }

  #remove(task: Task): void {
    this.#tasks.delete(task.ref);
    if (this.#ended.delete(task)) this.#results -= task.result.length;
    this.#note(task, 'del');
  }
}
