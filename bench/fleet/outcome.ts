/** What the benchmark `fleet` makes of its measurements: verdicts, tables, the raw series. Pure. */
import { p50 } from '../../src/cli/demo/statistics.ts';
import { count, ms, table } from '../../src/cli/format.ts';
import { atMost, compared, type BenchOutcome } from '../harness.ts';
import { ways, type LaunchSample, type Way } from './launches.ts';
import type { PlanningSample, PlanningSize } from './planning.ts';
import type { Simulated, SimulatedSize } from './simulated.ts';

const right = (title: string) => ({ title, align: 'right' as const });
const timesOf = (samples: readonly LaunchSample[], way: Way): number[] => samples.filter((each) => each.way === way).map((each) => each.ms);

/** How much longer it takes through the controller than straight, p50 over p50, in percent. */
export const overheadPercent = (samples: readonly LaunchSample[]): number =>
  (p50(timesOf(samples, 'controller')) / p50(timesOf(samples, 'agents')) - 1) * 100;

export function launchOutcome(vms: number, samples: readonly LaunchSample[], machine: BenchOutcome['machine']): BenchOutcome {
  const rounds = [...new Set(samples.map(({ round }) => round))];
  const cell = (round: number, way: Way): string => {
    const found = samples.find((each) => each.round === round && each.way === way);
    return found === undefined ? '–' : ms(found.ms);
  };
  const median = (way: Way): string => ms(p50(timesOf(samples, way)));
  return {
    machine: { ...machine, vms },
    promises: [
      atMost('FLEET-8', `apply until ${count(vms)} run on two hosts, over the same launch straight at the agents`, overheadPercent(samples), '% more', 20),
    ],
    lines: [
      table(
        [right('ROUND'), right('THROUGH THE CONTROLLER, MS'), right('STRAIGHT AT THE AGENTS, MS')],
        [...rounds.map((round) => [String(round), ...ways.map((way) => cell(round, way))]), ['p50', ...ways.map(median)]],
      ),
      'In odd rounds the controller was first; without shells, with nothing running before, and no controller while agents were asked straight.',
    ],
    files: { 'fleet.csv': ['round,way,vms,ms', ...samples.map(({ round, way, ms: time }) => `${round},${way},${vms},${time.toFixed(1)}`), ''].join('\n') },
  };
}

export function simulatedOutcome(
  size: SimulatedSize,
  simulated: Simulated,
  planningSize: PlanningSize,
  planning: readonly PlanningSample[],
): BenchOutcome {
  const of = (what: PlanningSample['what']) => planning.filter((each) => each.what === what);
  const whole = (what: PlanningSample['what']): number => p50(of(what).map(({ planMs, placeMs }) => planMs + placeMs));
  const placed = (what: PlanningSample['what']): number => Math.min(...of(what).map((each) => each.placed));
  const fleet = `${count(planningSize.copies)} VMs on ${count(planningSize.hosts)} hosts`;
  const all = `${count(size.copies)} VMs`;
  const series: [string, readonly number[]][] = [
    ...(['scratch', 'lost'] as const).flatMap((what): [string, number[]][] => [
      [`plan_${what}_ms`, of(what).map(({ planMs }) => planMs)],
      [`place_${what}_ms`, of(what).map(({ placeMs }) => placeMs)],
    ]),
    ['apply_scratch_ms', [simulated.scratchMs]],
    ['host_lost_ms', [simulated.lostMs]],
    ['list_ms', simulated.listMs],
    ['event_ms', simulated.eventMs],
    ['resident_kib', [simulated.residentKib]],
    ['resident_most_kib', [simulated.residentMostKib]],
  ];
  return {
    machine: { simulatedHosts: size.hosts, simulatedVms: size.copies },
    promises: [
      atMost('FLEET-3', `list of ${all} over HTTPS, p50`, p50(simulated.listMs) / 1000, 's', 1),
      atMost('FLEET-4', `change at an agent until a client of the controller has it, ${all}, p50`, p50(simulated.eventMs), 'ms', 100),
      compared('FLEET-9', `plan and place of ${fleet} from scratch, p50`, whole('scratch'), 'ms'),
      compared('FLEET-10', `the same of the ${count(placed('lost'))} copies of a host that is lost, p50`, whole('lost'), 'ms'),
      compared('FLEET-11', `apply until ${all} are ready on ${size.hosts} simulated hosts, a process each`, simulated.scratchMs / 1000, 's'),
      compared('FLEET-12', 'one of these killed, until all are ready again, its grace left out', simulated.lostMs / 1000, 's'),
      atMost('FLEET-13', `the controller's memory with ${all}, at most`, simulated.residentMostKib / 1024, 'MiB', 300),
    ],
    lines: [
      `The controller had ${count(simulated.residentKib / 1024)} MiB when all were ready, ${count(simulated.residentMostKib / 1024)} at the most.`,
    ],
    files: {
      'fleet-simulated.csv': [
        'series,n,value',
        ...series.flatMap(([name, values]) => values.map((value, i) => `${name},${i + 1},${value.toFixed(2)}`)),
        '',
      ].join('\n'),
    },
  };
}
