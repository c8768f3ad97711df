/** Where requests go and how many caches there are: pure functions, and a crowd that comes within ten seconds, on a clock of its own. */
import test from 'tape';
import { between, loadOf, readMetrics } from '../../../src/cache/route/openmetrics.ts';
import { placeOf } from '../../../src/cache/route/place.ts';
import { candidates, ringOf, walk } from '../../../src/cache/route/ring.ts';
import { decide, freshMemory, shareOut, usualScale, type ScaleCache } from '../../../src/cache/route/scale.ts';
import { route, tableOf, type CacheView } from '../../../src/cache/route/table.ts';

const names = (n: number): string[] => Array.from({ length: n }, (_, i) => `cache-${i}`);
const keys = Array.from({ length: 4000 }, (_, i) => `/v720/s-${i}.m4s`);
const cacheOf = (id: string, more: Partial<CacheView> = {}): CacheView => ({ id, url: `http://${id}`, address: id, place: '', state: 'serving', load: 0, ...more });

test('a ring: the same for all who make it, even, and little moves when a cache goes', (t) => {
  const ring = ringOf(names(10));
  t.deepEqual(ringOf([...names(10)].reverse()), ring, 'whatever the order of the caches');
  t.deepEqual(walk(ring, 'x').sort(), [...ring.ids], 'a key meets every cache once');
  t.deepEqual(walk(ringOf([]), 'x'), [], 'no caches, no answer');
  const owner = (of: typeof ring, key: string): string => walk(of, key)[0]!;
  const shares = new Map<string, number>();
  for (const key of keys) shares.set(owner(ring, key), (shares.get(owner(ring, key)) ?? 0) + 1);
  t.ok([...shares.values()].every((n) => n > 200 && n < 640), `shares of 400: ${[...shares.values()].sort((a, b) => a - b).join(' ')}`);
  const less = ringOf(names(10).filter((id) => id !== 'cache-3'));
  const moved = keys.filter((key) => owner(ring, key) !== owner(less, key));
  t.ok(moved.every((key) => owner(ring, key) === 'cache-3'), 'only what the one that went had');
  t.end();
});

test('bounded loads: a key stays where it is until that cache is too busy, then the next one takes it', (t) => {
  const ring = ringOf(names(5));
  const order = walk(ring, 'hot');
  t.deepEqual(candidates(ring, 'hot', new Map([[order[0]!, 0.4]])), order, 'below half of its capacity nothing moves');
  t.equal(candidates(ring, 'hot', new Map([[order[0]!, 0.9]]))[0], order[1], 'a busy one is passed over');
  t.equal(candidates(ring, 'hot', new Map([[order[0]!, 0.9]])).length, 5, 'and is still there as the last resort');
  const all = new Map(order.map((id) => [id, 0.9]));
  t.equal(candidates(ring, 'hot', all)[0], order[0], 'when all are as busy, its own has it');
  // Everybody asks for one key: the load spreads, and no cache goes far beyond the mean.
  const loads = new Map(order.map((id) => [id, 0]));
  for (let i = 0; i < 1000; i++) {
    const to = candidates(ring, 'hot', loads)[0]!;
    loads.set(to, loads.get(to)! + 0.004);
  }
  const mean = 4 / 5;
  t.ok(Math.max(...loads.values()) <= 1.26 * mean, `the busiest has ${Math.max(...loads.values()).toFixed(2)} of a mean of ${mean}`);
  t.end();
});

test('near before far, as long as there is room; suspects and those that drain get nobody', (t) => {
  const caches = [cacheOf('a', { place: 'berlin' }), cacheOf('b', { place: 'berlin' }), cacheOf('c', { place: 'paris' })];
  const first = (list: CacheView[], place: string, key = 'k'): string | undefined => route(tableOf(list), key, place)[0]?.id;
  t.ok(['a', 'b'].includes(first(caches, 'berlin')!), 'berlin');
  t.equal(first(caches, 'paris'), 'c');
  t.ok(first(caches, 'rome') !== undefined, 'a place without caches has those of the others');
  t.equal(first(caches.map((c) => ({ ...c, load: c.place === 'paris' ? 1.2 : 0.2 })), 'paris') === 'c', false, 'a full place sends on');
  t.deepEqual(keys.filter((key) => first([cacheOf('a', { state: 'suspect' }), cacheOf('b'), cacheOf('d', { state: 'draining' })], '', key) !== 'b'), []);
  t.equal(first([cacheOf('d', { state: 'draining' }), cacheOf('s', { state: 'starting' })], ''), 'd', 'draining is better than nothing');
  t.deepEqual(route(tableOf([cacheOf('s', { state: 'starting' })]), 'k', ''), [], 'one that never answered is no answer');
  t.end();
});

