/**
 * `packets`: how many small packets a second a guest answers through the switch, and through netback, on one host in one run. Echo requests from
 * outside of the Xen host, as many under way as the guest has buffers for: each is two frames through the backend.
 */
import { join } from 'node:path';
import { Client } from '../src/cli/client.ts';
import { p50 } from '../src/cli/demo/statistics.ts';
import { count, table } from '../src/cli/format.ts';
import { putImage, readImage } from '../src/cli/images.ts';
import { launch } from '../src/cli/launch.ts';
import { readTarget } from '../src/cli/target.ts';
import { pingImage } from '../src/cli/verbs/build.ts';
import { destroyVms } from '../src/cli/verbs/vm-power.ts';
import type { HostFacts } from '../src/cli/verbs/host-show.ts';
import { findVms } from '../src/cli/vms.ts';
import { repositoryRoot } from '../src/lab/paths.ts';
import { must } from '../src/lab/processes.ts';
import { ShoalError } from '../src/model/errors.ts';
import { atLeast, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';

const backends = ['switch', 'netback'] as const;
type Backend = (typeof backends)[number];
/** Guests asked at once. */
const fleets = [1, 8] as const;
const memoryKib = 4096;
const window = 32;
const lengths = { full: { rounds: 5, seconds: 4 }, quick: { rounds: 2, seconds: 1 } };

interface Sample {
  backend: Backend;
  guests: number;
  perS: number;
}

/** Asks the switch in dom0 what it has done since it was started: its answer to `totals`. */
const totalsScript =
  "const s=require('net').connect('/run/shoal/switch.sock',()=>s.write('totals\\n'));s.setTimeout(5000,()=>s.destroy());" +
  "s.once('data',d=>{process.stdout.write(d);s.destroy()});s.on('error',()=>{})";

type Totals = ReadonlyMap<string, number>;

/** Pure; exported for its test. Empty when the answer is none. */
export const totalsOf = (answer: string): Totals =>
  new Map([...answer.matchAll(/\b([a-z_]+)=(\d+)/g)].map(([, name, value]) => [name!, Number(value)]));

/** What the switch asked of the kernel for each frame; pure, exported for its test. Empty when it moved none, or did not say. */
export function perFrame(before: Totals, after: Totals): string[] {
  const grown = (name: string) => (after.get(name) ?? 0) - (before.get(name) ?? 0);
  const frames = grown('frames');
  if (frames <= 0) return [];
  const share = (name: string) => `${(grown(name) / frames).toFixed(3)} ${name}`;
  return [
    `The switch, a frame: ${['turns', 'waits', 'copies', 'sends', 'notifies'].map(share).join(', ')}; ` +
      `${count(frames)} frames, ${count(grown('dropped'))} dropped, ${count(grown('lost'))} found the uplink's ring full`,
  ];
}

async function run({ terminal, quick, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const host = lab.hosts[0]!;
  const client = new Client(readTarget(host));
  const { rounds, seconds } = quick ? lengths.quick : lengths.full;
  const samples: Sample[] = [];
  const most = Math.max(...fleets);
  const names: string[] = [];
  try {
    const program = join(repositoryRoot, 'build', 'flood');
    await must(['gcc', '-O2', '-o', program, join(repositoryRoot, 'bench/packets/flood.c')], { code: 'SETUP_FAILED', timeoutMs: 60_000 });
    const { digest: image } = await putImage(client, readImage(pingImage));
    const addresses = new Map<Backend, string[]>();
    for (const backend of backends) {
      const { vms, error } = await launch(client, { prefix: `packets-${backend}`, count: most, image, memoryKib, backend });
      if (error !== undefined) throw error;
      names.push(...vms.map(({ name }) => name));
      addresses.set(backend, vms.map(({ ip }) => ip));
    }
    const flood = async (backend: Backend, guests: number, forS: number): Promise<number> => {
      const words = [program, String(forS), String(window), ...addresses.get(backend)!.slice(0, guests)];
      const answer = await lab.inside(words, { timeoutMs: 60_000 });
      if (answer.code !== 0) throw new ShoalError('LAB_FAILED', `flood ended with ${answer.code}: ${answer.stderr.trim()}`);
      return (JSON.parse(answer.stdout) as { repliesPerS: number }).repliesPerS;
    };
    const totals = async (): Promise<Totals> => totalsOf((await host.exec(`node -e "${totalsScript}"`, { timeoutMs: 60_000 })).stdout);
    const before = await totals();
    for (const guests of fleets) {
      for (const backend of backends) await flood(backend, guests, 1);
      for (let round = 1; round <= rounds && !signal.aborted; round++) {
        for (const backend of backends) {
          terminal.status(`${guests} guests on ${backend}, round ${round} of ${rounds}`);
          samples.push({ backend, guests, perS: await flood(backend, guests, seconds) });
        }
      }
    }
    terminal.status('');
    const facts = await client.plugin<HostFacts>('facts');
    const outcome = outcomeOf(samples, { ...machineFacts(), accelerator: lab.accelerator, xen: facts.xen });
    return { ...outcome, lines: [...outcome.lines, ...perFrame(before, await totals())] };
  } finally {
    const { failed } = await destroyVms(terminal, client, await findVms(client, names));
    await client.close();
    if (failed[0] !== undefined) terminal.note(failed[0].error.message);
  }
}

/** Pure; exported for its test. */
export function outcomeOf(samples: readonly Sample[], machine: BenchOutcome['machine']): BenchOutcome {
  const rate = (backend: Backend, guests: number) =>
    p50(samples.filter((sample) => sample.backend === backend && sample.guests === guests).map(({ perS }) => perS));
  const rows = fleets.map((guests) => ({ guests, ours: rate('switch', guests), netback: rate('netback', guests) }));
  const right = (title: string) => ({ title, align: 'right' as const });
  return {
    machine,
    promises: [
      ...rows.map(({ guests, ours, netback }, i) =>
        atLeast(`PKT-${i + 1}`, `echo replies a second of ${guests === 1 ? 'a guest' : `${guests} guests at once`}, switch over netback`, ours / netback, '×', 1)),
      compared('PKT-3', 'echo replies a second of a guest on the switch', rows[0]!.ours, '/s'),
    ],
    lines: [
      table([right('GUESTS'), right('SWITCH, REPLIES/S'), right('NETBACK'), right('RATIO')],
        rows.map(({ guests, ours, netback }) => [String(guests), count(Math.round(ours)), count(Math.round(netback)), `${(ours / netback).toFixed(2)}×`])),
    ],
    files: { 'packets.csv': ['backend,guests,replies_per_s', ...samples.map(({ backend, guests, perS }) => `${backend},${guests},${perS}`), ''].join('\n') },
  };
}

export const packets: Benchmark = { name: 'packets', summary: 'small packets a second through the switch and through netback', run };
