/** What the verbs about VMs cost the host: never a look at all VMs for one of them, never XenAPI's records for a table. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { Client } from '../../../src/cli/client.ts';
import { command } from '../../../src/cli/main.ts';
import { noteOtherBuild } from '../../../src/cli/target.ts';
import { Terminal } from '../../../src/cli/terminal.ts';
import { findVms, listVms, namesOfVms } from '../../../src/cli/vms.ts';
import { buildOf } from '../../../src/xenapi/build.ts';
import { image } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password, type ServerRig } from '../xenapi/rig.ts';

const sink = () => ({
  text: '',
  write(piece: string) {
    this.text += piece;
  },
});

interface Cost {
  code: number;
  out: string;
  err: string;
  calls: string[];
  vms: number;
}

/** Runs a command; says which calls it made, and how many VMs the host went through to answer them. */
async function cost(rig: ServerRig, ...argv: string[]): Promise<Cost> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-cli-'));
  writeFileSync(join(folder, 'ca.pem'), cert);
  writeFileSync(join(folder, 'password'), password);
  const env = { SHOAL_HOST: rig.url, SHOAL_CA: join(folder, 'ca.pem'), SHOAL_PASSWORD_FILE: join(folder, 'password') };
  const calls: string[] = [];
  const original = Client.prototype.call;
  Client.prototype.call = function (this: Client, method: string, params?: readonly unknown[], options?: object) {
    calls.push(method === 'host.call_plugin' ? `plugin ${String(params![2])}` : method);
    return original.call(this, method, params, options);
  } as typeof original;
  const { fleet } = rig.agent;
  const all = fleet.all.bind(fleet);
  let vms = 0;
  fleet.all = function* (): any {
    for (const vm of all()) {
      vms++;
      yield vm;
    }
  };
  const [stdout, stderr] = [sink(), sink()];
  try {
    return { code: await command(argv, { stdout, stderr, env }), out: stdout.text, err: stderr.text, calls, vms };
  } finally {
    Client.prototype.call = original;
    fleet.all = all;
    rmSync(folder, { recursive: true });
  }
}

async function withFleet(count: number, work: (rig: ServerRig) => Promise<void>): Promise<void> {
  const rig = await makeServer();
  for (let i = 1; i <= count; i++) rig.agent.definitions.make({ name: `web-${i}`, image, memoryKib: 4096, network: 'default' });
  try {
    await work(rig);
  } finally {
    await rig.close();
  }
}

test('a table of all VMs is one call, and one look at each', (t) =>
  withFleet(300, async (rig) => {
    for (const json of [[], ['--json']]) {
      const { code, out, calls, vms } = await cost(rig, 'vm', 'list', ...json);
      t.deepEqual([code, calls, vms], [0, ['host.get_all_records', 'plugin list'], 300]);
      if (json.length === 0) t.equal(out.split('\n').length, 302, 'a title, a line each');
      else t.equal(JSON.parse(out).length, 300);
    }
  }));

test('one VM of many is found without the others', (t) =>
  withFleet(300, async (rig) => {
    await rig.as('VM.start', `OpaqueRef:${rig.agent.fleet.named('web-7')!.uuid}`, false);
    for (const words of [
      ['vm', 'show', 'web-7'],
      ['vm', 'show', rig.agent.fleet.named('web-7')!.uuid],
      ['vm', 'console', 'web-7'],
      ['vm', 'pause', 'web-7'],
      ['vm', 'unpause', 'web-7'],
      ['vm', 'stop', 'web-7', '--force'],
      ['vm', 'destroy', 'web-7'],
      ['vm', 'destroy', ...Array.from({ length: 50 }, (_, i) => `web-${i + 100}`)],
    ]) {
      const { code, calls, vms, err } = await cost(rig, ...words);
      t.deepEqual([code, vms], [0, 0], `shoal ${words.slice(0, 3).join(' ')} ${err}`);
      t.ok(calls.length <= 7 && !calls.some((call) => call.includes('VM.get_all')), calls.join(', '));
    }
  }));

test('who asks for a VM that is not there is told which one was meant', (t) =>
  withFleet(300, async (rig) => {
    for (const verb of ['show', 'console', 'stop', 'destroy']) {
      const { code, err, calls } = await cost(rig, 'vm', verb, 'wbe-7');
      t.equal(code, 1);
      t.equal(err, 'error: There is no VM "wbe-7".\nhint: Did you mean web-7? See `shoal vm list`.\n', verb);
      t.deepEqual(calls, ['host.get_all_records', 'plugin list', 'plugin list'], 'names only');
    }
    const uuid = rig.agent.fleet.named('web-1')!.uuid.replace(/.{12}$/, '000000000000');
    const { err, vms } = await cost(rig, 'vm', 'show', uuid);
    t.deepEqual([err, vms], [`error: There is no VM "${uuid}".\nhint: See \`shoal vm list\`.\n`, 0], 'nobody misspells a uuid');
    const client = new Client({ url: rig.url, ca: cert, password });
    const found = await findVms(client, ['web-2', 'web-1', rig.agent.fleet.named('web-2')!.uuid]);
    t.deepEqual(
      found.map(({ name }) => name),
      ['web-2', 'web-1'],
      'in the order they were named, each once',
    );
    await client.close();
  }));