test('a place by the longest prefix', (t) => {
  const prefixes = [{ cidr: '10.0.0.0/8', place: 'all' }, { cidr: '10.1.0.0/16', place: 'one' }, { cidr: '200.0.0.0/7', place: 'high' }];
  t.deepEqual(['10.1.2.3', '10.2.2.3', '11.0.0.1', '::ffff:10.1.0.1', 'x', '201.1.1.1'].map((a) => placeOf(a, prefixes)), ['one', 'all', '', 'one', '', 'high']);
  t.equal(placeOf('1.2.3.4', [{ cidr: '0.0.0.0/0', place: 'any' }, { cidr: 'nonsense', place: 'x' }]), 'any');
  t.end();
});

test('OpenMetrics: known families under several names, the rest passed over', (t) => {
  const reading = readMetrics(
    '# TYPE minicache_requests counter\nminicache_requests_total 7\nminicache_lookups_total{result="hit"} 5\nminicache_lookups_total{result="miss"} 2\n' +
      'shoal_minicache_bytes_out_total{version="4"} 100\nshoal_minicache_bytes_out_total{version="6"} 20 1700000000\nconnections 3\nodd{a="}"} nan\nhits -4\n\x00\nnonsense\n# EOF\n',
  );
  t.deepEqual([reading.requests, reading.hits, reading.misses, reading.bytesOut, reading.connections, reading.bytesIn], [7, 5, 2, 120, 3, undefined]);
  const empty = readMetrics('');
  t.equal(between(empty, reading, 1000).requestsPerS, 7);
  t.equal(between({ ...reading, bytesOut: 1000 }, reading, 1000).bytesOut, 120, 'a counter that fell began anew');
  t.equal(between(undefined, reading, 0).bpsOut, 0, 'no rate from one reading');
  t.equal(loadOf({ bpsOut: 5e8, requestsPerS: 10 }, 90, { bps: 1e9, requestsPerS: 1000, connections: 100 }), 0.9, 'whatever is scarcest');
  t.end();
});

const steady = (n: number, load: number, more: Partial<ScaleCache> = {}): ScaleCache[] =>
  Array.from({ length: n }, (_, slot) => ({ slot, serving: true, load, connections: 1, ...more }));

test('scaling: up at once, down late, drained before it goes, never outside of min and max', (t) => {
  const at = (caches: ScaleCache[], memory = freshMemory(caches.length), ms = 0, min = 1, max = 10) => decide(caches, memory, min, max, ms, usualScale);
  t.equal(at(steady(2, 0.9)).memory.active, 3, 'two caches at 0.9 are three');
  t.equal(at(steady(2, 5)).memory.active, 10, 'max holds');
  t.equal(at([], freshMemory(0), 0, 2).memory.active, 2, 'min holds');
  t.equal(at([...steady(1, 0.95), { slot: 1, serving: true, load: 0.05, connections: 1 }]).memory.active, 3, 'a hot spot asks for one more');
  t.equal(at([...steady(1, 0.95), { slot: 1, serving: false, load: 0, connections: 0 }]).memory.active, 2, 'not while one is on its way');
  let memory = freshMemory(5);
  let calm = 0;
  for (let ms = 0; ms <= 60_000; ms += 250) {
    const now = at(steady(memory.active, 0.1), memory, ms);
    if (now.memory.active < memory.active && calm === 0) calm = ms;
    memory = now.memory;
  }
  t.ok(calm >= usualScale.holdMs, `calm for ${calm} ms before the first goes`);
  t.ok(memory.active < 5, `${memory.active} in the end`);
  const leaving = at(steady(5, 0.01), { ...freshMemory(2), samples: [] }, 1000);
  t.equal(leaving.count, 5, 'those with viewers stay until the viewers left');
  t.equal(at(steady(5, 0.01, { connections: 0 }), freshMemory(2), 1000).count, 2, 'those without go');
  const late = at(steady(5, 0.01), { ...freshMemory(2), drainingSinceMs: 0 }, usualScale.drainMs);
  t.equal(late.count, 2, 'and after a while they go anyhow');
  const back = at(steady(5, 0.6), freshMemory(2), 1000);
  t.equal(back.memory.active, 5, 'one that drains takes viewers again when they are needed');
  // Load that goes up and down within the hold never takes one away.
  memory = freshMemory(4);
  let least = 4;
  for (let ms = 0; ms < 120_000; ms += 250) {
    const wave = ms % 20_000 < 10_000 ? 0.58 : 0.2;
    memory = at(steady(4, wave), memory, ms).memory;
    least = Math.min(least, memory.active);
  }
  t.equal(least, 4, 'no sawing');
  t.deepEqual(shareOut([8, 4, 1], [1, 1, 1], 9), [6, 2, 1], 'max is shared by need');
  t.deepEqual(shareOut([2, 1], [1, 1], 9), [2, 1]);
  t.end();
});

