/**
 * A translator VM moves between two Xen hosts in different subnets while a Multipath TCP connection of Linux' own runs through it: make before break, break before
 * make, and with the coordinator killed on the way. Every byte of the connection has its number.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'tape';
import { LabNetwork } from '../../bench/migration/lab-network.ts';
import { LabWaypoint, waypointName } from '../../bench/migration/lab-waypoint.ts';
import { AgentProcess, wait } from '../../bench/migration/moving.ts';
import { buildPrograms, type Traffic } from '../../bench/migration/network.ts';
import { labDown, labUp, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { run } from '../../src/lab/processes.ts';
import { shoal, type Outcome } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'pathstest';
const minutes = 60_000;

let lab: Lab;
let network: LabNetwork;
let waypoint: LabWaypoint;
let agent: AgentProcess;
let ends: Traffic[] = [];

const agentsFile = (): string => join(waypoint.folder, 'agents.json');
const stateFolder = (): string => join(waypoint.folder, 'moves');
const hosts = (): string[] => ['--lab', `${name}/host${waypoint.host}`, '--to', `${name}/host${1 - waypoint.host}`];

/** The command, from where the VM is to where it goes next. */
const paths = (words: string[], onStart?: (pid: number) => void): Promise<Outcome> =>
  shoal(['paths', 'move', waypointName, ...hosts(), '--ip', waypoint.next().address, '--agents', agentsFile(), '--state', stateFolder(), '--json', ...words], 3 * minutes, onStart);

/** Since the last look: the connection lives, and every byte was the one that it must be. */
async function flows(t: test.Test, what: string): Promise<void> {
  const before = await Promise.all(ends.map((end) => end.ask()));
  await wait(400);
  const after = await Promise.all(ends.map((end) => end.ask()));
  t.ok(after.every(({ received }, i) => received > before[i]!.received), `${what}: bytes come at both ends`);
  t.ok(after.every(({ bad, broken, connections }) => bad === 0 && broken === 0 && connections === 1), `${what}: none lost, none doubled, ${Math.max(...before.map(({ gapMs }) => gapMs))} ms at most between two`);
}

/** Exactly one translator on both hosts, and it is where it should be. */
async function one(t: test.Test, what: string): Promise<void> {
  t.deepEqual(await waypoint.places(), [{ host: waypoint.host, name: waypointName, state: 'running', address: waypoint.address }], `${what}: one translator, on host${waypoint.host}`);
}

test('paths: two hosts in two subnets, a translator on the first, a connection through it', { timeout: 15 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  buildPrograms();
  await labDown(name);
  lab = await labUp({ name, hosts: 2, memoryMib: 2048 });
  network = await LabNetwork.make(name);
  waypoint = new LabWaypoint(lab);
  await waypoint.launch();
  agent = await new AgentProcess(network, 's').start();
  writeFileSync(agentsFile(), JSON.stringify([{ url: `https://unix:${agent.socket}`, certFile: join(agent.folder, 'cert.pem'), tokenFile: join(agent.folder, 'token') }]));
  const server = network.traffic('s', 'listen', '0.0.0.0', '0', 'records');
  const client = network.traffic('c', 'connect', waypoint.address, String(await server.port), 'records', '1');
  await client.port;
  ends = [server, client];
  await wait(1000);
  await flows(t, 'at first');
});

test('paths: what would survive is said before, and nothing moves', { timeout: 2 * minutes }, async (t) => {
  const { code, json, err } = await paths(['--plan']);
  t.equal(code, 0, err);
  t.deepEqual(json?.counts, { survives: 0, unsure: 1, lost: 0 });
  await one(t, 'after the plan');
  const away = await shoal(['paths', 'move', 'nobody', ...hosts(), '--ip', waypoint.next().address, '--agents', agentsFile(), '--state', stateFolder()]);
  t.notEqual(away.code, 0);
  t.match(away.err, /no VM "nobody"/);
});

test('paths: make before break', { timeout: 4 * minutes }, async (t) => {
  const left = waypoint.address;
  const { json, err } = await paths([]);
  t.equal(json?.state, 'moved', err);
  t.equal(json?.left, 0, 'no connection was left behind');
  waypoint.went();
  await flows(t, 'moved');
  await one(t, 'moved');
  t.equal((await lab.inside(['curl', '-s', '-m', '5', '-o', '/dev/null', `http://${left}:5000/`], { timeoutMs: 20_000 })).code, 7, 'the address that was left refuses at once');
});

for (const [state, ending] of [['copying', 'stayed'], ['joining', 'stayed'], ['suspending', 'moved'], ['withdrawing', 'moved']] as const)
  test(`paths: the coordinator is killed while ${state}`, { timeout: 4 * minutes }, async (t) => {
    let pid = 0;
    const journal = (): string => readFileSync(join(stateFolder(), 'moves.journal'), 'latin1');
    const before = journal().length;
    const ended = paths([], (started) => (pid = started));
    for (let tries = 0; !journal().slice(before).includes(`"state":"${state}"`) && tries < 20_000; tries++) await wait(2);
    process.kill(pid, 'SIGKILL');
    t.notEqual((await ended).code, 0, 'killed');
    const { json, err } = await shoal(['paths', 'resume', '--state', stateFolder(), '--json'], 3 * minutes);
    t.equal(json?.state, ending, err);
    if (ending === 'moved') waypoint.went();
    await flows(t, `killed while ${state}`);
    await one(t, `killed while ${state}`);
    const again = await paths([]);
    t.equal(again.json?.state, 'moved', `and the next move is one: ${again.json?.why ?? again.err}`);
    waypoint.went();
    await flows(t, `moved after one that was killed while ${state}`);
  });

test('paths: break before make', { timeout: 4 * minutes }, async (t) => {
  const { json, err } = await paths(['--break']);
  t.equal(json?.state, 'moved', err);
  waypoint.went();
  await flows(t, 'moved');
  await one(t, 'moved');
});

test('paths: to the end, byte for byte', { timeout: 2 * minutes }, async (t) => {
  const [server, client] = await Promise.all(ends.map((end) => end.end()));
  t.deepEqual([server!.received, client!.received], [client!.sent, server!.sent], 'what was sent was received');
  t.deepEqual([server!.bad, client!.bad, server!.broken, client!.broken], [0, 0, 0, 0], 'each byte in its place');
});

test('paths: down', { timeout: 5 * minutes }, async () => {
  await agent?.remove();
  network?.remove();
  await waypoint?.close();
  await labDown(name);
});
test.onFinish(() => void labDown(name));
