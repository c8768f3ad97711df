/**
 * The longest gap an application sees while its connection moves between two NATs, over many moves of one connection: by the coordinator, by the same steps by hand
 * with fixed waits, with the waypoint just gone (the kernel left to itself), break before make, and in as much time without a move. Network namespaces, MPTCP of this
 * machine's kernel at both ends; a line of 20 Mbit/s with a queue of 200 ms. moves.ts runs it.
 */
import { AgentProcess, askBoth, connected, endingOf, moverOf, wait, waypointsOf, type Mover } from './moving.ts';
import { buildPrograms, Network, outside, outsideAgain } from './network.ts';
import { fill, Series, type Ending, type Summary } from './series.ts';

/** `bulk-256k`: the receiver's window grows to 256 KiB at most, which the line's queue has room for. */
export type Mode = 'records' | 'bulk' | 'bulk-256k';
export const ways = ['no move', 'make before break', 'steps by hand', 'waypoint gone', 'break before make'] as const;
export type Way = (typeof ways)[number];

const rateKbit = 20_000;
/** How long a stopped waypoint is away in break before make. */
export const downMs = 100;
/** By hand: what the facts of the field say is enough. */
const handMs: Record<Mode, number> = { records: 200, bulk: 1_500, 'bulk-256k': 1_500 };
const afterMs = 300;
/** Windows without a move, of as long as a move takes. */
const mostStills = 100;

interface Bench {
  network: Network;
  agent: AgentProcess;
  mover: Mover;
  mode: Mode;
}

async function joined({ agent }: Bench, from: string, to: string): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    const { connections } = await agent.client.status({ from, to });
    if (connections.every((one) => one.to.established > 0)) return;
    await wait(10);
  }
  throw new Error('no subflow at the target');
}

/** One move; whether it was one. */
async function go(bench: Bench, way: Way, tries: number): Promise<boolean> {
  const { mover, agent, network, mode } = bench;
  if (way === 'no move') {
    await wait(600);
    return true;
  }
  if (way === 'make before break' || way === 'break before make') return (await mover.move(way === 'make before break' ? 'make-before-break' : 'break-before-make')).record.state === 'moved';
  const [from, to] = [mover.at, mover.at === outside.b ? outsideAgain : outside.b];
  const waypoints = waypointsOf(network);
  const record = { id: `hand-${tries}`, kind: 'make-before-break' as const, from, to, state: 'planned' as const, leave: false };
  await waypoints.copy(record);
  await agent.client.announce({ address: to, from });
  await joined(bench, from, to);
  if (way === 'steps by hand') {
    await agent.client.backup({ address: from, backup: true });
    await wait(handMs[mode]);
  }
  await waypoints.suspend(record);
  // The kernel alone finds out by itself; its time-outs are over well before.
  if (way === 'waypoint gone') await wait(2_500);
  await waypoints.bury(record);
  await agent.client.withdraw({ address: from });
  mover.at = to;
  return true;
}

async function oneConnection(series: Series, count: number, signal: AbortSignal | undefined): Promise<Ending> {
  const { delayMs } = series.key;
  const [mode, way] = [series.key.mode as Mode, series.key.way.replaceAll('-', ' ') as Way];
  // The client's own agent is what spares break before make the wait for TCP's second SYN.
  const client = way === 'break before make' ? 'userspace' : 'kernel';
  const network = await Network.make({ delayMs, rateKbit, client });
  const agents: AgentProcess[] = [];
  try {
    const agent = await new AgentProcess(network, 's').start();
    agents.push(agent);
    if (client === 'userspace') agents.push(await new AgentProcess(network, 'c', { follow: { retryMs: Math.max(50, 4 * delayMs) } }).start());
    if (mode === 'bulk-256k') network.in('c', 'echo 4096 131072 262144 >/proc/sys/net/ipv4/tcp_rmem');
    const ends = await connected(network, outside.a, mode.split('-')[0]!);
    const mover = moverOf(network, agent, { downMs });
    for (let i = 0, broken = 0; i < count && broken === 0 && signal?.aborted !== true; i++) {
      await askBoth(ends);
      const begun = performance.now();
      const moved = await go({ network, agent, mover, mode }, way, i);
      const moveMs = performance.now() - begun;
      await wait(afterMs);
      const seen = await askBoth(ends);
      ({ broken } = seen);
      series.add({ gapMs: seen.gapMs, moveMs, moved, ...(way === 'break before make' ? { standstillMs: downMs } : {}) });
    }
    return await endingOf(ends);
  } finally {
    for (const agent of agents) await agent.remove();
    network.remove();
  }
}

export interface PathsOptions {
  moves: number;
  delaysMs?: readonly number[];
  modes?: readonly Mode[];
  ways?: readonly Way[];
  /** Moves of one connection. */
  inARow?: number;
  /** Lines are added to it; see Series. */
  file?: string | undefined;
  each?: (summary: Summary) => void;
  signal?: AbortSignal;
  log?: (line: string) => void;
}

/** Every delay, mode and way in turn; `each` hears of one as soon as it is measured. Needs root and nftables. */
export async function measurePaths({ moves, delaysMs = [1, 10, 50], modes = ['records', 'bulk'], ways: some = ways, inARow = 100, file, each, signal, log }: PathsOptions): Promise<Series[]> {
  buildPrograms();
  const found: Series[] = [];
  for (const delayMs of delaysMs)
    for (const mode of modes)
      for (const way of some) {
        if (signal?.aborted === true) return found;
        const series = new Series({ where: 'namespaces', delayMs, mode, way: way.replaceAll(' ', '-') }, file);
        await fill(series, { moves: way === 'no move' ? Math.min(moves, mostStills) : moves, inARow, signal, log: log ?? (() => {}) }, (count) => oneConnection(series, count, signal));
        found.push(series);
        each?.(series.summary());
      }
  return found;
}
