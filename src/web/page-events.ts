/** What changed since this page was opened, newest first; can be held still to be read. */
import type { App, Page } from './app.ts';
import { h, Rows, setAttribute, setText, show } from './dom.ts';
import { matches } from './filter.ts';
import { clock, plural } from './format.ts';
import type { News } from './model.ts';
import { button, empty, heading } from './parts.ts';
import { hostHash, serviceHash, vmHash } from './route.ts';

const shownAtMost = 200;

export function eventsPage(app: App): Page {
  const { model } = app;
  const summary = h('p.summary');
  let held: readonly News[] | undefined;
  const hold = button('Hold', () => {
    held = held === undefined ? [...model.news] : undefined;
    setText(hold, held === undefined ? 'Hold' : 'Go on');
    setAttribute(hold, 'aria-pressed', String(held !== undefined));
    app.refresh();
  });
  const list = h('ol.events', { 'aria-label': 'Events, newest first' });
  const rows = new Rows<News>(
    list,
    ({ number }) => String(number),
    ({ atMs, kind, key, bad }) => {
      const words = h('span.words');
      const href = kind === 'vm' ? vmHash(key) : kind === 'host' ? hostHash(key) : kind === 'task' ? '#/tasks' : serviceHash(key);
      const element = h(
        'li',
        { class: bad && 'bad' },
        h('time', { datetime: new Date(atMs).toISOString() }, clock(atMs)),
        h('span.kind', {}, kind),
        h('a', { href }, kind === 'task' ? `task ${key.slice(0, 8)}` : key),
        words,
      );
      return { element, update: ({ text }) => setText(words, text) };
    },
  );
  const nothing = h('div', {}, empty('Nothing has changed yet', 'Changes of VMs, services, hosts and tasks show here as they come, from the moment this page was opened.'));
  const none = h('p.none', { hidden: true }, 'Nothing matches the filter.');
  return {
    title: 'Events',
    element: h('div', {}, heading('Events', summary, h('div.actions', {}, hold)), nothing, none, list),
    filters: 'name, kind:, text:',
    update: () => {
      const news = held ?? model.news;
      const found = news.filter(({ kind, key, text }) => matches(app.terms, { name: key, kind, text })).slice(0, shownAtMost);
      show(nothing, news.length === 0);
      show(none, news.length > 0 && found.length === 0);
      setText(summary, held !== undefined ? 'held still' : found.length === 0 ? '' : `the last ${plural(found.length, 'change')}`);
      rows.update(found);
    },
  };
}
