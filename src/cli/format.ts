/** Numbers, sizes, times and tables as people read them. Pure. */
import { plainStyle, type Style } from './terminal.ts';

const escapes = /\x1b\[[0-9;]*m/g;
/** Columns a text takes; colour takes none. */
export const widthOf = (text: string): number =>
  plainForm.test(text) ? text.length : [...text.replace(escapes, '')].length;
/** Most cells of a long table: a look at each character, and no copy. */
const plainForm = /^[\x20-\x7e]*$/;

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

/** Rows under dim titles, two blanks between columns, nothing at the ends of lines. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], style: Style = plainStyle): string {
  const widths = columns.map(({ title }, i) => rows.reduce((most, row) => Math.max(most, widthOf(row[i] ?? '')), widthOf(title)));
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, i) => {
        const cell = cells[i] ?? '';
        const gap = ' '.repeat(widths[i]! - widthOf(cell));
        return align === 'right' ? gap + cell : cell + gap;
      })
      .join('  ')
      .trimEnd();
  return [line(columns.map(({ title }) => style.dim(title))), ...rows.map(line)].join('\n');
}

/** `name  value` lines; a value may be empty to leave the line out. */
export function facts(pairs: readonly (readonly [string, string])[], style: Style = plainStyle): string {
  const shown = pairs.filter(([, value]) => value !== '');
  const width = Math.max(0, ...shown.map(([name]) => widthOf(name)));
  return shown.map(([name, value]) => `${style.dim(name)}${' '.repeat(width - widthOf(name))}  ${value}`).join('\n');
}

/** 1234567 -> "1,234,567". */
export const count = (n: number): string =>
  Math.round(n)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

/** KiB as KiB, MiB or GiB, with at most one decimal. */
export function kib(n: number): string {
  const [value, unit] =
    n >= 1024 * 1024 ? [n / (1024 * 1024), 'GiB'] : n >= 10_000 || (n >= 1024 && n % 1024 === 0) ? [n / 1024, 'MiB'] : [n, 'KiB'];
  return `${value >= 100 || Number.isInteger(value) ? count(value) : value.toFixed(1)} ${unit}`;
}

/** Milliseconds, three digits that matter: "8.25", "82.5", "825", "8,250". */
export function ms(n: number): string {
  return n >= 100 ? count(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
}

/** Seconds as "4 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 === 0 ? `${s / 60} min` : `${Math.floor(s / 60)} min ${s % 60} s`;
  const minutes = Math.floor((s % 3600) / 60);
  return minutes === 0 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 3600)} h ${minutes} min`;
}

/** "sha256:0123456789ab", enough to tell images apart. */
export const shortDigest = (digest: string): string => digest.slice(0, 'sha256:'.length + 12);

/**
 * The word of `words` nearest to `typed`, if one is near enough to be what was meant (Damerau-Levenshtein, optimal string
 * alignment).
 */
export function nearest(typed: string, words: Iterable<string>): string | undefined {
  let best: string | undefined;
  // A third of the letters may be wrong, and one always may.
  let bestDistance = Math.max(1, Math.floor(typed.length / 3)) + 1;
  for (const word of words) {
    const d = word.startsWith(typed) && typed.length >= 3 ? 1 : distance(typed, word);
    if (d < bestDistance) [best, bestDistance] = [word, d];
  }
  return best;
}

function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    [before, last] = [last, row];
  }
  return last[b.length]!;
}

/** How many of so many things go in one request: few enough that progress moves. */
export const portionOf = (total: number): number => Math.min(500, Math.max(50, Math.ceil(total / 20)));
