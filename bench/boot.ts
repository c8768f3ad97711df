/**
 * `boot`: how long from the request to the first echo reply, as the fleet grows; beside it, in the same run on the same host, `xl
 * create` of the same image, and the raw floor: the calls of a launch from C and nothing else (bench/floor). Memory as Xen and
 * dom0 account it.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../src/cli/client.ts';
import { runFleet, type FleetResult } from '../src/cli/demo/fleet.ts';
import { plotSvg } from '../src/cli/demo/plot.ts';
import { p50 } from '../src/cli/demo/statistics.ts';
import { growthOf, timesOf } from '../src/cli/demo/summary.ts';
import { count, ms, table } from '../src/cli/format.ts';
import { readTarget } from '../src/cli/target.ts';
import { floorProgram, pingImage } from '../src/cli/verbs/build.ts';
import { parseKernel } from '../src/image/elf.ts';
import type { LabHost } from '../src/lab/lab.ts';
import { ShoalError } from '../src/model/errors.ts';
import type { HostFacts } from '../src/cli/verbs/host-show.ts';
import { atLeast, atMost, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';

const memoryKib = 4096;
/** What a guest of 4 MiB may take of Xen's memory. */
const memoryMostKib = 4.5 * 1024;
const sizes = { full: [1, 100, 500, 1000], quick: [1, 10, 25, 50] };
const xlSamples = { full: 3, quick: 2 };
const floorLaunches = 10;
/** Boots around a size that stand for it. */
const around = 20;
/** Far from the fleet's addresses, which are given from the start of the network. */
const floorFirst = '10.64.240.0';

interface FloorSample {
  running: number;
  /** Milliseconds from the first call to the last, in dom0. */
  ms: number;
}

/** Last and first `around` boots near a size: those that are nearest to it. */
export function nearestBoots<T extends { running: number }>(boots: readonly T[], running: number, most = around): T[] {
  return [...boots].sort((a, b) => Math.abs(a.running - running) - Math.abs(b.running - running)).slice(0, most);
}

/** Total milliseconds of each launch, out of the floor's CSV. Pure. */
export function floorTotals(csv: string): number[] {
  return csv
    .split('\n')
    .filter((line) => /^\d+,\d+,/.test(line))
    .map((line) => Number(line.split(',').pop()));
}

class Floor {
  readonly #host: LabHost;
  #words = '';
  readonly samples: FloorSample[] = [];

  constructor(host: LabHost) {
    this.#host = host;
  }

  /** The program, and the image as it lies in memory. */
  async prepare(): Promise<void> {
    const kernel = parseKernel(readFileSync(pingImage));
    const folder = mkdtempSync(join(tmpdir(), 'shoal-floor-'));
    try {
      writeFileSync(join(folder, 'pages'), kernel.pages);
      await this.#host.exec('mkdir -p /run/shoal-yardstick');
      await this.#host.put(floorProgram, '/run/shoal-yardstick/floor');
      await this.#host.put(join(folder, 'pages'), '/run/shoal-yardstick/pages');
    } finally {
      rmSync(folder, { recursive: true });
    }
    const hex = (n: bigint) => `0x${n.toString(16)}`;
    this.#words = [
      'image=/run/shoal-yardstick/pages',
      `image-memory-bytes=${kernel.memoryBytes}`,
      `virt-base=${hex(kernel.virtBase)}`,
      `entry=${hex(kernel.entry)}`,
      ...(kernel.hypercallPage === undefined ? [] : [`hypercall-page=${hex(kernel.hypercallPage)}`]),
      `count=${floorLaunches}`,
      `memory-kib=${memoryKib}`,
      `first=${floorFirst}`,
      `gateway=${this.#host.gateway}`,
    ].join(' ');
  }

  async sample(running: number): Promise<void> {
    const result = await this.#host.exec(`chmod +x /run/shoal-yardstick/floor && /run/shoal-yardstick/floor ${this.#words}`, {
      timeoutMs: 300_000,
    });
    if (result.code !== 0)
      throw new ShoalError('LAB_FAILED', `The raw floor failed with exit code ${result.code}: ${result.stderr.trim()}`);
    for (const total of floorTotals(result.stdout)) this.samples.push({ running, ms: total });
  }
}

interface SizeRow {
  running: number;
  ours: number;
  host: number;
  xl: number;
  floor: number;
}

/** p50s at each size. Pure. */
export function sizeRows(
  at: readonly number[],
  { boots, xl }: Pick<FleetResult, 'boots' | 'xl'>,
  floor: readonly FloorSample[],
): SizeRow[] {
  const here = (samples: readonly FloorSample[], running: number) =>
    p50(samples.filter((sample) => sample.running === running).map((sample) => sample.ms));
  return at.map((running) => {
    const near = nearestBoots(
      boots.filter((boot) => boot.ms !== undefined),
      running,
    );
    return {
      running,
      ours: p50(near.map((boot) => boot.ms!)),
      host: p50(near.map((boot) => boot.hostMs)),
      xl: here(xl, running),
      floor: here(floor, running),
    };
  });
}

