/** The estimator: the formula's shape, that it learns, and the rule. */
import test from 'tape';
import { advise, estimate, formula, learned, type Load, type Past } from '../../../src/migrate/estimate.ts';

const load: Load = { memoryKib: 102_400, filled: 1, dirtyBps: 0 };
const way = { rttMs: 10, bandwidthBps: 10 * 1024 * 1024 };

test('a plain migration stands still for its memory over the bandwidth, and some round trips', (t) => {
  const { bytes, downtimeMs, totalMs } = formula(load, way, false);
  t.equal(bytes, 100 * 1024 * 1024);
  t.ok(downtimeMs >= 10_000 + 2 * way.rttMs && downtimeMs < 10_000 + 6 * way.rttMs, `${downtimeMs} ms`);
  t.ok(totalMs > downtimeMs);
  t.ok(formula({ ...load, filled: 0.1 }, way, false).downtimeMs < downtimeMs / 5, 'zeroes are not shipped');
  t.ok(formula(load, { ...way, rttMs: 100 }, false).downtimeMs >= downtimeMs + 180, 'round trips count');
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
  const taught = estimate(load, way, false, [past(400), past(420), past(9_000), past(380), past(410)]);
  t.equal(Math.round(taught.totalMs - plain.totalMs), 410, 'the median: one that was out of the way does not count');
  t.equal(Math.round(taught.downtimeMs - plain.downtimeMs), 205);
  t.deepEqual(estimate(load, way, true, [past(400)]), formula(load, way, true), 'live ones are another kind');
  t.equal(estimate(load, way, false, [past(-1e6)]).downtimeMs, 0, 'never less than nothing');
  t.deepEqual(learned([]), { filled: undefined, bandwidthBps: undefined, dirtyBps: undefined });
  t.equal(learned([past(1), past(2)]).bandwidthBps, way.bandwidthBps);
  const nothing = estimate(load, { rttMs: undefined, bandwidthBps: undefined }, false, []);
  t.ok(Number.isFinite(nothing.totalMs), 'a way that nobody knows');
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
