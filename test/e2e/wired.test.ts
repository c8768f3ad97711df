/** Guests wired to the switch, on a real Xen host of the lab: the checks run in dom0 (fixtures/wired-in-dom0.ts), beside no agent. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import test from 'tape';
import { labDown, labUp, type Lab } from '../../src/lab/lab.ts';

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, '../..');
const name = process.env['SHOAL_TEST_LAB'] ?? 'wired';
const minutes = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'shoal-wired-'));

let lab: Lab;

test('wired: a host, the addon and the switch', { timeout: 15 * minutes }, async (t) => {
  for (const part of ['native', 'switch']) execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen', part), `OUT=${join(root, 'build')}`], { timeout: 120_000 });
  await build({
    entryPoints: [join(here, 'fixtures/wired-in-dom0.ts')],
    outfile: join(folder, 'wired.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    logLevel: 'error',
  });
  await labDown(name);
  lab = await labUp({ name, memoryMib: 2048, agent: false });
  const host = lab.hosts[0]!;
  await host.exec('mkdir -p /test');
  await host.put(join(folder, 'wired.cjs'), '/test/wired.cjs');
  for (const file of ['shoal_xen.node', 'shoal-switch', 'unikernels/ping.elf']) await host.put(join(root, 'build', file), `/test/${file.split('/').pop()!}`);
  t.equal((await host.exec('chmod +x /test/shoal-switch')).code, 0);
});

test('wired: in dom0', { timeout: 15 * minutes }, async (t) => {
  const run = await lab.hosts[0]!.exec('node /test/wired.cjs /test/shoal_xen.node /test/ping.elf /test/shoal-switch', { timeoutMs: 12 * minutes });
  const lines = run.stdout.trim().split('\n');
  for (const line of lines) {
    const match = /^(not )?ok (.*)$/.exec(line);
    if (match) t.ok(!match[1], match[2]);
  }
  t.equal(lines.at(-1), 'end', run.stderr || 'all of it ran');
});

test('wired: down', { timeout: 5 * minutes }, async (t) => {
  await labDown(name);
  rmSync(folder, { recursive: true, force: true });
  t.end();
});
