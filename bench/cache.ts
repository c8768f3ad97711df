/**
 * `cache`: the video cache as a guest of real Xen. Requests a second beside node and nginx in dom0, http-cache-tests against the guest, the first byte of a new event
 * beside nginx in a Debian guest that xl starts, a flash crowd on caches that come with it and on a fixed number. Needs nginx and wrk, as `minicache` does.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../src/cli/client.ts';
import { plotSvg } from '../src/cli/demo/plot.ts';
import { p50 } from '../src/cli/demo/statistics.ts';
import { openEventLab, outside, type EventLab } from '../src/cli/event-lab.ts';
import { count, table } from '../src/cli/format.ts';
import { putImage, readImage } from '../src/cli/images.ts';
import { launch } from '../src/cli/launch.ts';
import { readTarget } from '../src/cli/target.ts';
import { destroyVms } from '../src/cli/verbs/vm-power.ts';
import { findVms } from '../src/cli/vms.ts';
import { repositoryRoot } from '../src/lab/paths.ts';
import { routerNamespace } from '../src/lab/plan.ts';
import { must } from '../src/lab/processes.ts';
import { measureEvents, measureNginx } from './cache/cold.ts';
import { crowd, type CrowdResult } from './cache/crowd.ts';
import { csvOf, endServers, measureGuests, servers, sizes, startServers, type GuestServer, type GuestSpeed } from './cache/speed.ts';
import { backends, measureStreams, streamsCsv, type StreamSpeed } from './cache/streams.ts';
import { atLeast, atMost, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';
import { measureConformance, testsPort } from './minicache/conformance.ts';
import { Network } from './minicache/network.ts';
import { preparePrograms } from './minicache/programs.ts';

const filmPort = 8090;
const filesPort = 8091;
const memoryKib = 32_768;
const secret = 'of-the-benchmark';
const film = ['-f', 'lavfi', '-i', 'testsrc=size=426x240:rate=25:duration=20', '-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p'];

/** What the guests are filled from: bodies of the sizes, and the tests' server. */
const origin = `const bodies = new Map(${JSON.stringify(sizes)}.map((n) => ['/' + n, Buffer.alloc(n, 'shoal ')]));
require('node:http').createServer((request, response) => { const body = bodies.get(request.url); response.writeHead(body ? 200 : 404, { 'cache-control': 'max-age=100000', 'content-length': body?.length ?? 0 }); response.end(body); }).listen(${filesPort}, '${outside}', () => console.log('ready'));`;

async function measureOneHost(world: EventLab, network: Network, scratch: string, quick: boolean, onStep: (text: string) => void, context: BenchContext) {
  const host = world.lab.hosts[0]!;
  const client = new Client(readTarget(host));
  const names: string[] = [];
  try {
    const { digest: image } = await putImage(client, readImage(join(repositoryRoot, 'build/unikernels/minicache.elf')));
    const start = async (prefix: string, args: string, backend: 'switch' | 'netback'): Promise<string> => {
      const { vms, error } = await launch(client, { prefix, count: 1, image, memoryKib, backend, args });
      if (error !== undefined) throw error;
      names.push(...vms.map(({ name }) => name));
      return vms[0]!.ip;
    };
    await world.start('files', [process.execPath, '-e', origin], /ready/);
    await startServers(host);
    const words = `origin=${outside}:${filesPort} secret=${secret}`;
    const guests = { switch: await start('cache-switch', words, 'switch'), netback: await start('cache-netback', words, 'netback') };
    const speeds = await measureGuests(network, host, guests, quick ? { rounds: 1, seconds: 2 } : { rounds: 3, seconds: 3 }, onStep);
    await endServers(host);
    const streams = await measureStreams(network, scratch, guests, { to: outside, path: `/${sizes.at(-1)}`, secret, rounds: quick ? 1 : 3, seconds: 3 }, onStep);
    const tested = await start('cache-tests', `origin=${outside}:${testsPort} fetches=64`, 'switch');
    const [conformance] = await measureConformance(network, scratch, [{ server: 'guest', base: `http://${tested}` }], onStep);
    return { speeds, streams, conformance: conformance! };
  } finally {
    await destroyVms(context.terminal, client, await findVms(client, names));
    await client.close();
  }
}

async function run(context: BenchContext): Promise<BenchOutcome> {
  const { terminal, quick, lab } = context;
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-cache-'));
  const onStep = (text: string) => terminal.status(text);
  await preparePrograms();
  const world = await openEventLab({ name: lab.name, capacity: { connections: 200 }, scale: { holdMs: 60_000 } });
  const network = new Network(routerNamespace(lab.name));
  try {
    const { speeds, streams, conformance } = await measureOneHost(world, network, scratch, quick, onStep, context);
    onStep('a film');
    const file = join(scratch, 'film.mp4');
    await must(['ffmpeg', '-v', 'error', '-y', ...film, file], { code: 'SETUP_FAILED', timeoutMs: 120_000 });
    await world.startOrigin(file, filmPort, { segmentMs: 2000, renditions: 2, ts: false });
    const rounds = quick ? 3 : 7;
    const ours = await measureEvents(world, filmPort, rounds, onStep);
    const theirs = await measureNginx(world, lab.hosts[0]!, scratch, filmPort, quick ? 2 : 5, onStep);
    const size = quick ? { viewers: 100, rampS: 5, holdS: 5 } : { viewers: 500, rampS: 10, holdS: 20 };
    onStep('a crowd, caches come with it');
    const grown = await crowd(world, 'grown', filmPort, { ...size, min: 1, max: 8 });
    onStep('a crowd, one cache');
    const fixed = await crowd(world, 'fixed', filmPort, { ...size, min: 1, max: 1 });
    terminal.status('');
    return outcomeOf(speeds, streams, conformance, ours, theirs, grown, fixed, lab.accelerator);
  } finally {
    terminal.status('');
    await network.close();
    await world.close();
    rmSync(scratch, { recursive: true, force: true });
  }
}

