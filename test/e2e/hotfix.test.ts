/**
 * Hot-fixes on two real Xen hosts, all parts together: a repository copied from the example and pushed over HTTPS, releases that roll out, a fix under HTTP load on
 * addresses that move, images that are bad, a controller and an agent that are killed in the middle. What is on the hosts is looked at past the controller.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { Load, nowMs } from '../../bench/hotfix/load.ts';
import { outside, startSummoner, zone } from '../../bench/hotfix/summon.ts';
import { openHotfixWorld, type Build, type HotfixWorld } from '../../bench/hotfix/world.ts';
import { Client } from '../../src/cli/client.ts';
import { digestOf } from '../../src/cli/images.ts';
import { readTarget } from '../../src/cli/target.ts';
import { listVms } from '../../src/cli/vms.ts';
import { git, gitText } from '../../src/desired/git.ts';
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
    { kind: 'ready', withinMs: 20_000 },
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

/** The record of the service's rollouts, as a clone has it: the last step first. */
async function record(): Promise<{ release: number; event: string; phase: string; wave: number; text: string }[]> {
  const work = join(world.folder, 'work');
  await git(work, ['fetch', '-q', world.url, '+refs/rollout/acme/ping:refs/rollout/acme/ping'], { env: world.env });
  const commits = (await gitText(work, ['log', '--format=%H', 'refs/rollout/acme/ping'])).split('\n');
  return Promise.all(commits.map(async (commit) => JSON.parse(await gitText(work, ['cat-file', 'blob', `${commit}:step.json`])) as never));
}

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
  const load = await Load.start(name, world.folder, addresses, 60, addresses[0]);
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

test('hotfix: an image that answers nothing goes no further than the canary, and is taken back', { timeout: 10 * minutes }, async (t) => {
  const bad = await world.build('0.1.2', true);
  const addresses = await world.addresses();
  const load = await Load.start(name, world.folder, addresses, 60, addresses[0]);
  await world.push(await world.release(bad));
  let watching = true;
  let most = 0;
  const watch = (async () => {
    for (; watching; await sleep(300)) most = Math.max(most, (await real()).filter(({ image }) => image === bad.manifest.digest).length);
  })();
  const { phase, reason } = await world.until(3, ['rolled-back', 'done', 'failed', 'paused'], 2 * minutes);
  watching = false;
  await watch;
  const vms = await settled(fix.manifest.digest);
  const result = await load.stop();
  t.equal(phase, 'rolled-back', reason);
  t.ok(most <= 1, 'at most the canary was ever bad');
  t.deepEqual(result.failed, [], `none of ${result.requests} requests fails`);
  t.deepEqual(result.versions, { '0.1.1': copies });
  t.ok(vms.length === copies && vms.every(({ image }) => image === fix.manifest.digest), 'every VM is on the good one');
  const [last] = (await record()).filter(({ release }) => release === 3);
  t.equal(last?.phase, 'rolled-back', `the repository says so: ${last?.text}`);
});

test('hotfix: an image that is cut short is refused at the push', { timeout: 5 * minutes }, async (t) => {
  const bytes = fix.bytes.subarray(0, fix.bytes.length >> 1);
  const manifest = { ...fix.manifest, digest: digestOf(bytes), sizeBytes: bytes.length };
  const refused = await world.push(await world.release({ manifest, bytes })).then(
    () => '',
    (error: unknown) => String((error as Error).message),
  );
  t.match(refused, /shoal: refused[\s\S]*pre-receive hook declined/, refused.slice(0, 300));
  t.equal((await world.rollout()).release.counter, 3, 'and nothing rolls');
});

/** A release of another build, by hot-fix; `meanwhile` happens when some copies are replaced and others are not. */
async function hotFix(t: test.Test, version: string, counter: number, meanwhile: () => Promise<void>): Promise<void> {
  const build = await world.build(version);
  const addresses = await world.addresses();
  const load = await Load.start(name, world.folder, addresses, 40, addresses[0]);
  await world.push(await world.release(build, { rollout: 'hot-fix' }));
  let fresh = 0;
  // The controller is asked: an emulated agent that is asked all the time does nothing else.
  for (const end = Date.now() + minutes; Date.now() < end && fresh < 4; await sleep(50))
    fresh = (await world.control.list<{ image?: string; state: string }>('/v1/vms')).filter((vm) => vm.image === build.manifest.digest && vm.state === 'running').length;
  t.ok(fresh >= 4 && fresh < copies, `${fresh} new copies are there`);
  await meanwhile();
  const { phase, reason } = await world.until(counter, ['done', 'rolled-back', 'failed', 'paused'], 3 * minutes);
  t.equal(phase, 'done', reason);
  await load.all(version, minutes).catch((error: unknown) => t.fail(String(error)));
  const vms = await settled(build.manifest.digest);
  const result = await load.stop();
  t.ok(vms.length === copies && vms.every(({ image }) => image === build.manifest.digest), 'all copies are of the new release, and nothing else is left');
  t.deepEqual(doubles(vms), [], 'no address is on two VMs');
  t.deepEqual(await world.addresses(), addresses, 'the service has the addresses it had');
  t.deepEqual(result.failed, [], `none of ${result.requests} requests fails; the slowest took ${result.slowestMs} ms`);
}

