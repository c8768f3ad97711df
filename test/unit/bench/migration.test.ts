/** What `migration` makes of its samples. */
import test from 'tape';
import { outcomeOf, type Round } from '../../../bench/migration.ts';

const round = (running: number, more: Partial<Round> = {}): Round => ({
  running, saveMs: 60, restoreMs: 40, aloneSaveMs: 70, aloneRestoreMs: 30, migrateMs: 200, standstillMs: 50, liveMs: 300, liveStandstillMs: 20, bytes: 1_000_000, predictedMs: 220, predictedStandstillMs: 50, phases: { ship: 30, 'there.seal': 4 }, ...more,
});

test('migration: ratios by size, the least of them; the estimator without the rounds that taught it', (t) => {
  const few = { predictedMs: 9_999, aloneSaveMs: 50 };
  const ours = [round(1, { ...few, aloneSaveMs: 999 }), round(1, few), round(1, few), round(100, { saveMs: 90, restoreMs: 60, migrateMs: 240, predictedMs: 264 })];
  const xl = [{ running: 1, saveMs: 600, restoreMs: 400 }, { running: 100, saveMs: 500, restoreMs: 250 }];
  const together = { count: 50, ms: 7_500, standstillsMs: [50, 60] };
  const { promises, files } = outcomeOf({ ours, xl, together, bandwidthBps: 100e6, rttMs: 10 }, {});
  const value = (row: string) => promises.find((each) => each.row === row)!.value;
  t.equal(value('MIG-1'), 5, 'of 10 and 5');
  t.equal(value('MIG-2'), 3.125);
  t.equal(value('MIG-3'), 1.2, '150 over 100 and 100 over 80, of the one alone in the same rounds');
  t.equal(value('MIG-4'), 1.2);
  t.equal(value('MIG-5'), 1.667, 'twice 10 ms and a round trip');
  t.equal(value('MIG-7'), 10);
  t.equal(value('MIG-15'), 5, 'beside the most: 50 times 750 ms over 7.5 s');
  const rows = files['migration.csv']!.trim().split('\n').map((line) => line.split(','));
  t.equal(rows.length, 5);
  t.deepEqual([rows[1]![rows[0]!.indexOf('ship_ms')], rows[1]![rows[0]!.indexOf('there_seal_ms')], rows[1]!.length], ['30.00', '4.00', rows[0]!.length]);
  t.equal(files['migration-xl.csv']!.trim().split('\n').length, 3);
  t.end();
});
