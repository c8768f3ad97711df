/**
 * What demo and benchmarks share: a fleet booted in a closed loop, with samples of xl at given numbers of running VMs and readings
 * of memory before and after. It leaves the fleet up, and nothing of xl. `runFleet` asks one host agent straight, for benchmarks of
 * the host; the demo asks the controller (service.ts).
 */
import type { Lab, LabHost, Pinger } from '../../lab/lab.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { refOf } from '../../xenapi/plugin-types.ts';
import type { Client } from '../client.ts';
import { count, ms, plural } from '../format.ts';
import { putImage, readImage } from '../images.ts';
import { Progress } from '../progress.ts';
import type { Terminal } from '../terminal.ts';
import { destroyVms } from '../verbs/vm-power.ts';
import { listVms } from '../vms.ts';
import { freeAddresses } from './addresses.ts';
import { bootEach, bootTogether, countAnswering, type Boot } from './measure.ts';
import { memoryPerVm, readMemory, type MemoryPerVm } from './memory.ts';
import { p50 } from './statistics.ts';
import { Xl, type XlSample } from './xl.ts';

/** Of every such run, whoever is asked for the VMs. */
export interface PartsOptions {
  terminal: Terminal;
  vms: number;
  /** Numbers of running VMs at which xl is measured, rising. */
  xlAt: readonly number[];
  xlSamplesEach: number;
  /** Called at those numbers, or at `stopAt` if given, after xl was measured. Its time is nobody's. */
  atStop?: (running: number, pinger: Pinger) => Promise<void>;
  stopAt?: readonly number[];
  signal: AbortSignal;
}

export interface FleetOptions extends PartsOptions {
  lab: Lab;
  host: LabHost;
  client: Client;
  imageFile: string;
  /** VMs are named PREFIX-0001, …; those that have such a name already are destroyed first. */
  prefix: string;
  memoryKib: number;
  /** Which VMs, counted from 0, are asked for alone; the others are many in a request. All of them, if not given. */
  alone?: (vm: number) => boolean;
}

export interface FleetResult {
  boots: Boot[];
  xl: XlSample[];
  /** VMs that answered when all were up. */
  answering: number;
  memory: MemoryPerVm;
  /** Of several hosts: the largest. */
  agentRssKib: number;
  /** Of the controller, where one was asked. */
  controllerRssKib?: number;
  /** Seconds in which the fleet was booted, samples of xl left out. */
  bootS: number;
  /** Why it ended early; what was started stays. */
  error: ShoalError | undefined;
}

/** How long a VM may take to answer. */
export const answerMs = 60_000;

export const noResult = (): FleetResult => ({
  boots: [],
  xl: [],
  answering: 0,
  memory: { xenKib: NaN, dom0Kib: NaN },
  agentRssKib: NaN,
  bootS: 0,
  error: undefined,
});

export async function runFleet(options: FleetOptions): Promise<FleetResult> {
  const { terminal, lab, host, client } = options;
  terminal.status('uploading the image');
  const { digest } = await putImage(client, readImage(options.imageFile));
  const before = await clearPrefix(terminal, client, options.prefix);
  const used = new Set(before.flatMap((vm) => vm.addresses));
  const [first, last] = await addressRange(client);
  // One more than there are VMs: the last one is xl's.
  const addresses = freeAddresses(first, last, used, options.vms + 1);
  const pinger = await lab.pinger(host.index);
  const xl = new Xl({ host, pinger, memoryKib: options.memoryKib, address: addresses[options.vms]! });
  const result = noResult();
  try {
    await prepareXl(options, xl, options.imageFile);
    const memoryBefore = await readMemory(client, host);
    // Read as soon as the last VM is up, before xl is measured beside it.
    const booted = async (): Promise<void> => {
      const after = await readMemory(client, host);
      result.memory = memoryPerVm(memoryBefore, after, result.boots.length);
      result.agentRssKib = after.agentRssKib;
    };
    const digits = Math.max(4, String(options.vms).length);
    const names = addresses
      .slice(0, options.vms)
      .map((address, i) => ({ name: `${options.prefix}-${String(i + 1).padStart(digits, '0')}`, address }));
    const { memoryKib, signal, alone = () => true } = options;
    const network = await firstNetwork(client);
    const boot = async (from: number, stop: number, onChange: () => void): Promise<ShoalError | undefined> => {
      const of = { client, pinger, image: digest, memoryKib, answerMs, network, onChange, signal };
      for (let i = from, end; i < stop && !signal.aborted; i = end) {
        for (end = i + 1; end < stop && alone(end) === alone(i); ) end++;
        const error = await (alone(i) ? bootEach : bootTogether)(names.slice(i, end), i, result.boots, of);
        if (error !== undefined) return error;
      }
      return undefined;
    };
    await inParts(options, result, { pinger, xl, boot, booted });
    if (!options.signal.aborted && result.boots.length > 0) {
      terminal.status('pinging all of them once more');
      result.answering = await countAnswering(
        pinger,
        result.boots.map(({ address }) => address),
        answerMs,
      );
    }
  } finally {
    terminal.status('');
    await pinger.close();
  }
  return result;
}

