/** What the benchmark `density` makes of its measurements, and how it takes those that need no lab. */
import test from 'tape';
import { floorTimes, floorWords } from '../../../bench/density/floor.ts';
import { bootFromShells, limitShells, storeChanges, timeDestroy, timeEvents, type Bench } from '../../../bench/density/measures.ts';
import { aloneOf, csvOf, edge, outcomeOf, stopRows, stopsOf, worstGrowth, type Density } from '../../../bench/density/outcome.ts';
import { density as benchmark, hostMemoryMib } from '../../../bench/density.ts';
import { compared } from '../../../bench/harness.ts';
import { Client } from '../../../src/cli/client.ts';
import type { Boot } from '../../../src/cli/demo/measure.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import { dom0MemoryMib } from '../../../src/lab/plan.ts';
import type { KernelImage } from '../../../src/model/kernel.ts';
import { image, parseFake, imageBytes } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

/** Boots beside `from`, `from` + 1, … running VMs. */
const boots = (n: number, from: number, time: (running: number) => number, steps: Boot['steps']): Boot[] =>
  Array.from({ length: n }, (_, i) => ({
    name: `dens-${i}`,
    address: '10.64.1.0',
    running: from + i,
    ms: time(from + i),
    replyMs: 9,
    hostMs: 8,
    steps,
  }));

/** `slope` ms more for each VM running, of both kinds. */
function measured(vms: number, slope = 0): Density {
  const time = (ms: number) => (running: number) => ms + slope * running;
  return {
    vms,
    fleet: {
      boots: boots(vms, 0, time(20), { create: 1, build: 2, register: 1 }),
      xl: Array.from({ length: 5 }, (_, i) => ({ running: 0, ms: 1000 + i })),
      answering: vms,
      memory: { xenKib: 1100, dom0Kib: 40 },
      agentRssKib: 200 * 1024,
      bootS: 540,
      error: undefined,
    },
    shells: stopsOf(vms).map((running) => ({ running, boots: boots(edge, running, time(10), { register: 1 }), changesPerVm: 2 })),
    changesPerVm: 3,
    listS: 0.8,
    eventMs: [9, 10, 60],
    destroyMs: 3.5,
    destroyed: 1000,
    floor: { launchMs: 6, destroyMs: 2.75 },
  };
}

const verdicts = (density: Density) =>
  Object.fromEntries(outcomeOf(density, [], {}).promises.map(({ row, value, met }) => [row.slice(5), [value, met]]));

test('it looks at no VM, at the numbers of the promise, and at all', (t) => {
  t.deepEqual(stopsOf(200), [0, 200]);
  t.deepEqual(stopsOf(1000), [0, 1000]);
  t.deepEqual(stopsOf(1200), [0, 1000, 1200]);
  t.deepEqual(stopsOf(10_000), [0, 1000, 5000, 10_000]);
  t.end();
});

test('a stop is stood for by the 50 VMs before it, the first by the first 50', (t) => {
  const rows = stopRows(measured(200, 0.1));
  t.deepEqual(
    rows.map(({ running, built, shell, builtHost }) => [running, built.toFixed(1), shell.toFixed(1), builtHost]),
    [
      [0, '22.4', '12.4', 8],
      [200, '37.4', '32.4', 8],
    ],
  );
  t.equal(worstGrowth(rows).toFixed(2), (32.4 / 12.4).toFixed(2), 'the kind that grew more');
  t.ok(Number.isNaN(worstGrowth(stopRows({ ...measured(200), shells: [] }))), 'what was not measured has not stayed flat');
  t.end();
});

test('the outcome judges the promises of the issue', (t) => {
  t.deepEqual(verdicts(measured(10_000)), {
    1: [100.2, true],
    2: [50.1, true],
    3: [1, true],
    4: [10_000, true],
    5: [9, true],
    6: [1.074, true],
    7: [0.03906, true],
    8: [0.75, true],
    9: [200, true],
    10: [0.8, true],
    11: [10, true],
    12: [3, true],
  });
  const few = verdicts(measured(200));
  t.deepEqual(few[5], [9, null], 'the time is promised for 10,000 only');
  t.equal(verdicts(measured(200, 0.1))[3]![1], false, 'it grows');
  t.end();
});

