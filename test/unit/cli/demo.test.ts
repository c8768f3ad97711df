/** What the demo makes of its measurements: statistics, plot, report, summary; and xl's configuration. */
import test from 'tape';
import { freeAddresses, highestFree } from '../../../src/cli/demo/addresses.ts';
import type { FleetResult } from '../../../src/cli/demo/fleet.ts';
import { memoryPerVm, residentKib, together } from '../../../src/cli/demo/memory.ts';
import { linearTicks, logTicks, plotSvg } from '../../../src/cli/demo/plot.ts';
import { reportHtml } from '../../../src/cli/demo/report.ts';
import { jsonNumber, percentile, rounded, summaryOf } from '../../../src/cli/demo/statistics.ts';
import { demoJson, growthOf, summarise, summaryTable } from '../../../src/cli/demo/summary.ts';
import { xlConfiguration } from '../../../src/cli/demo/xl.ts';
import { hostMemoryMib } from '../../../src/cli/verbs/demo.ts';
import { dom0MemoryMib } from '../../../src/lab/plan.ts';
import { plainStyle } from '../../../src/cli/terminal.ts';
import { ShoalError } from '../../../src/model/errors.ts';

test('percentiles are nearest-rank', (t) => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  t.deepEqual(
    [1, 50, 99, 100].map((p) => percentile(hundred, p)),
    [1, 50, 99, 100],
  );
  t.equal(percentile([3, 1, 2], 50), 2);
  t.equal(percentile([1, 2], 50), 1);
  t.ok(Number.isNaN(percentile([], 50)), 'of nothing: not a number');
  t.deepEqual(summaryOf([5, 1, 9]), { count: 3, p50: 5, p99: 9, max: 9 });
  t.deepEqual([0.012345, 1.2345, 123.45, 12345.6].map(rounded), [0.0123, 1.23, 123, 12346]);
  t.equal(jsonNumber(NaN), null, 'JSON has no NaN');
  t.end();
});

test('growth compares the last fifty with the first', (t) => {
  t.equal(growthOf([...Array<number>(50).fill(10), ...Array<number>(900).fill(99), ...Array<number>(50).fill(15)]), 1.5);
  t.equal(growthOf([10, 20]), 2, 'of two: the second over the first');
  t.ok(Number.isNaN(growthOf([])));
  t.end();
});

test('VMs are counted by host where a controller placed them', (t) => {
  const placed = { ...result, boots: boots.map((boot, i) => ({ ...boot, host: i === 0 ? 'host1' : 'host0' })), controllerRssKib: 102_400 };
  const text = summaryTable(summarise(4, placed, 1), plainStyle);
  t.match(text, /spread +3 on host0, 1 on host1/);
  t.match(text, /controller +100 MiB resident/);
  t.notOk(/spread|controller/.test(summaryTable(summarise(4, result, 1), plainStyle)), 'else nothing is said of it');
  t.end();
});

test('memory of several hosts is that of one large one, and its largest agent', (t) => {
  const before = together([
    { xenFreeKib: 5000, dom0AvailableKib: 900, agentRssKib: 60 },
    { xenFreeKib: 7000, dom0AvailableKib: 800, agentRssKib: 70 },
  ]);
  const after = { xenFreeKib: 8000, dom0AvailableKib: 1500, agentRssKib: 0 };
  t.equal(before.agentRssKib, 70);
  t.deepEqual(memoryPerVm(before, after, 4), { xenKib: 1000, dom0Kib: 50 });
  const own = residentKib(process.pid);
  t.ok(own.now > 10_000 && own.most >= own.now, 'of a process: now, and at most');
  t.ok(Number.isNaN(residentKib(2 ** 30).now), 'of none: not a number');
  t.end();
});

test('a lab host of the demo has room for its share', (t) => {
  for (const [vms, memoryKib] of [[500, 1024], [1000, 1024], [500, 4096], [10_000, 1024]] as const) {
    const memoryMib = hostMemoryMib(vms, memoryKib);
    t.ok(memoryMib - dom0MemoryMib(memoryMib) > (vms * memoryKib) / 1024, `${vms} of ${memoryKib} KiB in ${memoryMib} MiB`);
  }
  t.ok(2 * hostMemoryMib(500, 1024) <= 8192, 'two hosts of 500 in 8 GiB');
  t.end();
});

test('addresses are those that are free', (t) => {
  t.deepEqual(freeAddresses('10.64.1.254', '10.64.2.3', new Set(['10.64.2.0']), 3), ['10.64.1.254', '10.64.1.255', '10.64.2.1']);
  t.throws(
    () => freeAddresses('10.64.1.0', '10.64.1.1', new Set(['10.64.1.1']), 2),
    (error: unknown) => error instanceof ShoalError && error.code === 'ADDRESSES_EXHAUSTED',
  );
  t.equal(highestFree('10.64.1.0', '10.64.2.0', new Set(['10.64.2.0', '10.64.1.255'])), '10.64.1.254');
  t.throws(() => highestFree('10.64.1.0', '10.64.1.0', new Set(['10.64.1.0'])), /no free address/);
  t.end();
});

