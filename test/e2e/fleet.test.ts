/**
 * A fleet on two real Xen hosts: a service is applied and spread, controller and agent are killed, a VM is destroyed behind the
 * controller's back, a host is drained, the service is deleted. Each time what is on the hosts is looked at past the controller.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { Client } from '../../src/cli/client.ts';
import { controlOf, openLabFleet, takeHosts } from '../../src/cli/fleet-lab.ts';
import type { Control } from '../../src/cli/control.ts';
import { countAnswering } from '../../src/cli/demo/measure.ts';
import { digestOf } from '../../src/cli/images.ts';
import { readTarget } from '../../src/cli/target.ts';
import type { Task } from '../../src/cli/task.ts';
import { listVms } from '../../src/cli/vms.ts';
import { startController, type LabController } from '../../src/lab/controller.ts';
import { labDown, labUp, type Lab, type LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { endProcess, run } from '../../src/lab/processes.ts';
import type { ShellFacts } from '../../src/xenapi/plugin-types.ts';

const labName = 'tfleet';
const minutes = 60_000;
const service = '/v1/services/acme/web';
/** Of the agent's default. */
const mostShells = 32;

let lab: Lab;
let control: Control;
let controller: LabController;
const clients = new Map<string, Client>();
let image = '';
let before: Record<string, Record<string, number>>;

interface Real {
  host: string;
  name: string;
  uuid: string;
  state: string;
  address: string;
  domid: number | undefined;
}

const clientOf = (host: LabHost): Client => {
  const client = clients.get(host.name) ?? new Client(readTarget(host));
  clients.set(host.name, client);
  return client;
};

/** What is on the hosts, straight from their agents. */
async function real(): Promise<Real[]> {
  const found = await Promise.all(
    lab.hosts.map(async (host) =>
      (await listVms(clientOf(host), ['uuid', 'state', 'addresses', 'domid'])).map(({ addresses, ...vm }) => ({ ...vm, host: host.name, address: addresses[0] ?? '' })),
    ),
  );
  return found.flat() as Real[];
}

/** As `real`, of agents that may be on their way; undefined while one cannot be asked. An agent that was killed forgot its sessions. */
const realNow = (): Promise<Real[] | undefined> =>
  real().catch(async () => {
    const old = [...clients.values()];
    clients.clear();
    await Promise.all(old.map((client) => client.close()));
    return undefined;
  });

const slotOf = ({ name }: Real): number => Number(name.split('.')[2]);

async function eventually(what: string, holds: () => Promise<boolean>, timeoutMs = minutes): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(100)) if (await holds().catch(() => false)) return true;
  console.log(`# waited in vain for: ${what}`);
  return false;
}

/** The controller says that all are ready; on the hosts each slot is there once, runs, and has an address of its own. */
async function settled(count: number): Promise<boolean> {
  const { copies } = await control.call<{ copies: { ready: number; total: number } }>('GET', service);
  if (copies.ready !== count || copies.total !== count) return false;
  const vms = (await realNow()) ?? [];
  const distinct = (of: (vm: Real) => unknown) => new Set(vms.map(of)).size;
  return vms.length === count && vms.every(({ state }) => state === 'running') && distinct(slotOf) === count && distinct(({ address }) => address) === count;
}

async function done(task: Task): Promise<boolean> {
  return eventually(`${task.kind} ${task.subject}`, async () => (await control.call<Task>('GET', `/v1/tasks/${task.id}`)).status === 'done');
}

async function allAnswer(vms: readonly Real[]): Promise<boolean> {
  let answering = 0;
  for (const host of lab.hosts) {
    const pinger = await lab.pinger(host.index);
    const here = vms.filter((vm) => vm.host === host.name).map(({ address }) => address);
    answering += await countAnswering(pinger, here, 20_000);
    await pinger.close();
  }
  return answering === vms.length;
}

const onEach = (vms: readonly Real[]): number[] => lab.hosts.map((host) => vms.filter((vm) => vm.host === host.name).length);