test('what fell short is not met', (t) => {
  const silent = measured(10_000);
  silent.fleet.boots[7]!.ms = undefined;
  t.deepEqual([verdicts(silent)[4], verdicts(silent)[5]], [[9999, false], [null, false]], 'one never answered');
  const fell = measured(10_000);
  fell.fleet.answering = 9998;
  t.deepEqual(verdicts(fell)[4], [9998, false], 'two did not answer again');
  const slow = { ...measured(200), shells: [], destroyMs: 4, listS: 1.01, eventMs: [51], changesPerVm: NaN };
  const found = verdicts(slow);
  t.deepEqual(
    [1, 3, 8, 10, 11, 12].map((row) => found[row]![1]),
    [false, false, false, false, false, false],
  );
  t.equal(verdicts({ ...measured(200), fleet: { ...measured(200).fleet, xl: [] } })[1]![0], null, 'nothing without xl');
  t.deepEqual(outcomeOf(measured(200), [compared('DENS-13', 'more', 1, '×')], {}).promises.at(-1)!.row, 'DENS-13');
  t.end();
});

test('the series has a row a boot, the picture no more dots than it needs', (t) => {
  const density = measured(6000);
  density.fleet.boots[7]!.ms = undefined;
  const { files, lines } = outcomeOf(density, [], {});
  const rows = files['density.csv']!.trimEnd().split('\n');
  t.equal(rows[0], 'kind,running,ms,reply_ms,host_ms,create_ms,build_ms,register_ms,attachVif_ms,seal_ms,unpause_ms');
  t.equal(rows[1], 'built,0,20.00,9.00,8.00,1.00,2.00,1.00,,,');
  t.ok(rows.includes('shell,5000,10.00,9.00,8.00,,,1.00,,,'));
  t.ok(rows.includes('xl,0,1000.00,,,,,,,,'));
  t.equal(rows.length, 1 + 6000 + 4 * edge + 5);
  t.equal(new Set(rows.map((row) => row.split(',').length)).size, 1, 'all rows have the same number of cells');
  const dots = files['density.svg']!.match(/<circle class="mark" /g)!.length;
  t.ok(dots > 1500 && dots <= 2500, `${dots} dots`);
  t.equal(files['density.svg']!.match(/mark ring/g)!.length, 4 * edge, 'all those from shells');
  t.notOk(/NaN|undefined/.test([...Object.values(files), ...lines].join('')), 'what is missing is left empty');
  t.end();
});

test('the host is as large as the fleet needs', (t) => {
  t.equal(hostMemoryMib(200), 8192, "the lab's own size, whose snapshot may be there");
  for (const vms of [100, 1000, 5000, 10_000]) {
    const memoryMib = hostMemoryMib(vms);
    t.ok(memoryMib - dom0MemoryMib(memoryMib) >= vms * 1.2 && dom0MemoryMib(memoryMib) >= 512 + vms / 10, `${vms}: ${memoryMib} MiB`);
  }
  t.ok(hostMemoryMib(10_000) <= 24 * 1024, '10,000 in 24 GiB');
  t.equal(benchmark.memoryMib!(1000), hostMemoryMib(1000));
  t.end();
});

test('the raw floor is given what the agent gives, and read from its own lines', (t) => {
  const kernel: KernelImage = { ...parseFake(imageBytes), sharedBytes: 10 * 4096 + 1 };
  const given = { memoryKib: 1024, launches: 50, first: '10.64.240.0', gateway: '10.64.0.1', guestCpus: [1, 3] };
  const words = floorWords(kernel, given);
  for (const word of ['count=50', 'memory-kib=1024', 'wired=1', 'shared-pages=10', 'guest-cpus=0xa', 'virt-base=0x400000'])
    t.ok(words.includes(word), word);
  const plain = floorWords({ ...kernel, wired: false }, { ...given, guestCpus: undefined });
  t.notOk(plain.some((word) => /^(wired|shared-pages|guest-cpus|hypercall-page)=/.test(word)), 'and nothing that it does not give');
  t.deepEqual(floorTimes('n,domid,create,total\n0,5,1.00,41.50\n1,6,1.00,43.00\n{"count":2,"destroyMsPerDomain":2.75}\n'), {
    launchMs: 41.5,
    destroyMs: 2.75,
  });
  t.ok(Number.isNaN(floorTimes('').destroyMs));
  t.end();
});

