import test from 'tape';
import { parseLabArguments } from '../../../src/lab/cli.ts';

test('lab arguments: options, words, and what follows --', (t) => {
  const up = parseLabArguments(['up', '--hosts', '2', '--memory=4096', '--lab', 'x', '--json']);
  t.equal(up.verb, 'up');
  t.equal(up.hosts, 2);
  t.equal(up.memoryMib, 4096);
  t.equal(up.name, 'x');
  t.ok(up.json && up.agent && !up.oneSubnet);
  t.ok(parseLabArguments(['up', '--hosts', '2', '--one-subnet']).oneSubnet);
  t.equal(up.command, undefined);
  const shell = parseLabArguments(['shell', 'host1', '--', 'ls', '--json', '--', 'x']);
  t.deepEqual(shell.words, ['host1']);
  t.deepEqual(shell.command, ['ls', '--json', '--', 'x'], "what follows -- is the command's");
  t.notOk(shell.json);
  const link = parseLabArguments(['link', 'host0', 'host1', '--delay', '20.5', '--loss', '1', '--rate', '1000']);
  t.deepEqual([link.delayMs, link.lossPercent, link.rateKbps], [20.5, 1, 1000]);
  t.equal(parseLabArguments(['shell', 'host0', '--']).command, undefined, 'nothing after -- is a shell');
  t.end();
});

test('lab arguments: what is not understood is refused, with the usage as its hint', (t) => {
  const bad = [
    [],
    ['fly'],
    ['up', 'host0'],
    ['shell'],
    ['link', 'host0'],
    ['up', '--hosts', 'two'],
    ['up', '--hosts'],
    ['up', '--wat'],
    ['inside'],
    ['up', '--memory', '-5'],
    ['link', 'host0', 'host1', '--one-subnet'],
    ['status', '--one-subnet'],
  ];
  for (const argv of bad) {
    try {
      parseLabArguments(argv);
      t.fail(`${JSON.stringify(argv)} was taken`);
    } catch (error) {
      t.equal((error as { code: string }).code, 'USAGE', JSON.stringify(argv));
    }
  }
  t.end();
});
