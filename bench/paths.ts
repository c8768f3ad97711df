/**
 * `paths`: what an application sees of moves. Multipath TCP through a translator VM between hosts in two subnets, plain TCP through one within a subnet, and the same between
 * network namespaces, where nothing is emulated. bench/migration/moves.ts runs each of them by itself, for as many moves as wanted.
 */
import { table } from '../src/cli/format.ts';
import { measurePaths, downMs } from './migration/paths.ts';
import { measureXenPaths } from './migration/paths-xen.ts';
import { overStandstill, ranks, type Series, type Summary } from './migration/series.ts';
import { measureSubnet } from './migration/subnet-xen.ts';
import { atMost, compared, machineFacts, type BenchContext, type BenchOutcome, type Benchmark, type Promised } from './harness.ts';

const delayMs = 10;
const gapMs = 50;
const sizes = { full: { xen: 100, subnet: 40, namespaces: 100, broken: 40 }, quick: { xen: 8, subnet: 6, namespaces: 20, broken: 10 } };

const p99 = (values: readonly number[]): number => (values.length === 0 ? NaN : ranks(values, 1000).p99);
const gapsOf = ({ moves }: Series): number[] => moves.map((move) => move.gapMs);
const find = (all: readonly Series[], where: string, mode: string, way: string): Series | undefined => all.find(({ key }) => key.where === where && key.mode === mode && key.way === way);

/** Pure; exported for its test. A series that was not measured makes no promise. */
export function outcomeOf(all: readonly Series[], machine: BenchOutcome['machine']): BenchOutcome {
  const promises: Promised[] = [];
  const about = (where: string, mode: string, way: string, make: (series: Series, of: string) => Promised[]): void => {
    const series = find(all, where, mode, way);
    if (series !== undefined) promises.push(...make(series, `${series.moves.length} moves of ${series.endings.length} connection${series.endings.length === 1 ? '' : 's'}`));
  };
  const failed = (series: Series): number => series.moves.filter(({ moved }) => !moved).length + series.cut;
  about('xen', 'records', 'make-before-break', (series, of) => [
    atMost('PATHS-1', `translator VM, make before break, ${of}: bytes lost, doubled or out of place, connections broken`, series.wrong, '', 0),
    atMost('PATHS-2', 'longest gap in such a move, p99', p99(gapsOf(series)), 'ms', gapMs),
    compared('PATHS-2', 'the same once the copy runs', p99(series.moves.flatMap(({ restMs }) => restMs ?? [])), 'ms'),
    compared('PATHS-1', 'moves that were called off, connections cut short', failed(series), ''),
  ]);
  about('xen', 'records', 'break-before-make', (series, of) => [
    atMost('PATHS-3', `break before make, ${of}: longest gap over standstill + 2 RTT, p99`, p99(series.moves.flatMap((move) => (move.moved ? [overStandstill(move, delayMs)] : []))), '×', 1),
    atMost('PATHS-3', 'the same: lost, doubled, broken', series.wrong, '', 0),
    compared('PATHS-3', 'standstill as the coordinator saw it, p50', ranks(series.moves.flatMap(({ standstillMs }) => standstillMs ?? [])).p50, 'ms'),
    compared('PATHS-3', 'moves that were called off, connections cut short', failed(series), ''),
  ]);
  about('subnet', 'plain-records', 'migrate', (series, of) => [
    atMost('PATHS-10', `plain TCP within one subnet, ${of}: longest gap over standstill + 2 RTT, p99`, p99(series.moves.map((move) => overStandstill(move, delayMs))), '×', 1),
    compared('PATHS-10', 'the same, p50', ranks(series.moves.map((move) => overStandstill(move, delayMs)), 1000).p50, '×'),
    compared('PATHS-10', 'standstill as the source tells it, p50', ranks(series.moves.flatMap(({ standstillMs }) => standstillMs ?? [])).p50, 'ms'),
    atMost('PATHS-11', 'plain TCP within one subnet: lost, doubled, broken', series.wrong, '', 0),
  ]);
  about('namespaces', 'records', 'make-before-break', (series, of) => [
    atMost('PATHS-7', `between namespaces, ${of}: longest gap, p99`, p99(gapsOf(series)), 'ms', gapMs),
    atMost('PATHS-7', 'the same: lost, doubled, broken', series.wrong, '', 0),
  ]);
  about('namespaces', 'bulk', 'make-before-break', (series, of) => [
    atMost('PATHS-8', `the same as bulk, ${of}: longest gap, p99`, p99(gapsOf(series)), 'ms', gapMs),
    atMost('PATHS-8', 'the same: lost, doubled, broken', series.wrong, '', 0),
  ]);
  about('namespaces', 'bulk-256k', 'make-before-break', (series, of) => [
    compared('PATHS-8', `… with a window of 256 KiB at most, ${of}: longest gap, p99`, p99(gapsOf(series)), 'ms'),
    atMost('PATHS-8', 'the same: lost, doubled, broken', series.wrong, '', 0),
  ]);
  about('namespaces', 'records', 'break-before-make', (series, of) => [atMost('PATHS-9', `between namespaces, break before make, away for ${downMs} ms, ${of}: longest gap over that + 2 RTT, p99`, p99(series.moves.map((move) => overStandstill(move, delayMs))), '×', 1)]);
  const summaries = all.map((series) => series.summary());
  return { machine, promises, lines: [shown(summaries)], files: Object.fromEntries(all.length === 0 ? [] : [[`paths-${all[0]!.key.where}.csv`, csv(all)]]) };
}

