/** What the benchmark `density` makes of its measurements: verdicts, tables, the series and the picture. Pure. */
import type { FleetResult } from '../../src/cli/demo/fleet.ts';
import type { Boot } from '../../src/cli/demo/measure.ts';
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { timesOf } from '../../src/cli/demo/summary.ts';
import { count, duration, ms, plural, table } from '../../src/cli/format.ts';
import { launchSteps } from '../../src/host/launch.ts';
import { atLeast, atMost, compared, type BenchOutcome, type Promised } from '../harness.ts';
import type { FloorTimes } from './floor.ts';
import type { ShellSample } from './measures.ts';

/** Boots that stand for a number of running VMs: the first of all, the last before it. */
export const edge = 50;
/** The number of VMs that the time from nothing is promised for. */
const promisedVms = 10_000;

export interface Density {
  vms: number;
  fleet: FleetResult;
  shells: readonly ShellSample[];
  /** Changes of the store for each VM of the fleet. */
  changesPerVm: number;
  listS: number;
  eventMs: readonly number[];
  /** Milliseconds for each of `destroyed` VMs. */
  destroyMs: number;
  destroyed: number;
  floor: FloorTimes;
}

/** Numbers of running VMs at which is looked: none, those of the promise, all. */
export const stopsOf = (vms: number): number[] => [...new Set([0, ...[1000, 5000, 10_000].filter((n) => n < vms), vms])];

/** Above so many VMs most are asked for many in a request: a request alone costs the host's API as much as the VM. */
const eachAlone = 2000;
const aloneEvery = 1000;

/** Whether a VM, counted from 0, is asked for alone: the first, and the last before each thousand. */
export const aloneOf = (vms: number) => (vm: number): boolean =>
  vms <= eachAlone || vm < edge || vm >= vms - edge || vm % aloneEvery >= aloneEvery - edge;

export interface StopRow {
  /** Of the VMs that run by then. */
  running: number;
  /** p50s of what was built for itself, of what came from a shell: request to first echo reply, and the host's part. */
  built: number;
  builtHost: number;
  shell: number;
  shellHost: number;
}

const half = (boots: readonly Boot[]): { ms: number; hostMs: number } => ({
  ms: p50(boots.flatMap((boot) => boot.ms ?? [])),
  hostMs: p50(boots.map((boot) => boot.hostMs)),
});

/** The first of these is that of the first 50 VMs, the others those of the last 50 before each stop. */
export function stopRows({ vms, fleet, shells }: Pick<Density, 'vms' | 'fleet' | 'shells'>): StopRow[] {
  return stopsOf(vms).map((running) => {
    const [from, to] = running === 0 ? [0, edge] : [running - edge, running];
    const built = half(fleet.boots.filter((boot) => !boot.together && boot.running >= from && boot.running < to));
    const shell = half(shells.find((sample) => sample.running === running)?.boots ?? []);
    return { running, built: built.ms, builtHost: built.hostMs, shell: shell.ms, shellHost: shell.hostMs };
  });
}

/** The greatest ratio of a later row to the first, of both kinds; NaN when one could not be measured. */
export function worstGrowth([first, ...later]: readonly StopRow[]): number {
  return later.reduce((worst, row) => Math.max(worst, row.built / first!.built, row.shell / first!.shell), 0);
}

export function promisesOf(density: Density): Promised[] {
  const { vms, fleet, shells } = density;
  const rows = stopRows(density);
  const xl = p50(fleet.xl.map((sample) => sample.ms));
  const answered = Math.min(timesOf(fleet).length, fleet.answering);
  const minutes = fleet.bootS / 60;
  const fromNothing = `from nothing to all ${count(vms)} answering`;
  return [
    atLeast('DENS-1', 'request to first echo reply from a shell, times faster than xl create', xl / rows[0]!.shell, '×', 50),
    atLeast('DENS-2', 'request to first echo reply without a shell, times faster than xl create', xl / rows[0]!.built, '×', 25),
    atMost('DENS-3', 'p50 of the last 50 over that of the first 50, worst of the stops and of both kinds', worstGrowth(rows), '×', 1.25),
    atLeast('DENS-4', `VMs of ${count(vms)} that answered, and again when all ran`, answered, 'VMs', vms),
    vms === promisedVms
      ? atMost('DENS-5', fromNothing, answered === vms ? minutes : NaN, 'min', 10)
      : compared('DENS-5', `${fromNothing} (promised for ${count(promisedVms)})`, minutes, 'min'),
    atMost('DENS-6', "memory per VM of 1 MiB, of Xen's", fleet.memory.xenKib / 1024, 'MiB', 1.2),
    atMost('DENS-7', 'growth of dom0 per VM', fleet.memory.dom0Kib / 1024, 'MiB', 0.3),
    atMost(
      'DENS-8',
      `destroying ${count(density.destroyed)} in one call, each, above the raw floor`,
      density.destroyMs - density.floor.destroyMs,
      'ms',
      1,
    ),
    atMost('DENS-9', `the agent's memory with ${count(vms)} VMs`, fleet.agentRssKib / 1024, 'MiB', 300),
    atMost('DENS-10', `shoal vm list of ${count(vms)} VMs`, density.listS, 's', 1),
    atMost('DENS-11', 'a change to a VM until a client that waits has it, p50', p50(density.eventMs), 'ms', 50),
    atMost(
      'DENS-12',
      'changes to the store per VM, the more of both kinds',
      Math.max(density.changesPerVm, ...shells.map((sample) => sample.changesPerVm)),
      'changes',
      12,
    ),
  ];
}

