/**
 * The longest gap an application sees while its connection moves between two NATs, over many moves of one connection: by the coordinator, by the same steps by hand
 * with fixed waits, with the waypoint just gone (the kernel left to itself), break before make, and in as much time without a move. Network namespaces, MPTCP of this
 * machine's kernel at both ends; a line of 20 Mbit/s with a queue of 200 ms. `node --import tsx bench/migration/paths.ts [MOVES] [DELAY_MS...] [records] [bulk]
 * [WAY...]`, a way with `-` for its spaces; with the words `xen LAB` the NATs are VMs on the two hosts of that lab (paths-xen.ts). bench/migration.ts may call `measurePaths`.
 */
import { pathToFileURL } from 'node:url';
import { AgentProcess, moverOf, wait, waypointsOf, type Mover } from './moving.ts';
import { measureXenPaths } from './paths-xen.ts';
import { buildPrograms, Network, outside, outsideAgain, type Report, type Traffic } from './network.ts';

export type Mode = 'records' | 'bulk';
export const ways = ['no move', 'make before break', 'steps by hand', 'waypoint gone', 'break before make'] as const;
export type Way = (typeof ways)[number];

export interface Gaps {
  delayMs: number;
  mode: Mode;
  way: Way;
  moves: number;
  /** Of the larger gap of both ends in each move, in milliseconds. */
  p50: number;
  p99: number;
  max: number;
  /** Received bytes that were not what they must be, and connections that broke. */
  bad: number;
  /** Moves that did not end as such. */
  failed: number;
}

const rateKbit = 20_000;
/** How long a stopped waypoint is away in break before make. */
export const downMs = 100;
/** By hand: what the facts of the field say is enough. */
const handMs: Record<Mode, number> = { records: 200, bulk: 1_500 };
const afterMs = 300;

const rank = (sorted: readonly number[], share: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0;

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

async function measure(delayMs: number, mode: Mode, way: Way, moves: number, signal?: AbortSignal): Promise<Gaps> {
  // The client's own agent is what spares break before make the wait for TCP's second SYN.
  const client = way === 'break before make' ? 'userspace' : 'kernel';
  const network = await Network.make({ delayMs, rateKbit, client });
  const agents: AgentProcess[] = [];
  try {
    const agent = await new AgentProcess(network, 's').start();
    agents.push(agent);
    if (client === 'userspace') agents.push(await new AgentProcess(network, 'c', { follow: { retryMs: Math.max(50, 4 * delayMs) } }).start());
    const server = network.traffic('s', 'listen', '0.0.0.0', '0', mode);
    const [near]: Traffic[] = [network.traffic('c', 'connect', outside.a, String(await server.port), mode, '1')];
    await near!.port;
    await wait(3_000);
    const ask = (): Promise<Report[]> => Promise.all([server.ask(), near!.ask()]);
    const mover = moverOf(network, agent, { downMs });
    const gaps: number[] = [];
    let failed = 0;
    let last: Report[] = [];
    for (let i = 0; i < moves && signal?.aborted !== true; i++) {
      await ask();
      if (!(await go({ network, agent, mover, mode }, way, i))) failed++;
      await wait(afterMs);
      last = await ask();
      gaps.push(Math.max(...last.map(({ gapMs }) => gapMs)));
    }
    gaps.sort((a, b) => a - b);
    const bad = last.reduce((sum, one) => sum + one.bad + one.broken, 0);
    return { delayMs, mode, way, moves: gaps.length, p50: rank(gaps, 0.5), p99: rank(gaps, 0.99), max: gaps.at(-1) ?? 0, bad, failed };
  } finally {
    for (const agent of agents) await agent.remove();
    network.remove();
  }
}

/** Every delay, mode and way in turn; `each` hears of one as soon as it is measured. Needs root and nftables. */
export async function measurePaths(options: { moves: number; delaysMs?: readonly number[]; modes?: readonly Mode[]; ways?: readonly Way[]; each?: (gaps: Gaps) => void; signal?: AbortSignal }): Promise<Gaps[]> {
  buildPrograms();
  const found: Gaps[] = [];
  for (const delayMs of options.delaysMs ?? [1, 10, 50])
    for (const mode of options.modes ?? (['records', 'bulk'] as const))
      for (const way of options.ways ?? ways) {
        if (options.signal?.aborted === true) return found;
        const gaps = await measure(delayMs, mode, way, options.moves, options.signal);
        found.push(gaps);
        options.each?.(gaps);
      }
  return found;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const words = process.argv.slice(2);
  const [moves = 20, ...delaysMs] = words.filter((word) => /^\d+$/.test(word)).map(Number);
  const modes = (['records', 'bulk'] as const).filter((mode) => words.includes(mode));
  const each = (gaps: object): void => void process.stdout.write(`${JSON.stringify(gaps)}\n`);
  const lab = words.includes('xen') ? words[words.indexOf('xen') + 1] : undefined;
  const xenWays = (['no-move', 'make-before-break', 'break-before-make'] as const).filter((way) => words.includes(way));
  const some = ways.filter((way) => words.includes(way.replaceAll(' ', '-')));
  if (lab === undefined) await measurePaths({ moves, ...(delaysMs.length === 0 ? {} : { delaysMs }), ...(modes.length === 0 ? {} : { modes }), ...(some.length === 0 ? {} : { ways: some }), each });
  else for (const delayMs of delaysMs.length === 0 ? [10] : delaysMs) for (const mode of modes.length === 0 ? (['records'] as const) : modes) await measureXenPaths({ lab, moves, delayMs, mode, each, ...(xenWays.length === 0 ? {} : { ways: xenWays }) });
}
