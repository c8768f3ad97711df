/**
 * The host agent on a real Xen host: the port's contract in dom0, kill -9 and cancel at each step of a launch, guests that crash,
 * scribble, flood or hang, bad images, and 200 VMs made and destroyed that leave the host as it was.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import test from 'tape';
import { createClient } from 'xen-api';
import { Client } from '../../src/cli/client.ts';
import { launchSteps } from '../../src/host/launch.ts';
import { parseKernel } from '../../src/image/elf.ts';
import { labDown, labUp, type Lab, type LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { run } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';

const name = 'agenttest';
const minutes = 60_000;
const inRoot = (path: string) => join(repositoryRoot, path);
const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

let lab: Lab;
let host: LabHost;
let client: Client;
let kernel: Buffer;
let image: string;

interface Launched {
  vms: { uuid: string; ref: string; name: string; domid: number; ip: string; ms: number }[];
  error?: { code: string };
}

const launch = (spec: object) =>
  client.plugin<Launched>('launch', { spec: { image, memoryKib: 4096, ...spec } }, { timeoutMs: 5 * minutes });
const destroyAll = () => client.plugin('destroy', { vms: 'all' }, { timeoutMs: 5 * minutes });
const connect = () =>
  new Client({ url: host.url, ca: readFileSync(host.caFile, 'utf8'), password: readFileSync(host.passwordFile, 'utf8').trim() });

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return error instanceof ShoalError ? error.code : String(error);
  }
}

async function shell(command: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command, { timeoutMs: 2 * minutes });
  if (code !== 0) throw new Error(`${command}: ${code} ${stderr}`);
  return stdout.trim();
}

async function put(bytes: Buffer): Promise<string> {
  const digest = digestOf(bytes);
  await client.resource('PUT', `/image/${digest}`, {}, bytes);
  return digest;
}

async function untilHalted(ref: string): Promise<boolean> {
  for (const deadline = Date.now() + minutes; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 100))) {
    if ((await client.call('VM.get_power_state', [ref])) === 'Halted') return true;
  }
  return false;
}

/** Everything a VM takes of the host, counted from outside of the agent. */
async function taken(): Promise<Record<string, number>> {
  // Shells are there on purpose, as many as were wanted lately.
  await client.plugin('shells', { drain: 'true' });
  const text = await shell(
    [
      'echo domains $(xl list | tail -n +2 | wc -l)',
      'echo vifs $(ls /sys/class/net | grep -c ^vif)',
      'echo store $(xenstore-ls / | grep -v "^ *\\(memory\\|meminfo\\)" | wc -l)',
      'echo files $(ls -l /proc/$(cat /run/shoal-agent.pid)/fd | grep -vc socket:)',
      'echo channels $(grep -c xen-dyn /proc/interrupts)',
    ].join('; '),
  );
  return Object.fromEntries(text.split('\n').map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]));
}

/** Ends the agent and starts it again with other variables in its environment; resolves when it answers. */
async function restartAgent(environment: string): Promise<void> {
  await shell(
    [
      `printf '%s\\n' '${environment}' > /etc/shoal/agent.env`,
      'touch /run/shoal-agent.stop',
      // again and again: the supervisor may have been about to start another agent
      'while kill -0 $(cat /run/shoal-supervise.pid) 2>/dev/null; do kill -9 $(cat /run/shoal-agent.pid) 2>/dev/null; sleep 0.1; done',
      'rm -f /run/shoal-agent.stop; setsid -f /usr/lib/shoal/supervise </dev/null >/dev/null 2>&1',
    ].join('; '),
  );
  await untilAnswers();
}

async function untilAnswers(): Promise<void> {
  for (
    const deadline = Date.now() + 2 * minutes;
    Date.now() < deadline;
    await new Promise((resolve) => setTimeout(resolve, 200))
  ) {
    await client.close();
    client = connect();
    if ((await codeOf(client.plugin('facts'))) === 'none') return;
  }
  throw new Error('the agent does not answer');
}

test('agent: a lab with an agent', { timeout: 20 * minutes }, async (t) => {
  const made = await run(['make', '-s', '-C', inRoot('unikernels')], { timeoutMs: 10 * minutes });
  t.equal(made.code, 0, made.stderr.slice(-500));
  await labDown(name);
  lab = await labUp({ name, memoryMib: 2048 });
  host = lab.hosts[0]!;
  client = connect();
  kernel = readFileSync(inRoot('build/unikernels/ping.elf'));
  image = await put(kernel);
});

