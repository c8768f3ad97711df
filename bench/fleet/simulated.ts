/**
 * A large fleet with nothing simulated but the hypervisor: one controller process and as many agent processes as there are hosts, all on
 * this machine, over TLS. Times from scratch and after one agent was killed, the list of all, news of a change, the controller's memory.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/cli/client.ts';
import { Control } from '../../src/cli/control.ts';
import { residentKib } from '../../src/cli/demo/memory.ts';
import { untilUp } from '../../src/cli/fleet-lab.ts';
import { launch } from '../../src/cli/launch.ts';
import type { Task } from '../../src/cli/task.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { findVm } from '../../src/cli/vms.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { FleetProcs, kernel, kernelDigest } from '../../test/unit/main/fleet-rig.ts';
import { cert } from '../../test/unit/xenapi/certificate.ts';
import { untilDone } from './tasks.ts';

export interface SimulatedSize {
  hosts: number;
  services: number;
  copies: number;
  /** Changes of which the news is timed. */
  changes: number;
  lists: number;
}

export interface Simulated {
  /** Milliseconds from apply until all are ready. */
  scratchMs: number;
  /** From the kill of one agent until all are ready again, its grace left out. */
  lostMs: number;
  listMs: number[];
  eventMs: number[];
  /** KiB of the controller with all copies ready, and at any time. */
  residentKib: number;
  residentMostKib: number;
}

const graceMs = 2000;
const memoryKib = 4096;
const longMs = 300_000;

export async function measureSimulated(
  terminal: Terminal,
  { hosts, services, copies, changes, lists }: SimulatedSize,
  signal: AbortSignal,
): Promise<Simulated> {
  const names = Array.from({ length: hosts }, (_, i) => `h${String(i).padStart(3, '0')}`);
  const goOn = (what: string): void => {
    if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The benchmark was interrupted.', { hint: 'Run it again.' });
    terminal.status(what);
  };
  goOn(`starting ${hosts} agents with the simulated hypervisor, and a controller`);
  const rig = await FleetProcs.open(names, { graceMs, pollS: 10, patienceMs: 20_000 });
  const control = new Control(`https://127.0.0.1:${rig.controller.port}`, cert, rig.token);
  const resident = () => residentKib(rig.controller.child.pid!);
  try {
    await untilUp(control, names);
    await control.call('PUT', `/v1/images/${kernelDigest}`, kernel);
    const spec = (name: string, count: number, more: object = {}) => ({ tenant: 'bench', name, image: kernelDigest, memoryKib, count, ...more });
    const apply = (specs: object[]) => untilDone(control, async () => (await control.call<{ tasks: Task[] }>('POST', '/v1/apply', { services: specs })).tasks);
    // The image comes to each host with its first copy.
    await apply([spec('warm', hosts, { placement: { strategy: 'spread', required: true }, restart: { firstMs: 100 } })]);
    await untilDone(control, async () => [await control.call<Task>('DELETE', '/v1/services/bench/warm')]);

    goOn(`${copies} copies from scratch`);
    const scratchMs = await apply(Array.from({ length: services }, (_, i) => spec(`s${i}`, copies / services)));
    await sleep(2000);
    const { now } = resident();

    goOn('listing all');
    const listMs: number[] = [];
    for (let i = 0; i < lists; i++) {
      const began = performance.now();
      const { length } = await control.list('/v1/vms');
      listMs.push(performance.now() - began);
      if (length !== copies) throw new ShoalError('LAB_FAILED', `The list has ${length} of ${copies} VMs.`);
    }
    goOn('changing one, and waiting for the news');
    const eventMs = await timeNews(control, rig, names[0]!, changes);
    goOn('one host is lost');
    const lostMs = (await timeLoss(control, rig, names[Math.floor(hosts / 2)]!, copies)) - graceMs;
    return { scratchMs, lostMs, listMs, eventMs, residentKib: now, residentMostKib: resident().most };
  } finally {
    terminal.status('');
    control.close();
    await rig.close();
  }
}

/** Milliseconds from the request to an agent that changes a VM until a client of the controller, which waits for news, has it. */
async function timeNews(control: Control, rig: FleetProcs, host: string, changes: number): Promise<number[]> {
  const client = new Client({ url: `https://127.0.0.1:${rig.agents.get(host)!.port}`, ca: cert, password: `pw-${host}` });
  const stop = new AbortController();
  let key = '';
  let told: (at: number) => void = () => undefined;
  const stream = control.events(['vm'], stop.signal, (event) => {
    if (event.kind === 'hello' || event.data.key === key) told(performance.now());
  });
  stream.catch(() => undefined);
  const next = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new ShoalError('TIMEOUT', 'A change to a VM was not told within 30 s.')), 30_000);
      told = (at) => (clearTimeout(timer), resolve(at));
    });
  try {
    await next();
    // No service's: the loop has nothing to say about it, and each change of it is told.
    const { error } = await launch(client, { name: 'watched', image: kernelDigest, memoryKib, ip: '10.64.250.1' });
    if (error !== undefined) throw error;
    const { ref, uuid } = await findVm(client, 'watched');
    await sleep(500);
    key = uuid;
    const times: number[] = [];
    for (let i = 1; i <= changes; i++) {
      const news = next();
      let written = NaN;
      await client.call('VM.set_name_description', [ref, `changed ${i} times`], { onWrite: () => (written = performance.now()) });
      times.push((await news) - written);
      await sleep(50);
    }
    await client.plugin('destroy', { vms: [uuid] });
    return times;
  } finally {
    stop.abort();
    await stream.catch(() => undefined);
    await client.close();
  }
}

/** Milliseconds from the kill until as many copies as before are ready. */
async function timeLoss(control: Control, rig: FleetProcs, host: string, copies: number): Promise<number> {
  const ready = async (): Promise<number> =>
    (await control.list<{ copies: { ready: number } }>('/v1/services')).reduce((sum, { copies: each }) => sum + each.ready, 0);
  const began = performance.now();
  await rig.kill(rig.agents.get(host)!);
  let fewer = false;
  for (; performance.now() - began < longMs; await sleep(20)) {
    const now = await ready();
    fewer ||= now < copies;
    if (fewer && now === copies) return performance.now() - began;
  }
  throw new ShoalError('TIMEOUT', `The copies of ${host} were not made elsewhere in ${longMs / 1000} s.`);
}