test('many VMs are started in portions, and none when a name is taken', (t) =>
  withFleet(1, async (rig) => {
    const taken = await cost(rig, 'vm', 'create', 'web', '--count', '120', '--image', image);
    t.deepEqual([taken.code, taken.err.split('\n')[0]], [1, 'error: There is a VM "web-1" already; no VM was started.']);
    t.equal(rig.agent.fleet.size, 1, 'none was made');
    const made = await cost(rig, 'vm', 'create', 'fish', '--count', '120', '--first', '7', '--image', image, '--json');
    t.equal(made.code, 0, made.err);
    t.deepEqual(JSON.parse(made.out).map(({ name }: { name: string }) => name).sort(), Array.from({ length: 120 }, (_, i) => `fish-${i + 7}`).sort());
    t.equal(made.calls.filter((call) => call === 'plugin launch').length, 3);
    t.match(made.err, /starting 100\/120/, 'its progress is seen');
  }));

test('all VMs as the verbs see them', async (t) => {
  const rig = await makeServer();
  await rig.plugin('launch', { spec: JSON.stringify({ name: 'vm-10', image, memoryKib: 4096, args: 'a=1 b' }) });
  rig.agent.definitions.make({ name: 'vm-9', image, memoryKib: 2048 });
  const client = new Client({ url: rig.url, ca: cert, password });
  const vms = await listVms(client, ['state', 'domid', 'memoryKib', 'addresses', 'image', 'args']);
  const { domid } = rig.agent.fleet.named('vm-10')!;
  t.deepEqual(vms as unknown[], [
    { name: 'vm-9', state: 'halted', domid: undefined, memoryKib: 2048, addresses: [], image, args: '' },
    { name: 'vm-10', state: 'running', domid, memoryKib: 4096, addresses: ['10.64.1.0'], image, args: 'a=1 b' },
  ]);
  const { token, names } = await namesOfVms(client);
  t.deepEqual([...names.values()].sort(), ['vm-10', 'vm-9']);
  t.deepEqual((await client.call<any>('event.from', [['VM'], token, 0])).events, [], 'and nothing has changed since');
  await client.close();
  await rig.close();
});

test('an agent of another build than the checkout is pointed out', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-build-'));
  const bundle = join(folder, 'agent.cjs');
  writeFileSync(bundle, 'first');
  const rig = await makeServer({ api: { build: buildOf(bundle) } });
  const client = new Client({ url: rig.url, ca: cert, password });
  const noted = async (file = bundle): Promise<string> => {
    const stderr = sink();
    await noteOtherBuild(new Terminal({ stdout: sink(), stderr, env: {}, json: false }), client, 'lab', file);
    return stderr.text;
  };
  t.equal(await noted(), '', 'the same');
  t.equal(await noted(join(folder, 'none')), '', 'nothing was built here');
  writeFileSync(bundle, 'second');
  t.match(await noted(), /"lab" is of another build.*shoal lab down/);
  await rig.close();
  t.match(await noted(), /another build/, 'the host is asked once');
  await client.close();
  rmSync(folder, { recursive: true });
});

test('vm create with several devices, and unlocked; what it cannot mean is told before anything is made', async (t) => {
  const rig = await makeServer();
  const create = (...words: string[]): Promise<Cost> => cost(rig, 'vm', 'create', ...words, '--json');
  t.equal((await create('router', '--network', 'default,default', '--ip', '10.64.7.1,10.64.7.2', '--locking-mode', 'unlocked')).code, 0);
  t.equal((await create('halted', '--network', 'default,default', '--ip', '10.64.7.3', '--locking-mode', 'unlocked', '--halted')).code, 0);
  t.equal((await create('plain', '--locking-mode', 'network_default')).code, 0);
  const vifs = (name: string): unknown => rig.agent.fleet.named(name)!.vifs.map(({ ipv4, lockingMode }) => [ipv4[0], lockingMode]);
  t.deepEqual(vifs('router'), [['10.64.7.1', 'unlocked'], ['10.64.7.2', 'unlocked']]);
  t.deepEqual((vifs('halted') as unknown[][])[0], ['10.64.7.3', 'unlocked']);
  t.deepEqual((vifs('halted') as unknown[][])[1]![1], 'unlocked', 'a definition, too');
  t.deepEqual((vifs('plain') as unknown[][])[0]![1], undefined);
  for (const mode of ['open', 'disabled', '']) {
    const { code, err } = await cost(rig, 'vm', 'create', 'odd', '--locking-mode', mode);
    t.ok(code !== 0 && /Use unlocked/.test(err), `"${mode}" is refused, with a hint`);
  }
  t.ok((await cost(rig, 'vm', 'create', 'odd', '--network', 'default,default', '--ip', '10.64.8.1,10.64.8.2,10.64.8.3')).code !== 0, 'more addresses than devices');
  t.ok((await cost(rig, 'vm', 'create', 'odd', '--network', 'default,nowhere')).code !== 0, 'a network that there is not');
  t.equal(rig.agent.fleet.named('odd'), undefined, 'and nothing was made');
  const shown = JSON.parse((await cost(rig, 'vm', 'show', 'router', '--json')).out) as { lockingModes: string[]; vifs: { lockingMode: string }[] };
  t.deepEqual([shown.lockingModes, shown.vifs.map((vif) => vif.lockingMode)], [['unlocked', 'unlocked'], ['unlocked', 'unlocked']]);
  t.match((await cost(rig, 'vm', 'show', 'router')).out, /10\.64\.7\.1 {2}unlocked/, 'people are told, too');
  await rig.close();
});
