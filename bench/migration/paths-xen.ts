/**
 * The longest gap an application sees while the translator VM that its connection runs through moves between two Xen hosts of the lab, in different subnets: the VM's own
 * checkpoint told apart from what comes after it, and beside as long without a move. Linux' own MPTCP at both ends, the coordinator of src/migrate with the waypoints
 * of real VMs. The lab is emulated: what both dom0s do, they do several times slower than on metal, and on the same cores as the ends.
 */
import { labAttach } from '../../src/lab/lab.ts';
import type { MoveKind } from '../../src/migrate/paths-table.ts';
import { LabNetwork } from './lab-network.ts';
import { LabWaypoint } from './lab-waypoint.ts';
import { AgentProcess, wait } from './moving.ts';
import { buildPrograms, type Report, type Traffic } from './network.ts';

export interface XenGaps {
  delayMs: number;
  mode: 'records' | 'bulk';
  way: 'no-move' | MoveKind;
  moves: number;
  /** Of the larger gap of both ends in each move, in milliseconds. */
  p50: number;
  p99: number;
  max: number;
  /** The same, until the copy runs at the target, and from then on. */
  copying?: { p50: number; p99: number };
  after?: { p50: number; p99: number };
  /** Whole moves. */
  moveMs: number;
  /** Sent by either end and not received by the other in the end, or received out of its place. */
  lost: number;
  bad: number;
  /** Connections that broke, and moves that did not end as such. */
  broken: number;
  failed: number;
}

const rateKbit = 20_000;
/** Without a move it is looked at for as long as one takes, so often. */
const stillMs = 5_000;
const mostStills = 10;

const ranks = (values: readonly number[]): { p50: number; p99: number; max: number } => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => Math.round((sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0) * 10) / 10;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
};

export interface XenOptions {
  lab: string;
  moves: number;
  delayMs: number;
  mode?: 'records' | 'bulk';
  ways?: readonly XenGaps['way'][];
  each?: (gaps: XenGaps) => void;
}

/** The lab is up, with two hosts; VMs of its own are taken away again. */
export async function measureXenPaths({ lab: name, moves, delayMs, mode = 'records', ways = ['no-move', 'make-before-break', 'break-before-make'], each }: XenOptions): Promise<XenGaps[]> {
  buildPrograms();
  const lab = await labAttach(name);
  const found: XenGaps[] = [];
  for (const way of ways) {
    const client = way === 'break-before-make' ? 'userspace' : 'kernel';
    const network = await LabNetwork.make(name, { delayMs, rateKbit, client });
    const waypoint = new LabWaypoint(lab);
    const agents: AgentProcess[] = [];
    try {
      await waypoint.launch();
      const agent = await new AgentProcess(network, 's').start();
      agents.push(agent);
      if (client === 'userspace') agents.push(await new AgentProcess(network, 'c', { follow: { retryMs: Math.max(50, 4 * delayMs) } }).start());
      const server = network.traffic('s', 'listen', '0.0.0.0', '0', mode);
      const near = network.traffic('c', 'connect', waypoint.address, String(await server.port), mode, '1');
      await near.port;
      await wait(3_000);
      const gaps = await manyMoves(waypoint, agent, [server, near], way, way === 'no-move' ? Math.min(moves, mostStills) : moves);
      found.push({ delayMs, mode, way, ...gaps });
      each?.(found.at(-1)!);
    } finally {
      for (const agent of agents) await agent.remove();
      network.remove();
      await waypoint.destroyAll();
      await waypoint.close();
    }
  }
  return found;
}

async function manyMoves(waypoint: LabWaypoint, agent: AgentProcess, ends: readonly Traffic[], way: XenGaps['way'], moves: number): Promise<Omit<XenGaps, 'delayMs' | 'mode' | 'way'>> {
  const gapOf = async (): Promise<number> => Math.max(...(await Promise.all(ends.map((end) => end.ask()))).map(({ gapMs }) => gapMs));
  const [whole, copying, after, took]: number[][] = [[], [], [], []];
  let failed = 0;
  // The copy runs: what came before is the checkpoint's.
  let first = 0;
  const save = waypoint.store.save.bind(waypoint.store);
  waypoint.store.save = async (record) => {
    await save(record);
    if (record.state === 'announcing') first = await gapOf();
  };
  await gapOf();
  for (let i = 0; i < moves; i++) {
    first = 0;
    const begun = performance.now();
    if (way === 'no-move') await wait(stillMs);
    else if ((await waypoint.move(agent, way)).record.state !== 'moved') failed++;
    took!.push(performance.now() - begun);
    await wait(300);
    const second = await gapOf();
    copying!.push(first);
    after!.push(second);
    whole!.push(Math.max(first, second));
  }
  const [server, near] = (await Promise.all(ends.map((end) => end.end()))) as [Report, Report];
  const short = ({ p50, p99 }: { p50: number; p99: number }) => ({ p50, p99 });
  return {
    moves,
    ...ranks(whole!),
    ...(way === 'make-before-break' ? { copying: short(ranks(copying!)), after: short(ranks(after!)) } : {}),
    moveMs: ranks(took!).p50,
    lost: Math.abs(server.sent - near.received) + Math.abs(near.sent - server.received),
    bad: server.bad + near.bad,
    broken: server.broken + near.broken,
    failed,
  };
}
