/** What `click` makes of the samples of its lab. */
import test from 'tape';
import { chainOutcome, type ChainSample } from '../../../bench/click/chain.ts';
import { outcomeOf, type Forwarded } from '../../../bench/click/lab.ts';
import { withMacs } from '../../../bench/click/networks.ts';

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

test('click: of the chains, too, the least ratio counts, and the one on the switch', (t) => {
  const sample = (kind: ChainSample['kind'], chain: ChainSample['chain'], round: number, perS: number, lost = 0): ChainSample => ({ kind, chain, round, perS, overloadPerS: perS / 2, lost, dom0Busy: 0.9 });
  const samples = kinds.flatMap((kind, i) => [
    ...[3, 1, 2].map((times, round) => sample(kind, 'switch', round, 10_000 * times * (i + 1), 0.001 * i)),
    ...[1, 1, 1].map((times, round) => sample(kind, 'netback', round, 6_000 * times)),
    ...[2, 1, 3].map((times, round) => sample(kind, 'debian', round, 2_500 * times)),
  ]);
  const { promises, files, lines } = chainOutcome(samples, {});
  t.deepEqual(promises.map(({ row, value, met }) => [row, value, met]), [['CLICK-14', 4, true], ['CLICK-15', 1.2, null], ['CLICK-16', 4, null], ['CLICK-17', 0.2, null]]);
  t.equal(files['click-chain.csv']!.trim().split('\n').length, 28);
  t.match(lines.join('\n'), /chain, nat: 12\.00 times on the switch, 1\.20 on netback/);
  const slower = chainOutcome(samples.map((s) => (s.kind === 'firewall' && s.chain === 'switch' ? { ...s, perS: s.perS / 8 } : s)), {});
  t.deepEqual(slower.promises.slice(0, 1).map(({ value, met }) => [value, met]), [[1, false]], 'one that is slow is not hidden by the others');
  t.end();
});

test('click: a configuration gets the Ethernet addresses of its guest', (t) => {
  t.equal(withMacs('define($mac0 02:00:00:00:00:01, $mac1 02:00:00:00:00:02)\nx($mac0)', ['00:16:3e:00:00:07', '00:16:3e:00:00:08']), 'define($mac0 00:16:3e:00:00:07, $mac1 00:16:3e:00:00:08)\nx($mac0)');
  t.end();
});
