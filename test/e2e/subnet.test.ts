/**
 * VMs that migrate between two Xen hosts in one subnet: address and plain TCP connections go along, whoever speaks and wherever the VM is reached from; with an agent killed
 * in the middle. The VM is a translator with Linux at both ends of a connection whose every byte has its number, and a server of its own stack.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { LabNetwork } from '../../bench/migration/lab-network.ts';
import { LabWaypoint, migrateVm, waypointName } from '../../bench/migration/lab-waypoint.ts';
import { wait } from '../../bench/migration/moving.ts';
import { buildPrograms, type Traffic } from '../../bench/migration/network.ts';
import { putImage, readImage } from '../../src/cli/images.ts';
import { pingImage } from '../../src/cli/verbs/build.ts';
import { labAttach, labDown, labStatus, labUp, type Lab } from '../../src/lab/lab.ts';
import { enter } from '../../src/lab/network.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { bridgesNamespace } from '../../src/lab/plan.ts';
import { run } from '../../src/lab/processes.ts';
import { codeOf, restartAgent } from './agents.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'subnettest';
const minutes = 60_000;
const delayMs = 10;
const folder = mkdtempSync(join(tmpdir(), 'shoal-subnet-'));

let lab: Lab;
let network: LabNetwork;
let waypoint: LabWaypoint;
let ends: Traffic[] = [];
let server: { uuid: string; ip: string };

async function begin(mode: 'plain-records' | 'plain-bulk'): Promise<Traffic[]> {
  const listener = network.traffic('s', 'listen', '0.0.0.0', '0', mode);
  const client = network.traffic('c', 'connect', waypoint.address, String(await listener.port), mode, '1');
  await client.port;
  return [listener, client];
}

/** Within some seconds bytes come at the ends that get any, and every byte was the one that it must be. */
async function flows(t: test.Test, of: readonly Traffic[], what: string, receiving: readonly number[] = [0, 1]): Promise<void> {
  const before = await Promise.all(of.map((end) => end.ask()));
  let now = before;
  for (let tries = 0; tries < 50 && receiving.some((i) => now[i]!.received === before[i]!.received); tries++) {
    await wait(200);
    now = await Promise.all(of.map((end) => end.ask()));
  }
  t.ok(receiving.every((i) => now[i]!.received > before[i]!.received), `${what}: bytes come`);
  t.ok(now.every(({ bad, broken, connections }) => bad === 0 && broken === 0 && connections === 1), `${what}: none lost, none doubled, ${Math.max(...before.map(({ gapMs }) => gapMs))} ms at most between two`);
}

async function one(t: test.Test, what: string): Promise<void> {
  t.deepEqual(await waypoint.places(), [{ host: waypoint.host, name: waypointName, state: 'running', address: waypoint.address }], `${what}: one of it, on host${waypoint.host}, under its address`);
}

/** Where the switch between the hosts sends frames for a MAC. */
async function sideOf(mac: string): Promise<string> {
  const { stdout } = await run([...enter(bridgesNamespace(name)), 'bridge', 'fdb', 'show', 'br', 'host0'], { timeoutMs: 10_000 });
  return stdout.split('\n').flatMap((line) => (line.startsWith(mac) ? [/dev (\S+)/.exec(line)?.[1] ?? ''] : [])).join();
}

async function macs(): Promise<string[]> {
  const { json } = await shoal(['vm', 'show', waypointName, '--lab', `${name}/host${waypoint.host}`, '--json']);
  return (json.vifs as { mac: string }[]).map(({ mac }) => mac);
}

test('subnet: two hosts in one, and what that excludes', { timeout: 15 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  buildPrograms();
  await labDown(name);
  t.equal(await codeOf(labUp({ name, hosts: 1, oneSubnet: true })), 'USAGE', 'one host alone');
  lab = await labUp({ name, hosts: 2, memoryMib: 2048, oneSubnet: true });
  t.deepEqual([lab.oneSubnet, (await labAttach(name)).oneSubnet, (await labStatus(name)).oneSubnet], [true, true, true], 'recorded');
  t.equal((await labUp({ name })).oneSubnet, true, 'who does not ask gets it as it is');
  t.equal(await codeOf(labUp({ name, oneSubnet: false })), 'LAB_FAILED', 'it does not become another');
  t.equal(await codeOf(lab.link(0, 1, { delayMs: 5 })), 'USAGE', 'there is no line between the hosts');
  t.match((await shoal(['lab', 'status', '--lab', name])).out, /in one subnet/);
  t.deepEqual(new Set(lab.hosts.map(({ cidr, gateway }) => `${cidr} ${gateway}`)).size, 1);
});

test('subnet: VMs of both hosts, told apart, and reached', { timeout: 5 * minutes }, async (t) => {
  waypoint = new LabWaypoint(lab);
  const digests = await Promise.all(waypoint.clients.map((client) => putImage(client, readImage(pingImage))));
  for (const [i, client] of waypoint.clients.entries()) {
    const { vms } = await client.plugin<{ vms: { uuid: string; ip: string }[] }>('launch', { spec: { name: `server-${i}`, image: digests[0]!.digest, memoryKib: 4096 } });
    if (i === 0) server = vms[0]!;
    t.match(vms[0]!.ip, i === 0 ? /^10\.64\./ : /^10\.65\./, 'of its host\'s own range');
    const pinger = await lab.pinger(i);
    t.ok((await pinger.firstReply(vms[0]!.ip, 60_000)) > 0n, `host${i}: it answers`);
    await pinger.close();
  }
});