/** Over the simulator, with a pinger that has every VM answer at once. */
async function withBench(work: (bench: Bench, rig: ServerRig) => Promise<void>): Promise<void> {
  const rig = await makeServer({ agent: { shells: 8 } });
  const sink = { write: () => undefined };
  const client = new Client({ url: rig.url, ca: cert, password });
  try {
    await work(
      {
        terminal: new Terminal({ stdout: sink, stderr: sink, env: {}, json: false }),
        client,
        host: undefined as never,
        pinger: { firstReply: () => new Promise((answer) => setTimeout(() => answer(process.hrtime.bigint()), 200)), close: () => Promise.resolve() },
        image,
        memoryKib: 1024,
        signal: new AbortController().signal,
      },
      rig,
    );
  } finally {
    await client.close();
    await rig.close();
  }
}

const some = (count: number) => Array.from({ length: count }, (_, i) => ({ name: `densshell-${i}`, address: `10.64.9.${i}` }));

test('VMs from shells are started, counted and taken away, and the pool is off after them', (t) =>
  withBench(async (bench, rig) => {
    let stored = 0;
    (rig.sim as Hypervisor).storeCounts = () => {
      stored = rig.sim.trail.filter((line) => line.startsWith('seal')).length * 2;
      return { requests: stored, changes: stored };
    };
    t.equal(await limitShells(bench.client, 0), 8, 'what was the limit is told');
    const sample = await bootFromShells(bench, some(12), 70);
    t.equal(sample.boots.length, 12);
    t.deepEqual([sample.boots[0]!.running, sample.boots[11]!.running, sample.running], [70, 81, 70]);
    t.ok(sample.boots.every(({ ms, steps }) => ms !== undefined && !('create' in steps) && 'register' in steps));
    t.equal(sample.changesPerVm, 2);
    t.equal(await storeChanges(bench.client), 24);
    t.deepEqual([rig.agent.fleet.size, (await rig.sim.list()).length], [0, 0], 'neither VM nor shell is left');
    t.equal(await limitShells(bench.client, 8), 0);
  }));

test('shells that cannot all be made end the measurement, and leave nothing', (t) =>
  withBench(async (bench, rig) => {
    rig.sim.failStep('build', new Error('as arranged'), { skip: 3, times: 100 });
    const error = await bootFromShells(bench, some(5), 0).catch((thrown: unknown) => thrown);
    t.match(String((error as Error).message), /Only 3 of 5 shells/);
    t.deepEqual([rig.agent.fleet.size, (await rig.sim.list()).length], [0, 0]);
  }));

test('news of a change is waited for by another client; many are destroyed in one call', (t) =>
  withBench(async (bench, rig) => {
    const names = Array.from({ length: 30 }, (_, i) => `dens-${i}`);
    for (const name of names) rig.agent.definitions.make({ name, image, memoryKib: 1024, network: 'default' });
    const watcher = new Client({ url: rig.url, ca: cert, password });
    const times = await timeEvents(bench.client, watcher, `OpaqueRef:${rig.agent.fleet.named('dens-3')!.uuid}`, 3);
    t.deepEqual(
      times.map((time) => time > 0 && time < 5000),
      [true, true, true],
    );
    t.equal(rig.agent.fleet.named('dens-3')!.description, 'changed 3 times');
    await watcher.close();
    t.ok((await timeDestroy(bench, names.slice(-20))) > 0);
    t.deepEqual([...rig.agent.fleet.all()].map(({ name }) => name), names.slice(0, 10));
  }));

test('of a large fleet the VMs before each stop are asked for alone, and only they stand for it', async (t) => {
  const alone = aloneOf(10_000);
  const asked = Array.from({ length: 10_000 }, (_, vm) => alone(vm));
  t.equal(asked.filter(Boolean).length, 11 * edge);
  for (const stop of stopsOf(10_000)) t.ok(asked.slice(Math.max(0, stop - edge), Math.max(edge, stop)).every(Boolean), `before ${stop}`);
  t.ok(Array.from({ length: 1000 }, (_, vm) => aloneOf(1000)(vm)).every(Boolean), 'of a small one all are');
  const density = measured(1000);
  // Of those of one request the last waits for the first: their times say nothing of a start.
  density.fleet.boots = density.fleet.boots.map((boot) => (boot.running % 2 === 0 ? boot : { ...boot, together: true as const, ms: 9000 }));
  t.equal(stopRows(density)[1]!.built, 20);
  const kinds = csvOf(density).split('\n').map((line) => line.split(',')[0]);
  t.deepEqual([kinds.filter((kind) => kind === 'built').length, kinds.filter((kind) => kind === 'together').length], [500, 500]);
});