async function shell(host: LabHost, command: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command, { timeoutMs: minutes });
  if (code !== 0) throw new Error(`${command}: ${code} ${stderr}`);
  return stdout.trim();
}

/** What VMs take of each host, counted from outside of the agent; shells are ended first. */
async function taken(): Promise<Record<string, Record<string, number>>> {
  const of = async (host: LabHost): Promise<[string, Record<string, number>]> => {
    await clientOf(host).plugin('shells', { drain: 'true' });
    const text = await shell(
      host,
      [
        'echo domains $(xl list | tail -n +2 | wc -l)',
        'echo vifs $(ls /sys/class/net | grep -c ^vif)',
        'echo store $(xenstore-ls / | grep -v "^ *\\(memory\\|meminfo\\)" | wc -l)',
        'echo channels $(grep -c xen-dyn /proc/interrupts)',
      ].join('; '),
    );
    return [host.name, Object.fromEntries(text.split('\n').map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]))];
  };
  return Object.fromEntries(await Promise.all(lab.hosts.map(of)));
}

const web = (count: number) => ({
  image,
  count,
  memoryKib: 1024,
  // probed from the controller: it must reach the guests
  health: { kind: 'http', intervalMs: 3000, timeoutMs: 2000, unhealthyAfter: 5, graceMs: 30_000 },
  restart: { firstMs: 100, maxMs: 1000 },
});

test('fleet: a controller over two hosts; images come to hosts through it', { timeout: 20 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  await labDown(labName);
  lab = await labUp({ name: labName, hosts: 2, memoryMib: 2048 });
  ({ control, controller } = await openLabFleet(labName, lab.hosts, { graceMs: 60_000, pollS: 2 }));
  const bytes = readFileSync(join(repositoryRoot, 'build/unikernels/ping.elf'));
  image = digestOf(bytes);
  await control.call('PUT', `/v1/images/${image}`, bytes);
  // the first VM of an image pays for what all share, and leaves it there
  t.ok(await done(await control.call<Task>('PUT', service, web(2))), 'one on each host');
  t.deepEqual(onEach(await real()), [1, 1]);
  t.ok(await done(await control.call<Task>('DELETE', service)), 'and gone again');
  before = await taken();
});

test('fleet: a service of 40 is spread over both hosts, and all answer', { timeout: 5 * minutes }, async (t) => {
  const began = performance.now();
  t.ok(await done(await control.call<Task>('PUT', service, web(40))), 'applied');
  t.comment(`40 ready after ${Math.round(performance.now() - began)} ms`);
  t.ok(await settled(40), 'each slot once, each with its own address');
  const vms = await real();
  t.deepEqual(onEach(vms), [20, 20], 'half of them on each host');
  t.ok(await allAnswer(vms), 'all answer a ping');
  for (const host of lab.hosts) t.equal((await shell(host, 'xl list')).match(/^acme\.web\./gm)?.length, 20, `xl sees them on ${host.name}`);
});

test('fleet: kill -9 of the controller; what was applied meanwhile is done, and nothing is made twice', { timeout: 5 * minutes }, async (t) => {
  const kept = new Set((await real()).map(({ uuid }) => uuid));
  // it has said that it took it, and has just begun
  await control.call('POST', `${service}/scale`, { count: 44 });
  await endProcess(controller.process, 0);
  const vms = (await realNow()) ?? [];
  t.ok(vms.length >= 40 && vms.every(({ state }) => state === 'running' || state === 'halted'), `${vms.length} VMs do not mind`);
  const next = await startController(labName);
  t.equal(next.url, controller.url, 'the next one is where it was');
  controller = next;
  control.close();
  control = controlOf(controller);
  await takeHosts(control, lab.hosts);
  t.ok(await eventually('44 after the kill', () => settled(44)), 'the four are there');
  const now = await real();
  t.deepEqual(onEach(now.filter(({ uuid }) => kept.has(uuid))), [20, 20], 'and so are the forty, the same ones where they were');
  // the four go to whichever hosts the new controller reached by then
  t.ok(Math.min(...onEach(now)) >= 20, `spread: ${onEach(now).join(' and ')}`);
});

