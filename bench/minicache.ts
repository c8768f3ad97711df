/**
 * `minicache`: the HTTP cache's Linux build beside what people use: requests and bits a second of one core beside nginx, http-cache-tests
 * beside nginx and Varnish, hit ratio beside an LRU, packetizing. Needs root (namespaces), nginx, Varnish and wrk; no lab.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { table } from '../src/cli/format.ts';
import { repositoryRoot } from '../src/lab/paths.ts';
import { atLeast, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome, type Promised } from './harness.ts';
import { localCandidates, measureConformance } from './minicache/conformance.ts';
import { Network } from './minicache/network.ts';
import { leastFrom16Kib, medianGbps, packetize, packetizeCsv, packetizePlot } from './minicache/packetize.ts';
import { preparePrograms, run } from './minicache/programs.ts';
import { measureSpeed, sizes } from './minicache/speed.ts';

/** Exponents of Zipf's law, and the store's share of the catalogue in percent. */
const zipf = { alphas: [0.7, 0.9, 1.1], shares: [1, 10], catalogue: 20_000 } as const;

async function measureHits(folder: string, quick: boolean): Promise<{ alpha: number; share: number; sieve: number; lru: number }[]> {
  const program = join(folder, 'zipf');
  const app = join(repositoryRoot, 'unikernels/apps/minicache');
  const sources = [join(repositoryRoot, 'bench/minicache/zipf.c'), ...['arena.c', 'store_ram.c', 'store_ram_find.c'].map((file) => join(app, file))];
  const kernel = join(repositoryRoot, 'unikernels/kernel');
  const include = [`-I${kernel}`, `-I${join(repositoryRoot, 'unikernels/include')}`];
  await run(['gcc', '-O2', '-o', program, ...include, ...sources, join(kernel, 'timer.c'), '-lm'], 60_000);
  const rows = [];
  for (const alpha of zipf.alphas) {
    for (const share of zipf.shares) {
      const text = await run([program, String(alpha), String(zipf.catalogue), String(share), String(quick ? 300_000 : 2_000_000)], 120_000);
      const [sieve, lru] = text.trim().split(' ').map(Number) as [number, number];
      rows.push({ alpha, share, sieve, lru });
    }
  }
  return rows;
}

async function measure({ terminal, quick }: Omit<BenchContext, 'lab'>): Promise<BenchOutcome> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-minicache-'));
  const network = new Network();
  const onStep = (text: string) => terminal.status(text);
  const lines: string[] = [];
  const promises: Promised[] = [];
  try {
    await preparePrograms();
    await network.open();
    const speeds = await measureSpeed(network, folder, quick ? { rounds: 1, seconds: 2 } : { rounds: 3, seconds: 3 }, onStep);
    const of = (server: string, bytes: number) => speeds.find((one) => one.server === server && one.bytes === bytes)!;
    for (const bytes of sizes) {
      const ours = of('minicache', bytes), theirs = of('nginx', bytes);
      promises.push(compared('MINI-2', `requests/s of ${bytes} bytes on one core`, ours.requestsPerS, '1/s'));
      promises.push(compared('MINI-3', `the same in bits`, ours.gbps, 'Gb/s'));
      promises.push(atLeast('MINI-4', `beside nginx on the same machine, ${bytes} bytes`, ours.requestsPerS / theirs.requestsPerS, 'times', 1));
      for (const other of ['varnish', 'node']) promises.push(compared('MINI-4', `beside ${other}, ${bytes} bytes`, ours.requestsPerS / of(other, bytes).requestsPerS, 'times'));
    }
    const conformance = await measureConformance(network, folder, localCandidates(folder), onStep);
    for (const { server, passed, required, failed } of conformance) {
      const name = `http-cache-tests, required passed of ${required}, ${server}`;
      promises.push(server === 'minicache' ? atLeast('MINI-1', name, passed, '', 142) : compared('MINI-1', name, passed, ''));
      if (server === 'minicache' && failed.length > 0) lines.push(`minicache does not pass: ${failed.join(', ')}`);
    }
    const hits = await measureHits(folder, quick);
    promises.push(atLeast('MINI-5', 'hit ratio, SIEVE over LRU, the least of all', Math.min(...hits.map(({ sieve, lru }) => sieve / lru)), 'times', 1));
    lines.push('', table([{ title: 'ZIPF' }, { title: 'SHARE', align: 'right' }, { title: 'SIEVE', align: 'right' }, { title: 'LRU', align: 'right' }],
      hits.map((row) => [String(row.alpha), `${row.share} %`, row.sieve.toFixed(3), row.lru.toFixed(3)]), terminal.style));
    onStep('packetizing');
    const packets = packetize(quick);
    promises.push(atLeast('PACK-1', 'packetizing from RAM into buffers that are dropped, blocks of 16 KiB and more, the least', leastFrom16Kib(packets), 'Gb/s', 10));
    promises.push(compared('PACK-2', 'the same out through a veth pair', medianGbps(packets, { sink: 'veth' }), 'Gb/s'));
    const csv = ['server,bytes,requestsPerS,gbps', ...speeds.map((one) => `${one.server},${one.bytes},${one.requestsPerS},${one.gbps.toFixed(3)}`)];
    return { promises, lines, files: { 'minicache.csv': `${csv.join('\n')}\n`, 'packetize.csv': packetizeCsv(packets), 'packetize.svg': packetizePlot(packets) }, machine: machineFacts() };
  } finally {
    terminal.status('');
    await network.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

export const minicache: Benchmark = { name: 'minicache', summary: 'the HTTP cache beside nginx and Varnish', withoutLab: measure };
