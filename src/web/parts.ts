/** Small parts that several pages have: a state with its colour, a bar, a table that becomes cards on a phone, an empty page. */
import type { App } from './app.ts';
import { h, Rows, setAttribute, setText, show, type Child, type Row } from './dom.ts';
import { count, percent } from './format.ts';
import { meaning, type Standing } from './standing.ts';

export interface StandingPart {
  element: HTMLElement;
  update(standing: Standing, more?: string): void;
}

export function standingPart(): StandingPart {
  const dot = h('i.dot');
  const word = h('span');
  const element = h('span.standing', {}, dot, word);
  return {
    element,
    update: (standing, more = '') => {
      dot.className = `dot ${standing}`;
      setText(word, `${standing}${more}`);
      setAttribute(element, 'title', meaning[standing]);
    },
  };
}

export interface Bar {
  element: HTMLElement;
  /** Parts of 1 each. */
  update(part: number, label: string, tone?: 'plain' | 'warn'): void;
}

export function bar(what: string): Bar {
  const fill = h('span');
  const track = h('div.track', { role: 'progressbar', 'aria-label': what, 'aria-valuemin': 0, 'aria-valuemax': 100 }, fill);
  const words = h('span.words');
  const element = h('div.bar', {}, track, words);
  return {
    element,
    update: (part, label, tone = 'plain') => {
      const within = Math.max(0, Math.min(1, Number.isFinite(part) ? part : 0));
      fill.style.width = `${within * 100}%`;
      fill.className = tone;
      setAttribute(track, 'aria-valuenow', String(Math.floor(within * 100)));
      setAttribute(track, 'aria-valuetext', label || percent(within));
      setText(words, label);
    },
  };
}

export interface Column<T> {
  name: string;
  /** Right-aligned. */
  number?: boolean;
  /** The cell's content, and what keeps it true. */
  cell(): { content: Child; update(item: T): void };
}

/** A cell of text. */
export const text = <T>(name: string, of: (item: T) => string, more: { number?: boolean; class?: string } = {}): Column<T> => ({
  name,
  ...(more.number === true ? { number: true } : {}),
  cell: () => {
    const span = h('span', { class: more.class });
    return { content: span, update: (item) => setText(span, of(item)) };
  },
});

const rowsAtOnce = 200;

/** Rows beyond the first 200 are asked for: a table of 10,000 rows helps nobody. */
export class Table<T> {
  readonly element: HTMLElement;
  readonly #rows: Rows<T>;
  readonly #more: HTMLButtonElement;
  readonly #none: HTMLElement;
  readonly #table: HTMLElement;
  #most = rowsAtOnce;
  #items: readonly T[] = [];

  constructor(label: string, columns: readonly Column<T>[], key: (item: T) => string) {
    const body = h('tbody');
    const head = h('tr', {}, ...columns.map(({ name, number }) => h('th', { scope: 'col', class: number && 'number' }, name)));
    this.#table = h('table', { 'aria-label': label }, h('thead', {}, head), body);
    this.#more = h('button.quiet', { type: 'button', onclick: () => ((this.#most += rowsAtOnce), this.#draw()) });
    this.#none = h('p.none', { hidden: true }, 'Nothing matches the filter.');
    this.element = h('div.table', {}, this.#table, this.#none, this.#more);
    this.#rows = new Rows<T>(body, key, () => {
      const cells = columns.map((column) => ({ column, ...column.cell() }));
      const element = h(
        'tr',
        {},
        ...cells.map(({ column: { name, number }, content }) => h('td', { 'data-label': name, class: number && 'number' }, content)),
      );
      return { element, update: (item) => cells.forEach((cell) => cell.update(item)) } satisfies Row<T>;
    });
  }

  update(items: readonly T[]): void {
    this.#items = items;
    this.#draw();
  }

  #draw(): void {
    this.#rows.update(this.#items.slice(0, this.#most));
    const left = this.#items.length - this.#most;
    show(this.#more, left > 0);
    setText(this.#more, `Show more, ${count(Math.max(0, left))} left`);
    show(this.#table, this.#items.length > 0);
    show(this.#none, this.#items.length === 0);
  }
}

/** What a page says when there is nothing to show: why, and what to do. */
export const empty = (title: string, words: string, command?: string): HTMLElement =>
  h('div.empty', {}, h('h2', {}, title), h('p', {}, words), command !== undefined && h('pre', {}, command));

export const heading = (title: string, ...more: Child[]): HTMLElement =>
  h('div.heading', {}, h('h1', { tabindex: -1 }, title), ...more);

export interface Facts {
  element: HTMLElement;
  update(facts: Record<string, string | HTMLElement | undefined>): void;
}

/** A list of facts; one that is undefined is left out. */
export function facts(): Facts {
  const element = h('dl.facts');
  const shown = new Map<string, { row: HTMLElement; value: HTMLElement }>();
  return {
    element,
    update: (given) => {
      for (const [name, value] of Object.entries(given)) {
        let entry = shown.get(name);
        if (entry === undefined) {
          const dd = h('dd');
          entry = { row: h('div', {}, h('dt', {}, name), dd), value: dd };
          shown.set(name, entry);
          element.append(entry.row);
        }
        show(entry.row, value !== undefined && value !== '');
        if (typeof value === 'string') {
          setText(entry.value, value);
          entry.row.classList.toggle('wide', value.length > 48);
          entry.value.classList.toggle('code', /^(sha256:)?[0-9a-f-]{32,}$/.test(value));
        }
        else if (value !== undefined && entry.value.firstChild !== value) entry.value.replaceChildren(value);
      }
    },
  };
}

export const button = (label: string, onclick: (button: HTMLButtonElement) => void, kind = 'plain'): HTMLButtonElement => {
  const element: HTMLButtonElement = h('button', { type: 'button', class: kind, onclick: () => onclick(element) }, label);
  return element;
};

/** Of a list that is not there yet, or that is empty. */
export function waiting(app: App): HTMLElement | undefined {
  return app.model.loaded ? undefined : h('p.none', {}, 'Listing the fleet…');
}
