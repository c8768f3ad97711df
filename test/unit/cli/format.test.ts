/** Numbers, tables and suggestions as people read them. */
import test from 'tape';
import { count, duration, facts, kib, ms, nearest, plural, shortDigest, table, widthOf } from '../../../src/cli/format.ts';

test('numbers have the digits that matter, and a unit', (t) => {
  t.deepEqual([0, 999, 1000, 1234567].map(count), ['0', '999', '1,000', '1,234,567']);
  t.deepEqual([0.5, 8.254, 82.54, 825.4, 8254].map(ms), ['0.50', '8.25', '82.5', '825', '8,254']);
  t.deepEqual([96, 4096, 4173, 10_240, 47_700, 8_388_608].map(kib), [
    '96 KiB',
    '4 MiB',
    '4,173 KiB',
    '10 MiB',
    '46.6 MiB',
    '8 GiB',
  ]);
  t.deepEqual([3.4, 60, 200, 7500, 7200].map(duration), ['3 s', '1 min', '3 min 20 s', '2 h 5 min', '2 h']);
  t.deepEqual([plural(1, 'VM'), plural(2, 'VM'), plural(1000, 'VM')], ['1 VM', '2 VMs', '1,000 VMs']);
  t.equal(shortDigest(`sha256:${'ab'.repeat(32)}`), 'sha256:abababababab');
  t.end();
});

test('a table lines up whatever its colours, and ends no line with blanks', (t) => {
  const text = table(
    [{ title: 'NAME' }, { title: 'N', align: 'right' }, { title: 'LAST' }],
    [
      ['\x1b[32mweb\x1b[39m', '5', 'x'],
      ['longer', '1,000', ''],
    ],
  );
  t.equal(text, ['NAME        N  LAST', '\x1b[32mweb\x1b[39m         5  x', 'longer  1,000'].join('\n'));
  t.equal(widthOf('\x1b[32mweb\x1b[39m'), 3);
  t.equal(
    facts([
      ['a', '1'],
      ['long', '2'],
      ['none', ''],
    ]),
    'a     1\nlong  2',
    'a fact without a value is left out',
  );
  t.end();
});

test('the nearest word is suggested, and none when all are far', (t) => {
  t.equal(nearest('lsit', ['list', 'show', 'start']), 'list', 'letters changed places');
  t.equal(nearest('destory', ['destroy', 'demo']), 'destroy');
  t.equal(nearest('jsn', ['json', 'help']), 'json', 'one left out');
  t.equal(nearest('pass', ['password-file', 'host']), 'password-file', 'a beginning');
  t.equal(nearest('frobnicate', ['list', 'show']), undefined);
  t.end();
});
