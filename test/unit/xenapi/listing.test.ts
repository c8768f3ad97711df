/** The plugin's `list`: small, true, and asking nobody. */
import test from 'tape';
import { listingPieces } from '../../../src/xenapi/listing.ts';
import type { Listing } from '../../../src/xenapi/plugin-types.ts';
import { image, until } from '../host/rig.ts';
import { failureOf, makeServer, password } from './rig.ts';

const launch = (count: number, prefix: string) => ({ spec: JSON.stringify({ prefix, count, image, memoryKib: 4096 }) });
const list = JSON.stringify;

test('a row a VM, the columns asked for, each text once', async (t) => {
  const rig = await makeServer();
  const { vms } = await rig.plugin('launch', launch(3, 'web'));
  vms.sort((a: any, b: any) => a.domid - b.domid);
  const whole: Listing = await rig.plugin('list');
  t.deepEqual(whole.columns, ['uuid', 'name', 'state', 'domid', 'memoryKib', 'addresses', 'lockingModes', 'image', 'args']);
  t.deepEqual(whole.texts, ['running', image, '']);
  t.deepEqual(
    whole.rows,
    vms.map((vm: any) => [vm.uuid, vm.name, 0, vm.domid, 4096, vm.ip, 'network_default', 1, 2]),
  );
  const some: Listing = await rig.plugin('list', { columns: list(['state', 'name']), names: list(['web-2', 'no', vms[0].uuid]) });
  t.deepEqual([some.columns, some.rows, some.texts], [['state', 'name'], [[0, 'web-2'], [0, 'web-1']], ['running']]);
  t.deepEqual((await rig.plugin('list', { names: '[]' })).rows, []);
  t.equal((await rig.plugin('list', { names: list(['web-1', vms[0].uuid]) })).rows.length, 1, 'a VM named twice comes once');
  const wrong = [['columns', 'name'], ['columns', '["colour"]'], ['columns', '["constructor"]'], ['names', '7'], ['names', '[7]']];
  for (const [name, value] of wrong)
    t.equal((await failureOf(rig.plugin('list', { [name!]: value! })))[0], 'FIELD_TYPE_ERROR', `${name}: ${value}`);
  await rig.close();
});

test('it says what happened to a VM, without a word to the hypervisor', async (t) => {
  const rig = await makeServer();
  const { vms } = await rig.plugin('launch', launch(4, 'web'));
  const domid = (name: string) => vms.find((vm: any) => vm.name === name).domid;
  await rig.as('VM.pause', vms.find((vm: any) => vm.name === 'web-1').ref);
  rig.sim.powerOff(domid('web-2'));
  rig.sim.crash(domid('web-3'));
  const states = async () => {
    const { rows, texts }: Listing = await rig.plugin('list', { columns: list(['name', 'state', 'domid']) });
    return rows.map(([name, state, number]) => `${name} ${texts[state as number]} ${(number as number) > 0}`);
  };
  await until(() => [...rig.agent.fleet.all()].filter((vm) => vm.power === 'Halted').length === 2, 'both ends were seen');
  let asked = 0;
  for (const call of ['facts', 'list', 'get'] as const) {
    const original = rig.sim[call].bind(rig.sim) as (...args: any[]) => any;
    rig.sim[call] = ((...args: any[]) => (asked++, original(...args))) as any;
  }
  t.deepEqual((await states()).sort(), ['web-1 paused true', 'web-2 halted false', 'web-3 halted false', 'web-4 running true']);
  t.equal(asked, 0, 'nobody was asked');
  await rig.close();
});

test('the result of a task is whole, whoever made it in pieces', async (t) => {
  const rig = await makeServer();
  const { host } = rig.api.refs;
  const spec = JSON.stringify({ prefix: 'a', count: 2, image, memoryKib: 4096 });
  const resultOf = async (fn: string, args: object) => {
    const task = await rig.as('Async.host.call_plugin', host, 'shoal', fn, args);
    await until(() => rig.api.tasks.get(task)!.status !== 'pending', `${fn} ends`);
    const { status, result } = await rig.as('task.get_record', task);
    t.equal(status, 'success');
    return JSON.parse(/^<value>(.*)<\/value>$/s.exec(result)![1]!);
  };
  t.equal((await resultOf('launch', { spec })).vms.length, 2);
  t.equal((await resultOf('list', {})).rows.length, 2);
  const { ref: session } = await rig.api.sessions.login('root', password, '', '');
  const params = `<params><param><value>${session}</value></param></params>`;
  const call = `<methodCall><methodName>VM.get_all_records</methodName>${params}</methodCall>`;
  const { text } = await rig.http('POST', '/xmlrpc', call);
  t.equal(text.match(/<name>name_label<\/name>/g)!.length, 2, 'and XML-RPC gets its records');
  t.ok(text.startsWith('<?xml') && text.endsWith('</methodResponse>'));
  await rig.close();
});

test('its token is right before what it says', async (t) => {
  const rig = await makeServer();
  await rig.plugin('launch', launch(2, 'web'));
  const { token }: Listing = await rig.plugin('list');
  t.deepEqual((await rig.as('event.from', ['VM'], token, 0)).events, []);
  await rig.plugin('launch', launch(1, 'late'));
  t.deepEqual(
    (await rig.as('event.from', ['VM'], token, 0)).events.map((e: any) => e.snapshot.name_label),
    ['late-1'],
  );
  await rig.close();
});

test('each VM that stays is listed once, whatever comes and goes meanwhile', async (t) => {
  const rig = await makeServer();
  const make = (name: string) => rig.agent.definitions.make({ name, image, memoryKib: 4096 });
  const vms = Array.from({ length: 500 }, (_, i) => make(`vm-${i}`));
  const pieces = listingPieces(rig.api, ['name'], undefined);
  const texts: string[] = [];
  let turn = 0;
  for (const piece of pieces) {
    texts.push(piece);
    if (++turn !== 4) continue;
    await rig.agent.fleet.drop(vms[0]!);
    await rig.agent.fleet.drop(vms[499]!);
    make('late');
  }
  const names = (JSON.parse(texts.join('')) as Listing).rows.map(([name]) => name);
  t.deepEqual(names, [...vms.slice(0, 499).map((vm) => vm.name), 'late']);
  await rig.close();
});

test('a line of the table takes few bytes on the wire', async (t) => {
  const rig = await makeServer();
  for (let i = 0; i < 1000; i++) rig.agent.definitions.make({ name: `web-${i}`, image, memoryKib: 4096, network: 'default' });
  const columns = list(['name', 'state', 'domid', 'memoryKib', 'addresses', 'image']);
  const bytes = JSON.stringify(await rig.as('host.call_plugin', rig.api.refs.host, 'shoal', 'list', { columns })).length;
  t.ok(bytes < 60 * 1000, `${bytes / 1000} bytes a VM`);
  await rig.close();
});
