/**
 * Runs a benchmark by its name and shows what it found; the last line with --json is one object. Exit code 0: every promise met;
 * 1: one was not, or the run failed; 2: not understood.
 */
import { asShoalError, ShoalError } from '../src/model/errors.ts';
import { readWords, type Verb } from '../src/cli/arguments.ts';
import { nearest, table } from '../src/cli/format.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { boot } from './boot.ts';
import { cache } from './cache.ts';
import { click } from './click.ts';
import { density } from './density.ts';
import { fleet } from './fleet.ts';
import { inLab, joined, keep, promiseTable, type Benchmark, type BenchOutcome } from './harness.ts';
import { hotfix } from './hotfix.ts';
import { minicache } from './minicache.ts';
import { migration } from './migration.ts';
import { packets } from './packets.ts';
import { paths } from './paths.ts';

const benchmarks: readonly Benchmark[] = [boot, cache, click, density, fleet, hotfix, migration, minicache, packets, paths];

const form: Verb = {
  name: 'bench',
  summary: 'measure a promise',
  operands: '[NAME]',
  operandCount: [0, 1],
  options: {
    quick: { help: 'smaller' },
    vms: { value: 'N', help: 'how many VMs, where a benchmark can be had in several sizes' },
    keep: { help: 'write series and picture into docs/bench' },
    lab: { value: 'NAME', help: 'lab to use' },
  },
  run: () => Promise.resolve(),
};

async function main(argv: readonly string[], terminal: Terminal): Promise<number> {
  const words = readWords(form, argv);
  const name = words.operands[0];
  if (name === undefined) {
    if (terminal.json) terminal.printJson({ benchmarks: benchmarks.map(({ name, summary }) => ({ name, summary })) });
    else terminal.print(table([{ title: 'NAME' }, { title: 'WHAT IT MEASURES' }], benchmarks.map(({ name, summary }) => [name, summary]), terminal.style));
    return 0;
  }
  const bench = benchmarks.find((one) => one.name === name);
  if (bench === undefined) {
    const meant = nearest(
      name,
      benchmarks.map((one) => one.name),
    );
    const all = `There are: ${benchmarks.map((one) => one.name).join(', ')}.`;
    throw new ShoalError('USAGE', `There is no benchmark "${name}".`, {
      hint: meant === undefined ? all : `Did you mean ${meant}? ${all}`,
    });
  }
  const quick = words.flag('quick');
  const { vms: sizes } = bench;
  if (sizes === undefined && words.flag('vms'))
    throw new ShoalError('USAGE', `The sizes of "${bench.name}" are its own.`, { hint: 'Leave out --vms; --quick makes it smaller.' });
  const vms = sizes && words.number('vms', quick ? sizes.quick : sizes.full, sizes.least, sizes.most);
  const stopped = new AbortController();
  const onSignal = () => {
    if (stopped.signal.aborted) process.exit(130);
    terminal.note('stopping; Ctrl-C again ends at once, then `shoal lab down --lab bench` cleans up');
    stopped.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const context = { terminal, quick, vms, signal: stopped.signal };
  const size = { memoryMib: bench.memoryMib?.(vms ?? 0), hosts: bench.hosts };
  const { run, oneSubnet, withoutLab } = bench;
  const labName = words.text('lab') ?? 'bench';
  let outcome: BenchOutcome = { promises: [], lines: [], files: {}, machine: {} };
  if (run !== undefined) outcome = joined(outcome, await inLab(terminal, labName, size, (lab) => run({ ...context, lab })));
  if (oneSubnet !== undefined && !stopped.signal.aborted)
    outcome = joined(outcome, await inLab(terminal, `${labName.slice(0, 9)}one`, { ...size, oneSubnet: true }, (lab) => oneSubnet({ ...context, lab })));
  if (withoutLab !== undefined && !stopped.signal.aborted) outcome = joined(outcome, await withoutLab(context));
  terminal.print(`\n${promiseTable(outcome.promises, terminal)}\n`);
  for (const line of outcome.lines) terminal.print(line);
  if (words.flag('keep')) for (const file of keep(outcome.files)) terminal.note(`wrote ${file}`);
  terminal.printJson({ bench: bench.name, quick, ...(vms === undefined ? {} : { vms }), machine: outcome.machine, promises: outcome.promises });
  return outcome.promises.some(({ met }) => met === false) ? 1 : 0;
}

const terminal = new Terminal({
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  json: process.argv.includes('--json'),
});
try {
  process.exitCode = await main(process.argv.slice(2), terminal);
} catch (thrown) {
  const error = asShoalError(thrown);
  terminal.failure(error);
  process.exitCode = error.code === 'USAGE' ? 2 : 1;
}
