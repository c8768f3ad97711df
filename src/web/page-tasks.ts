/** Tasks of this controller's life, newest first: how far, and stop. */
import type { App, Page } from './app.ts';
import { h, setAttribute, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { count, percent, since } from './format.ts';
import { bar, button, empty, heading, Table, text, type Column } from './parts.ts';
import { hostHash, serviceHash } from './route.ts';
import { may } from './standing.ts';
import type { Task } from './types.ts';

export function tasksPage(app: App): Page {
  const { model } = app;
  const summary = h('p.summary');
  const columns: Column<Task>[] = [
    text('Task', ({ kind }) => kind),
    {
      name: 'Of',
      cell: () => {
        const link = h('a');
        return {
          content: link,
          update: ({ kind, subject }) => {
            setText(link, subject);
            setAttribute(link, 'href', kind === 'drain' ? hostHash(subject) : serviceHash(subject));
          },
        };
      },
    },
    {
      name: 'Progress',
      cell: () => {
        const part = bar('Progress');
        return {
          content: part.element,
          update: ({ progress, status }) => part.update(progress, status === 'running' ? percent(progress) : status, status === 'cancelled' ? 'warn' : 'plain'),
        };
      },
    },
    text('Detail', ({ detail }) => detail),
    text('Began', ({ created }) => `${since(created, Date.now())} ago`, { number: true }),
  ];
  if (may(app.who, 'cancel'))
    columns.push({
      name: 'Action',
      cell: () => {
        let now: Task;
        const cancel = button('Cancel', (self) =>
          void app.act(self, undefined, async () => {
            await app.api.call('POST', `/v1/tasks/${encodeURIComponent(now.id)}/cancel`);
            return `Cancelled: what was before is wanted again of ${now.subject}.`;
          }),
        );
        return {
          content: cancel,
          update: (task) => {
            now = task;
            show(cancel, task.status === 'running');
            setAttribute(cancel, 'aria-label', `Cancel ${task.kind} of ${task.subject}`);
          },
        };
      },
    });
  const table = new Table<Task>('Tasks', columns, ({ id }) => id);
  const nothing = h('div', {}, empty('No tasks', 'Apply, scale, restart, delete or drain something, and its progress shows here. Tasks end with the controller; the work goes on.'));
  return {
    title: 'Tasks',
    element: h('div', {}, heading('Tasks', summary), nothing, table.element),
    filters: 'service, kind:, status:',
    update: () => {
      const tasks = [...model.tasks.values()].sort((a, b) => (a.created === b.created ? (a.id < b.id ? -1 : 1) : a.created < b.created ? 1 : -1));
      setText(summary, model.loaded ? `${count(tasks.filter(({ status }) => status === 'running').length)} running` : 'Listing…');
      show(nothing, model.loaded && tasks.length === 0);
      show(table.element, tasks.length > 0);
      table.update(tasks.filter(({ subject, kind, status, detail }) => matches(app.terms, { service: subject, kind, status, detail })));
    },
  };
}