function csvOf({ boots, xl }: FleetResult, floor: readonly FloorSample[]): string {
  const steps = Object.keys(boots[0]?.steps ?? {});
  const cell = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2));
  const rest = ','.repeat(steps.length + 2);
  return [
    ['what', 'running', 'ms', 'reply_ms', 'host_ms', ...steps.map((step) => `${step}_ms`)].join(','),
    ...boots.map((boot) =>
      [
        'shoal',
        boot.running,
        cell(boot.ms),
        cell(boot.replyMs),
        cell(boot.hostMs),
        ...steps.map((step) => cell(boot.steps[step])),
      ].join(','),
    ),
    ...xl.map((sample) => `xl,${sample.running},${cell(sample.ms)}${rest}`),
    ...floor.map((sample) => `floor,${sample.running},${cell(sample.ms)}${rest}`),
    '',
  ].join('\n');
}

function svgOf({ boots, xl }: FleetResult, floor: readonly FloorSample[]): string {
  const line = (values: readonly number[]) => ({ y: p50(values), label: `p50 ${ms(p50(values))} ms` });
  const points = (samples: readonly FloorSample[]) => samples.map((sample) => [sample.running, sample.ms] as const);
  return plotSvg({
    title:
      'Request to first echo reply against the number of VMs already running: Shoal, xl create, and the raw calls from C',
    xLabel: 'VMs already running',
    yLabel: 'request to first echo reply, ms (raw calls: first to last)',
    scale: 'log',
    series: [
      {
        label: 'shoal',
        shape: 'dot',
        points: boots.map((boot) => [boot.running, boot.ms ?? NaN] as const),
        line: line(boots.flatMap((boot) => boot.ms ?? [])),
      },
      { label: 'xl create', shape: 'diamond', points: points(xl), line: line(xl.map((sample) => sample.ms)) },
      ...(floor.length === 0
        ? []
        : [
            {
              label: 'raw calls from C',
              shape: 'ring' as const,
              points: points(floor),
              line: line(floor.map((sample) => sample.ms)),
            },
          ]),
    ],
  });
}

async function run({ terminal, quick, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const host = lab.hosts[0]!;
  const at = quick ? sizes.quick : sizes.full;
  const client = new Client(readTarget(host));
  const floor = new Floor(host);
  try {
    await floor.prepare();
    const result = await runFleet({
      terminal,
      lab,
      host,
      client,
      imageFile: pingImage,
      prefix: 'bench',
      vms: at[at.length - 1]!,
      memoryKib,
      xlAt: at,
      xlSamplesEach: quick ? xlSamples.quick : xlSamples.full,
      signal,
      atStop: (running) => {
        terminal.status(`raw calls from C beside ${count(running)} running VMs`);
        return floor.sample(running);
      },
    });
    if (result.error !== undefined) throw result.error;
    if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The benchmark was interrupted.', { hint: 'Run it again.' });
    const facts = await client.plugin<HostFacts>('facts');
    return outcomeOf(at, result, floor.samples, {
      ...machineFacts(),
      accelerator: lab.accelerator,
      xen: facts.xen,
      hostMemoryKib: facts.totalKib,
    });
  } finally {
    await client.close();
  }
}

/** Pure; exported for its test. */
export function outcomeOf(
  at: readonly number[],
  result: FleetResult,
  floor: readonly FloorSample[],
  machine: BenchOutcome['machine'],
): BenchOutcome {
  const rows = sizeRows(at, result, floor);
  const times = timesOf(result);
  const most = at[at.length - 1]!;
  const right = (title: string) => ({ title, align: 'right' as const });
  const ratio = (a: number, b: number): string => (Number.isFinite(a / b) ? `${(a / b).toFixed(1)}×` : '–');
  return {
    machine,
    promises: [
      atLeast('BOOT-1', `VMs of ${count(most)} that answered`, times.length, 'VMs', most),
      atLeast(
        'BOOT-2',
        'request to first echo reply, times faster than xl create (least of the sizes)',
        Math.min(...rows.map((row) => row.xl / row.ours)),
        '×',
        10,
      ),
      atMost('BOOT-3', 'p50 of the last 50 over that of the first 50', growthOf(times), '×', 2),
      compared(
        'BOOT-4',
        `request to first echo reply over the raw calls from C, at ${count(most)}`,
        rows[rows.length - 1]!.ours / rows[rows.length - 1]!.floor,
        '×',
      ),
      atMost('BOOT-5', "memory per VM of 4 MiB, of Xen's", result.memory.xenKib, 'KiB', memoryMostKib),
      compared('BOOT-6', 'growth of dom0 per VM', result.memory.dom0Kib, 'KiB'),
    ],
    lines: [
      table(
        [
          right('RUNNING VMS'),
          right('SHOAL, MS'),
          right('ON THE HOST'),
          right('XL CREATE'),
          right('FASTER'),
          right('RAW CALLS'),
          right('SHOAL/RAW'),
          right('HOST/RAW'),
        ],
        rows.map((row) => [
          count(row.running),
          ...[row.ours, row.host, row.xl].map((value) => (Number.isFinite(value) ? ms(value) : '–')),
          ratio(row.xl, row.ours),
          Number.isFinite(row.floor) ? ms(row.floor) : '–',
          ratio(row.ours, row.floor),
          ratio(row.host, row.floor),
        ]),
      ),
      'p50s of request to first echo reply; on the host: of the launch itself; raw calls: of the same calls from C, in dom0.',
    ],
    files: { 'boot.csv': csvOf(result, floor), 'boot.svg': `${svgOf(result, floor)}\n` },
  };
}

export const boot: Benchmark = { name: 'boot', summary: 'request to first echo reply as the fleet grows', run };
