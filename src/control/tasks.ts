/**
 * Long work as something to look at and to stop. A task does nothing by itself: the fleet's loop does, and a task says how far the
 * fleet is from what was asked for. To stop it is to ask for what was before. Tasks end with the controller; the work goes on.
 */
import { randomBytes } from 'node:crypto';
import { ShoalError } from '../model/errors.ts';
import type { Changes } from './changes.ts';

export interface Task {
  id: string;
  kind: 'apply' | 'scale' | 'restart' | 'delete' | 'drain';
  /** Key of the service, or name of the host. */
  subject: string;
  tenant: string | undefined;
  status: 'running' | 'done' | 'cancelled';
  /** 0 to 1. */
  progress: number;
  detail: string;
  createdMs: number;
  endedMs: number | undefined;
}

interface Work {
  /** How far it is. */
  look: () => { progress: number; done: boolean; detail: string };
  /** Asks for what was before. */
  undo: () => Promise<void>;
}

const kept = 1000;

export class Tasks {
  readonly #changes: Changes;
  readonly #now: () => number;
  readonly #tasks = new Map<string, Task>();
  readonly #work = new Map<string, Work>();
  readonly #running = new Map<string, Set<Task>>();

  constructor(changes: Changes, now: () => number) {
    this.#changes = changes;
    this.#now = now;
  }

  /** A task about the same subject that still runs is superseded. */
  begin(kind: Task['kind'], subject: string, tenant: string | undefined, work: Work): Task {
    for (const before of this.#running.get(subject) ?? []) this.#end(before, 'cancelled', 'superseded by a later call');
    const task: Task = {
      id: randomBytes(8).toString('hex'),
      kind,
      subject,
      tenant,
      status: 'running',
      progress: 0,
      detail: '',
      createdMs: this.#now(),
      endedMs: undefined,
    };
    this.#tasks.set(task.id, task);
    this.#work.set(task.id, work);
    this.#running.set(subject, new Set([task]));
    if (this.#tasks.size > kept) {
      for (const old of this.#tasks.values()) {
        if (old.status === 'running') continue;
        this.#tasks.delete(old.id);
        break;
      }
    }
    this.#tell(task);
    return task;
  }

  get(id: string): Task | undefined {
    return this.#tasks.get(id);
  }

  all(): Iterable<Task> {
    return this.#tasks.values();
  }

  /** Something about a subject changed. */
  look(subject: string): void {
    for (const task of this.#running.get(subject) ?? []) {
      const { progress, done, detail } = this.#work.get(task.id)!.look();
      if (done) this.#end(task, 'done', detail, 1);
      else if (progress !== task.progress || detail !== task.detail) {
        task.progress = progress;
        task.detail = detail;
        this.#tell(task);
      }
    }
  }

  /** Throws CONFLICT when it has ended. */
  async cancel(task: Task): Promise<void> {
    const work = this.#work.get(task.id);
    if (task.status !== 'running' || work === undefined)
      throw new ShoalError('CONFLICT', `The task has ended: it is ${task.status}.`);
    this.#end(task, 'cancelled', 'cancelled; what was before is wanted again');
    await work.undo();
  }

  #end(task: Task, status: Task['status'], detail: string, progress = task.progress): void {
    Object.assign(task, { status, detail, progress, endedMs: this.#now() });
    this.#work.delete(task.id);
    const running = this.#running.get(task.subject);
    running?.delete(task);
    if (running?.size === 0) this.#running.delete(task.subject);
    this.#tell(task);
  }

  #tell(task: Task): void {
    this.#changes.tell('task', task.id, task.tenant, () => taskView(task));
  }
}

export const taskView = ({ createdMs, endedMs, tenant, ...task }: Task) => ({
  ...task,
  ...(tenant === undefined ? {} : { tenant }),
  created: new Date(createdMs).toISOString(),
  ...(endedMs === undefined ? {} : { ended: new Date(endedMs).toISOString() }),
});