export function linesOf(density: Density): string[] {
  const { vms, fleet, floor, destroyMs, destroyed } = density;
  const right = (title: string) => ({ title, align: 'right' as const });
  const cell = (value: number): string => (Number.isFinite(value) ? ms(value) : '–');
  const xl = p50(fleet.xl.map((sample) => sample.ms));
  const rows = stopRows(density).map((row) => [
    row.running === 0 ? `first ${edge}` : count(row.running),
    ...[row.shell, row.shellHost, row.built, row.builtHost, row.running === 0 ? xl : NaN].map(cell),
  ]);
  return [
    table(
      [
        right('RUNNING VMS'),
        right('FROM A SHELL, MS'),
        right('ON THE HOST'),
        right('WITHOUT, MS'),
        right('ON THE HOST'),
        right('XL CREATE'),
      ],
      rows,
    ),
    `p50s of request to first echo reply, of ${edge} VMs each (xl: of ${plural(fleet.xl.length, 'sample')} with no VM running);` +
      ' on the host: of the launch itself.',
    `${plural(vms, 'VM')} in ${duration(fleet.bootS)}, ${vms <= eachAlone ? 'one request each' : `the first ${edge} and the last ${edge} of each thousand alone, the others many in a request`}; xl and shells are left out of it.`,
    `Raw calls from C beside all of them: launch ${cell(floor.launchMs)} ms (p50), destroy ${cell(floor.destroyMs)} ms;` +
      ` the agent's destroy of ${count(destroyed)}: ${cell(destroyMs)} ms each.`,
  ];
}

/** A row a boot. */
export function csvOf({ fleet, shells }: Density): string {
  const cell = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2));
  const row = (kind: string) => (boot: Boot) => {
    const steps = boot.steps as Partial<Record<string, number>>;
    return [kind, boot.running, cell(boot.ms), cell(boot.replyMs), cell(boot.hostMs), ...launchSteps.map((step) => cell(steps[step]))].join(',');
  };
  return [
    ['kind', 'running', 'ms', 'reply_ms', 'host_ms', ...launchSteps.map((step) => `${step}_ms`)].join(','),
    ...fleet.boots.map((boot) => row(boot.together ? 'together' : 'built')(boot)),
    ...shells.flatMap((sample) => sample.boots.map(row('shell'))),
    ...fleet.xl.map((sample) => `xl,${sample.running},${cell(sample.ms)}${','.repeat(launchSteps.length + 2)}`),
    '',
  ].join('\n');
}

/** Dots of one kind at most: more make the file large and the picture no clearer. */
const mostDots = 2500;

export function svgOf({ fleet, shells }: Density): string {
  const line = (values: readonly number[]) => ({ y: p50(values), label: `p50 ${ms(p50(values))} ms` });
  const alone = fleet.boots.filter((boot) => !boot.together);
  const each = Math.ceil(alone.length / mostDots);
  const fromShells = shells.flatMap((sample) => sample.boots);
  const points = (boots: readonly Boot[]) => boots.map((boot) => [boot.running, boot.ms ?? NaN] as const);
  const values = (boots: readonly Boot[]) => boots.flatMap((boot) => boot.ms ?? []);
  return plotSvg({
    title: 'Request to first echo reply against the number of VMs already running: built for itself, from a shell, and xl create',
    xLabel: `VMs already running${each === 1 ? '' : ` (one dot for ${each} VMs)`}`,
    yLabel: 'request to first echo reply, ms',
    scale: 'log',
    series: [
      {
        label: 'without a shell',
        shape: 'dot',
        points: points(alone.filter((_, i) => i % each === 0)),
        line: line(values(alone)),
      },
      {
        label: 'xl create',
        shape: 'diamond',
        points: fleet.xl.map((sample) => [sample.running, sample.ms] as const),
        line: line(fleet.xl.map((sample) => sample.ms)),
      },
      { label: 'from a shell', shape: 'ring', points: points(fromShells), line: line(values(fromShells)) },
    ],
  });
}

/** `further`: promises measured elsewhere in the run. */
export function outcomeOf(density: Density, further: readonly Promised[], machine: BenchOutcome['machine']): BenchOutcome {
  return {
    machine,
    promises: [...promisesOf(density), ...further],
    lines: linesOf(density),
    files: { 'density.csv': csvOf(density), 'density.svg': `${svgOf(density)}\n` },
  };
}
