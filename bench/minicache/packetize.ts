/**
 * Packetizing on one core of this machine, without Xen: the Linux build of minicache's packetizer (unikernels/test/stream_send.c), from
 * RAM and from the object store in RAM, by block size, in datagrams of 1,024 bytes as the paper has them and of seven TS packets. What it
 * writes to is buffers as netfront's are, which are then dropped: what the loop costs, without a device. Over a veth pair too: with Linux's own cost of a
 * packet.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { ShoalError } from '../../src/model/errors.ts';

export const blockSizes = [4096, 8192, 16384, 32768, 65536, 131072, 262144] as const;

export interface PacketizeRow {
  sink: 'null' | 'veth';
  source: 'memory' | 'store';
  payloadBytes: 1024 | 1316;
  blockBytes: number;
  round: number;
  /** Whole frames, Ethernet header included, as the paper counts. */
  gbps: number;
  datagramsPerS: number;
}

interface Sent {
  end: number;
  datagrams: number;
  frameBytes: number;
  seconds: number;
}

const program = join(repositoryRoot, 'build/unikernels/stream_send');
/** Larger than the caches of a core, as a library of films is. */
const bodyBytes = 256 * 1024 * 1024;
/** The longest object has 221 MiB. */
const objectBytes = 128 * 1024 * 1024;

function run(argv: readonly string[], timeoutMs: number): string {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  if (status !== 0) throw new ShoalError('SETUP_FAILED', `${argv.join(' ')}: ${stderr.trim() || `ended with ${status}`}`);
  return stdout;
}

/** A namespace with a veth pair whose other end drops what comes. */
function withVeth<T>(work: (inside: readonly string[]) => T): T {
  const name = `shoal-packetize-${process.pid}`;
  const inside = ['ip', 'netns', 'exec', name];
  run(['ip', 'netns', 'add', name], 10_000);
  try {
    run([...inside, 'ip', 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1'], 10_000);
    for (const end of ['veth0', 'veth1']) run([...inside, 'ip', 'link', 'set', end, 'up'], 10_000);
    return work(inside);
  } finally {
    spawnSync('ip', ['netns', 'del', name]);
  }
}

/** Measures; one row a run. Takes about a minute, with `quick` about ten seconds. */
export function packetize(quick: boolean): PacketizeRow[] {
  run(['make', '-s', '-C', join(repositoryRoot, 'unikernels'), program], 300_000);
  const rounds = quick ? 2 : 5;
  const seconds = quick ? 0.2 : 1;
  const sizes = quick ? [4096, 16384, 65536, 262144] : blockSizes;
  const rows: PacketizeRow[] = [];
  const measure = (inside: readonly string[], sink: PacketizeRow['sink'], source: PacketizeRow['source'], payloadBytes: 1024 | 1316, blockBytes: number, round: number) => {
    // What is no transport stream cannot be sent as one: zeros in RAM go out plain; for 1,316 bytes a stream of null packets is made.
    const body = payloadBytes === 1316 ? `nulls:${bodyBytes}` : source === 'store' ? `store:${objectBytes}` : `zeros:${bodyBytes}`;
    const words = [program, sink === 'null' ? 'null' : 'veth0', payloadBytes === 1316 ? 'ts' : 'plain', String(blockBytes), body, String(seconds)];
    const sent = JSON.parse(run([...inside, 'taskset', '-c', '0', ...words], 120_000)) as Sent;
    rows.push({ sink, source, payloadBytes, blockBytes, round, gbps: (sent.frameBytes * 8) / sent.seconds / 1e9, datagramsPerS: sent.datagrams / sent.seconds });
  };
  for (let round = 1; round <= rounds; round++) {
    for (const size of sizes) {
      measure([], 'null', 'memory', 1024, size, round);
      measure([], 'null', 'memory', 1316, size, round);
    }
    measure([], 'null', 'store', 1024, 16384, round);
  }
  withVeth((inside) => {
    for (let round = 1; round <= rounds; round++) measure(inside, 'veth', 'memory', 1024, 65536, round);
  });
  return rows;
}

/** Median Gb/s of those rows that are meant. */
export function medianGbps(rows: readonly PacketizeRow[], wanted: Partial<PacketizeRow>): number {
  const keys = Object.keys(wanted) as (keyof PacketizeRow)[];
  return p50(rows.filter((row) => keys.every((key) => row[key] === wanted[key])).map(({ gbps }) => gbps));
}

/** The least median of block sizes of 16 KiB and more: what the promise is about. */
export const leastFrom16Kib = (rows: readonly PacketizeRow[]): number =>
  Math.min(...[...new Set(rows.filter(({ sink, blockBytes }) => sink === 'null' && blockBytes >= 16384).map(({ blockBytes }) => blockBytes))].map((blockBytes) =>
    medianGbps(rows, { sink: 'null', source: 'memory', payloadBytes: 1024, blockBytes })));

export const packetizeCsv = (rows: readonly PacketizeRow[]): string =>
  ['sink,source,payload_bytes,block_bytes,round,gbps,datagrams_per_s', ...rows.map((row) =>
    [row.sink, row.source, row.payloadBytes, row.blockBytes, row.round, row.gbps.toFixed(3), Math.round(row.datagramsPerS)].join(',')), ''].join('\n');

/** Like the paper's figure: Gb/s by block size. */
export function packetizePlot(rows: readonly PacketizeRow[]): string {
  const points = (payloadBytes: 1024 | 1316) =>
    rows.filter((row) => row.sink === 'null' && row.source === 'memory' && row.payloadBytes === payloadBytes).map((row) => [row.blockBytes / 1024, row.gbps] as const);
  return plotSvg({
    title: 'Gb/s packetized on one core against the size of a block',
    xLabel: 'block, KiB',
    yLabel: 'Gb/s',
    scale: 'linear',
    series: [
      { label: '1,024 bytes a datagram', points: points(1024), shape: 'dot', line: { y: 10, label: 'dashed: the paper' } },
      { label: '1,316 bytes (MPEG-TS)', points: points(1316), shape: 'diamond', line: { y: medianGbps(rows, { sink: 'null', payloadBytes: 1316 }), label: 'median' } },
    ],
  });
}
