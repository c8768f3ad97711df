/**
 * `fleet`: what the controller costs. On two real Xen hosts of the lab, a service applied against the same launch asked of the agents
 * straight; with the lab down, planner and placer alone, and a controller over many agents with the simulated hypervisor, a process each.
 */
import { pingImage } from '../src/cli/verbs/build.ts';
import { hostMemoryMib } from '../src/cli/verbs/demo.ts';
import { measureLaunches, shareOf } from './fleet/launches.ts';
import { launchOutcome, simulatedOutcome } from './fleet/outcome.ts';
import { measurePlanning, type PlanningSize } from './fleet/planning.ts';
import { measureSimulated, type SimulatedSize } from './fleet/simulated.ts';
import { machineFacts, type Benchmark } from './harness.ts';

const hosts = 2;
const memoryKib = 1024;
const rounds = { full: 5, quick: 2 };
const large: SimulatedSize = { hosts: 50, services: 20, copies: 10_000, changes: 50, lists: 5 };
const small: SimulatedSize = { hosts: 10, services: 10, copies: 1000, changes: 20, lists: 3 };
const planning: PlanningSize = { hosts: 50, services: 20, copies: 10_000 };
/** Of the planner; the first of them warm the compiler, and do not count. */
const plans = { warm: 3, counted: 15 };

export const fleet: Benchmark = {
  name: 'fleet',
  summary: 'the controller: its overhead on two Xen hosts, and 10,000 VMs on 50 simulated ones',
  vms: { full: 1000, quick: 200, least: 2, most: 4000 },
  hosts,
  memoryMib: (vms) => hostMemoryMib(shareOf(vms, hosts, 0), memoryKib),
  async run({ terminal, quick, vms = 1000, lab, signal }) {
    const two = { ...lab, hosts: lab.hosts.slice(0, hosts) };
    const samples = await measureLaunches({
      terminal,
      lab: two,
      vms,
      rounds: quick ? rounds.quick : rounds.full,
      imageFile: pingImage,
      memoryKib,
      signal,
    });
    return launchOutcome(vms, samples, { ...machineFacts(), accelerator: lab.accelerator });
  },
  async withoutLab({ terminal, quick, signal }) {
    terminal.status('plans');
    const runs = Array.from({ length: plans.warm + plans.counted }, () => measurePlanning(planning));
    const size = quick ? small : large;
    const simulated = await measureSimulated(terminal, size, signal);
    return simulatedOutcome(size, simulated, planning, runs.slice(plans.warm).flat());
  },
};
