/** A demo's result as numbers: made once from what was measured, shown as a table, as JSON and in the report. Pure. */
import { count, duration, facts, kib, ms, table } from '../format.ts';
import type { Style } from '../terminal.ts';
import type { FleetResult } from './fleet.ts';
import { jsonNumber, p50, summaryOf, type Summary } from './statistics.ts';

export interface DemoSummary {
  asked: number;
  created: number;
  /** VMs whose first echo reply came. */
  answered: number;
  /** VMs that answered once more when all were up. */
  answering: number;
  ours: Summary;
  xl: Summary;
  /** xl's p50 over ours. */
  ratio: number;
  /** p50 of the last 50 (or half, of fewer) over that of the first 50. */
  growth: number;
  memoryKibPerVm: number;
  dom0KibPerVm: number;
  agentRssKib: number;
  /** NaN where no controller was asked. */
  controllerRssKib: number;
  /** VMs on each host, where a controller placed them. */
  perHost: [host: string, vms: number][];
  bootS: number;
  totalS: number;
}

export function timesOf(result: FleetResult): number[] {
  return result.boots.flatMap(({ ms: time }) => (time === undefined ? [] : [time]));
}

/** p50 of the last `edge` over that of the first; of fewer than twice as many, half of them. */
export function growthOf(times: readonly number[], edge = 50): number {
  const part = Math.min(edge, Math.floor(times.length / 2));
  return p50(times.slice(-part || times.length)) / p50(times.slice(0, part));
}

export function summarise(asked: number, result: FleetResult, totalS: number): DemoSummary {
  const times = timesOf(result);
  const ours = summaryOf(times);
  const xl = summaryOf(result.xl.map((sample) => sample.ms));
  return {
    asked,
    created: result.boots.length,
    answered: times.length,
    answering: result.answering,
    ours,
    xl,
    ratio: xl.p50 / ours.p50,
    growth: growthOf(times),
    memoryKibPerVm: result.memory.xenKib,
    dom0KibPerVm: result.memory.dom0Kib,
    agentRssKib: result.agentRssKib,
    controllerRssKib: result.controllerRssKib ?? NaN,
    perHost: perHost(result.boots),
    bootS: result.bootS,
    totalS,
  };
}

function perHost(boots: FleetResult['boots']): [string, number][] {
  const counts = new Map<string, number>();
  for (const { host } of boots) if (host !== undefined) counts.set(host, (counts.get(host) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The object of the last line with --json. */
export function demoJson(s: DemoSummary): Record<string, number | null> {
  return {
    created: s.created,
    answered: s.answered,
    p50Ms: jsonNumber(s.ours.p50),
    p99Ms: jsonNumber(s.ours.p99),
    maxMs: jsonNumber(s.ours.max),
    memoryKibPerVm: jsonNumber(s.memoryKibPerVm),
    dom0KibPerVm: jsonNumber(s.dom0KibPerVm),
    xlP50Ms: jsonNumber(s.xl.p50),
    totalS: jsonNumber(s.totalS),
  };
}

export const known = (value: number, text: (value: number) => string): string => (Number.isFinite(value) ? text(value) : '–');
export const times = (ratio: number): string => known(ratio, (r) => `${r >= 10 ? r.toFixed(0) : r.toFixed(1)}×`);

export function summaryTable(s: DemoSummary, style: Style): string {
  const { bold, green, red } = style;
  const good = (n: number): string => (n === s.asked ? green(count(n)) : red(count(n)));
  const right = (title: string) => ({ title, align: 'right' as const });
  const row = (name: string, { count: n, p50: half, p99, max }: Summary): string[] => [
    name,
    known(half, ms),
    known(p99, ms),
    known(max, ms),
    count(n),
  ];
  const boots = table(
    [{ title: 'request to first echo reply, ms' }, right('p50'), right('p99'), right('max'), right('VMs')],
    [row(bold('shoal'), s.ours), ...(s.xl.count > 0 ? [row('xl create', s.xl)] : [])],
    style,
  );
  const pairs: [string, string][] = [
    ['created', `${good(s.created)} of ${count(s.asked)}`],
    ['answered', `${good(s.answered)}, ${good(s.answering)} of them again when all were up`],
    ['faster than xl', s.xl.count > 0 ? bold(times(s.ratio)) : ''],
    ['last against first', known(s.growth, (g) => `${g.toFixed(2)}× (p50 of the last VMs over that of the first)`)],
    [
      'memory per VM',
      known(
        s.memoryKibPerVm,
        (n) => `${kib(Math.round(n))} of Xen's memory, and dom0 grew by ${kib(Math.round(s.dom0KibPerVm))}`,
      ),
    ],
    ['spread', s.perHost.map(([host, vms]) => `${count(vms)} on ${host}`).join(', ')],
    ['host agent', known(s.agentRssKib, (n) => `${kib(n)} resident${s.perHost.length > 1 ? ', the largest' : ''}`)],
    ['controller', Number.isFinite(s.controllerRssKib) ? `${kib(s.controllerRssKib)} resident` : ''],
    ['took', `${duration(s.totalS)}, ${duration(s.bootS)} of it booting`],
  ];
  return `${facts(pairs.slice(0, 2), style)}\n\n${boots}\n\n${facts(pairs.slice(2), style)}`;
}