/** Viewers of 4 Mb/s each; caches of 100 Mb/s that need a second to boot. Ten rounds a second. */
function crowd(viewersAt: (ms: number) => number, min: number, max: number, ms: number, fixed = false) {
  const bps = 4e6;
  const capacity = 1e8;
  const bootMs = 1_000;
  const viewers: string[] = [];
  const caches = new Map<number, number>();
  for (let slot = 0; slot < min; slot++) caches.set(slot, -bootMs);
  let memory = freshMemory(min);
  let refused = 0;
  let worst = 0;
  let firstGrowMs: number | undefined;
  let most = min;
  let carried = new Map<number, number>();
  for (let now = 0; now <= ms; now += 100) {
    while (viewers.length < viewersAt(now)) viewers.push(`viewer-${viewers.length}`);
    viewers.length = Math.min(viewers.length, Math.max(0, Math.ceil(viewersAt(now))));
    const serving = [...caches].filter(([slot, since]) => now - since >= bootMs && slot < memory.active).map(([slot]) => slot);
    // Each viewer asks for the segment of the moment; what was assigned in this round counts at once, as in the router.
    carried = new Map(serving.map((slot) => [slot, 0]));
    const ring = ringOf(serving.map(String));
    for (const viewer of viewers) {
      const loads = new Map([...carried].map(([slot, n]) => [String(slot), (n * bps) / capacity]));
      const to = candidates(ring, `/s-${Math.floor(now / 2000)}-${viewer.length % 3}`, loads)[0];
      if (to === undefined) refused++;
      else carried.set(Number(to), carried.get(Number(to))! + 1);
    }
    for (const n of carried.values()) {
      worst = Math.max(worst, (n * bps) / capacity);
      if ((n * bps) / capacity > 1) refused += n - Math.floor(capacity / bps);
    }
    if (fixed || now % 300 !== 0) continue;
    const seen = [...caches].map(([slot, since]) => ({ slot, serving: now - since >= bootMs, load: ((carried.get(slot) ?? 0) * bps) / capacity, connections: carried.get(slot) ?? 0 }));
    const decision = decide(seen, memory, min, max, now, usualScale);
    if (decision.memory.active > memory.active) firstGrowMs ??= now;
    memory = decision.memory;
    for (let slot = 0; slot < decision.count; slot++) if (!caches.has(slot)) caches.set(slot, now);
    for (const slot of caches.keys()) if (slot >= decision.count) caches.delete(slot);
    most = Math.max(most, caches.size);
  }
  return { refused, worst, firstGrowMs, most, end: caches.size };
}

test('a flash crowd, 1 to 500 viewers in 10 s, on a simulated clock', (t) => {
  const ramp = (ms: number): number => Math.min(500, 1 + (499 * ms) / 10_000);
  const grown = crowd(ramp, 3, 50, 20_000);
  t.equal(grown.refused, 0, `no viewer is beyond a cache's capacity; the busiest moment of any cache was ${grown.worst.toFixed(2)}`);
  t.ok(grown.firstGrowMs !== undefined && grown.firstGrowMs <= 2_000, `the first growth after ${grown.firstGrowMs} ms`);
  t.ok(grown.most >= 34 && grown.most <= 50, `${grown.most} caches at the most`);
  const fixed = crowd(ramp, 3, 3, 20_000, true);
  t.ok(fixed.refused > 0, `of a fixed size ${fixed.refused} requests would have been too many`);
  const over = crowd((ms) => (ms < 10_000 ? ramp(ms) : ms < 20_000 ? 500 : 5), 3, 50, 240_000);
  t.equal(over.end, 3, 'after the crowd it is as small as before');
  t.end();
});
