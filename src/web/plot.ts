/** A small plot of one number over time: the last samples as a line over an area, the latest as words. */
import { h, setAttribute, setText, svg } from './dom.ts';

const kept = 60;
const width = 240;
const height = 56;

export class Plot {
  readonly element: HTMLElement;
  readonly #format: (value: number) => string;
  readonly #values: number[] = [];
  readonly #now = h('b', {}, '–');
  readonly #most = h('span.most');
  readonly #line = svg('polyline', { class: 'line' });
  readonly #area = svg('polygon', { class: 'area' });
  readonly #picture: SVGElement;
  readonly #name: string;

  constructor(name: string, format: (value: number) => string) {
    this.#name = name;
    this.#format = format;
    this.#picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': name }, this.#area, this.#line);
    this.element = h('figure.plot', {}, h('figcaption', {}, h('span', {}, name), this.#now), this.#picture, this.#most);
  }

  get count(): number {
    return this.#values.length;
  }

  push(value: number): void {
    this.#values.push(value);
    if (this.#values.length > kept) this.#values.shift();
    const most = Math.max(...this.#values);
    const y = (v: number): string => (height - 2 - (most === 0 ? 0 : (v / most) * (height - 6))).toFixed(1);
    const x = (i: number): string => (width - (this.#values.length - 1 - i) * (width / (kept - 1))).toFixed(1);
    const points = this.#values.map((v, i) => `${x(i)},${y(v)}`).join(' ');
    setAttribute(this.#line, 'points', points);
    setAttribute(this.#area, 'points', `${x(0)},${height} ${points} ${width},${height}`);
    setText(this.#now, this.#format(value));
    setText(this.#most, `most ${this.#format(most)}`);
    setAttribute(this.#picture, 'aria-label', `${this.#name}: ${this.#format(value)} now, ${this.#format(most)} at most`);
  }
}