test("agent: the adapter keeps the port's contract on Xen", { timeout: 10 * minutes }, async (t) => {
  const bundle = join(tmpdir(), `shoal-contract-${process.pid}.cjs`);
  await build({
    entryPoints: [inRoot('test/contract/xen.ts')],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile: bundle,
    logLevel: 'silent',
  });
  await host.put(bundle, '/tmp/contract.cjs');
  await host.put(inRoot('build/unikernels/ping.elf'), '/tmp/ping.elf');
  const { stdout } = await host.exec('node /tmp/contract.cjs /usr/lib/shoal/shoal_xen.node /tmp/ping.elf xenbr0', {
    timeoutMs: 8 * minutes,
  });
  const lines = stdout.split('\n').filter((line) => /^(not )?ok \d/.test(line));
  t.ok(lines.length > 40, `${lines.length} assertions in dom0`);
  for (const line of lines) t.ok(line.startsWith('ok'), line);
});

test('agent: what xl and the store see is what the agent says', { timeout: 5 * minutes }, async (t) => {
  const { vms } = await launch({ prefix: 'seen', count: 3 });
  const pinger = await lab.pinger(0);
  for (const vm of vms) t.ok((await pinger.firstReply(vm.ip, 30_000)) > 0n, `${vm.ip} answers`);
  await pinger.close();
  const listed = await shell('xl list');
  // 3.9 MiB: the text of the image is not each guest's own.
  for (const vm of vms) t.match(listed, new RegExp(`^${vm.name} +${vm.domid} +3 `, 'm'));
  t.equal(await shell(`xenstore-read /local/domain/${vms[0]!.domid}/name`), vms[0]!.name);
  await shell(`xl destroy ${vms[0]!.name}`);
  t.ok(await untilHalted(vms[0]!.ref), 'what xl destroyed is halted');
  const console_ = await client.plugin<{ text: string }>('console', { vm: vms[1]!.uuid, cursor: '0' });
  t.ok(console_.text.includes('ping'), 'the console is there on demand');
  await client.plugin('stop', { vms: [vms[1]!.uuid] });
  t.equal(await client.call('VM.get_power_state', [vms[1]!.ref]), 'Halted', 'a clean shutdown');
  await destroyAll();
});

test('agent: bad images get a typed error and change nothing', { timeout: 5 * minutes }, async (t) => {
  const before = await taken();
  const noNotes = Buffer.from(kernel);
  for (let at = noNotes.indexOf('Xen\0'); at >= 0; at = noNotes.indexOf('Xen\0', at + 1)) noNotes.write('Yen\0', at, 'latin1');
  t.equal(await codeOf(put(Buffer.from('hello'))), 'IMAGE_NOT_ELF');
  t.equal(await codeOf(put(noNotes)), 'IMAGE_NO_XEN_NOTES');
  t.equal(await codeOf(client.resource('PUT', `/image/${image}`, {}, Buffer.from('other'))), 'IMAGE_DIGEST_MISMATCH');
  t.equal(await codeOf(launch({ name: 'a', image: digestOf(Buffer.from('x')) })), 'IMAGE_UNKNOWN');
  t.equal(await codeOf(launch({ name: 'a', memoryKib: 8 * 1024 * 1024 })), 'HOST_NOT_ENOUGH_FREE_MEMORY');
  t.deepEqual(await taken(), before);
});

test('agent: a guest that crashes at boot is reported, and harms no other', { timeout: 5 * minutes }, async (t) => {
  const {
    vms: [other],
  } = await launch({ name: 'other' });
  const { pages, entry, virtBase } = parseKernel(kernel);
  const start = Number(entry - virtBase);
  const broken = Buffer.from(kernel);
  // ud2 as the first instruction.
  broken.writeUInt16LE(0x0b0f, kernel.indexOf(pages.subarray(start, start + 64)));
  const {
    vms: [vm],
  } = await launch({ name: 'crashes', image: await put(broken) });
  t.ok(await untilHalted(vm!.ref), 'it is halted');
  const { last_crash: words } = await client.call<Record<string, string>>('VM.get_other_config', [vm!.ref]);
  t.ok(words?.startsWith('The guest crashed'), words);
  const pinger = await lab.pinger(0);
  t.ok((await pinger.firstReply(other!.ip, 30_000)) > 0n, 'the other answers');
  await pinger.close();
  await destroyAll();
});

