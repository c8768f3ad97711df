/**
 * Shapes between hosts' subnets. Where one is set, policy routing in the router's namespace sends that direction through a TUN
 * device whose relay (native/relay.c) delays, drops and slows; elsewhere the kernel forwards directly.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { enter, namespacePath } from './network.ts';
import { labFolder } from './paths.ts';
import { hostPlan, routerNamespace } from './plan.ts';
import { argumentsOf, endProcess, must, run } from './processes.ts';
import { processesOf, readRecord, writeRecord, type LinkShape } from './record.ts';

function checkShape(shape: LinkShape): { delayUs: number; lossPpm: number; rateKbps: number } {
  const within = (value: number, name: string, most: number) => {
    if (!Number.isFinite(value) || value < 0 || value > most)
      throw new ShoalError('USAGE', `${name} of a link must be between 0 and ${most}, not ${value}`);
    return value;
  };
  return {
    delayUs: Math.round(within(shape.delayMs ?? 0, 'delay (ms)', 10_000) * 1000),
    lossPpm: Math.round(within(shape.lossPercent ?? 0, 'loss (%)', 100) * 10_000),
    rateKbps: Math.round(within(shape.rateKbps ?? 0, 'rate (kbit/s)', 100_000_000)),
  };
}

/** Sets the shape of both directions between two hosts. The caller holds the lab's lock. */
export async function setLink(lab: string, from: number, to: number, shape: LinkShape, tools: string): Promise<void> {
  const record = readRecord(lab);
  if (record === undefined) throw new ShoalError('LAB_NOT_UP', `lab ${lab} is not up`);
  for (const index of [from, to]) {
    if (!record.hosts.some((host) => host.index === index)) throw new ShoalError('USAGE', `lab ${lab} has no host ${index}`);
  }
  if (from === to) throw new ShoalError('USAGE', 'a link joins two different hosts');
  if (record.oneSubnet === true)
    throw new ShoalError('USAGE', `the hosts of lab ${lab} are in one subnet: what passes between them does not pass the router`, {
      hint: 'Shape links in a lab whose hosts have subnets of their own (without --one-subnet).',
    });
  const checked = checkShape(shape);
  const plain = checked.delayUs === 0 && checked.lossPpm === 0 && checked.rateKbps === 0;
  for (const [a, b] of [
    [from, to],
    [to, from],
  ] as const) {
    await removeDirection(lab, a, b);
    if (!plain) await addDirection(lab, a, b, checked, tools);
  }
  record.links = record.links.filter((link) => !(link.from === Math.min(from, to) && link.to === Math.max(from, to)));
  if (!plain) record.links.push({ from: Math.min(from, to), to: Math.max(from, to), shape });
  writeRecord(record);
}

const label = (lab: string, from: number, to: number) => join(labFolder(lab), `link-${from}-${to}`);
/** Number of the routing table and preference of the rule of one direction. */
const table = (from: number, to: number) => 1000 + from * 64 + to;

async function removeDirection(lab: string, from: number, to: number): Promise<void> {
  // without the rule the kernel forwards directly again; packets still held by the relay are lost with it
  await run([...enter(routerNamespace(lab)), 'ip', 'rule', 'del', 'pref', String(table(from, to))], { timeoutMs: 10_000 });
  for (const each of await processesOf(lab)) {
    if (argumentsOf(each.pid).includes(label(lab, from, to))) await endProcess(each, 0);
  }
}

async function addDirection(
  lab: string,
  from: number,
  to: number,
  shape: { delayUs: number; lossPpm: number; rateKbps: number },
  tools: string,
): Promise<void> {
  const device = `line${from}-${to}`;
  const router = routerNamespace(lab);
  const child = spawn(
    join(tools, 'relay'),
    [label(lab, from, to), namespacePath(router), device, String(shape.delayUs), String(shape.lossPpm), String(shape.rateKbps)],
    { stdio: ['ignore', 'pipe', 'ignore'], detached: true },
  );
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('error', reject);
    child.once('exit', (code) => reject(new ShoalError('LAB_FAILED', `the relay of a link ended with ${code}`)));
  });
  child.stdout.destroy();
  child.unref();
  const number = table(from, to);
  const lines = [
    `link set ${device} txqueuelen 10000 up`,
    `route replace default dev ${device} table ${number}`,
    `rule add pref ${number} iif leg${from} to ${hostPlan(to).cidr} lookup ${number}`,
  ];
  await must([...enter(router), 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n`, timeoutMs: 10_000 });
}
