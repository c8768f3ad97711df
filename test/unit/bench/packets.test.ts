/** What `packets` makes of its samples. */
import test from 'tape';
import { outcomeOf } from '../../../bench/packets.ts';

test('packets: medians of each backend at each number of guests, and their ratios', (t) => {
  const samples = [1, 8].flatMap((guests) => [
    ...[100, 300, 200].map((perS) => ({ backend: 'switch' as const, guests, perS: perS * guests })),
    ...[50, 100, 150].map((perS) => ({ backend: 'netback' as const, guests, perS: perS * 4 })),
  ]);
  const { promises, files } = outcomeOf(samples, {});
  t.deepEqual(promises.map(({ row, value, met }) => [row, value, met]), [['PKT-1', 0.5, false], ['PKT-2', 4, true], ['PKT-3', 200, null]]);
  t.equal(files['packets.csv']!.trim().split('\n').length, 13);
  t.end();
});
