/**
 * The demo's run: one service, spread over the hosts of a fleet, grown copy by copy through the controller, with samples of xl on
 * the first host beside it. It leaves the service up, and nothing of xl.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LabController } from '../../lab/controller.ts';
import type { Lab, LabHost, Pinger } from '../../lab/lab.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Client } from '../client.ts';
import type { Control } from '../control.ts';
import { plural } from '../format.ts';
import { putImage, readImage } from '../images.ts';
import type { Terminal } from '../terminal.ts';
import { listVms } from '../vms.ts';
import { highestFree } from './addresses.ts';
import { CopyWatch, growEach } from './copies.ts';
import { addressRange, answerMs, inParts, noResult, prepareXl, type FleetResult, type PartsOptions } from './fleet.ts';
import { countAnswering, type Boot } from './measure.ts';
import { memoryPerVm, readMemory, residentKib, together, type MemoryReading } from './memory.ts';
import { Xl } from './xl.ts';

export interface ServiceOptions extends PartsOptions {
  lab: Pick<Lab, 'pinger'>;
  /** Of the fleet, by their names in it; xl is measured on the first. */
  hosts: readonly { host: LabHost; client: Client }[];
  control: Control;
  controller: Pick<LabController, 'process'>;
  imageFile: string;
  /** TENANT/NAME; what it had before is ended first. */
  service: string;
  memoryKib: number;
}

const endMs = 900_000;

export async function runService(options: ServiceOptions): Promise<FleetResult> {
  const { terminal, lab, hosts, control, service, signal, memoryKib } = options;
  terminal.status('uploading the image');
  const image = await putEverywhere(options);
  await endService(terminal, control, service);
  const [tenant, name] = service.split('/');
  await control.call('POST', '/v1/apply', { services: [{ tenant, name, image, count: 0, memoryKib, placement: { strategy: 'spread' } }] });

  const first = hosts[0]!;
  const used = new Set((await listVms(first.client, ['addresses'])).flatMap((vm) => vm.addresses));
  const pingers = new Map<string, Pinger>();
  const watch = new CopyWatch(service);
  const result = noResult();
  try {
    for (const { host } of hosts) pingers.set(host.name, await lab.pinger(host.index));
    const pinger = pingers.get(first.host.name)!;
    const xl = new Xl({ host: first.host, pinger, memoryKib, address: highestFree(...(await addressRange(first.client)), used) });
    await prepareXl(options, xl, options.imageFile);
    await watch.follow(control);
    const memoryBefore = await readAll(hosts);
    // Read as soon as the last VM is up, before xl is measured beside it.
    const booted = async (): Promise<void> => {
      const after = await readAll(hosts);
      result.memory = memoryPerVm(memoryBefore, after, result.boots.length);
      result.agentRssKib = after.agentRssKib;
      result.controllerRssKib = residentKib(options.controller.process.pid).now;
    };
    const firstReply = (host: string, address: string): Promise<bigint> =>
      pingers.get(host)?.firstReply(address, answerMs) ??
      Promise.reject(new ShoalError('LAB_FAILED', `The controller placed a copy on ${host}, which is not of this run.`));
    const boot = (from: number, stop: number, onChange: () => void) =>
      growEach(from, stop, result.boots, { control, watch, service, firstReply, onChange, signal });
    await inParts(options, result, { pinger, xl, boot, booted });
    if (!signal.aborted && result.boots.length > 0) {
      terminal.status('pinging all of them once more');
      result.answering = await answeringOf(result.boots, pingers);
    }
  } finally {
    terminal.status('');
    watch.close();
    await Promise.all([...pingers.values()].map((pinger) => pinger.close()));
  }
  return result;
}

/** To the controller, for hosts that come later, and to the hosts there are: what is measured then is boots, not uploads. */
async function putEverywhere({ hosts, control, imageFile }: ServiceOptions): Promise<string> {
  const bytes = readImage(imageFile);
  const [digest] = (await Promise.all(hosts.map(({ client }) => putImage(client, bytes)))).map((put) => put.digest);
  await control.call('PUT', `/v1/images/${digest!}`, bytes);
  return digest!;
}

/** Ends a service, and waits until nothing is left of it. Fine when there is none. */
export async function endService(terminal: Terminal, control: Control, service: string): Promise<void> {
  const path = `/v1/services/${service}`;
  interface Left {
    deleting: boolean;
    copies: { total: number };
  }
  const look = (): Promise<Left | undefined> =>
    control.call<Left>('GET', path).catch((error: unknown) => {
      if (asShoalError(error).code === 'NOT_FOUND') return undefined;
      throw error;
    });
  let left = await look();
  if (left === undefined) return;
  terminal.note(`destroying ${plural(left.copies.total, 'VM')} of ${service}`);
  if (!left.deleting) await control.call('DELETE', path);
  for (const began = performance.now(); (left = await look()) !== undefined; await sleep(50)) {
    terminal.status(`destroying: ${left.copies.total} left`);
    if (performance.now() - began > endMs)
      throw new ShoalError('TIMEOUT', `${plural(left.copies.total, 'VM')} of ${service} are still there after ${endMs / 1000} s.`);
  }
  terminal.status('');
}

const readAll = async (hosts: ServiceOptions['hosts']): Promise<MemoryReading> =>
  together(await Promise.all(hosts.map(({ client, host }) => readMemory(client, host))));

/** How many answer when all are up, one host after the other. */
async function answeringOf(boots: readonly Boot[], pingers: ReadonlyMap<string, Pinger>): Promise<number> {
  let answering = 0;
  for (const [name, pinger] of pingers) {
    const here = boots.filter(({ host }) => host === name).map(({ address }) => address);
    answering += await countAnswering(pinger, here, answerMs);
  }
  return answering;
}
