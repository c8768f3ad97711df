/** What `click` makes of the samples of its lab. */
import test from 'tape';
import { outcomeOf, type Forwarded } from '../../../bench/click/lab.ts';

const kinds = ['router', 'firewall', 'nat'] as const;

test('click: medians of each kind, and the least of their ratios is what counts', (t) => {
  const sample = (kind: Forwarded['kind'], box: Forwarded['box'], round: number, perS: number): Forwarded =>
    ({ kind, box, round, perS, cappedPerS: box === 'click' ? perS : perS / 4, overloadPerS: perS / 2, lost: 0.001, guestUs: 1e6 / perS, dom0Busy: 0.9 });
  const samples = kinds.flatMap((kind, i) => [
    ...[1, 3, 2].map((times, round) => sample(kind, 'click', round, 10_000 * times * (i + 1))),
    ...[2, 1, 3].map((times, round) => sample(kind, 'debian', round, 5_000 * times)),
  ]);
  const { promises, files, lines } = outcomeOf(samples, {});
  t.deepEqual(promises.slice(0, 3).map(({ row, value, met }) => [row, value, met]), [['CLICK-11', 2, true], ['CLICK-12', 8, true], ['CLICK-13', 2, null]]);
  t.equal(files['click.csv']!.trim().split('\n').length, 19);
  t.match(lines.join('\n'), /firewall: 4\.00 times/);
  const slower = outcomeOf(samples.map((s) => (s.kind === 'nat' && s.box === 'click' ? { ...s, perS: s.perS / 6 } : s)), {});
  t.deepEqual(slower.promises.slice(0, 1).map(({ value, met }) => [value, met]), [[1, false]], 'one that is slow is not hidden by the others');
  t.end();
});
