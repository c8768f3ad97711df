/**
 * The longest gap an application sees while the translator VM that its plain TCP connection runs through migrates between two Xen hosts of one subnet, and keeps its address:
 * over the time it stood still, which the agent that sent it tells, and two round trips.
 */
import { labAttach, type Lab } from '../../src/lab/lab.ts';
import { aloneOn, LabNetwork } from './lab-network.ts';
import { LabWaypoint } from './lab-waypoint.ts';
import { askBoth, connected, endingOf, wait } from './moving.ts';
import { buildPrograms } from './network.ts';
import { fill, Series, type Ending, type Summary } from './series.ts';

export type SubnetWay = 'no-move' | 'migrate' | 'migrate-live';

const rateKbit = 20_000;
const stillMs = 2_000;
const mostStills = 10;
/** A retransmission that waited for its timer shows so soon. */
const afterMs = 500;

export interface SubnetOptions {
  lab: string;
  moves: number;
  delayMs: number;
  mode?: 'plain-records' | 'plain-bulk';
  ways?: readonly SubnetWay[];
  inARow?: number;
  file?: string | undefined;
  each?: (summary: Summary) => void;
  signal?: AbortSignal;
  log?: (line: string) => void;
}

/** The lab is up, with two hosts in one subnet; VMs of its own are taken away again. */
export async function measureSubnet({ lab: name, moves, delayMs, mode = 'plain-records', ways = ['no-move', 'migrate'], inARow = 100, file, each, signal, log }: SubnetOptions): Promise<Series[]> {
  buildPrograms();
  return aloneOn(name, async () => {
    const lab = await labAttach(name);
    const found: Series[] = [];
    for (const way of ways) {
      const series = new Series({ where: 'subnet', delayMs, mode, way }, file);
      await fill(series, { moves: way === 'no-move' ? Math.min(moves, mostStills) : moves, inARow, signal, log: log ?? (() => {}) }, (count) => oneConnection(lab, series, count, signal));
      found.push(series);
      each?.(series.summary());
    }
    return found;
  });
}

async function oneConnection(lab: Lab, series: Series, count: number, signal: AbortSignal | undefined): Promise<Ending> {
  const { delayMs, mode, way } = series.key;
  const network = await LabNetwork.make(lab.name, { hosts: 1, delayMs, rateKbit });
  const waypoint = new LabWaypoint(lab);
  try {
    // What a run that was killed left.
    await waypoint.destroyAll();
    await waypoint.launch();
    const ends = await connected(network, waypoint.address, mode);
    await askBoth(ends);
    for (let i = 0, broken = 0; i < count && broken === 0 && signal?.aborted !== true; i++) {
      const begun = performance.now();
      const departed = way === 'no-move' ? undefined : await waypoint.migrate(way === 'migrate-live');
      const moveMs = performance.now() - begun;
      await wait(departed === undefined ? stillMs : afterMs);
      const seen = await askBoth(ends);
      ({ broken } = seen);
      series.add({ gapMs: seen.gapMs, moveMs, moved: true, ...(departed === undefined ? {} : { standstillMs: departed.downtimeMs }) });
    }
    return await endingOf(ends);
  } finally {
    network.remove();
    await waypoint.destroyAll();
    await waypoint.close();
  }
}
