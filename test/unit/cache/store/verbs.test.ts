/** `shoal store`: a store made, filled, listed, verified, and read back, through the command itself. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');

test('shoal store makes, fills, lists, verifies and reads a volume', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-store-'));
  const shoal = (...words: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'src/main/shoal.ts', 'store', ...words], { cwd: root, timeout: 60_000 });
  try {
    const file = join(folder, 'v'), segment = join(folder, 'segment.ts');
    writeFileSync(segment, Buffer.alloc(40_000, 'abc'));
    t.equal(shoal('make', file, '--size', '4M').status, 0);
    t.equal(shoal('make', file).status, 1, 'not twice');
    t.equal(shoal('fill', file, segment).status, 0);
    t.equal(shoal('fill', file, segment, '--key', 'GET http://origin/x').status, 0);
    const list = JSON.parse(shoal('list', file, '--json').stdout.toString()) as { key: string; bytes: number }[];
    t.deepEqual(list.map(({ bytes }) => bytes), [40_000, 40_000]);
    t.ok(shoal('cat', file, '/segment.ts').stdout.equals(readFileSync(segment)), 'by its key');
    t.ok(shoal('cat', file, list[0]!.key.slice(0, 12)).stdout.equals(readFileSync(segment)), 'by digits');
    t.equal(shoal('cat', file, '/other').status, 1);
    t.equal(shoal('verify', file).status, 0);
    const bytes = readFileSync(file);
    bytes[bytes.indexOf('abcabc')] = 0;
    writeFileSync(file, bytes);
    t.equal(shoal('verify', file).status, 1, 'damage is an exit code');
    t.equal(shoal('make', join(folder, 'w'), '--size', 'x').status, 2);
  } finally {
    rmSync(folder, { recursive: true });
  }
  t.end();
});
