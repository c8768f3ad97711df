/**
 * `density`: as many VMs of 1 MiB as a host is to hold, in one run against xl on the same host. Each is waited for
 * at the pinger; at some numbers of running VMs 50 more are started from shells and taken away again. What the full host then
 * costs is measured beside it: memory, the agent, the list of all, news of a change, destroying many.
 */
import { Client } from '../src/cli/client.ts';
import { freeAddresses } from '../src/cli/demo/addresses.ts';
import { addressRange, clearPrefix, runFleet } from '../src/cli/demo/fleet.ts';
import { bootEach } from '../src/cli/demo/measure.ts';
import { count, ms } from '../src/cli/format.ts';
import { p50 } from '../src/cli/demo/statistics.ts';
import { putImage, readImage } from '../src/cli/images.ts';
import { readTarget } from '../src/cli/target.ts';
import { pingImage } from '../src/cli/verbs/build.ts';
import type { HostFacts } from '../src/cli/verbs/host-show.ts';
import { destroyVms } from '../src/cli/verbs/vm-power.ts';
import { findVm, findVms, listVms } from '../src/cli/vms.ts';
import { defaultMemoryMib, dom0MemoryMib } from '../src/lab/plan.ts';
import { ShoalError } from '../src/model/errors.ts';
import { measureFloor } from './density/floor.ts';
import {
  bootFromShells, cloneAddresses, growth, limitShells, storeChanges, timeClones, timeDestroy, timeEvents, timeList, type Bench, type ShellSample,
} from './density/measures.ts';
import { aloneOf, edge, outcomeOf, stopsOf } from './density/outcome.ts';
import { atLeast, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome, type Promised } from './harness.ts';

const prefix = 'dens';
const shellPrefix = 'densshell';
const warmUpPrefix = 'denswarm';
const clonePrefix = 'densclone';
const memoryKib = 1024;
const xlSamples = { full: 5, quick: 2 };
const changes = 20;
const floorLaunches = 50;
const destroyMost = 1000;
const answerMs = 60_000;

/** KiB that a VM may take of Xen's memory. */
const vmKib = 1.2 * 1024;
/** Of Xen itself, of the VMs from shells and of xl's, in MiB. */
const besideMib = 256 + 64;
/** Of dom0, in MiB: the system, the agent, and what each VM costs there. */
const dom0Mib = (vms: number): number => 512 + 300 + Math.ceil(vms / 10);

/** Memory of a lab host that holds so many VMs, in MiB: the lab's default where that is enough. */
export function hostMemoryMib(vms: number): number {
  const fleetMib = Math.ceil((vms * vmKib) / 1024) + besideMib;
  let memoryMib = defaultMemoryMib;
  while (memoryMib - dom0MemoryMib(memoryMib) < fleetMib || dom0MemoryMib(memoryMib) < dom0Mib(vms)) memoryMib += 1024;
  return memoryMib;
}

