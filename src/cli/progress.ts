/**
 * A bar for work whose end is known: done of total, rate over the last seconds, time left. On a terminal it is redrawn in place,
 * at most ten times a second; elsewhere it becomes a line at each tenth of the work.
 */
import { count, duration } from './format.ts';
import type { Terminal } from './terminal.ts';

export interface ProgressOptions {
  label: string;
  total: number;
  /** Done already; 0 by default. */
  start?: number;
  /** Monotonic milliseconds; a test gives its own. */
  now?: () => number;
}

const redrawMs = 100;
/** The rate is that of the last so many milliseconds: a start that grows slower shows at once, one late VM does not. */
const rateWindowMs = 10_000;

export class Progress {
  readonly #terminal: Terminal;
  readonly #label: string;
  readonly #total: number;
  readonly #now: () => number;
  readonly #began: number;
  #samples: { at: number; done: number }[];
  #done: number;
  #drawnAt = -Infinity;
  #tenth: number;

  constructor(terminal: Terminal, options: ProgressOptions) {
    this.#terminal = terminal;
    this.#label = options.label;
    this.#total = options.total;
    this.#now = options.now ?? (() => performance.now());
    this.#began = this.#now();
    this.#done = options.start ?? 0;
    this.#tenth = Math.floor((10 * this.#done) / this.#total);
    this.#samples = [{ at: this.#began, done: this.#done }];
    this.#draw('');
  }

  /** `note` is shown behind the rate. */
  update(done: number, note = ''): void {
    const now = this.#now();
    this.#done = done;
    const last = this.#samples[this.#samples.length - 1]!;
    if (now - last.at >= redrawMs || done >= this.#total) {
      this.#samples.push({ at: now, done });
      while (this.#samples.length > 2 && this.#samples[1]!.at < now - rateWindowMs) this.#samples.shift();
    }
    if (this.#terminal.live) {
      if (now - this.#drawnAt < redrawMs && done < this.#total) return;
      this.#draw(note);
      return;
    }
    const tenth = Math.floor((10 * done) / this.#total);
    if (tenth > this.#tenth) {
      this.#tenth = tenth;
      this.#terminal.note(`${this.#label} ${count(done)}/${count(this.#total)}${this.#pace()}${note === '' ? '' : `  ${note}`}`);
    }
  }

  /** Takes the bar away; what took its place is for the caller to say. Returns the seconds it all took. */
  end(): number {
    this.#terminal.status('');
    return (this.#now() - this.#began) / 1000;
  }

  /** Work per second over the window. */
  rate(): number {
    const first = this.#samples[0]!;
    const last = this.#samples[this.#samples.length - 1]!;
    return last.at > first.at ? ((last.done - first.done) * 1000) / (last.at - first.at) : 0;
  }

  #pace(): string {
    const rate = this.rate();
    if (rate <= 0) return '';
    const left = (this.#total - this.#done) / rate;
    return `  ${rate >= 10 ? rate.toFixed(0) : rate.toFixed(1)}/s${this.#done >= this.#total ? '' : `  ${duration(left)} left`}`;
  }

  #draw(note: string): void {
    this.#drawnAt = this.#now();
    const { cyan, dim } = this.#terminal.noteStyle;
    const counts = `${count(this.#done).padStart(count(this.#total).length)}/${count(this.#total)}`;
    const pace = this.#pace();
    const tail = note === '' ? '' : `  ${note}`;
    const taken = this.#label.length + 1 + counts.length + pace.length + tail.length + 2;
    const width = Math.min(40, this.#terminal.columns - taken - 3);
    const bar = width < 8 ? '' : ` ${cyan(barOf(this.#done / this.#total, width))}`;
    this.#terminal.status(`${this.#label}${bar} ${counts}${dim(pace + tail)}`);
  }
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of `width` columns; the last block shows eighths. */
export function barOf(part: number, width: number): string {
  const full = Math.max(0, Math.min(1, part)) * width * 8;
  const whole = Math.floor(full / 8);
  const bar = '█'.repeat(whole) + eighths[Math.floor(full % 8)]!;
  return bar + '░'.repeat(width - bar.length);
}
