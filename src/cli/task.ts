/** Waiting for a task of the controller, with a bar; Ctrl-C stops waiting, not the task. */
import { ShoalError } from '../model/errors.ts';
import type { Control } from './control.ts';
import { Progress } from './progress.ts';
import type { Terminal } from './terminal.ts';

export interface Task {
  id: string;
  kind: string;
  subject: string;
  status: 'running' | 'done' | 'cancelled';
  progress: number;
  detail: string;
}

const pollMs = 100;
const steps = 1000;

/** Throws TASK_CANCELLED when it was stopped or superseded, TIMEOUT after `timeoutMs`. */
export async function waitFor(control: Control, terminal: Terminal, task: Task, timeoutMs: number): Promise<Task> {
  const bar = new Progress(terminal, { label: `${task.kind} ${task.subject}`, total: steps });
  const deadline = performance.now() + timeoutMs;
  for (let now = task; ;) {
    if (now.status === 'done') {
      bar.update(steps, now.detail);
      terminal.status('');
      return now;
    }
    if (now.status === 'cancelled') throw new ShoalError('TASK_CANCELLED', `${task.kind} ${task.subject}: ${now.detail}`);
    bar.update(Math.floor(now.progress * (steps - 1)), now.detail);
    if (performance.now() > deadline)
      throw new ShoalError(
        'TIMEOUT',
        `${task.kind} ${task.subject}: ${now.detail} after ${Math.round(timeoutMs / 1000)} s; the controller goes on.`,
        { hint: `See \`shoal describe ${task.subject}\`.` },
      );
    await new Promise((resolve) => setTimeout(resolve, pollMs));
    now = await control.call<Task>('GET', `/v1/tasks/${task.id}`);
  }
}