test('agent: guests that misbehave are reported or destroyed, and harm no other', { timeout: 10 * minutes }, async (t) => {
  const pinger = await lab.pinger(0);
  const answers = async (address: string) => (await codeOf(pinger.firstReply(address, 30_000))) === 'none';
  await launch({ name: 'warm' });
  await destroyAll();
  const before = await taken();
  const { vms: [other] } = await launch({ name: 'other' });
  for (const [fault, words] of [['null', 'fault:'], ['assert', 'panic:']] as const) {
    const { vms: [vm] } = await launch({ name: fault, args: `crash=${fault}` });
    t.ok(await untilHalted(vm!.ref), `crash=${fault}: it is halted`);
    const { last_crash: told } = await client.call<Record<string, string>>('VM.get_other_config', [vm!.ref]);
    t.ok(told?.includes(words), `its last console lines say "${words}"`);
    t.ok(await answers(other!.ip), 'the other answers');
  }
  for (const fault of ['scribble', 'flood', 'hang']) {
    const { vms: [vm] } = await launch({ name: fault, args: `crash=${fault}` });
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    t.ok(await answers(other!.ip), `crash=${fault}: the other answers beside it`);
    t.equal((await launch({ name: `beside-${fault}` })).vms.length, 1, 'another can be started beside it');
    t.equal(await codeOf(client.plugin('destroy', { vms: [vm!.uuid] }, { timeoutMs: 2 * minutes })), 'none', 'it can be destroyed');
  }
  await pinger.close();
  await destroyAll();
  const { files: _now, ...now } = await taken();
  const { files: _then, ...then } = before;
  t.deepEqual(now, then, 'nothing of them is left');
});

test('agent: kill -9 at each step of a launch, and the next agent adopts or clears', { timeout: 20 * minutes }, async (t) => {
  await restartAgent('');
  const {
    vms: [witness],
  } = await launch({ name: 'witness' });
  const before = await taken();
  for (const moment of launchSteps.flatMap((step) => [step, `after:${step}`])) {
    await restartAgent(`SHOAL_CRASH_AT=${moment}`);
    t.equal(await codeOf(launch({ name: 'victim' })), 'CONNECTION_FAILED', `killed at ${moment}`);
    await restartAgent('');
    const whole = ['after:seal', 'unpause', 'after:unpause'].includes(moment);
    const victims = await client.call<string[]>('VM.get_by_name_label', ['victim']);
    t.equal(victims.length, whole ? 1 : 0, whole ? 'it was adopted' : 'there is nothing of it');
    if (whole) {
      const record = await client.call<{ power_state: string; VIFs: string[] }>('VM.get_record', [victims[0]!]);
      t.equal(record.power_state, 'Running');
      const [address] = await client.call<string[]>('VIF.get_ipv4_allowed', [record.VIFs[0]!]);
      const pinger = await lab.pinger(0);
      t.ok((await pinger.firstReply(address!, 30_000)) > 0n, 'and answers');
      await pinger.close();
      await client.plugin('destroy', { vms: [await client.call('VM.get_uuid', [victims[0]!])] });
    }
    t.equal(await client.call('VM.get_power_state', [witness!.ref]), 'Running', 'the VM that ran before still runs');
    const { files: _now, ...now } = await taken();
    const { files: _then, ...then } = before;
    t.deepEqual(now, then, 'nothing half built is left');
  }
  await destroyAll();
});

test('agent: cancelled in the middle of a launch, at many moments', { timeout: 10 * minutes }, async (t) => {
  const [hostRef] = await client.call<string[]>('host.get_all');
  await launch({ name: 'warm' });
  await destroyAll();
  const before = await taken();
  let cancelled = 0;
  for (let delayMs = 0; delayMs < 600; delayMs += 40) {
    const task = await client.call<string>('Async.host.call_plugin', [
      hostRef,
      'shoal',
      'launch',
      { spec: JSON.stringify({ name: 'c', image, memoryKib: 4096 }) },
    ]);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await client.call('task.cancel', [task]);
    let status = 'pending';
    while (status === 'pending' || status === 'cancelling') status = await client.call('task.get_status', [task]);
    await client.call('task.destroy', [task]);
    if (status === 'cancelled') cancelled++;
    const left = (await client.call<string[]>('VM.get_all')).length;
    if (left !== (status === 'success' ? 1 : 0)) t.fail(`${status} after ${delayMs} ms left ${left} VMs`);
    await destroyAll();
  }
  t.ok(cancelled > 0, `${cancelled} of 15 launches were cancelled in time`);
  t.deepEqual(await taken(), before, 'nothing is left');
});

