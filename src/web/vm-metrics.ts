/** What goes through a VM's vifs, asked for every two seconds while the page is seen; nothing is kept of it elsewhere. */
import type { App } from './app.ts';
import { h, setText, show } from './dom.ts';
import { bytes, count } from './format.ts';
import { Plot } from './plot.ts';
import { problemOf } from './problem.ts';
import type { Counters, Metrics } from './types.ts';

const everyMs = 2000;
const none: Counters = { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, rxDropped: 0, txDropped: 0 };

/** Of all vifs together; undefined when nobody counts any of them. */
export function sum({ vifs }: Metrics): Counters | undefined {
  const counted = vifs.flatMap(({ counters }) => (counters === undefined ? [] : [counters]));
  if (counted.length === 0) return undefined;
  return counted.reduce((total, each) => {
    const next = { ...total };
    for (const name of Object.keys(none) as (keyof Counters)[]) next[name] += each[name];
    return next;
  }, none);
}

export class VmMetrics {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #id: string;
  readonly #plots: [keyof Counters | 'dropped', Plot][];
  readonly #why = h('p.none', {}, 'Asking its host…');
  readonly #grid: HTMLElement;
  #before: { atMs: number; counters: Counters } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(app: App, id: string) {
    this.#app = app;
    this.#id = id;
    const size = (n: number): string => `${bytes(n)}/s`;
    const number = (n: number): string => `${count(Math.round(n))} /s`;
    this.#plots = [
      ['rxBytes', new Plot('Received', size)],
      ['txBytes', new Plot('Sent', size)],
      ['rxFrames', new Plot('Frames in', number)],
      ['txFrames', new Plot('Frames out', number)],
      ['dropped', new Plot('Dropped', number)],
    ];
    this.#grid = h('div.plots', { hidden: true }, ...this.#plots.map(([, plot]) => plot.element));
    this.element = h('section', {}, h('h2', {}, 'Network'), this.#why, this.#grid);
    void this.#ask();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    try {
      if (!document.hidden) this.#take(await this.#app.api.get<Metrics>(`/v1/vms/${encodeURIComponent(this.#id)}/metrics`));
    } catch (error) {
      const { status, message, hint } = problemOf(error);
      this.#say(`${message} ${hint}`);
      // Names of VMs are given once: this one does not come back.
      if (status === 404) return;
    }
    if (!this.#closed) this.#timer = setTimeout(() => void this.#ask(), everyMs);
  }

  #take(metrics: Metrics): void {
    const counters = sum(metrics);
    if (counters === undefined)
      return this.#say('Nobody counts its frames: it does not run, its vifs are not on the switch, or its host has not the plugin "shoal".');
    const atMs = Date.parse(metrics.at);
    const before = this.#before;
    this.#before = { atMs, counters };
    if (before === undefined || atMs <= before.atMs) return before === undefined ? this.#say('Counting…') : undefined;
    const perSecond = (value: number, was: number): number => (Math.max(0, value - was) * 1000) / (atMs - before.atMs);
    for (const [name, plot] of this.#plots)
      plot.push(
        name === 'dropped'
          ? perSecond(counters.rxDropped + counters.txDropped, before.counters.rxDropped + before.counters.txDropped)
          : perSecond(counters[name], before.counters[name]),
      );
    show(this.#why, false);
    show(this.#grid, true);
  }

  #say(words: string): void {
    setText(this.#why, words);
    show(this.#why, true);
    show(this.#grid, this.#plots[0]![1].count > 0);
  }
}