test('ticks are round numbers that span the values', (t) => {
  t.deepEqual(linearTicks(1000, 10), [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
  t.deepEqual(linearTicks(7, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
  t.deepEqual(logTicks(90, 3400), [50, 100, 200, 500, 1000, 2000, 5000]);
  t.deepEqual(logTicks(100, 1000), [100, 200, 500, 1000]);
  t.end();
});

test('the plot puts points where they belong, and leaves out what cannot be drawn', (t) => {
  const svg = plotSvg({
    title: 'a "title" & more',
    xLabel: 'x',
    yLabel: 'y',
    scale: 'log',
    series: [
      {
        label: 'one',
        shape: 'dot',
        points: [
          [0, 10],
          [100, 1000],
          [50, 0],
          [50, NaN],
        ],
        line: { y: 100, label: 'p50 100' },
      },
    ],
  });
  t.equal(svg.match(/<circle/g)?.length, 2, 'a log scale has no zero');
  t.ok(svg.includes('cx="74" cy="404"') && svg.includes('cx="792" cy="44"'), 'the extremes are at the corners');
  t.ok(svg.includes('y1="224" y2="224"'), '100 is half way from 10 to 1,000');
  t.ok(svg.includes('aria-label="a &quot;title&quot; &amp; more"'), 'text is escaped');
  t.notOk(/NaN|undefined|Infinity/.test(svg));
  t.notOk(
    /NaN|undefined|Infinity/.test(plotSvg({ title: '', xLabel: '', yLabel: '', scale: 'log', series: [] })),
    'an empty one, too',
  );
  t.end();
});

const boots = Array.from({ length: 4 }, (_, i) => ({
  name: `demo-${i}`,
  address: `10.64.1.${i}`,
  running: i,
  ms: i === 3 ? undefined : 100 + i,
  replyMs: 90,
  hostMs: 80,
  steps: { create: 1, attachVif: 60 + i },
}));
const result: FleetResult = {
  boots,
  xl: [
    { running: 0, ms: 2000 },
    { running: 4, ms: 3000 },
  ],
  answering: 3,
  memory: { xenKib: 4173, dom0Kib: 140 },
  agentRssKib: 60_000,
  bootS: 1,
  error: undefined,
};

test('the summary counts what was measured, and JSON has the promised fields', (t) => {
  const summary = summarise(5, result, 12.3456);
  t.deepEqual([summary.asked, summary.created, summary.answered, summary.answering], [5, 4, 3, 3]);
  t.equal(summary.ratio, 2000 / 101);
  t.deepEqual(demoJson(summary), {
    created: 4,
    answered: 3,
    p50Ms: 101,
    p99Ms: 102,
    maxMs: 102,
    memoryKibPerVm: 4173,
    dom0KibPerVm: 140,
    xlP50Ms: 2000,
    totalS: 12.3,
  });
  const text = summaryTable(summary, plainStyle);
  t.match(text, /created +4 of 5/);
  t.match(text, /shoal +101 +102 +102 +3/);
  t.match(text, /faster than xl +20×/);
  const without = summaryTable(summarise(5, { ...result, xl: [] }, 12), plainStyle);
  t.notOk(/xl|NaN/.test(without), 'without samples of xl nothing is said about it');
  t.end();
});

test('the report is one file that asks for nothing else', (t) => {
  const about = {
    at: new Date(0),
    xen: 'Xen <4.17>',
    accelerator: 'tcg',
    hosts: 2,
    hostMemoryKib: 8_388_608,
    imageBytes: 99_200,
    memoryKib: 4096,
    shoalVersion: '1',
  };
  const html = reportHtml(result, summarise(5, result, 12), about);
  t.notOk(/(src|href)=|@import|url\(|<script/i.test(html), 'no resource, no script');
  t.ok(html.includes('Xen &lt;4.17&gt;'), 'text is escaped');
  t.notOk(/NaN|undefined|Infinity/.test(html));
  t.equal(html.match(/<svg/g)?.length, 2, 'logarithmic and linear');
  t.match(html, /<h1>4 unikernels on two Xen hosts<\/h1>/);
  t.notOk(
    /NaN|undefined|Infinity/.test(
      reportHtml({ ...result, boots: [], xl: [] }, summarise(5, { ...result, boots: [], xl: [] }, 1), about),
    ),
    'of nothing, too',
  );
  t.end();
});

test('xl gets the same guest: memory, bridge, addresses', (t) => {
  const text = xlConfiguration({ memoryKib: 4096, address: '10.64.4.232', gateway: '10.64.0.1', prefixLength: 16 });
  t.match(text, /^memory = 4$/m);
  t.match(text, /^vif = \["bridge=xenbr0,mac=00:16:3e:40:04:e8"\]$/m);
  t.match(text, /ip=10\.64\.4\.232\/16 gw=10\.64\.0\.1/);
  t.match(
    xlConfiguration({ memoryKib: 1024, address: '10.64.4.1', gateway: '', prefixLength: 16 }),
    /^memory = 4$/m,
    'never less than xl can',
  );
  t.end();
});
