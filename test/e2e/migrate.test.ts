/**
 * VMs that stop and go on, on two real Xen hosts of the lab: suspended and resumed, saved and restored, migrated plainly and live, with agents killed at the moments
 * that count, and Xen's own tools beside it. The unikernel says its name and how long it has been up.
 */
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import test from 'tape';
import { migrateVm } from '../../bench/migration/lab-waypoint.ts';
import type { Client } from '../../src/cli/client.ts';
import { command } from '../../src/cli/main.ts';
import { xlConfiguration } from '../../src/cli/demo/xl.ts';
import { putImage, readImage } from '../../src/cli/images.ts';
import { pingImage } from '../../src/cli/verbs/build.ts';
import { labDown, labUp, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { run } from '../../src/lab/processes.ts';
import { refOf, type Departed, type Listing } from '../../src/xenapi/plugin-types.ts';
import { agentOf, codeOf, restartAgent, shellOf } from './agents.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'migratetest';
const minutes = 60_000;
const timeoutMs = 2 * minutes;
const folder = mkdtempSync(join(tmpdir(), 'shoal-migrate-'));

let lab: Lab;
const clients: Client[] = [];
let image: string;
let uuid: string;

const shell = (host: number, command: string): Promise<string> => shellOf(lab.hosts[host]!, command);

/** What the guest at this address says; asked until it answers. */
async function ask(address: string): Promise<{ name: string; uptimeMs: number } | undefined> {
  for (let i = 0; i < 40; i++) {
    const { code, stdout } = await lab.inside(['curl', '-s', '-m', '3', `http://${address}/`], { timeoutMs: 20_000 });
    if (code === 0 && stdout.startsWith('{')) return JSON.parse(stdout) as { name: string; uptimeMs: number };
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return undefined;
}

/** Where the VM is, with its state and address, on all hosts. */
async function places(): Promise<{ host: number; state: string; address: string }[]> {
  const found: { host: number; state: string; address: string }[] = [];
  for (const [host, client] of clients.entries()) {
    const { rows, texts } = await client.plugin<Listing>('list', { columns: ['uuid', 'state', 'addresses'] });
    for (const row of rows) if (row[0] === uuid) found.push({ host, state: texts[row[1] as number]!, address: String(row[2]) });
  }
  return found;
}

const send = (from: number, to: number, live = false): Promise<Departed> => migrateVm(clients[from]!, clients[to]!, uuid, live);

async function restart(host: number, environment: string): Promise<void> {
  clients[host] = await restartAgent(lab.hosts[host]!, environment, clients[host]!);
}

/** In the end one of it runs, and its domain is the only one of its uuid on both hosts. */
async function settled(t: test.Test, what: string): Promise<{ host: number; address: string }> {
  for (let i = 0; i < 60; i++) {
    const found = await places();
    if (found.length === 1 && found[0]!.state === 'running') {
      const ids = (await Promise.all([0, 1].map((host) => shell(host, `xl list -v | grep -c '${uuid}' || true`)))).map(Number);
      t.equal(ids[0]! + ids[1]!, 1, `${what}: one domain, on host${found[0]!.host}`);
      return found[0]!;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  t.fail(`${what}: ${JSON.stringify(await places())}`);
  return { host: 0, address: '' };
}

test('migrate: two hosts, and a VM on the first', { timeout: 20 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', join(repositoryRoot, 'unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  await labDown(name);
  lab = await labUp({ name, hosts: 2, memoryMib: 2048 });
  for (const host of lab.hosts) clients.push(agentOf(host));
  ({ digest: image } = await putImage(clients[0]!, readImage(pingImage)));
  const { vms } = await clients[0]!.plugin<{ vms: { uuid: string; ip: string }[] }>('launch', { spec: { name: 'moving', image, memoryKib: 8192 } });
  uuid = vms[0]!.uuid;
  t.equal((await ask(vms[0]!.ip))?.name, 'moving');
});

test('migrate: suspended and resumed, over and over', { timeout: 10 * minutes }, async (t) => {
  const { address } = (await places())[0]!;
  let upMs = (await ask(address))!.uptimeMs;
  for (let round = 1; round <= 10; round++) {
    await clients[0]!.call('VM.suspend', [refOf(uuid)], { timeoutMs });
    if (round === 1) {
      t.equal((await places())[0]!.state, 'suspended');
      t.equal(await shell(0, `xl list -v | grep -c '${uuid}' || true`), '0', 'without a domain');
    }
    await clients[0]!.call('VM.resume', [refOf(uuid)], { timeoutMs });
    const now = (await ask(address))?.uptimeMs ?? -1;
    if (now < upMs) t.fail(`round ${round}: its clock went back from ${upMs} to ${now}`);
    upMs = now;
  }
  t.pass(`ten times; up for ${upMs} ms by its own clock`);
});

test('migrate: saved to a file, cut, restored', { timeout: 10 * minutes }, async (t) => {
  const file = join(folder, 'moving.svm');
  const cut = join(folder, 'cut.svm');
  for (const to of [file, cut]) await clients[0]!.download('/saved-vm', { uuid }, (content) => pipeline(content, createWriteStream(to)));
  truncateSync(cut, statSync(cut).size - 100);
  const put = (from: string, more: Record<string, string>) => clients[0]!.upload<{ addresses: string[]; uuid: string }>('/saved-vm', more, createReadStream(from), statSync(from).size, { timeoutMs });
  t.equal(await codeOf(put(cut, { name: 'cut' })), 'SAVED_VM_INVALID');
  t.equal((await clients[0]!.call<string[]>('VM.get_by_name_label', ['cut'])).length, 0, 'nothing is left of it');
  const copy = await put(file, { name: 'copy' });
  t.notEqual(copy.uuid, uuid);
  const said = await ask(copy.addresses[0]!);
  t.equal(said?.name, 'copy', 'a copy beside it, with a name and an address of its own');
  await clients[0]!.plugin('destroy', { vms: [copy.uuid] });
});

test('migrate: to the other host and back, plainly and live', { timeout: 10 * minutes }, async (t) => {
  const upMs = (await ask((await places())[0]!.address))!.uptimeMs;
  const there = await send(0, 1);
  t.match(there.addresses[0]!, /^10\.65\./, 'the image went along, and it has an address there');
  const said = await ask(there.addresses[0]!);
  t.ok(said?.name === 'moving' && said.uptimeMs >= upMs, `it answers there, up for ${said?.uptimeMs} ms`);
  t.match((await clients[1]!.plugin<{ text: string }>('console', { vm: uuid, cursor: '0' })).text, /gone on as the clone moving/, 'its application was told');
  await settled(t, 'plainly');
  const back = await send(1, 0, true);
  t.ok(back.passes >= 2, `${back.passes} passes, ${Math.round(back.downtimeMs)} ms of standstill`);
  t.equal((await ask(back.addresses[0]!))?.name, 'moving');
  await settled(t, 'live');
});

test('migrate: an agent is killed, and one of it runs', { timeout: 20 * minutes }, async (t) => {
  for (const [who, moment] of [['source', 'ship'], ['source', 'commit'], ['source', 'commit:committed'], ['target', 'filled'], ['target', 'committed']] as const) {
    const from = (await settled(t, 'before')).host;
    const to = 1 - from;
    const victim = who === 'source' ? from : to;
    await restart(victim, `SHOAL_CRASH_AT="${who} ${moment}"`);
    const sent = codeOf(send(from, to));
    t.notEqual(await Promise.race([sent, new Promise((resolve) => setTimeout(resolve, 30_000))]), 'INTERNAL_ERROR', `killed at ${who} ${moment}`);
    await restart(victim, '');
    await sent;
    const { host, address } = await settled(t, `${who} ${moment}`);
    t.equal(host, moment === 'committed' || moment === 'commit:committed' ? to : from, 'where it should');
    t.equal((await ask(address))?.name, 'moving', 'and answers');
  }
});

test("migrate: all by one command, while the target's agent is killed; and again, until none is left", { timeout: 20 * minutes }, async (t) => {
  const { host: from, address } = await settled(t, 'before');
  const to = 1 - from;
  const { vms } = await clients[from]!.plugin<{ vms: { uuid: string; ip: string }[] }>('launch', { spec: { prefix: 'many', count: 11, image, memoryKib: 1024 } });
  t.ok((await ask(address)) !== undefined && (await ask(vms.at(-1)!.ip)) !== undefined, 'they answer');
  const migrate = async (): Promise<{ code: number; said: { done?: number; failed?: { error: { code: string } }[] } }> => {
    let text = '';
    const keep = { write: (piece: string) => (text += piece) };
    const code = await command(['vm', 'migrate', '--all', '--lab', `${name}/host${from}`, '--to', `${name}/host${to}`, '--json'], { stdout: keep, stderr: { write: () => undefined }, env: process.env });
    return { code, said: JSON.parse(text.trimEnd().split('\n').at(-1)!) };
  };
  const killed = new Promise((done) => setTimeout(done, 700)).then(() => shell(to, 'kill -9 $(cat /run/shoal-agent.pid)'));
  const first = await migrate();
  await killed;
  t.comment(`the first time: ${JSON.stringify(first.said).slice(0, 300)}`);
  clients[to] = await restartAgent(lab.hosts[to]!, '', clients[to]!);
  const domains = async (host: number): Promise<number> => Number(await shell(host, 'xl list | grep -c -E "many-|moving" || true'));
  for (let i = 0; i < 20 && (await domains(from)) > 0; i++) {
    await migrate();
    await new Promise((done) => setTimeout(done, 1000));
  }
  t.deepEqual([await domains(from), await domains(to)], [0, 12], 'each once, and there');
  const { rows, texts } = await clients[to]!.plugin<Listing>('list', { columns: ['uuid', 'state', 'addresses'] });
  t.equal(rows.filter((row) => texts[row[1] as number] === 'running').length, 12, 'all run');
  for (const row of rows) if ((await ask(String(row[2]))) === undefined) t.fail(`${row[2]} does not answer`);
  await clients[to]!.plugin('destroy', { vms: vms.map((vm) => vm.uuid) });
});

test("migrate: Xen's own tools save and restore the same unikernel", { timeout: 10 * minutes }, async (t) => {
  const address = '10.64.250.250';
  await shell(0, 'mkdir -p /test');
  await lab.hosts[0]!.put(pingImage, '/run/shoal-yardstick/kernel.elf').catch(async () => {
    await shell(0, 'mkdir -p /run/shoal-yardstick');
    await lab.hosts[0]!.put(pingImage, '/run/shoal-yardstick/kernel.elf');
  });
  const made = await lab.hosts[0]!.exec('mkdir -p /run/shoal-yardstick; cat > /run/shoal-yardstick/vm.cfg', {
    input: xlConfiguration({ memoryKib: 8192, address, gateway: lab.hosts[0]!.gateway, prefixLength: 16 }),
  });
  t.equal(made.code, 0);
  await shell(0, 'xl create -q /run/shoal-yardstick/vm.cfg');
  t.ok((await ask(address)) !== undefined, 'it answers');
  await shell(0, 'xl save xl-yardstick /test/saved && xl restore /test/saved && rm /test/saved');
  t.ok((await ask(address)) !== undefined, 'and again after it was saved and restored');
  await shell(0, 'xl destroy xl-yardstick');
});

test('migrate: down', { timeout: 5 * minutes }, async (t) => {
  for (const client of clients) await client.close();
  await labDown(name);
  rmSync(folder, { recursive: true, force: true });
  t.end();
});