test('subnet: an HTTP request that a VM gets piece by piece, over a migration, by the switch and by netback', { timeout: 5 * minutes }, async (t) => {
  const { vms: made } = await waypoint.clients[0]!.plugin<{ vms: { uuid: string; ip: string }[] }>('launch', { spec: { name: 'behind-netback', image: (await putImage(waypoint.clients[0]!, readImage(pingImage))).digest, memoryKib: 4096, backend: 'netback' } });
  for (const { uuid, ip } of [server, made[0]!]) {
    // The guest gives a request ten seconds.
    const done = join(folder, uuid);
    const pieces = `for i in $(seq 45); do [ -e ${done} ] && break; printf "X-$i: y\\r\\n" >&3; sleep 0.2; done`;
    const asked = lab.inside(['bash', '-c', `exec 3<>/dev/tcp/${ip}/80; printf "GET / HTTP/1.1\\r\\n" >&3; ${pieces}; printf "Host: x\\r\\n\\r\\n" >&3; cat <&3`], { timeoutMs: 2 * minutes });
    await wait(500);
    const { addresses } = await migrateVm(waypoint.clients[0]!, waypoint.clients[1]!, uuid);
    writeFileSync(done, '');
    t.deepEqual(addresses, [ip], 'its address went along');
    t.match((await asked).stdout, /"name":\s*"(server-0|behind-netback)"/, 'the one connection got its answer');
  }
  const { vms } = await waypoint.clients[0]!.plugin<{ vms: { ip: string }[] }>('launch', { spec: { name: 'next', image: (await putImage(waypoint.clients[0]!, readImage(pingImage))).digest, memoryKib: 4096, count: 1 } });
  t.notEqual(vms[0]!.ip, server.ip, 'which is not given to another VM where it came from');
});

test('subnet: a translator, a connection through it, and the plan', { timeout: 5 * minutes }, async (t) => {
  network = await LabNetwork.make(name, { hosts: 1, delayMs });
  await waypoint.launch();
  ends = await begin('plain-records');
  await wait(1000);
  await flows(t, ends, 'at first');
  const { json, err } = await shoal(['vm', 'migrate', waypointName, '--lab', `${name}/host0`, '--to', `${name}/host1`, '--plan', '--json'], 2 * minutes);
  t.deepEqual((json?.addresses as { kept: boolean }[] | undefined)?.map(({ kept }) => kept), [true, true], `both addresses go along: ${err}`);
  await one(t, 'after the plan');
});

test('subnet: there and back, three times', { timeout: 8 * minutes }, async (t) => {
  for (let i = 1; i <= 6; i++) {
    const { addresses } = await waypoint.migrate(i > 4);
    t.equal(addresses[0], waypoint.address);
    await flows(t, ends, `migration ${i}${i > 4 ? ', live' : ''}`);
    await one(t, `migration ${i}`);
    for (const mac of await macs()) t.equal(await sideOf(mac), `tap${waypoint.host}`, `frames for ${mac} go to the host that it is on`);
  }
});

test('subnet: a download, whose receiver has nothing to say by itself', { timeout: 5 * minutes }, async (t) => {
  const bulk = await begin('plain-bulk');
  await wait(1000);
  for (let i = 1; i <= 2; i++) {
    await waypoint.migrate();
    await flows(t, bulk, `migration ${i}`, [1]);
  }
  const [server_, client] = await Promise.all(bulk.map((end) => end.end()));
  t.deepEqual([client!.received, client!.bad], [server_!.sent, 0], 'to the end, byte for byte');
});

test('subnet: an agent is killed in the middle', { timeout: 10 * minutes }, async (t) => {
  for (const [who, moment, goes] of [['target', 'filled', false], ['source', 'commit:committed', true]] as const) {
    const victim = who === 'source' ? waypoint.host : 1 - waypoint.host;
    waypoint.clients[victim] = await restartAgent(lab.hosts[victim]!, `SHOAL_CRASH_AT="${who} ${moment}"`, waypoint.clients[victim]!);
    const sent = codeOf(waypoint.migrate());
    await Promise.race([sent, wait(30_000)]);
    waypoint.clients[victim] = await restartAgent(lab.hosts[victim]!, '', waypoint.clients[victim]!);
    t.notEqual(await sent, 'none', `killed at ${who} ${moment}`);
    if (goes) waypoint.host = 1 - waypoint.host;
    // A source that comes after a kill asks before it lets go.
    for (let tries = 0; tries < 100 && (await waypoint.places()).map(({ state }) => state).join() !== 'running'; tries++) await wait(300);
    await one(t, `${who} ${moment}`);
    await flows(t, ends, `${who} ${moment}`);
  }
  await waypoint.migrate();
  await flows(t, ends, 'and on');
});

test('subnet: to the end, byte for byte', { timeout: 2 * minutes }, async (t) => {
  const [listener, client] = await Promise.all(ends.map((end) => end.end()));
  t.deepEqual([listener!.received, client!.received], [client!.sent, listener!.sent], 'what was sent was received');
  t.deepEqual([listener!.bad, client!.bad, listener!.broken, client!.broken], [0, 0, 0, 0], 'each byte in its place');
});

test('subnet: down', { timeout: 5 * minutes }, async (t) => {
  network?.remove();
  await waypoint?.close();
  rmSync(folder, { recursive: true });
  await labDown(name);
  t.notOk((await labStatus(name)).up);
});
test.onFinish(() => void labDown(name));
