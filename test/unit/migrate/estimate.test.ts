/** The estimator: the formula's shape, that it learns, and the rule. */
import { readFileSync } from 'node:fs';
import test from 'tape';
import { advise, estimate, formula, learned, type Load, type Past } from '../../../src/migrate/estimate.ts';

const load: Load = { memoryKib: 102_400, filled: 1, dirtyBps: 0 };
const way = { rttMs: 10, bandwidthBps: 10 * 1024 * 1024 };

test('a plain migration copies its memory once while it runs, and stands still for what is written meanwhile, and some round trips', (t) => {
  const { bytes, downtimeMs, totalMs } = formula(load, way, false);
  t.equal(bytes, 100 * 1024 * 1024);
  t.ok(downtimeMs >= 2 * way.rttMs && downtimeMs < 6 * way.rttMs, `${downtimeMs} ms`);
  t.ok(totalMs >= 10_000 + downtimeMs && totalMs < 10_200 + downtimeMs, `${totalMs} ms`);
  t.ok(formula({ ...load, filled: 0.1 }, way, false).totalMs < totalMs / 5, 'zeroes are not shipped');
  t.ok(formula(load, { ...way, rttMs: 100 }, false).downtimeMs >= downtimeMs + 180, 'round trips count');
  const written = formula({ ...load, dirtyBps: 1024 * 1024 }, way, false);
  t.ok(written.downtimeMs >= 1000 && written.downtimeMs < 1100, `${written.downtimeMs} ms when a tenth of it is written anew`);
  t.end();
});

test('a live one stands still for what is written meanwhile, unless that is as much as can be shipped', (t) => {
  const quiet = formula({ ...load, dirtyBps: 1024 * 1024 }, way, true);
  t.ok(quiet.downtimeMs < 200, `${quiet.downtimeMs} ms`);
  t.ok(quiet.totalMs > 10_000);
  const busy = formula({ ...load, dirtyBps: 20 * 1024 * 1024 }, way, true);
  t.ok(busy.downtimeMs > 9_000, `${busy.downtimeMs} ms: it never catches up`);
  t.ok(Number.isFinite(busy.totalMs) && busy.bytes < 10 * quiet.bytes, 'and it ends');
  t.end();
});

const past = (more: number, live = false): Past => {
  const plain = formula(load, way, live);
  return { formula: plain, bytes: plain.bytes, totalMs: plain.totalMs + more, downtimeMs: plain.downtimeMs + more / 2, live, filled: 1, dirtyBps: 0, bandwidthBps: way.bandwidthBps };
};

test('it learns from what was, and from nothing else', (t) => {
  const plain = estimate(load, way, false, []);
  t.deepEqual(plain, formula(load, way, false));
  const taught = estimate(load, way, false, [past(400), past(9_000), past(420)]);
  t.equal(Math.round(taught.totalMs - plain.totalMs), 420, 'the median: one that was out of the way does not count');
  t.equal(Math.round(taught.downtimeMs - plain.downtimeMs), 210);
  const over = (...more: number[]): number => Math.round(estimate(load, way, false, more.map((ms) => past(ms))).totalMs - plain.totalMs);
  t.equal(over(900, 910, 920, 930, 400, 410), 410, 'two of three are enough for a new level');
  t.equal(over(400, 420), 410);
  const cold = { ...past(5_000), first: true };
  t.equal(Math.round(estimate(load, way, false, [cold, past(100)]).totalMs - plain.totalMs), 100, 'a first one is no measure for the others');
  t.equal(Math.round(estimate(load, way, false, [cold]).totalMs - plain.totalMs), 5000, 'where there are none it is all there is');
  t.deepEqual(estimate(load, way, true, [past(400)]), formula(load, way, true), 'live ones are another kind');
  t.equal(estimate(load, way, false, [past(-1e6)]).downtimeMs, 0, 'never less than nothing');
  t.deepEqual(learned([]), { filled: undefined, bandwidthBps: undefined, dirtyBps: undefined });
  t.equal(learned([past(1), past(2)]).bandwidthBps, way.bandwidthBps);
  const nothing = estimate(load, { rttMs: undefined, bandwidthBps: undefined }, false, []);
  t.ok(Number.isFinite(nothing.totalMs), 'a way that nobody knows');
  t.end();
});

/** Each foretold from those before it and nothing else. */
function replayed(rows: readonly { bytes: number; totalMs: number; downtimeMs: number }[]): number {
  const before: Past[] = [];
  const errors: number[] = [];
  for (const { bytes, totalMs, downtimeMs } of rows) {
    const { filled, bandwidthBps } = learned(before);
    const said = estimate({ memoryKib: 8192, filled: filled ?? 0.5, dirtyBps: 0 }, { rttMs: 10, bandwidthBps }, false, before);
    if (before.length >= 3) errors.push(Math.abs(said.totalMs - totalMs) / totalMs);
    const real = { filled: bytes / (8192 * 1024), bandwidthBps: (bytes / downtimeMs) * 1000, dirtyBps: 0 };
    before.push({ ...real, bytes, totalMs, downtimeMs, live: false, first: before.length === 0, formula: formula({ memoryKib: 8192, ...real }, { rttMs: 10, bandwidthBps: real.bandwidthBps }, false) });
  }
  return errors.sort((a, b) => a - b)[errors.length >> 1]!;
}

test('the series that was recorded in the lab, each foretold from those before it', (t) => {
  const [head, ...lines] = readFileSync(new URL('../../../docs/bench/migration.csv', import.meta.url), 'utf8').trim().split('\n').map((line) => line.split(','));
  const column = (name: string): number => head!.indexOf(name);
  const rows = lines.map((line) => ({ bytes: Number(line[column('bytes')]), totalMs: Number(line[column('migrate_ms')]), downtimeMs: Number(line[column('standstill_ms')]) }));
  const error = replayed(rows);
  t.ok(error < 0.25, `${rows.length} migrations, median error ${Math.round(100 * error)} %`);
  const halved = replayed(rows.map((row, i) => (i < 15 ? row : { ...row, totalMs: row.totalMs / 2, downtimeMs: row.downtimeMs / 2 })));
  t.ok(halved < 0.3, `where the times halve in the middle of it: ${Math.round(100 * halved)} %`);
  t.end();
});

test('the rule: 150 ms and 1 s', (t) => {
  t.equal(advise(150, 1e9, 0), 'migrate');
  t.equal(advise(151, 200, 100), 'start-afresh');
  t.equal(advise(151, 99, 100), 'migrate');
  t.equal(advise(1000, 99, 100), 'migrate');
  t.equal(advise(1001, 1, 1e9), 'start-afresh');
  t.equal(advise(Infinity, 1, 1e9), 'start-afresh', 'a host that cannot be reached');
  t.end();
});