test('hotfix: kill -9 of the controller in the middle', { timeout: 10 * minutes }, (t) =>
  hotFix(t, '0.1.3', 4, async () => {
    const { process: before } = world.controller;
    await endProcess(before, 0);
    const { process: now, url } = await startController(name);
    t.notEqual(now.pid, before.pid);
    t.equal(url, world.controller.url, 'the next one is where it was');
  }));

test('hotfix: kill -9 of an agent in the middle', { timeout: 10 * minutes }, (t) =>
  hotFix(t, '0.1.4', 5, async () => {
    const host = lab.hosts[1]!;
    const pid = await shell(host, 'cat /run/shoal-agent.pid');
    await shell(host, `kill -9 ${pid}`);
    for (const end = Date.now() + minutes; Date.now() < end; await sleep(200)) if ((await shell(host, 'cat /run/shoal-agent.pid').catch(() => pid)) !== pid) break;
    t.notEqual(await shell(host, 'cat /run/shoal-agent.pid'), pid, 'its supervisor started another');
  }));

/** Asks for a name, then its page: the version that answers. */
const asking = `
const { Resolver } = require('node:dns').promises;
const [name] = process.argv.slice(1);
const resolver = new Resolver({ timeout: 30000, tries: 1 });
resolver.setServers(['${outside}:5300']);
resolver.resolve4(name).then(async ([address]) => JSON.stringify({ address, ...(await (await fetch('http://' + address + '/')).json()) }), (error) => JSON.stringify({ error: error.code })).then((line) => { console.log(line); process.exit(); });
`;

test('hotfix: any version that was pushed, by the name of its commit', { timeout: 5 * minutes }, async (t) => {
  const end = await startSummoner(lab, world.controller, 3);
  try {
    const first = await world.json<{ image: { source: { commit: string } } }>('releases/acme/ping/1.json');
    const now = await world.addresses();
    for (const [commit, version] of [[fix.manifest.source.commit, '0.1.1'], [first.image.source.commit, '0.1.0']] as const) {
      const { code, stdout, stderr } = await lab.inside([process.execPath, '-e', asking, `${commit.slice(0, 12)}.ping.acme.${zone}`], { timeoutMs: minutes });
      t.equal(code, 0, stderr);
      const answer = JSON.parse(stdout) as { address?: string; version?: string; error?: string };
      t.equal(answer.version, version, `${commit.slice(0, 12)}: ${stdout.trim()}`);
      t.notOk(now.includes(answer.address ?? ''), 'a VM of its own, beside the service');
    }
    const { stdout } = await lab.inside([process.execPath, '-e', asking, `0123456789ab.ping.acme.${zone}`], { timeoutMs: minutes });
    t.equal((JSON.parse(stdout) as { error?: string }).error, 'ENOTFOUND', 'a commit that nobody released');
    const { image } = await world.json<{ image: { digest: string } }>('releases/acme/ping/5.json');
    const vms = await settled(image.digest);
    t.ok(vms.length === copies && vms.every((vm) => vm.image === image.digest), 'what nobody uses any more is gone');
  } finally {
    end();
  }
});

test('hotfix: what the record says, and down', { timeout: 5 * minutes }, async (t) => {
  const ends = (await record()).filter(({ phase }) => phase === 'done' || phase === 'rolled-back').map(({ release, phase }) => `${release} ${phase}`);
  t.deepEqual(ends, ['5 done', '4 done', '3 rolled-back', '2 done', '1 done'], 'each release, and how it ended');
  world.close();
  for (const client of clients.values()) await client.close();
  if (!keep) await labDown(name);
});

test.onFinish(() => void (keep || labDown(name)));
