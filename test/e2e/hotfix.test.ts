/**
 * Hot-fixes on two real Xen hosts, all parts together: a repository copied from the example and pushed over HTTPS, releases that roll out, a fix under HTTP load on
 * addresses that move, images that are bad, a controller and an agent that are killed in the middle. What is on the hosts is looked at past the controller.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { Load, nowMs } from '../../bench/hotfix/load.ts';
import { openHotfixWorld, type Build, type HotfixWorld } from '../../bench/hotfix/world.ts';
import { Client } from '../../src/cli/client.ts';
import { agentUrlOf } from '../../src/cli/fleet-lab.ts';
import { readTarget } from '../../src/cli/target.ts';
import { listVms } from '../../src/cli/vms.ts';
import { git } from '../../src/desired/git.ts';
import { startController } from '../../src/lab/controller.ts';
import { labAttach, labDown, type Lab, type LabHost } from '../../src/lab/lab.ts';
import { endProcess } from '../../src/lab/processes.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'hotfixtest';
const keep = process.env['SHOAL_TEST_KEEP'] !== undefined;
const minutes = 60_000;
const copies = 20;

const waves = {
  mode: 'waves',
  canary: 1,
  waves: [50, 100],
  observeMs: 500,
  budget: 10,
  gates: [
    { kind: 'ready', withinMs: 8000 },
    { kind: 'http', port: 80, path: '/', status: 200, timesInRow: 2, timeoutMs: 2000 },
  ],
  failuresAllowed: 0,
  onFailure: 'rollback',
  replace: { address: 'move', drainMs: 2000 },
};
const spec = {
  count: copies,
  memoryKib: 1024,
  health: { kind: 'http', port: 80, path: '/', intervalMs: 2000, timeoutMs: 2000, unhealthyAfter: 5, graceMs: 20_000 },
  rollout: 'waves',
};

let lab: Lab;
let world: HotfixWorld;
let fix: Build;
const clients = new Map<string, Client>();

interface Real {
  host: string;
  name: string;
  image: string;
  addresses: string[];
}

const clientOf = (host: LabHost): Client => {
  const client = clients.get(host.name) ?? new Client(readTarget(host));
  clients.set(host.name, client);
  return client;
};

/** What runs, straight from the agents; one that was killed forgot its sessions. */
async function real(): Promise<Real[]> {
  for (const end = Date.now() + minutes; ; await sleep(200))
    try {
      const found = await Promise.all(
        lab.hosts.map(async (host) => (await listVms(clientOf(host), ['name', 'state', 'addresses', 'image'])).filter((vm) => vm['state'] === 'running').map((vm) => ({ ...vm, host: host.name }))),
      );
      return found.flat() as unknown as Real[];
    } catch (error) {
      if (Date.now() > end) throw error;
      await Promise.all([...clients.values()].map((client) => client.close()));
      clients.clear();
    }
}

const doubles = (vms: readonly Real[]): string[] => {
  const all = vms.flatMap(({ addresses }) => addresses);
  return all.filter((ip, i) => all.indexOf(ip) !== i);
};

/** Until nothing but `count` copies of one image are left: those that drain have gone. */
async function settled(digest: string, count = copies): Promise<Real[]> {
  let vms: Real[] = [];
  for (const end = Date.now() + 2 * minutes; Date.now() < end; await sleep(200)) {
    vms = await real();
    if (vms.length === count && vms.every(({ image }) => image === digest)) break;
  }
  return vms;
}

const steps = async (): Promise<{ release: number; event: string; phase: string; wave: number }[]> =>
  world.control.call<{ items: never[] }>('GET', '/v1/deployment/rollouts/acme/ping').then(({ items }) => items);

async function shell(host: LabHost, command: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command, { timeoutMs: minutes });
  if (code !== 0) throw new Error(`${command}: ${code} ${stderr}`);
  return stdout.trim();
}

test('hotfix: two hosts, a repository; its first push is released', { timeout: 15 * minutes }, async (t) => {
  if (!keep) await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--hosts', '2', '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
  world = await openHotfixWorld(lab, { spec, policies: { waves, 'hot-fix': { ...waves, mode: 'hot-fix', waves: [100], observeMs: 0, budget: 20 } } });
  const began = nowMs();
  const rollout = await world.until(1, ['done', 'failed', 'paused'], 2 * minutes);
  t.equal(rollout.phase, 'done', rollout.reason);
  t.comment(`${copies} copies of the first release after ${Math.round(rollout.seenMs - began)} ms`);
  const { image } = await world.json<{ image: { digest: string } }>('releases/acme/ping/1.json');
  const vms = await settled(image.digest);
  t.equal(vms.length, copies);
  t.deepEqual(lab.hosts.map((host) => vms.filter((vm) => vm.host === host.name).length), [copies / 2, copies / 2], 'half of them on each host');
  t.deepEqual(doubles(vms), []);
});

test('hotfix: a fix is built, published and rolled in waves under load; nothing fails', { timeout: 10 * minutes }, async (t) => {
  fix = await world.build('0.1.1');
  const addresses = await world.addresses();
  t.equal(new Set(addresses).size, copies);
  const load = await Load.start(name, world.folder, addresses, 6, addresses[0]);
  await sleep(1000);
  const manifest = join(fix.source, 'images/ping.json');
  const before = new Set((await real()).map(({ name: vm }) => vm));
  const published = await shoal(['ci', 'publish', '--service', 'acme/ping', '--image', fix.file, '--manifest', manifest, '--json', '--timeout', '120'], 3 * minutes, () => {}, world.environment);
  t.equal(published.code, 0, `${published.out} ${published.err}`);
  t.equal(published.json?.outcome, 'done');
  t.equal(published.json?.source, fix.manifest.source.commit, 'it says of which source');
  await load.all('0.1.1', minutes).catch((error: unknown) => t.fail(String(error)));
  const vms = await settled(fix.manifest.digest);
  const result = await load.stop();
  t.deepEqual(result.failed, [], 'no request fails');
  t.deepEqual(result.versions, { '0.1.1': copies }, 'each address answers with the fix');
  t.comment(`${result.requests} requests, the slowest ${result.slowestMs} ms; push ${published.json?.pushedS} s, rollout ${published.json?.rolloutS} s`);
  t.equal(vms.length, copies, 'the old ones are gone');
  t.ok(vms.every((vm) => vm.image === fix.manifest.digest && !before.has(vm.name)), 'all are new');
  t.deepEqual(await world.addresses(), addresses, 'the service has the addresses it had');
  t.deepEqual(doubles(vms), []);
});

test('hotfix: which source runs in a VM, by one command', { timeout: 2 * minutes }, async (t) => {
  // The command means a lab's first host.
  const vm = (await real()).find(({ host }) => host === 'host0');
  const shown = await shoal(['image', 'show', '--vm', vm!.name, '--source', fix.source, '--lab', name, '--json']);
  t.equal(shown.code, 0, shown.err);
  t.equal(shown.json?.source?.commit, fix.manifest.source.commit);
  t.equal(shown.json?.commit?.subject, 'ping 0.1.1');
});
