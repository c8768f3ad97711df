/**
 * The same launch twice: a service applied at a controller over the lab's hosts, and a bulk launch asked of each agent straight. In
 * turns and in alternating order, each with nothing running before it. While agents are asked straight there is no controller: it would
 * listen to them, and be paid for by the wrong side.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/cli/client.ts';
import type { Control } from '../../src/cli/control.ts';
import { endService } from '../../src/cli/demo/service.ts';
import { openLabFleet } from '../../src/cli/fleet-lab.ts';
import { putImage, readImage } from '../../src/cli/images.ts';
import { launch } from '../../src/cli/launch.ts';
import { readTarget } from '../../src/cli/target.ts';
import type { Task } from '../../src/cli/task.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { destroyVms } from '../../src/cli/verbs/vm-power.ts';
import { listVms, type VmName } from '../../src/cli/vms.ts';
import { endController } from '../../src/lab/controller.ts';
import type { Lab } from '../../src/lab/lab.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { limitShells } from '../density/measures.ts';
import { untilDone } from './tasks.ts';

export const ways = ['controller', 'agents'] as const;
export type Way = (typeof ways)[number];

export interface LaunchSample {
  round: number;
  way: Way;
  /** Milliseconds from the request until all run, as who asked was told. */
  ms: number;
}

export interface LaunchOptions {
  terminal: Terminal;
  lab: Lab;
  vms: number;
  rounds: number;
  imageFile: string;
  memoryKib: number;
  signal: AbortSignal;
}

const service = 'bench/fleet';
const prefix = 'fleetbench';
/** What was destroyed is really gone by then, and the hosts are idle. */
const restMs = 2000;

/** Which way first in a round, counted from 0. Pure. */
export const orderOf = (round: number): readonly Way[] => (round % 2 === 0 ? ways : [...ways].reverse());

/** As many on each host as a spread service would have there. Pure. */
export const shareOf = (vms: number, hosts: number, index: number): number => Math.floor(vms / hosts) + (index < vms % hosts ? 1 : 0);

export async function measureLaunches(options: LaunchOptions): Promise<LaunchSample[]> {
  const { terminal, lab, rounds, signal } = options;
  const clients = lab.hosts.map((host) => new Client(readTarget(host)));
  const shells: number[] = [];
  const samples: LaunchSample[] = [];
  try {
    // Shells are made while a host is idle, which is more for whoever comes second.
    for (const client of clients) shells.push(await limitShells(client, 0));
    const bytes = readImage(options.imageFile);
    const image = (await Promise.all(clients.map((client) => putImage(client, bytes))))[0]!.digest;
    await clear(options, clients);
    // The image's first VM on a host pays for what all share.
    terminal.status('one VM on each host that does not count');
    await throughAgents({ ...options, vms: lab.hosts.length }, clients, image);
    for (let round = 0; round < rounds && !signal.aborted; round++)
      for (const way of orderOf(round)) {
        terminal.status(`round ${round + 1} of ${rounds}: ${options.vms} VMs through the ${way}`);
        await sleep(restMs);
        const ms = await (way === 'agents' ? throughAgents(options, clients, image) : throughController(options, clients, image));
        samples.push({ round: round + 1, way, ms });
        terminal.note(`round ${round + 1}: ${options.vms} VMs through the ${way} in ${Math.round(ms)} ms`);
      }
    return samples;
  } finally {
    terminal.status('');
    await Promise.allSettled(clients.map((client, i) => (shells[i] === undefined ? undefined : limitShells(client, shells[i]))));
    await Promise.all(clients.map((client) => client.close()));
  }
}

/** Away with what a run that was killed has left. */
async function clear({ terminal, lab }: LaunchOptions, clients: readonly Client[]): Promise<void> {
  const { control } = await openLabFleet(lab.name, lab.hosts);
  try {
    await endService(terminal, control, service);
  } finally {
    control.close();
  }
  await endController(lab.name);
  for (const client of clients) {
    const old = (await listVms(client, ['uuid'])).filter(({ name }) => name.startsWith(`${prefix}-`));
    await destroyAll(terminal, client, old.map((vm) => ({ ...vm, ref: '' })));
  }
}

async function destroyAll(terminal: Terminal, client: Client, vms: readonly VmName[]): Promise<void> {
  const { failed } = await destroyVms(terminal, client, vms);
  if (failed[0] !== undefined) throw failed[0].error;
}

async function throughAgents({ terminal, vms, memoryKib }: LaunchOptions, clients: readonly Client[], image: string): Promise<number> {
  const began = performance.now();
  const launched = await Promise.all(
    clients.map((client, i) => launch(client, { prefix, count: shareOf(vms, clients.length, i), image, memoryKib })),
  );
  const ms = performance.now() - began;
  const error = launched.find((each) => each.error !== undefined)?.error;
  await checkRunning(clients, vms);
  for (const [i, client] of clients.entries()) await destroyAll(terminal, client, launched[i]!.vms);
  if (error !== undefined) throw error;
  return ms;
}

async function throughController({ terminal, lab, vms, memoryKib }: LaunchOptions, clients: readonly Client[], image: string): Promise<number> {
  const { control } = await openLabFleet(lab.name, lab.hosts);
  try {
    const spec = { image, memoryKib, count: vms, placement: { strategy: 'spread' } };
    const ms = await timeApply(control, spec);
    await checkRunning(clients, vms);
    await endService(terminal, control, service);
    return ms;
  } finally {
    control.close();
    await endController(lab.name);
  }
}

async function timeApply(control: Control, spec: object): Promise<number> {
  return untilDone(control, async () => [await control.call<Task>('PUT', `/v1/services/${service}`, spec)]);
}

/** Whatever was said: do they run? */
async function checkRunning(clients: readonly Client[], vms: number): Promise<void> {
  const running = await Promise.all(clients.map(async (client) => (await listVms(client, ['state'])).filter(({ state }) => state === 'running').length));
  const all = running.reduce((sum, n) => sum + n, 0);
  if (all < vms) throw new ShoalError('LAB_FAILED', `Only ${all} of ${vms} VMs run, whatever was said.`);
}
