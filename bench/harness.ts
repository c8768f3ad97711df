/**
 * What every benchmark shares: the words it is called with, a lab of its own, how its result is shown. A benchmark measures
 * promises, each a row of docs/specification.md: a number, what it has to reach, and whether it does.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { table } from '../src/cli/format.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { labDown, labStatus, labUp, type Lab } from '../src/lab/lab.ts';
import { repositoryRoot } from '../src/lab/paths.ts';

export interface Promised {
  /** Id of the row in docs/specification.md. */
  row: string;
  name: string;
  value: number | null;
  unit: string;
  /** As people read it: "at least 10". A promise without one is measured for comparison only. */
  target: string;
  met: boolean | null;
}

export interface BenchOutcome {
  promises: Promised[];
  /** Further lines for people. */
  lines: string[];
  /** Name (below docs/bench/) to content; written with --keep. */
  files: Record<string, string>;
  /** Facts about where it ran. */
  machine: Record<string, string | number>;
}

export interface BenchContext {
  terminal: Terminal;
  quick: boolean;
  /** How many VMs it is to be about; only of a benchmark that has `vms`. */
  vms: number | undefined;
  lab: Lab;
  signal: AbortSignal;
}

export interface Benchmark {
  name: string;
  summary: string;
  /** Sizes it can be run at; without them its sizes are its own. */
  vms?: { full: number; quick: number; least: number; most: number };
  /** Hosts of its lab; 1 when left out. */
  hosts?: number;
  /** Memory of each of the lab's hosts for so many VMs (0 when its sizes are its own), in MiB; the lab's default when left out. */
  memoryMib?(vms: number): number;
  /** In the lab; left out by one that needs none. */
  run?(this: void, context: BenchContext): Promise<BenchOutcome>;
  /** In a lab of the same size whose hosts share one subnet, after the other. */
  oneSubnet?(this: void, context: BenchContext): Promise<BenchOutcome>;
  /** What is measured when the lab is down again, so that it has the machine to itself; its outcome joins the other. */
  withoutLab?(this: void, context: Omit<BenchContext, 'lab'>): Promise<BenchOutcome>;
}

/** Both parts of a benchmark as one. */
export const joined = (a: BenchOutcome, b: BenchOutcome): BenchOutcome => ({
  promises: [...a.promises, ...b.promises],
  lines: [...a.lines, ...b.lines],
  files: { ...a.files, ...b.files },
  machine: { ...a.machine, ...b.machine },
});

/** `value >= least`; null when there is no value. */
export const atLeast = (row: string, name: string, value: number, unit: string, least: number): Promised =>
  promised(row, name, value, unit, `at least ${least}`, value >= least);

export const atMost = (row: string, name: string, value: number, unit: string, most: number): Promised =>
  promised(row, name, value, unit, `at most ${most}`, value <= most);

export const compared = (row: string, name: string, value: number, unit: string): Promised => ({
  ...promised(row, name, value, unit, '', false),
  met: null,
});

function promised(row: string, name: string, value: number, unit: string, target: string, met: boolean): Promised {
  const known = Number.isFinite(value);
  return { row, name, value: known ? Number(value.toPrecision(4)) : null, unit, target, met: known && met };
}

export function promiseTable(promises: readonly Promised[], terminal: Terminal): string {
  const { style } = terminal;
  const met = (value: boolean | null): string => (value === null ? '' : value ? style.green('met') : style.red('not met'));
  return table(
    [
      { title: 'ROW' },
      { title: 'PROMISE' },
      { title: 'MEASURED', align: 'right' },
      { title: 'UNIT' },
      { title: 'TO REACH' },
      { title: '' },
    ],
    promises.map((p) => [p.row, p.name, p.value === null ? '–' : String(p.value), p.unit, p.target, met(p.met)]),
    style,
  );
}

export const machineFacts = (): Record<string, string | number> => ({
  processor: cpus()[0]?.model ?? 'unknown',
  processors: cpus().length,
  node: process.version,
});

/** Runs `work` in the lab `name`; takes it down after it unless it was up before, and then with the memory it has. */
export async function inLab<T>(
  terminal: Terminal,
  name: string,
  { memoryMib, hosts, oneSubnet }: { memoryMib: number | undefined; hosts: number | undefined; oneSubnet?: boolean },
  work: (lab: Lab) => Promise<T>,
): Promise<T> {
  const wasUp = (await labStatus(name)).up;
  const onProgress = (text: string) => (terminal.live ? terminal.status(`lab: ${text}`) : terminal.note(`lab: ${text}`));
  const wanted = hosts === undefined ? {} : { hosts };
  const lab = await labUp({ name, onProgress, ...wanted, ...(oneSubnet === undefined ? {} : { oneSubnet }), ...(wasUp || memoryMib === undefined ? {} : { memoryMib }) });
  terminal.status('');
  try {
    return await work(lab);
  } finally {
    if (!wasUp) await labDown(name);
  }
}

export function keep(files: Record<string, string>): string[] {
  const folder = join(repositoryRoot, 'docs/bench');
  mkdirSync(folder, { recursive: true });
  return Object.entries(files).map(([name, content]) => {
    writeFileSync(join(folder, name), content);
    return `docs/bench/${name}`;
  });
}
