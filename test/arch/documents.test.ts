/** The documents say what the code says: the table of errors, and that no promise of the specification lacks what shows it. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { errorHints } from '../../src/model/errors.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** Cells of a Markdown table's rows, trimmed; header and rule left out. */
function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => /^\|.*\|$/.test(line) && !/^\|[\s|:-]+\|$/.test(line))
    .map((line) => line.slice(1, -1).split('|').map((cell) => cell.trim()));
}

test('docs/errors.md lists every error code with its hint, and no other', (t) => {
  const documented = new Map(
    rows(read('docs/errors.md'))
      .filter((row) => /^`[A-Z_]+`$/.test(row[0] ?? ''))
      .map((row) => [row[0]!.slice(1, -1), row[1]!]),
  );
  t.deepEqual([...documented.keys()].sort(), Object.keys(errorHints).sort(), 'the same codes');
  for (const [code, hint] of Object.entries(errorHints)) t.equal(documented.get(code), hint, code);
  t.end();
});

test('every promise has an id of its own, a measured value or a plain shortfall, and a file that shows it', (t) => {
  const promises = rows(read('docs/specification.md')).filter((row) => /^[A-Z]+-\d+$/.test(row[0] ?? ''));
  t.ok(promises.length > 0, 'there are promises');
  t.equal(new Set(promises.map((row) => row[0])).size, promises.length, 'ids are unique');
  for (const row of promises) {
    t.equal(row.length, 5, `${row[0]} has five cells`);
    t.ok(row[3], `${row[0]} says what was measured`);
    const shown = [...(row[4] ?? '').matchAll(/`([^`\s]+\/[^`\s]+)`/g)].map((m) => m[1]!);
    t.ok(shown.length > 0, `${row[0]} names what shows it`);
    for (const path of shown) t.ok(existsSync(join(root, path)), `${row[0]}: ${path} exists`);
  }
  t.end();
});
