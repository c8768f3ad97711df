/**
 * The longest gap an application sees while the translator VM that its connection runs through moves between two Xen hosts of the lab, in different subnets: the VM's own
 * checkpoint told apart from what comes after it, and beside as long without a move. Linux' own MPTCP at both ends, the coordinator of src/migrate with the waypoints
 * of real VMs. The lab is emulated: what both dom0s do, they do several times slower than on metal, and on the same cores as the ends.
 */
import { labAttach, type Lab } from '../../src/lab/lab.ts';
import type { MoveOutcome } from '../../src/migrate/paths.ts';
import type { MoveKind } from '../../src/migrate/paths-table.ts';
import { aloneOn, LabNetwork, mostInARow } from './lab-network.ts';
import { LabWaypoint } from './lab-waypoint.ts';
import { AgentProcess, askBoth, connected, endingOf, wait } from './moving.ts';
import { buildPrograms, type Traffic } from './network.ts';
import { fill, Series, type Ending, type Summary } from './series.ts';

export type XenWay = 'no-move' | MoveKind;

const rateKbit = 20_000;
/** Without a move it is looked at for as long as one takes, so often. */
const stillMs = 2_000;
const mostStills = 10;
/** What a move did shows in the connection so soon, a retransmission included. */
const afterMs = 300;

export interface XenOptions {
  lab: string;
  moves: number;
  delayMs: number;
  mode?: 'records' | 'bulk';
  ways?: readonly XenWay[];
  /** Moves of one connection; 100 at most, for each takes an address. */
  inARow?: number;
  /** Lines are added to it; see Series. */
  file?: string | undefined;
  each?: (summary: Summary) => void;
  signal?: AbortSignal;
  log?: (line: string) => void;
}

/** The lab is up, with two hosts in subnets of their own; VMs of its own are taken away again. */
export async function measureXenPaths({ lab: name, moves, delayMs, mode = 'records', ways = ['no-move', 'make-before-break', 'break-before-make'], inARow = 100, file, each, signal, log }: XenOptions): Promise<Series[]> {
  buildPrograms();
  return aloneOn(name, async () => {
    const lab = await labAttach(name);
    const found: Series[] = [];
    for (const way of ways) {
      const series = new Series({ where: 'xen', delayMs, mode, way }, file);
      await fill(series, { moves: way === 'no-move' ? Math.min(moves, mostStills) : moves, inARow: Math.min(inARow, mostInARow), signal, log: log ?? (() => {}) }, (count) => oneConnection(lab, series, count, signal));
      found.push(series);
      each?.(series.summary());
    }
    return found;
  });
}

async function oneConnection(lab: Lab, series: Series, count: number, signal: AbortSignal | undefined): Promise<Ending> {
  const { delayMs, mode, way } = series.key;
  const client = way === 'break-before-make' ? 'userspace' : 'kernel';
  const network = await LabNetwork.make(lab.name, { delayMs, rateKbit, client });
  const waypoint = new LabWaypoint(lab);
  const agents: AgentProcess[] = [];
  try {
    // What a run that was killed left.
    await waypoint.destroyAll();
    await waypoint.launch();
    const agent = await new AgentProcess(network, 's').start();
    agents.push(agent);
    if (client === 'userspace') agents.push(await new AgentProcess(network, 'c', { follow: { retryMs: Math.max(50, 4 * delayMs) } }).start());
    const ends = await connected(network, waypoint.address, mode);
    await manyMoves(waypoint, agent, ends, series, count, signal);
    return await endingOf(ends);
  } finally {
    for (const agent of agents) await agent.remove();
    network.remove();
    await waypoint.destroyAll();
    await waypoint.close();
  }
}

async function manyMoves(waypoint: LabWaypoint, agent: AgentProcess, ends: readonly Traffic[], series: Series, count: number, signal: AbortSignal | undefined): Promise<void> {
  const { way } = series.key;
  // The copy runs: what came before is the checkpoint's.
  let first = 0;
  const save = waypoint.store.save.bind(waypoint.store);
  waypoint.store.save = async (record) => {
    await save(record);
    if (way === 'make-before-break' && record.state === 'announcing') first = (await askBoth(ends)).gapMs;
  };
  await askBoth(ends);
  for (let i = 0; i < count && signal?.aborted !== true; i++) {
    first = 0;
    const begun = performance.now();
    let outcome: MoveOutcome | undefined;
    if (way === 'no-move') await wait(stillMs);
    else outcome = await waypoint.move(agent, way as MoveKind);
    const moveMs = performance.now() - begun;
    await wait(afterMs);
    const { gapMs: second, broken } = await askBoth(ends);
    const moved = outcome === undefined || outcome.record.state === 'moved';
    series.add({
      gapMs: Math.max(first, second), ...(way === 'make-before-break' ? { copyingMs: first, restMs: second } : {}), moveMs, moved,
      ...(way === 'break-before-make' && moved ? { standstillMs: standstillOf(outcome!) } : {}),
    });
    if (broken > 0) return;
  }
}

/** As the coordinator saw it: from the order to stop it until it was heard to run at the target. */
const standstillOf = ({ took }: MoveOutcome): number => took.reduce((sum, { state, ms }) => sum + (state === 'stopping' || state === 'starting' ? ms : 0), 0);
