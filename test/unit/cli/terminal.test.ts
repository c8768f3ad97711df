/** Which stream gets what, when there is colour, and what becomes of progress without a terminal. */
import test from 'tape';
import { barOf, Progress } from '../../../src/cli/progress.ts';
import { Terminal, type Sink } from '../../../src/cli/terminal.ts';
import { ShoalError } from '../../../src/model/errors.ts';

interface Captured extends Sink {
  text: string;
}

const capture = (isTTY: boolean): Captured => ({
  text: '',
  isTTY,
  columns: 80,
  write(piece: string) {
    this.text += piece;
  },
});

function make(options: { tty?: boolean; json?: boolean; env?: Record<string, string> } = {}) {
  const [stdout, stderr] = [capture(options.tty ?? false), capture(options.tty ?? false)];
  return { stdout, stderr, terminal: new Terminal({ stdout, stderr, env: options.env ?? {}, json: options.json ?? false }) };
}

test('results go to standard output, the rest to standard error', (t) => {
  const people = make();
  people.terminal.print('result');
  people.terminal.printJson({ a: 1 });
  people.terminal.note('note');
  t.deepEqual([people.stdout.text, people.stderr.text], ['result\n', 'note\n'], 'for people');
  const programs = make({ json: true });
  programs.terminal.print('result');
  programs.terminal.printJson({ a: 1 });
  programs.terminal.note('note');
  t.deepEqual([programs.stdout.text, programs.stderr.text], ['{"a":1}\n', 'note\n'], 'for programs');
  t.end();
});

test('colour needs a terminal and no NO_COLOR', (t) => {
  const red = (options: Parameters<typeof make>[0]) => make(options).terminal.style.red('x');
  t.equal(red({ tty: true }), '\x1b[31mx\x1b[39m');
  t.equal(red({ tty: false }), 'x', 'a pipe');
  t.equal(red({ tty: true, env: { NO_COLOR: '1' } }), 'x', 'NO_COLOR');
  t.equal(red({ tty: true, env: { NO_COLOR: '' } }), '\x1b[31mx\x1b[39m', 'an empty NO_COLOR says nothing');
  t.equal(red({ tty: true, env: { TERM: 'dumb' } }), 'x', 'TERM=dumb');
  t.end();
});

test('an error is two lines, and an object with --json', (t) => {
  const error = new ShoalError('NAME_IN_USE', 'There is a VM "web"\n  already.', { data: { vm: 'web' } });
  const people = make();
  people.terminal.failure(error);
  t.equal(
    people.stderr.text,
    'error: There is a VM "web"; already.\nhint: Choose another name, or destroy the VM that has this one.\n',
  );
  t.equal(people.stdout.text, '');
  const programs = make({ json: true });
  programs.terminal.failure(error);
  t.deepEqual(JSON.parse(programs.stdout.text), {
    error: { code: 'NAME_IN_USE', message: error.message, hint: error.hint, data: { vm: 'web' } },
  });
  t.end();
});

test('the status line is taken away for a line that stays, and put back', (t) => {
  const { terminal, stderr } = make({ tty: true });
  terminal.status('working');
  terminal.note('done one');
  t.equal(stderr.text, '\r\x1b[2Kworking\r\x1b[2Kdone one\n\r\x1b[2Kworking');
  t.end();
});

test('without a terminal progress is a line at each tenth', (t) => {
  const { terminal, stderr } = make();
  let now = 0;
  const progress = new Progress(terminal, { label: 'booting', total: 100, now: () => now });
  for (let done = 1; done <= 100; done++) {
    now += 200;
    progress.update(done, 'p50 9 ms');
  }
  const lines = stderr.text.trimEnd().split('\n');
  t.equal(lines.length, 10);
  t.equal(lines[4], 'booting 50/100  5.0/s  10 s left  p50 9 ms');
  t.equal(lines[9], 'booting 100/100  5.0/s  p50 9 ms', 'nothing is left at the end');
  t.equal(progress.end(), 20, 'seconds in all');
  t.end();
});

test('on a terminal progress is redrawn at most ten times a second, and fits the line', (t) => {
  const { terminal, stderr } = make({ tty: true });
  let now = 0;
  const progress = new Progress(terminal, { label: 'booting', total: 1000, now: () => now });
  for (let done = 1; done < 1000; done++) {
    now += 10;
    progress.update(done, 'p50 of the last 50: 123 ms');
  }
  const frames = stderr.text
    .split('\r')
    .filter((frame) => frame !== '')
    .map((frame) => frame.replace(/\x1b\[[0-9;]*[mK]/g, ''));
  t.ok(frames.length > 50 && frames.length < 110, `${frames.length} frames in ten seconds`);
  t.ok(
    frames.every((frame) => [...frame].length < 80),
    'none is longer than the line',
  );
  t.match(frames[60]!, /^booting █+.?░+ +[56]\d\d\/1,000  100\/s  \d s left  p50/);
  t.end();
});

test('the rate is that of the last seconds', (t) => {
  let now = 0;
  const progress = new Progress(make().terminal, { label: 'x', total: 1000, start: 100, now: () => now });
  for (let done = 101; done <= 200; done++) ((now += 100), progress.update(done));
  t.equal(Math.round(progress.rate()), 10, 'what was done before does not count');
  for (let done = 201; done <= 230; done++) ((now += 1000), progress.update(done));
  t.equal(Math.round(progress.rate()), 1, 'it follows when things slow down');
  t.end();
});

test('a bar has its width at every part', (t) => {
  for (const part of [0, 0.01, 0.333, 0.5, 0.999, 1, 1.5]) t.equal([...barOf(part, 20)].length, 20, String(part));
  t.equal(barOf(0.5, 4), '██░░');
  t.end();
});
