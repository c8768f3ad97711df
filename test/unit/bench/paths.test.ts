/** Moves measured by the thousand: what is written as it is measured, how a run that was cut goes on, and what the benchmark makes of it. */
import { spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { aloneOn } from '../../../bench/migration/lab-network.ts';
import { wait } from '../../../bench/migration/moving.ts';
import { clearAway } from '../../../bench/migration/network.ts';
import { fill, overStandstill, Series, type SeriesKey } from '../../../bench/migration/series.ts';
import { parseMoves } from '../../../bench/migration/moves.ts';
import { outcomeOf } from '../../../bench/paths.ts';

const key: SeriesKey = { where: 'xen', delayMs: 10, mode: 'records', way: 'make-before-break' };
const right = { lost: 0, bad: 0, broken: 0 };
const move = (gapMs: number, more: object = {}) => ({ gapMs, moveMs: 100, moved: true, ...more });

function inFolder(work: (file: string) => Promise<void> | void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-moves-'));
  return Promise.resolve(work(join(folder, 'moves.csv'))).finally(() => rmSync(folder, { recursive: true }));
}

/** A connection whose moves have gaps 1, 2, 3, …; it breaks, or its lab fails, at some move. */
const connection = (series: Series, { failsAt = Infinity, breaksAt = Infinity } = {}) => async (count: number) => {
  for (let i = 1; i <= count; i++) {
    if (i === failsAt) throw new Error('the lab is away');
    series.add(move(i, { copyingMs: i - 0.5, restMs: 0.5 }));
    if (i === breaksAt) return { ...right, broken: 2 };
  }
  return right;
};

test('series: each move is a line at once, and what was whole is found again', (t) =>
  inFolder(async (file) => {
    const series = new Series(key, file);
    await fill(series, { moves: 25, inARow: 10 }, connection(series));
    t.deepEqual([series.moves.length, series.endings.length, series.inARow], [25, 3, 10]);
    t.equal(readFileSync(file, 'utf8').trimEnd().split('\n').length, 1 + 25 + 3, 'a line for each, and the heading');
    series.begin();
    series.add(move(7));
    appendFileSync(file, 'xen,10,records,make-before-break,4,2,99');
    const again = new Series(key, file);
    t.deepEqual([again.moves, again.endings, again.cut, again.wrong], [series.moves, series.endings, 1, 0], 'the connection that was cut does not count');
    const other = new Series({ ...key, way: 'no-move' }, file);
    t.equal(other.moves.length, 0, 'what is of another kind neither');
  }));

test('series: a run that was killed goes on where it was', (t) =>
  inFolder(async (file) => {
    const first = new Series(key, file);
    await fill(first, { moves: 20, inARow: 10 }, connection(first));
    first.begin();
    for (let i = 0; i < 3; i++) first.add(move(1));
    const second = new Series(key, file);
    const asked: number[] = [];
    await fill(second, { moves: 35, inARow: 10 }, (count) => (asked.push(count), connection(second)(count)));
    t.deepEqual([asked, second.moves.length, second.cut], [[10, 5], 35, 1]);
    const numbers = readFileSync(file, 'utf8').split('\n').slice(1).flatMap((line) => (line.split(',')[5] === '0' ? [line.split(',')[4]] : []));
    t.deepEqual(numbers, ['1', '2', '4', '5'], 'no number is used twice');
  }));

test('series: what fails is tried again, and not for ever; a broken connection is told', async (t) => {
  const series = new Series(key);
  let tries = 0;
  await fill(series, { moves: 10, inARow: 10 }, (count) => connection(series, ++tries < 3 ? { failsAt: 4 } : {})(count));
  t.deepEqual([tries, series.moves.length, series.cut], [3, 10, 2]);
  const away = new Series(key);
  const thrown: unknown = await fill(away, { moves: 10, inARow: 10 }, connection(away, { failsAt: 1 })).catch((error: unknown) => error);
  t.match(String(thrown), /the lab is away/);
  const broken = new Series(key);
  await fill(broken, { moves: 5, inARow: 5 }, connection(broken, { breaksAt: 5 }));
  t.deepEqual([broken.wrong, broken.inARow], [2, 0], 'it did not survive its moves');
  const stopped = new AbortController();
  const some = new Series(key);
  await fill(some, { moves: 100, inARow: 5, signal: stopped.signal }, (count) => (stopped.abort(), connection(some)(count)));
  t.equal(some.moves.length, 5, 'asked to stop, the connection under way is the last');
});

test('bench paths: promises of what was measured, and of nothing else', (t) => {
  const of = (where: SeriesKey['where'], mode: string, way: string, moves: ReturnType<typeof move>[], ending = right): Series => {
    const series = new Series({ where, delayMs: 10, mode, way });
    series.begin();
    for (const each of moves) series.add(each);
    series.end(ending);
    return series;
  };
  const rowsOf = (all: Series[]) => outcomeOf(all, {}).promises.map(({ row, value, met }) => [row, value, met]);
  t.deepEqual(rowsOf([]), []);
  t.deepEqual(rowsOf([of('subnet', 'plain-records', 'migrate', [move(140, { standstillMs: 100 }), move(70, { standstillMs: 100 })])]), [
    ['PATHS-10', 1, true], ['PATHS-10', 0.5, null], ['PATHS-10', 100, null], ['PATHS-11', 0, true],
  ]);
  t.deepEqual(rowsOf([of('subnet', 'plain-records', 'migrate', [move(141, { standstillMs: 100 })], { ...right, lost: 1 })]).map(([, , met]) => met), [false, null, null, false]);
  t.deepEqual(rowsOf([of('xen', 'records', 'break-before-make', [move(280, { standstillMs: 100 }), move(10, { moved: false })])]), [
    ['PATHS-3', 2, false], ['PATHS-3', 0, true], ['PATHS-3', 100, null], ['PATHS-3', 1, null],
  ], 'a move that was called off has no standstill');
  t.deepEqual(rowsOf([of('xen', 'records', 'make-before-break', [move(60, { copyingMs: 60, restMs: 11 })])]), [
    ['PATHS-1', 0, true], ['PATHS-2', 60, false], ['PATHS-2', 11, null], ['PATHS-1', 0, null],
  ]);
  t.deepEqual(rowsOf([of('namespaces', 'bulk-256k', 'make-before-break', [move(34)])]), [['PATHS-8', 34, null], ['PATHS-8', 0, true]]);
  t.equal(overStandstill(move(50), 10) > 0, false, 'without a standstill nothing is compared');
  t.end();
});

test('moves: the words of the program', (t) => {
  t.deepEqual(parseMoves(['xen', '1000', '10', 'make-before-break', 'lab=two', 'file=m.csv']), {
    kind: 'xen', moves: 1000, delaysMs: [10], modes: ['records'], ways: ['make-before-break'], lab: 'two', inARow: 100, file: 'm.csv',
  });
  t.deepEqual(parseMoves(['subnet', 'each=5']).modes, ['plain-records']);
  for (const bad of [[], ['wan'], ['xen', 'plain-records'], ['xen', 'each=0'], ['subnet', 'records'], ['xen', 'lab=']]) t.throws(() => parseMoves(bad), /none of|means nothing/, JSON.stringify(bad));
  t.end();
});

test('series: a file of something else is left alone', (t) =>
  inFolder((file) => {
    writeFileSync(file, 'a,b\n1,2\n');
    t.equal(new Series(key, file).moves.length, 0);
    t.equal(readFileSync(file, 'utf8'), 'a,b\n1,2\n');
  }));

test('two runs on one lab: the second begins when the first has ended', async (t) => {
  const order: string[] = [];
  let end = (): void => {};
  const name = `bench-test-${process.pid}`;
  const first = aloneOn(name, async () => {
    order.push('first begins');
    await new Promise<void>((done) => (end = done));
    order.push('first ends');
  });
  while (order.length === 0) await wait(5);
  const second = aloneOn(name, async () => void order.push('second'));
  await aloneOn(`${name}-other`, async () => void order.push('on another lab'));
  end();
  await Promise.all([first, second]);
  t.deepEqual(order, ['first begins', 'on another lab', 'first ends', 'second']);
});

test('lines of a killed run are ended, those of one that lives are not', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-lines-'));
  // A number that no process has, and ours.
  const labels = ['sl4194304n1', `sl${process.pid}n1`];
  for (const label of labels) writeFileSync(join(folder, label), 'echo up; read word; exit 7\n');
  const lines = labels.map((label) => spawn('/bin/sh', [label], { argv0: '/somewhere/relay', cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] }));
  const ends = lines.map((line) => new Promise<string>((done) => line.once('exit', (code, signal) => done(signal ?? String(code)))));
  await Promise.all(lines.map((line) => new Promise((up) => line.stdout.once('data', up))));
  clearAway();
  // One that was spared would go on and say so.
  lines[0]!.stdin.on('error', () => {}).end('go\n');
  t.equal(await ends[0], 'SIGKILL', 'ended');
  lines[1]!.stdin.end('go\n');
  t.equal(await ends[1], '7', 'went on to its end');
  rmSync(folder, { recursive: true });
});