/** Makes xl ready, when it is to be measured. */
export async function prepareXl({ terminal, xlSamplesEach }: PartsOptions, xl: Xl, imageFile: string): Promise<void> {
  if (xlSamplesEach === 0) return;
  terminal.status('preparing xl, the yardstick');
  await xl.clear();
  await xl.prepare(imageFile);
}

export interface Parts {
  /** Of the host on which xl is measured. */
  pinger: Pinger;
  xl: Xl;
  /** Boots VMs `from` up to but not `stop`, counted from 0, into the result; resolves with why it ended early. */
  boot: (from: number, stop: number, onChange: () => void) => Promise<ShoalError | undefined>;
  /** Called once, when the last VM is up. */
  booted: () => Promise<void>;
}

/** Boots up to each count at which xl is to be measured, and measures it there. */
export async function inParts(
  options: PartsOptions,
  result: FleetResult,
  { pinger, xl, boot, booted }: Parts,
): Promise<void> {
  const { terminal, signal, stopAt = options.xlAt } = options;
  const stops = [...new Set([...[...options.xlAt, ...stopAt].filter((n) => n <= options.vms), options.vms])].sort((a, b) => a - b);
  for (const stop of stops) {
    const from = result.boots.length;
    if (stop > from && result.error === undefined && !signal.aborted) {
      const progress = new Progress(terminal, { label: 'booting', total: options.vms, start: from });
      const onChange = () => {
        const recent = result.boots.slice(-100).flatMap(({ ms: time, together }) => (together ? [] : (time ?? []))).slice(-50);
        progress.update(
          result.boots.length,
          recent.length === 0 ? '' : `p50 of the last ${recent.length}: ${ms(p50(recent))} ms`,
        );
      };
      result.error = await boot(from, stop, onChange);
      result.bootS += progress.end();
      if (result.boots.length > 0 && (stop === options.vms || result.error !== undefined)) await booted();
    }
    if (result.error !== undefined) continue;
    if (options.xlAt.includes(stop)) await sampleXl(options, result, xl, stop);
    if (stopAt.includes(stop) && !signal.aborted) await options.atStop?.(stop, pinger);
  }
}

/** xl that fails is reported and ends the samples, not the run: the fleet is the point. */
async function sampleXl(
  { terminal, xlSamplesEach, signal }: PartsOptions,
  result: FleetResult,
  xl: Xl,
  running: number,
): Promise<void> {
  for (let i = 1; i <= xlSamplesEach && !signal.aborted; i++) {
    terminal.status(`xl create beside ${plural(running, 'running VM')}: sample ${i} of ${xlSamplesEach}`);
    try {
      result.xl.push(await xl.sample(running));
    } catch (error) {
      terminal.note(`xl at ${count(running)} VMs: ${asShoalError(error).message}`);
      return;
    }
  }
  const here = result.xl.filter((sample) => sample.running === running).map((sample) => sample.ms);
  if (here.length > 0)
    terminal.note(`xl create beside ${plural(running, 'running VM')}: ${ms(p50(here))} ms to the first echo reply`);
}

/** Destroys the VMs that an earlier run left under the same names; returns the others. */
export async function clearPrefix(terminal: Terminal, client: Client, prefix: string): Promise<{ addresses: string[] }[]> {
  const vms = (await listVms(client, ['uuid', 'name', 'addresses'])).map((vm) => ({ ref: refOf(vm.uuid), ...vm }));
  const form = new RegExp(`^${prefix}-\\d+$`);
  const old = vms.filter((vm) => form.test(vm.name));
  if (old.length > 0) {
    terminal.note(`destroying ${plural(old.length, 'VM')} of an earlier run`);
    const { failed } = await destroyVms(terminal, client, old);
    if (failed[0] !== undefined) throw failed[0].error;
  }
  return vms.filter((vm) => !form.test(vm.name));
}

/** Name of the host's first network. */
async function firstNetwork(client: Client): Promise<string> {
  const [network] = Object.values(await client.records('network'));
  return String(network?.['name_label'] ?? '');
}

/** First and last address of the host's first network. */
export async function addressRange(client: Client): Promise<[string, string]> {
  const [network] = Object.values(await client.records('network'));
  const { first, last } = (network?.['other_config'] ?? {}) as Record<string, string>;
  if (first === undefined || last === undefined)
    throw new ShoalError('NETWORK_UNKNOWN', 'The host has no network with addresses of its own.');
  return [first, last];
}
