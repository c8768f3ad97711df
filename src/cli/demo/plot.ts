/**
 * A scatter plot as SVG, drawn from nothing: no library, no font of its own, no resource from elsewhere. Colours follow the
 * reader's light or dark theme; series differ in shape as well as in colour. Pure.
 */

export interface Series {
  label: string;
  points: readonly (readonly [x: number, y: number])[];
  shape: 'dot' | 'diamond' | 'ring';
  /** A horizontal line at this y. */
  line?: { y: number; label: string };
}

export interface PlotOptions {
  /** Read out in place of the picture. */
  title: string;
  xLabel: string;
  yLabel: string;
  scale: 'linear' | 'log';
  series: readonly Series[];
}

const width = 960;
const height = 460;
/** Beyond so many points marks get smaller. */
const manyPoints = 150;
const margin = { left: 74, right: 168, top: 44, bottom: 56 };

/** Steps of 1, 2 or 5 times a power of ten, at most `most` of them, from 0 to at least `max`. */
export function linearTicks(max: number, most = 8): number[] {
  if (!(max > 0)) return [0, 1];
  const rough = max / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const ticks: number[] = [];
  for (let i = 0; ; i++) {
    ticks.push(Number((i * step).toPrecision(12)));
    if (i * step >= max) return ticks;
  }
}

/** 1, 2 and 5 times each power of ten around min..max. */
export function logTicks(min: number, max: number): number[] {
  const low = Math.floor(Math.log10(min));
  const high = Math.ceil(Math.log10(max));
  const all: number[] = [];
  for (let power = low; power <= high; power++)
    for (const factor of [1, 2, 5]) all.push(Number((factor * 10 ** power).toPrecision(12)));
  const first = all.findLastIndex((tick) => tick <= min);
  const last = all.findIndex((tick) => tick >= max);
  return all.slice(Math.max(0, first), last < 0 ? undefined : last + 1);
}

const style = `
.plot{--ink:#1f2933;--soft:#64707d;--grid:#e3e7eb;--s0:#1668c7;--s1:#c2570c;--s2:#5b7a1f;
font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
@media (prefers-color-scheme:dark){.plot{--ink:#e6e9ec;--soft:#98a3ae;--grid:#2c343c;--s0:#62a8f5;--s1:#f2994a;--s2:#a9c95e}}
.plot text{fill:var(--ink)}.plot .soft{fill:var(--soft)}
.plot .grid{stroke:var(--grid);stroke-width:1}.plot .axis{stroke:var(--soft);stroke-width:1}
.plot .s0{--c:var(--s0)}.plot .s1{--c:var(--s1)}.plot .s2{--c:var(--s2)}
.plot .mark{fill:var(--c);fill-opacity:.5}.plot .mark.solid{fill-opacity:.95}
.plot .mark.ring{fill:none;stroke:var(--c);stroke-width:1.6}
.plot .p50{stroke:var(--c);stroke-width:1.6;stroke-dasharray:6 4}.plot .name{fill:var(--c);font-weight:600}`;

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
const fixed = (n: number): string => n.toFixed(1).replace(/\.0$/, '');
const number = (n: number): string => (n >= 1000 ? String(n).replace(/\B(?=(\d{3})+$)/g, ',') : String(n));

/**
 * A whole <svg> element; it can stand in a page or be a file. Points that are not finite, or not positive on a log scale, are
 * left out.
 */
