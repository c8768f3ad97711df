/** What the benchmark `boot` makes of its measurements. */
import test from 'tape';
import { floorTotals, nearestBoots, outcomeOf, sizeRows } from '../../../bench/boot.ts';
import { atLeast, atMost, compared } from '../../../bench/harness.ts';
import type { FleetResult } from '../../../src/cli/demo/fleet.ts';

/** `slope` ms more for each VM running. */
function fleet(vms: number, slope: number): FleetResult {
  const boots = Array.from({ length: vms }, (_, running) => ({
    name: `bench-${running}`,
    address: '10.64.1.0',
    running,
    ms: 100 + slope * running,
    replyMs: 90,
    hostMs: 80,
    steps: { create: 1, build: 2 },
  }));
  const xl = [1, vms].flatMap((running) => [0, 1, 2].map((i) => ({ running, ms: 2000 + i })));
  return { boots, xl, answering: vms, memory: { xenKib: 4200, dom0Kib: 150 }, agentRssKib: 1, bootS: 1, error: undefined };
}

const floor = [
  { running: 1, ms: 40 },
  { running: 200, ms: 50 },
];

test('a promise is met, not met, or measured only', (t) => {
  t.deepEqual(
    [atLeast('A-1', '', 10, '', 10).met, atLeast('A-1', '', 9.99, '', 10).met, atLeast('A-1', '', NaN, '', 10).met],
    [true, false, false],
  );
  t.deepEqual([atMost('A-1', '', 2, '', 2).met, atMost('A-1', '', 2.01, '', 2).met], [true, false]);
  t.equal(compared('A-1', '', 2, '').met, null);
  t.equal(atMost('A-1', '', NaN, '', 2).value, null, 'what could not be measured has no value');
  t.end();
});

test('a size is stood for by the boots nearest to it', (t) => {
  const { boots, xl } = fleet(200, 1);
  t.deepEqual(
    nearestBoots(boots, 200, 3).map(({ running }) => running),
    [199, 198, 197],
  );
  t.deepEqual(
    nearestBoots(boots, 1, 3)
      .map(({ running }) => running)
      .sort(),
    [0, 1, 2],
  );
  t.deepEqual(
    sizeRows([1, 200], { boots, xl }, floor).map(({ ours, xl: theirs, floor: raw }) => [ours, theirs, raw]),
    [
      [109, 2001, 40],
      [289, 2001, 50],
    ],
  );
  t.end();
});

test('the raw floor is read from its own lines', (t) => {
  t.deepEqual(floorTotals('n,domid,create,total\n0,5,1.00,41.50\n1,6,1.00,43.00\n{"count":2}\n'), [41.5, 43]);
  t.end();
});

test('the outcome judges the promises of the specification', (t) => {
  const verdicts = (result: FleetResult) =>
    Object.fromEntries(outcomeOf([1, 200], result, floor, {}).promises.map(({ row, met }) => [row, met]));
  t.deepEqual(verdicts(fleet(200, 0)), {
    'BOOT-1': true,
    'BOOT-2': true,
    'BOOT-3': true,
    'BOOT-4': null,
    'BOOT-5': true,
    'BOOT-6': null,
  });
  t.deepEqual(
    verdicts(fleet(200, 2)),
    { 'BOOT-1': true, 'BOOT-2': false, 'BOOT-3': false, 'BOOT-4': null, 'BOOT-5': true, 'BOOT-6': null },
    'it grows',
  );
  const silent = fleet(200, 0);
  silent.boots[7]!.ms = undefined;
  silent.memory.xenKib = 4609;
  t.deepEqual(
    [verdicts(silent)['BOOT-1'], verdicts(silent)['BOOT-5']],
    [false, false],
    'one that is silent; memory over the bound',
  );
  const { files } = outcomeOf([1, 200], silent, floor, {});
  const lines = files['boot.csv']!.trimEnd().split('\n');
  t.equal(lines.length, 1 + 200 + 6 + 2, 'every sample is in the CSV');
  t.equal(new Set(lines.map((line) => line.split(',').length)).size, 1, 'all lines have the same number of cells');
  t.notOk(/NaN|undefined/.test(Object.values(files).join('')), 'what is missing is left empty');
  t.end();
});
