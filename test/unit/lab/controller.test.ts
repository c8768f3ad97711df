/**
 * A controller beside a lab, without the emulator: real namespaces, a real controller process, and a real agent over the simulated
 * hypervisor where dom0 would be. Started twice, killed, found again, and taken away with the lab.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import test from 'tape';
import { controlOf, openLabFleet, takeHosts } from '../../../src/cli/fleet-lab.ts';
import { endController, labController, startController } from '../../../src/lab/controller.ts';
import { hostIdentity } from '../../../src/lab/identity.ts';
import { labDown, labStatus, type LabHost } from '../../../src/lab/lab.ts';
import { enter } from '../../../src/lab/network.ts';
import { labFolder, repositoryRoot } from '../../../src/lab/paths.ts';
import { bridgesNamespace, hostPlan, routerNamespace } from '../../../src/lab/plan.ts';
import { endProcess, isAlive, must, nameProcess, run } from '../../../src/lab/processes.ts';
import { makeFolder, processesOf, readRecord, writeRecord } from '../../../src/lab/record.ts';
import { ShoalError } from '../../../src/model/errors.ts';

const lab = 'utcontrol';
const folder = mkdtempSync(join(tmpdir(), 'shoal-labcontrol-'));
process.env['SHOAL_CACHE'] = join(folder, 'cache');
const plan = hostPlan(0);
let agent: ChildProcess;
let host: LabHost;

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof ShoalError ? error.code : String(error)),
  );

async function startAgent(): Promise<ChildProcess> {
  const { passwordFile, certFile, keyFile } = await hostIdentity(0);
  const config = join(folder, 'agent.json');
  const { cidr, gateway, first, last } = plan;
  writeFileSync(
    config,
    JSON.stringify({
      listen: { host: plan.address, port: 443 },
      passwordFile,
      certFile,
      keyFile,
      stateDir: join(folder, 'agent'),
      hypervisor: 'sim',
      networks: [{ name: 'default', bridge: 'xenbr0', cidr, gateway, first, last }],
    }),
  );
  const argv = [...enter(routerNamespace(lab)), process.execPath, join(folder, 'agent.cjs'), config];
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (piece: Buffer) => ((log += piece.toString()).includes('ready on') ? resolve() : undefined));
    child.once('exit', () => reject(new Error(log)));
  });
  return child;
}

test('lab controller: no lab, no controller', async (t) => {
  await labDown(lab);
  t.equal(await codeOf(startController(lab)), 'LAB_NOT_UP');
  t.equal(labController(lab), undefined);
  t.notOk(existsSync(labFolder(lab)), 'and nothing was left');
});

test('lab controller: set up', async (t) => {
  makeFolder(lab);
  for (const name of [bridgesNamespace(lab), routerNamespace(lab)]) await must(['ip', 'netns', 'add', name]);
  const inRouter = (...words: string[]) => must(['ip', '-n', routerNamespace(lab), ...words]);
  await inRouter('link', 'set', 'lo', 'up');
  await inRouter('addr', 'add', `${plan.address}/32`, 'dev', 'lo');
  await build({
    entryPoints: [join(repositoryRoot, 'src/main/agent.ts')],
    outfile: join(folder, 'agent.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    logLevel: 'error',
  });
  const files = await hostIdentity(0);
  agent = await startAgent();
  writeRecord({
    name: lab,
    accelerator: 'tcg',
    memoryMib: 1024,
    store: 'shoal',
    versions: { xen: '', kernel: '' },
    keyFile: '',
    knownHostsFile: '',
    hosts: [{ index: 0, process: nameProcess(process.pid)!, sshPort: 0, agentPort: 0, agent: true }],
    links: [],
  });
  host = { ...plan, caFile: files.certFile, passwordFile: files.passwordFile } as unknown as LabHost;
  t.pass('an agent where dom0 would be');
});

test('lab controller: it starts once, answers on the loopback, and takes the hosts in', async (t) => {
  const { control, controller } = await openLabFleet(lab, [host], { graceMs: 1500, pollS: 1, patienceMs: 1000 });
  const hosts = await control.list<{ id: string; state: string; url: string }>('/v1/hosts');
  t.deepEqual(hosts.map(({ id, state, url }) => [id, state, url]), [['host0', 'up', 'https://10.64.0.2']]);
  const again = await startController(lab);
  t.deepEqual([again.url, again.process.pid], [controller.url, controller.process.pid], 'a second start attaches');
  await takeHosts(control, [host]);
  t.equal((await control.list('/v1/hosts')).length, 1, 'a host is taken in once');
  const config = JSON.parse(readFileSync(join(labFolder(lab), 'fleet/controller.json'), 'utf8')) as { graceMs: number; listen: { host: string } };
  t.deepEqual([config.graceMs, config.listen.host], [1500, '127.0.0.1']);
  for (const file of [controller.tokenFile, join(labFolder(lab), 'fleet/credentials/host0'), join(labFolder(lab), 'fleet/key.pem')])
    t.equal(statSync(file).mode & 0o077, 0, `${file.split('/').pop()} is its owner's only`);
  const { stdout } = await run(['sh', '-c', `. ${controller.environmentFile}; env | grep ^SHOAL_CON`]);
  t.ok(stdout.includes(`SHOAL_CONTROLLER=${controller.url}`), 'a shell can be told of it');
  t.deepEqual((await labStatus(lab)).controller, { url: controller.url, pid: controller.process.pid, alive: true });
  control.close();
});

test('lab controller: large bodies, many calls and a stream go through the port', async (t) => {
  const control = controlOf(labController(lab)!);
  t.equal(await codeOf(control.call('PUT', `/v1/images/sha256:${'0'.repeat(64)}`, Buffer.alloc(3 << 20))), 'IMAGE_DIGEST_MISMATCH', '3 MiB arrived');
  const answers = await Promise.all(Array.from({ length: 200 }, () => control.call<{ items: unknown[] }>('GET', '/v1/hosts')));
  t.ok(answers.every(({ items }) => items.length === 1), 'two hundred calls');
  const kinds: string[] = [];
  const end = new AbortController();
  const stream = control.events([], end.signal, ({ kind }) => kinds.push(kind));
  for (let i = 0; i < 400 && !kinds.includes('service'); i++) {
    if (i === 5) await control.call('PUT', '/v1/services/acme/none', { image: `sha256:${'1'.repeat(64)}`, count: 0, memoryKib: 4096 });
    await new Promise((next) => setTimeout(next, 10));
  }
  end.abort();
  await stream;
  t.ok(kinds.includes('hello') && kinds.includes('service'), 'events as they happen');
  control.close();
});

test('lab controller: kill -9, and the next one has the same address and state', async (t) => {
  const before = labController(lab)!;
  await endProcess(before.process, 0);
  t.equal((await labStatus(lab)).controller?.alive, false, 'status says so');
  const after = await startController(lab);
  t.equal(after.url, before.url);
  t.notEqual(after.process.pid, before.process.pid);
  const control = controlOf(after);
  await takeHosts(control, [host]);
  t.equal((await control.list('/v1/hosts')).length, 1, 'its host is still its own');
  control.close();
  await endController(lab);
  t.notOk(isAlive(after.process), 'ended');
  await endController(lab);
  t.ok(isAlive((await startController(lab)).process), 'and started again');
});

test('lab controller: one that nobody wrote down, and a forwarder that is gone', async (t) => {
  const lost = labController(lab)!;
  const record = readRecord(lab)!;
  delete record.controller;
  writeRecord(record);
  const found = await startController(lab);
  t.notOk(isAlive(lost.process), 'the lost one was ended');
  t.equal(new Set((await processesOf(lab)).map(({ pid }) => readFileSync(`/proc/${pid}/cmdline`, 'utf8')).filter((line) => line.includes('controller.json'))).size, 1);
  const { forwarder } = readRecord(lab)!.controller!;
  await endProcess(forwarder, 0);
  const control = controlOf(await startController(lab));
  t.equal((await control.list('/v1/hosts')).length, 1, 'answers again');
  t.ok(isAlive(labController(lab)!.process));
  control.close();
  t.ok(found.url.startsWith('https://127.0.0.1:'));
});

test('lab controller: one that cannot start says why', async (t) => {
  await endController(lab);
  const config = join(labFolder(lab), 'fleet/controller.json');
  const good = readFileSync(config);
  writeFileSync(config, '{}');
  try {
    await startController(lab);
    t.fail('it started');
  } catch (error) {
    t.match((error as Error).message, /CONFIG_INVALID.*certFile/);
  }
  writeFileSync(config, good);
  t.ok(isAlive((await startController(lab)).process), 'and starts when that is put right');
});

test('lab controller: down takes all of it, written down or not', async (t) => {
  const { controller } = readRecord(lab)!;
  const control = controlOf(labController(lab)!);
  const end = new AbortController();
  const stream = control.events([], end.signal, () => undefined).catch(() => undefined);
  const record = readRecord(lab)!;
  delete record.controller;
  writeRecord(record);
  await labDown(lab);
  t.notOk(isAlive(controller!.process) || isAlive(controller!.forwarder), 'controller and forwarder ended');
  t.deepEqual(await processesOf(lab), []);
  t.notOk(existsSync(labFolder(lab)), 'its folder is gone');
  t.equal(labController(lab), undefined);
  end.abort();
  await stream;
  control.close();
});

test.onFinish(() => {
  agent?.kill('SIGKILL');
  void labDown(lab).finally(() => rmSync(folder, { recursive: true, force: true }));
});