test('fleet: kill -9 of an agent while more is asked for; it comes back, and there are no doubles', { timeout: 5 * minutes }, async (t) => {
  const kept = new Set((await real()).map(({ uuid }) => uuid));
  const host = lab.hosts[1]!;
  const pid = await shell(host, 'cat /run/shoal-agent.pid');
  await Promise.all([control.call('POST', `${service}/scale`, { count: 52 }), shell(host, `kill -9 ${pid}`)]);
  t.ok(await eventually('the agent is back', async () => (await shell(host, 'cat /run/shoal-agent.pid')) !== pid && (await realNow()) !== undefined), 'its supervisor started another');
  t.ok(await eventually('52 after the kill', () => settled(52), 2 * minutes), 'in the end each slot is there once');
  const now = await real();
  t.equal(now.filter(({ uuid }) => kept.has(uuid)).length, 44, 'those that ran before run on');
  t.ok(await allAnswer(now), 'all answer');
});

test('fleet: a VM that xl destroyed runs again', { timeout: 3 * minutes }, async (t) => {
  const victim = (await real()).find((vm) => vm.host === 'host0')!;
  await shell(lab.hosts[0]!, `xl destroy ${victim.name}`);
  const again = async () => (await real()).find((vm) => slotOf(vm) === slotOf(victim) && vm.state === 'running' && vm.domid !== victim.domid);
  t.ok(await eventually('it runs again', async () => (await again()) !== undefined), 'its slot has a domain again, another one');
  t.ok(await eventually('52 again', () => settled(52)), 'and is ready');
  t.ok(await allAnswer([(await again())!]), 'it answers');
  const { items } = await control.call<{ items: { service?: string }[] }>('GET', '/v1/vms?limit=100');
  t.equal(items.filter((vm) => vm.service === 'web').length, 52, 'the controller knows no more than there are');
});

test('fleet: drain moves all copies off a host, without one less that answers', { timeout: 5 * minutes }, async (t) => {
  let least = Infinity;
  let draining = true;
  const watch = (async () => {
    for (; draining; await sleep(50)) {
      const { copies } = await control.call<{ copies: { serving: number } }>('GET', service);
      least = Math.min(least, copies.serving);
    }
  })();
  const drained = await done(await control.call<Task>('POST', '/v1/hosts/host0/drain'));
  draining = false;
  await watch;
  t.ok(drained, 'drained');
  t.equal(least, 52, 'never fewer than 52 served');
  t.ok(await eventually('52 on the other host', () => settled(52)), 'all are ready');
  const now = await real();
  t.deepEqual(onEach(now), [0, 52]);
  t.ok(await allAnswer(now), 'and answer');
  t.notOk(/^acme\./m.test(await shell(lab.hosts[0]!, 'xl list')), 'xl sees none on host0');
  await control.call('POST', '/v1/hosts/host0/undrain');
});

test('fleet: delete leaves nothing on either host', { timeout: 5 * minutes }, async (t) => {
  t.ok(await done(await control.call<Task>('DELETE', service)), 'deleted');
  t.deepEqual(await real(), [], 'no VM');
  for (const host of lab.hosts) {
    const shells = (await clientOf(host).plugin<ShellFacts[]>('shells')).reduce((sum, { ready }) => sum + ready, 0);
    t.ok(shells <= mostShells, `${shells} shells on ${host.name}, no more than it may have`);
  }
  t.deepEqual(await taken(), before, 'domains, vifs, store nodes, event channels as before, shells ended');
  t.deepEqual(await control.list('/v1/vms'), [], 'the controller knows of none');
});

test('fleet: the lab goes down, and the controller with it', { timeout: 2 * minutes }, async (t) => {
  t.comment(readFileSync(controller.logFile, 'utf8').split('\n').slice(-30).join('\n# '));
  control.close();
  for (const client of clients.values()) await client.close();
  await labDown(labName);
  t.notOk(await run(['kill', '-0', String(controller.process.pid)]).then(({ code }) => code === 0), 'its process ended');
});

test.onFinish(() => void labDown(labName));
