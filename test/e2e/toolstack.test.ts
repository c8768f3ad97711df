/**
 * The Xen adapter on a real Xen host of the lab. Most checks run in dom0 (fixtures/inside-dom0.ts), bundled like the agent is; here what is seen
 * from outside: a unikernel answers, and how it is found.
 */
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
const name = process.env['SHOAL_TEST_LAB'] ?? 'toolstack';
const minutes = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'shoal-toolstack-'));

let lab: Lab;

test('toolstack: a host and what runs on it', { timeout: 15 * minutes }, async (t) => {
  execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen/native'), `OUT=${join(root, 'build')}`], { timeout: 120_000 });
  const flags = ['-O1', '-ffreestanding', '-fno-pic', '-mno-red-zone', '-mgeneral-regs-only', '-fno-stack-protector', '-nostdlib', '-static',
    '-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__', '-Wl,-N,--section-start=.note.Xen=0x400000,--build-id=none,--no-warn-rwx-segments'];
  execFileSync('gcc', [...flags, join(here, 'fixtures/tiny.c'), '-o', join(folder, 'tiny.elf')], { timeout: 60_000 });
  const entries = { 'inside-dom0': join(here, 'fixtures/inside-dom0.ts'), adapter: join(root, 'bench/floor/adapter.ts') };
  await build({ entryPoints: entries, outdir: folder, outExtension: { '.js': '.cjs' }, bundle: true, platform: 'node', format: 'cjs', target: 'node20', logLevel: 'error' });
  lab = await labUp({ name, memoryMib: 2048, agent: false });
  const host = lab.hosts[0]!;
  await host.exec('mkdir -p /test');
  for (const file of ['tiny.elf', 'inside-dom0.cjs', 'adapter.cjs']) await host.put(join(folder, file), `/test/${file}`);
  await host.put(join(root, 'build/shoal_xen.node'), '/test/shoal_xen.node');
  await host.put(join(root, 'build/unikernels/ping.elf'), '/test/ping.elf');
  t.match((await host.exec('ls /test')).stdout, /inside-dom0\.cjs/);
});

test('toolstack: in dom0', { timeout: 15 * minutes }, async (t) => {
  const run = await lab.hosts[0]!.exec('node /test/inside-dom0.cjs /test/shoal_xen.node /test/tiny.elf /test/ping.elf', { timeoutMs: 10 * minutes });
  const lines = run.stdout.trim().split('\n');
  for (const line of lines) {
    const match = /^(not )?ok (.*)$/.exec(line);
    if (match) t.ok(!match[1], match[2]);
  }
  t.equal(lines.at(-1), 'end', run.stderr || 'all of it ran');
});

test('toolstack: unikernels answer from outside of the host', { timeout: 5 * minutes }, async (t) => {
  const host = lab.hosts[0]!;
  const run = await host.exec('node /test/adapter.cjs /test/shoal_xen.node /test/ping.elf 3 memoryKib=1024 keep', { timeoutMs: 2 * minutes });
  const summary = JSON.parse(run.stdout.trim().split('\n').at(-1)!) as { storeChangesPerDomain: number; kibPerDomain: number };
  t.ok(summary.storeChangesPerDomain <= 17, `${summary.storeChangesPerDomain} changes of the store a domain`);
  t.ok(summary.kibPerDomain < 1200, `${summary.kibPerDomain} KiB a domain of 1,024 KiB`);
  const pinger = await lab.pinger(0);
  for (const n of [0, 1, 2]) {
    const at = await pinger.firstReply(`10.64.1.${n}`, 20_000);
    t.ok(at > 0n, `10.64.1.${n} answers a ping, in 1 MiB`);
  }
  await pinger.close();
  const neighbours = await host.exec('ip neigh show dev xenbr0');
  t.match(neighbours.stdout, /10\.64\.1\.2 lladdr 00:16:3e:00:00:02 PERMANENT/, 'the bridge answers ARP for it');
});

test('toolstack: down', { timeout: 5 * minutes }, async (t) => {
  await labDown(name);
  rmSync(folder, { recursive: true, force: true });
  t.end();
});
