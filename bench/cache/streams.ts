/** Datagrams out of a guest: minicache's packetizer over netfront, by the switch and by netback, as fast as they go, to a receiver outside of the emulated host. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { run } from '../minicache/programs.ts';
import type { Network } from '../minicache/network.ts';

export type Backend = 'switch' | 'netback';
export const backends: readonly Backend[] = ['switch', 'netback'];

export interface StreamSpeed {
  backend: Backend;
  round: number;
  /** Of what arrived: whole frames, Ethernet header included, as the paper counts. */
  gbps: number;
  /** Datagrams that arrived, and that the guest had sent. */
  arrived: number;
  sent: number;
}

const port = 5999;
const frameBytes = 1024 + 42;

/** Guests, by address, that were started with `secret=` and keep `path`; `to`: the receiver's address. */
export async function measureStreams(
  network: Network,
  scratch: string,
  guests: Record<Backend, string>,
  { to, path, secret, rounds, seconds }: { to: string; path: string; secret: string; rounds: number; seconds: number },
  onStep: (text: string) => void,
): Promise<StreamSpeed[]> {
  const program = join(scratch, 'receive');
  await must(['gcc', '-O2', '-o', program, join(repositoryRoot, 'bench/cache/receive.c')], { code: 'SETUP_FAILED', timeoutMs: 60_000 });
  const curl = (...words: string[]) => run(network.words(network.client, -1, ['curl', '-sS', '--max-time', '20', ...words]), 30_000);
  const admin = (...words: string[]) => curl('-H', `Authorization: Bearer ${secret}`, ...words);
  const found: StreamSpeed[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const backend of backends) {
      onStep(`datagrams by ${backend}, round ${round} of ${rounds}`);
      const base = `http://${guests[backend]}`;
      await curl('-o', '/dev/null', '-H', 'Host: site', `${base}${path}`);
      const [first, ...words] = network.words(network.client, -1, [program, String(port)]);
      const child = spawn(first!, words, { stdio: ['ignore', 'pipe', 'inherit'] });
      const lines = createInterface(child.stdout);
      let last = '';
      lines.on('line', (line) => (last = line));
      const ended = once(lines, 'close');
      await once(lines, 'line');
      const { stream } = JSON.parse(await admin('-X', 'POST', `${base}:8081/streams?url=site${path}&to=${to}:${port}&mode=plain&seconds=${seconds}`)) as { stream: number };
      await ended;
      const { streams } = JSON.parse(await admin(`${base}:8081/streams`)) as { streams: { id: number; state: string; datagrams: number }[] };
      const { state, datagrams: sent } = streams.find(({ id }) => id === stream)!;
      const got = JSON.parse(last) as { datagrams: number; seconds: number };
      if (state !== 'done' || got.datagrams === 0) throw new ShoalError('LAB_FAILED', `The stream by ${backend} ended so: ${state}, ${got.datagrams} of ${sent} datagrams arrived.`);
      found.push({ backend, round, gbps: (got.datagrams * frameBytes * 8) / got.seconds / 1e9, arrived: got.datagrams, sent });
    }
  }
  return found;
}

export const streamsCsv = (speeds: readonly StreamSpeed[]): string =>
  ['backend,round,gbps,arrived,sent', ...speeds.map(({ backend, round, gbps, arrived, sent }) => `${backend},${round},${gbps.toFixed(4)},${arrived},${sent}`), ''].join('\n');