test('agent: 200 VMs made and destroyed leave the host as it was', { timeout: 20 * minutes }, async (t) => {
  const cycle = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await launch({ name: 'cycle' });
      await destroyAll();
    }
  };
  const rss = async () => (await client.plugin<{ agent: { rssKib: number } }>('facts')).agent.rssKib;
  await cycle(20);
  const agent = await shell('cat /run/shoal-agent.pid');
  const [before, rssBefore] = [await taken(), await rss()];
  const freeBefore = (await client.plugin<{ freeKib: number }>('facts')).freeKib;
  await cycle(200);
  t.equal(await shell('cat /run/shoal-agent.pid'), agent, 'the agent is the same process');
  t.deepEqual(await taken(), before, 'domains, vifs, store nodes, files, event channels');
  const freeAfter = (await client.plugin<{ freeKib: number }>('facts')).freeKib;
  t.ok(freeBefore - freeAfter < 1024, `Xen has ${freeBefore - freeAfter} KiB less`);
  const grown = (await rss()) - rssBefore;
  t.ok(grown < 16 * 1024, `the agent's memory grew by ${grown} KiB`);
});

test('agent: the npm package xen-api, unmodified, watches 1,000 VMs of real Xen', { timeout: 10 * minutes }, async (t) => {
  const password = readFileSync(host.passwordFile, 'utf8').trim();
  const xapi = createClient({ url: host.url, auth: { user: 'root', password }, allowUnauthorized: true, debounce: 20 });
  await xapi.connect();
  await xapi.objectsFetched;
  const vms = () => Object.values(xapi.objects.all).filter((object: any) => object.$type === 'VM') as any[];
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    for (const deadline = Date.now() + 2 * minutes; !holds(); await new Promise((resolve) => setTimeout(resolve, 100)))
      if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
  };
  t.equal(vms().length, 0, 'there is none yet');
  // Every event that the client is given, counted at its door.
  const seen = new Map<string, string[]>();
  const original = xapi._processEvents.bind(xapi);
  xapi._processEvents = (events: any[]) => {
    for (const { class: name, ref, operation } of events) if (name === 'vm') seen.set(ref, [...(seen.get(ref) ?? []), operation]);
    original(events);
  };
  const { vms: made, error } = await launch({ prefix: 'seen', count: 1000, memoryKib: 1024 });
  t.deepEqual([made.length, error], [1000, undefined]);
  await until('1,000 running VMs at the client', () => vms().filter(({ power_state }) => power_state === 'Running').length === 1000);
  t.deepEqual(new Set(vms().map(({ uuid }) => uuid)), new Set(made.map(({ uuid }) => uuid)), 'they are the ones that were made');
  t.ok([...seen.values()].every((operations) => operations[0] === 'add' && !operations.includes('del')), 'each came once');

  seen.clear();
  for (const { ref } of made) await client.call('VM.set_name_description', [ref, 'told']);
  await until('all descriptions at the client', () => vms().every(({ name_description }) => name_description === 'told'));
  const changes = made.map(({ ref }) => (seen.get(ref) ?? []).join(' '));
  t.deepEqual(new Set(changes), new Set(['mod']), 'one event for each of 1,000 changes');

  seen.clear();
  const [gone] = made;
  const destroyed = await shell(`xl destroy ${gone!.domid} && echo destroyed`);
  t.equal(destroyed, 'destroyed');
  await until('what xl did', () => vms().find(({ uuid }) => uuid === gone!.uuid)?.power_state !== 'Running');
  t.deepEqual([...seen.keys()], [gone!.ref], 'a VM that xl destroys is seen to end; nothing is said of the others');
  await destroyAll();
  await until('the end of all', () => vms().length === 0);
  await xapi.disconnect();
});

test('agent: the lab goes down', { timeout: minutes }, async (t) => {
  t.comment((await host.exec('tail -n 40 /var/log/shoal-agent.log')).stdout);
  await client.close();
  await labDown(name);
});