async function run({ terminal, quick, vms = sizes.full, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const host = lab.hosts[0]!;
  const client = new Client(readTarget(host));
  const watcher = new Client(readTarget(host));
  const stops = stopsOf(vms);
  const goOn = (): void => {
    if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The benchmark was interrupted.', { hint: 'Run it again.' });
  };
  let shellsBefore: number | undefined;
  try {
    await checkRoom(client, vms);
    shellsBefore = await limitShells(client, 0);
    for (const old of [shellPrefix, warmUpPrefix, clonePrefix, prefix]) await clearPrefix(terminal, client, old);
    const { digest: image } = await putImage(client, readImage(pingImage));
    const used = new Set((await listVms(client, ['addresses'])).flatMap((vm) => vm.addresses));
    const [first, last] = await addressRange(client);
    // The fleet and xl take the first of them; each shell has one that nobody had before it.
    const spare = freeAddresses(first, last, used, vms + 1 + edge * stops.length + cloneAddresses + 1).slice(vms + 1);
    const bench = { terminal, client, host, image, memoryKib, signal };
    terminal.status('one VM that does not count');
    await warmUp({ ...bench, pinger: await lab.pinger(host.index) }, spare.pop()!);

    const shells: ShellSample[] = [];
    let fleetChanges = 0;
    let changesBefore = NaN;
    const atStop = async (running: number, pinger: Bench['pinger']): Promise<void> => {
      if (running > 0) fleetChanges += (await storeChanges(client)) - changesBefore;
      terminal.status(`${edge} VMs from shells beside ${count(running)}`);
      const some = spare.splice(0, edge).map((address, i) => ({ name: `${shellPrefix}-${running + i + 1}`, address }));
      const sample = await bootFromShells({ ...bench, pinger }, some, running);
      shells.push(sample);
      const times = sample.boots.flatMap((boot) => boot.ms ?? []);
      terminal.note(`from a shell beside ${count(running)} running VMs: p50 ${ms(p50(times))} ms to the first echo reply`);
      changesBefore = await storeChanges(client);
    };
    const fleet = await runFleet({
      terminal,
      lab,
      host,
      client,
      imageFile: pingImage,
      prefix,
      vms,
      memoryKib,
      xlAt: [0],
      xlSamplesEach: quick ? xlSamples.quick : xlSamples.full,
      stopAt: stops,
      alone: aloneOf(vms),
      atStop,
      signal,
    });
    if (fleet.error !== undefined) throw fleet.error;
    goOn();

    const pinger = await lab.pinger(host.index);
    try {
      const full: Bench = { ...bench, pinger };
      const names = fleet.boots.map(({ name }) => name);
      terminal.status('listing all');
      const listS = await timeList(full, vms);
      terminal.status('changing one, and waiting for the news');
      const eventMs = await timeEvents(client, watcher, (await findVm(client, names[0]!)).ref, changes);
      goOn();
      const further = await clones(full, spare.splice(0, cloneAddresses));
      terminal.status('raw calls from C');
      const floor = await measureFloor(host, pingImage, memoryKib, floorLaunches);
      goOn();
      const doomed = names.slice(-destroyMost);
      terminal.status(`destroying ${count(doomed.length)} in one call`);
      const destroyMs = await timeDestroy(full, doomed);
      const facts = await client.plugin<HostFacts>('facts');
      return outcomeOf(
        { vms, fleet, shells, changesPerVm: fleetChanges / vms, listS, eventMs, destroyMs, destroyed: doomed.length, floor },
        further,
        { ...machineFacts(), accelerator: lab.accelerator, xen: facts.xen, hostMemoryKib: facts.totalKib, vms },
      );
    } finally {
      await pinger.close();
    }
  } finally {
    terminal.status('');
    // Only a host that is gone cannot be told, and then there is an error that says more.
    if (shellsBefore !== undefined) await limitShells(client, shellsBefore).catch(() => undefined);
    await Promise.all([client.close(), watcher.close()]);
  }
}

/** Throws LAB_FAILED for a lab that was up before with too little memory; one brought up for the run has enough. */
async function checkRoom(client: Client, vms: number): Promise<void> {
  const { freeKib } = await client.plugin<HostFacts>('facts');
  const needKib = Math.ceil(vms * vmKib) + 64 * 1024;
  const ours = (await listVms(client, ['memoryKib'])).filter(({ name }) => name.startsWith(`${prefix}-`)).length;
  if (freeKib + ours * vmKib >= needKib) return;
  throw new ShoalError('LAB_FAILED', `${count(vms)} VMs need ${count(needKib / 1024)} MiB, the host has ${count(freeKib / 1024)} MiB to give.`, {
    hint: `Take the lab down and run again, or bring it up with --memory ${hostMemoryMib(vms)}.`,
  });
}

/** The image's first VM pays for what all share: the template, the parsed image, the uplink of the switch. */
async function warmUp({ terminal, client, pinger, image, signal }: Bench, address: string): Promise<void> {
  const name = `${warmUpPrefix}-1`;
  try {
    const error = await bootEach([{ name, address }], 0, [], { client, pinger, image, memoryKib, answerMs, signal });
    if (error !== undefined) throw error;
  } finally {
    await pinger.close();
  }
  if (signal.aborted) return;
  const { failed } = await destroyVms(terminal, client, await findVms(client, [name]));
  if (failed[0] !== undefined) throw failed[0].error;
}

/** Copies of a running VM against starts of new ones, with the whole fleet running beside them. */
async function clones(bench: Bench, addresses: readonly string[]): Promise<Promised[]> {
  bench.terminal.status('copies of a running VM');
  const { started, cloned, plainStarted, plainCloned } = await timeClones(bench, addresses, clonePrefix);
  const grown = `growing by ${growth} until all answer, copies of a VM`;
  return [
    atLeast('DENS-13', `${grown} whose start takes work, times faster than starts (${ms(started)} and ${ms(cloned)} ms a VM)`, started / cloned, '×', 2),
    compared('DENS-14', `${grown} whose start takes none (${ms(plainStarted)} and ${ms(plainCloned)} ms a VM)`, plainStarted / plainCloned, '×'),
  ];
}

const sizes = { full: 1000, quick: 200, least: 2 * edge, most: 10_000 };

export const density: Benchmark = {
  name: 'density',
  summary: 'a host full of VMs of 1 MiB, against xl and the raw floor',
  vms: sizes,
  memoryMib: hostMemoryMib,
  run,
};
