/** What `packets` makes of its samples. */
import test from 'tape';
import { outcomeOf, perFrame, totalsOf } from '../../../bench/packets.ts';

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

test('packets: what the switch asked of the kernel a frame', (t) => {
  const before = totalsOf('ok vifs=3 frames=1000 turns=10 copies=20 dropped=0 waits=7 sends=5 notifies=9 lost=0\n');
  const after = totalsOf('ok vifs=3 frames=3000 turns=510 copies=1020 dropped=40 waits=107 sends=505 notifies=1009 lost=6\n');
  t.deepEqual(perFrame(before, after), [
    'The switch, a frame: 0.250 turns, 0.050 waits, 0.500 copies, 0.250 sends, 0.500 notifies; 2,000 frames, 40 dropped, 6 found the uplink\'s ring full',
  ]);
  t.deepEqual(perFrame(before, totalsOf('')), [], 'nothing when it does not say');
  t.end();
});