export function plotSvg({ title, xLabel, yLabel, scale, series }: PlotOptions): string {
  const drawable = ([x, y]: readonly [number, number]) =>
    Number.isFinite(x) && Number.isFinite(y) && (scale === 'linear' || y > 0);
  const shown = series.map((one) => ({ ...one, points: one.points.filter(drawable) }));
  const xs = shown.flatMap(({ points }) => points.map(([x]) => x));
  const ys = shown.flatMap(({ points }) => points.map(([, y]) => y));
  const xTicks = linearTicks(greatest(xs, 1), 10);
  const yTicks = scale === 'linear' ? linearTicks(greatest(ys, 1)) : logTicks(least(ys, 1), greatest(ys, 10));
  const right = width - margin.right;
  const bottom = height - margin.bottom;
  const xMax = xTicks[xTicks.length - 1]!;
  const [yMin, yMax] = [yTicks[0]!, yTicks[yTicks.length - 1]!];
  const part = (y: number): number =>
    scale === 'linear' ? (y - yMin) / (yMax - yMin) : Math.log(y / yMin) / Math.log(yMax / yMin);
  const px = (x: number): number => margin.left + (x / xMax) * (right - margin.left);
  const py = (y: number): number => bottom - part(y) * (bottom - margin.top);

  const out: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 ${width} ${height}"`,
    ` role="img" aria-label="${escaped(title)}">`,
    `<style>${style.replace(/\n/g, '')}</style>`,
  ];
  for (const tick of yTicks) {
    const y = fixed(py(tick));
    out.push(`<line class="grid" x1="${margin.left}" x2="${right}" y1="${y}" y2="${y}"/>`);
    out.push(
      `<text class="soft" x="${margin.left - 10}" y="${y}" text-anchor="end" dominant-baseline="middle">${number(tick)}</text>`,
    );
  }
  for (const tick of xTicks) {
    out.push(`<line class="axis" x1="${fixed(px(tick))}" x2="${fixed(px(tick))}" y1="${bottom}" y2="${bottom + 5}"/>`);
    out.push(`<text class="soft" x="${fixed(px(tick))}" y="${bottom + 20}" text-anchor="middle">${number(tick)}</text>`);
  }
  out.push(`<line class="axis" x1="${margin.left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`);
  out.push(`<text x="${(margin.left + right) / 2}" y="${height - 12}" text-anchor="middle">${escaped(xLabel)}</text>`);
  out.push(`<text x="${margin.left}" y="22" text-anchor="start">${escaped(yLabel)}</text>`);

  shown.forEach(({ points, shape }, i) => {
    const r = points.length > manyPoints ? 2.2 : 3.4;
    out.push(`<g class="s${i}">${points.map(([x, y]) => mark(shape, px(x), py(y), r)).join('')}</g>`);
  });
  const labels = shown.flatMap(({ line, label }, i) =>
    line === undefined || !Number.isFinite(line.y) ? [] : [{ i, label, line, y: py(line.y) }],
  );
  for (const [place, { i, label, line, y }] of apart(labels).entries()) {
    const at = fixed(labels[place]!.y);
    out.push(`<line class="p50 s${i}" x1="${margin.left}" x2="${right}" y1="${at}" y2="${at}"/>`);
    out.push(
      `<text class="name s${i}" x="${right + 12}" y="${fixed(y - 8)}" dominant-baseline="middle">${escaped(label)}</text>`,
    );
    out.push(`<text class="soft" x="${right + 12}" y="${fixed(y + 9)}" dominant-baseline="middle">${escaped(line.label)}</text>`);
  }
  out.push('</svg>');
  return out.join('\n');
}

/** Labels moved so that each has its 38 pixels; the order they came in is kept. */
function apart<T extends { y: number }>(labels: readonly T[]): T[] {
  const sorted = labels.map((label, i) => ({ i, label })).sort((a, b) => a.label.y - b.label.y);
  const moved: T[] = [];
  let free = margin.top;
  for (const { i, label } of sorted) {
    const y = Math.max(free, label.y);
    moved[i] = { ...label, y };
    free = y + 38;
  }
  return moved;
}

function mark(shape: Series['shape'], x: number, y: number, r: number): string {
  const [cx, cy] = [fixed(x), fixed(y)];
  if (shape === 'dot') return `<circle class="mark" cx="${cx}" cy="${cy}" r="${r}"/>`;
  if (shape === 'ring') return `<circle class="mark ring" cx="${cx}" cy="${cy}" r="${r}"/>`;
  return `<path class="mark solid" d="M${cx} ${fixed(y - 5)}l5 5-5 5-5-5z"/>`;
}

const greatest = (values: readonly number[], otherwise: number): number =>
  values.reduce((a, b) => Math.max(a, b), values.length === 0 ? otherwise : -Infinity);
const least = (values: readonly number[], otherwise: number): number =>
  values.reduce((a, b) => Math.min(a, b), values.length === 0 ? otherwise : Infinity);