const right = (title: string) => ({ title, align: 'right' as const });

const shown = (summaries: readonly Summary[]): string =>
  table(
    [{ title: 'WHERE' }, { title: 'TRAFFIC' }, { title: 'WAY' }, right('MOVES'), right('P50'), right('P99'), right('MOST'), right('STANDSTILL'), right('A MOVE'), right('WRONG')],
    summaries.map((s) => [s.where, s.mode, s.way, String(s.moves), ...[s.p50, s.p99, s.max].map(String), s.standstill === undefined ? '' : String(s.standstill.p50), String(s.moveMs), String(s.lost + s.bad + s.broken)]),
  );

const csv = (all: readonly Series[]): string =>
  `where,delay_ms,mode,way,gap_ms,copying_ms,rest_ms,standstill_ms,move_ms,moved\n${all
    .flatMap(({ key, moves }) => moves.map((m) => [key.where, key.delayMs, key.mode, key.way, ...[m.gapMs, m.copyingMs, m.restMs, m.standstillMs, m.moveMs].map((ms) => ms?.toFixed(2) ?? ''), m.moved ? 1 : 0].join()))
    .join('\n')}\n`;

const sizeOf = (quick: boolean): (typeof sizes)['full'] => (quick ? sizes.quick : sizes.full);

const told = ({ terminal }: Pick<BenchContext, 'terminal'>) => ({ log: (line: string) => terminal.note(line), each: (s: Summary) => terminal.status(`${s.where}, ${s.mode}, ${s.way}: p99 ${s.p99} ms`) });

export const paths: Benchmark = {
  name: 'paths',
  summary: 'connections through a VM that moves: Multipath TCP between subnets, plain TCP within one',
  hosts: 2,
  memoryMib: () => 2048,
  async run({ quick, lab, signal, terminal }) {
    const { xen, broken } = sizeOf(quick);
    const common = { lab: lab.name, delayMs, signal, ...told({ terminal }) };
    const found = await measureXenPaths({ ...common, moves: xen, ways: ['no-move', 'make-before-break'] });
    found.push(...(await measureXenPaths({ ...common, moves: broken, ways: ['break-before-make'] })));
    return outcomeOf(found, { ...machineFacts(), accelerator: lab.accelerator });
  },
  async oneSubnet({ quick, lab, signal, terminal }) {
    return outcomeOf(await measureSubnet({ lab: lab.name, delayMs, moves: sizeOf(quick).subnet, signal, ...told({ terminal }) }), { ...machineFacts(), accelerator: lab.accelerator });
  },
  async withoutLab({ quick, signal, terminal }) {
    const { namespaces, broken } = sizeOf(quick);
    const common = { delaysMs: [delayMs], signal, ...told({ terminal }) };
    const found = await measurePaths({ ...common, moves: namespaces, modes: ['records', 'bulk'], ways: ['no move', 'make before break'] });
    found.push(...(await measurePaths({ ...common, moves: namespaces, modes: ['bulk-256k'], ways: ['make before break'] })));
    found.push(...(await measurePaths({ ...common, moves: broken, modes: ['records'], ways: ['break before make'] })));
    return outcomeOf(found, machineFacts());
  },
};