function outcomeOf(speeds: readonly GuestSpeed[], streams: readonly StreamSpeed[], conformance: { passed: number; required: number; failed: string[] }, ours: number[], theirs: number[], grown: CrowdResult, fixed: CrowdResult, accelerator: string): BenchOutcome {
  const rate = (server: GuestServer, bytes: number) => p50(speeds.filter((one) => one.server === server && one.bytes === bytes).map(({ requestsPerS }) => requestsPerS));
  const right = (title: string) => ({ title, align: 'right' as const });
  const trouble = (one: CrowdResult) => Object.entries(one.problems).map(([what, n]) => `${n} × ${what}`).join(', ');
  return {
    machine: { ...machineFacts(), accelerator },
    promises: [
      ...sizes.map((bytes) => atLeast('CACHE-1', `requests/s of ${bytes} bytes, a guest by netback over node in dom0`, rate('netback', bytes) / rate('node', bytes), 'times', 2)),
      ...sizes.map((bytes) => atLeast('CACHE-2', `the same by the switch`, rate('switch', bytes) / rate('node', bytes), 'times', 2)),
      ...sizes.map((bytes) => compared('CACHE-3', `a guest by netback over nginx in dom0, ${bytes} bytes`, rate('netback', bytes) / rate('nginx', bytes), 'times')),
      ...backends.map((backend) => compared('PACK-2', `packetizing out of a guest by ${backend}, what arrives outside`, p50(streams.filter((one) => one.backend === backend).map(({ gbps }) => gbps)), 'Gb/s')),
      ...backends.map((backend) => compared('PACK-2', `datagrams lost on the way, by ${backend}`, p50(streams.filter((one) => one.backend === backend).map(({ arrived, sent }) => (100 * (sent - arrived)) / sent)), '%')),
      atLeast('CACHE-4', `http-cache-tests against the guest, required passed of ${conformance.required}`, conformance.passed, '', 142),
      atLeast('CACHE-5', 'request to first byte on a new event, nginx started cold in a Debian guest over ours', p50(theirs) / p50(ours), 'times', 10),
      compared('CACHE-6', 'request to first byte on a new event', p50(ours), 'ms'),
      atMost('CACHE-7', 'flash crowd: requests of viewers that failed', grown.errors, '', 0),
      atMost('CACHE-8', 'flash crowd: from a load that is too much to a further cache serving', grown.reactedMs, 'ms', 2000),
      compared('CACHE-9', 'the same crowd on one cache: requests that failed', fixed.errors, ''),
      compared('CACHE-10', 'answers later than 4 s, of the crowd on caches that come', grown.late, ''),
      compared('CACHE-11', 'answers later than 4 s, of the crowd on one cache', fixed.late, ''),
    ],
    lines: [
      `wrk saw ${speeds.filter(({ errors }) => errors > 0).map(({ server, bytes, errors }) => `${errors} errors of ${server} at ${count(bytes)} bytes`).join(', ') || 'no error'}`,
      table([right('BYTES'), ...servers.map(right)], sizes.map((bytes) => [count(bytes), ...servers.map((server) => count(Math.round(rate(server, bytes))))])),
      ...(conformance.failed.length > 0 ? [`the guest does not pass: ${conformance.failed.join(', ')}`] : []),
      `ours ${ours.map(Math.round).join(', ')} ms; nginx ${theirs.map(Math.round).join(', ')} ms`,
      `crowd on caches that come: ${count(grown.requests)} requests, ${grown.caches.most} caches at the most ${trouble(grown)}`,
      `crowd on one cache: ${count(fixed.requests)} requests ${trouble(fixed)}`,
    ],
    files: {
      'cache-speed.csv': csvOf(speeds),
      'cache-streams.csv': streamsCsv(streams),
      'cache-crowd.csv': ['caches,at_ms,watching,slowest_ms,serving,load', ...[['come', grown] as const, ['one', fixed] as const].flatMap(([name, one]) => one.series.map((s) => [name, s.atMs, s.watching, s.slowestMs, s.caches, s.load.toFixed(2)].join(','))), ''].join('\n'),
      'cache-crowd.svg': plotSvg({
        title: 'Slowest answer of each second while a crowd comes', xLabel: 'seconds', yLabel: 'ms', scale: 'log',
        series: [
          { label: 'caches come with it', points: grown.series.map((s) => [s.atMs / 1000, Math.max(1, s.slowestMs)] as const), shape: 'dot' },
          { label: 'one cache', points: fixed.series.map((s) => [s.atMs / 1000, Math.max(1, s.slowestMs)] as const), shape: 'diamond' },
        ],
      }),
    },
  };
}

export const cache: Benchmark = { name: 'cache', summary: 'the video cache as a guest beside node and nginx', hosts: 2, memoryMib: () => 3072, run };
