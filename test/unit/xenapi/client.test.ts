/** The unmodified npm package xen-api against the server, over TLS: it connects, watches a fleet, and sees each change once. */
import test from 'tape';
import { createClient } from 'xen-api';
import { image, until } from '../host/rig.ts';
import { makeServer, password } from './rig.ts';

const launch = (count: number, prefix = 'web') => ({ spec: JSON.stringify({ prefix, count, image, memoryKib: 4096 }) });

function client(url: string, options: object = {}) {
  return createClient({ url, auth: { user: 'root', password }, allowUnauthorized: true, debounce: 20, ...options });
}

test('xen-api connects, mirrors 1,000 VMs and sees each change exactly once', async (t) => {
  const rig = await makeServer();
  await rig.plugin('launch', launch(1000));
  const xapi = client(rig.url);
  await xapi.connect();
  await xapi.objectsFetched;
  const vms = () => Object.values(xapi.objects.all).filter((object: any) => object.$type === 'VM') as any[];
  t.equal(vms().length, 1000, 'all VMs are there');
  t.equal(vms()[0].$resident_on.$type, 'host', 'references lead to objects');
  t.equal(vms()[0].$VIFs[0].$network.name_label, 'default', 'through VIFs to networks');
  t.equal(xapi.pool.$master.name_label, rig.agent.hostname, 'the pool has the host as its master');

  // Every event the client is given, counted at its door.
  const seen = new Map<string, string[]>();
  const original = xapi._processEvents.bind(xapi);
  xapi._processEvents = (events: any[]) => {
    for (const { class: name, ref, operation } of events) seen.set(ref, [...(seen.get(ref) ?? []), `${name} ${operation}`]);
    original(events);
  };
  const [a, b, c] = vms();
  for (const vm of vms()) await rig.as('VM.set_name_description', vm.$ref, `about ${vm.name_label}`);
  await until(() => vms().every((vm) => vm.name_description === `about ${vm.name_label}`), 'all descriptions at the client');
  const counts = vms().map((vm) => seen.get(vm.$ref)?.length ?? 0);
  t.deepEqual([Math.min(...counts), Math.max(...counts)], [1, 1], 'one event for each of 1,000 changes');

  seen.clear();
  await rig.as('VM.hard_shutdown', a.$ref);
  await rig.as('VM.destroy', a.$ref);
  await rig.as('VM.set_name_label', b.$ref, 'renamed');
  await until(() => vms().length === 999 && xapi.getObject(b.$ref).name_label === 'renamed', 'destroy and rename at the client');
  t.equal(seen.get(a.$ref)?.at(-1), 'vm del', 'a destroyed VM is deleted');
  t.equal(xapi.getObjectByRef(c.$ref).power_state, 'Running', 'the others stay');
  t.equal(seen.has(c.$ref), false, 'and nothing is said of them');
  await xapi.disconnect();
  await rig.close();
});

test('xen-api: calls, asynchronous calls with tasks, barriers, setters, uploads', async (t) => {
  const rig = await makeServer({ agent: { launches: 2 } });
  const xapi = client(rig.url);
  await xapi.connect();
  await xapi.objectsFetched;
  const network = Object.values(xapi.objects.all).find((object: any) => object.$type === 'network') as any;

  const vm = await xapi.call('VM.create', {
    name_label: 'one',
    memory_static_max: 4 << 20,
    PV_kernel: image,
    VCPUs_max: 1,
    other_config: { a: 'b' },
  });
  const vif = await xapi.call('VIF.create', {
    VM: vm,
    network: network.$ref,
    device: '0',
    MAC: '',
    ipv4_allowed: ['10.64.7.7'],
    MTU: 1500,
    other_config: {},
  });
  t.equal(await xapi.callAsync('VM.start', vm, false, false), '', 'a void call gives nothing');
  t.equal((await xapi.barrier(vm)).power_state, 'Running', 'after a barrier the object is up to date');
  t.equal(xapi.getObjectByRef(vif).ipv4_allowed[0], '10.64.7.7', 'the address asked for');
  const started = Object.values(xapi.objects.all).filter((object: any) => object.$type === 'task');
  t.equal(started.length, 0, 'the task was destroyed by its caller');

  await xapi.getObjectByRef(vm).update_other_config('c', '<&>');
  await xapi.getObjectByRef(vm).set_name_label('two');
  const fresh = await xapi.barrier(vm);
  t.deepEqual([fresh.name_label, fresh.other_config], ['two', { a: 'b', c: '<&>' }], 'fields are set');

  const copied = xapi.callAsync('VM.clone', vm, 'three').then(
    () => 'none',
    (error: any) => error.code,
  );
  t.equal(await copied, 'VM_BAD_POWER_STATE', 'a failing asynchronous call gives its code');
  await xapi.callAsync('VM.clean_shutdown', vm);
  const clone = await xapi.callAsync('VM.clone', vm, 'three');
  t.ok(/^OpaqueRef:/.test(clone), 'the result of an asynchronous call is parsed');
  t.equal((await xapi.barrier(clone)).$VIFs.length, 1, 'a clone has a VIF of its own');

  rig.sim.delaysMs.build = 10_000;
  const { cancel, token } = (await import('promise-toolbox' as string)).CancelToken.source();
  const cancelled = xapi.callAsync(token, 'VM.start', vm, false, false).then(
    () => 'none',
    (error: any) => error.constructor.name,
  );
  await until(() => rig.agent.runner.lanes.current(xapi.getObjectByRef(vm).uuid) !== undefined, 'the start is under way');
  rig.sim.delaysMs.build = 0;
  cancel();
  t.equal(await cancelled.catch(String), 'Cancel', 'a cancelled call ends as cancelled');
  t.equal((await xapi.barrier(vm)).power_state, 'Halted', 'and leaves the VM halted');

  const methods = await xapi.call('system.listMethods').catch((error: any) => error.code);
  t.equal(methods, 'MESSAGE_PARAMETER_COUNT_MISMATCH', 'parameters are counted');
  await xapi.disconnect();
  await rig.close();
});

test('xen-api over XML-RPC', async (t) => {
  const rig = await makeServer();
  const xapi = client(rig.url, { transport: 'xml-rpc' });
  await xapi.connect();
  await xapi.objectsFetched;
  const vm = await xapi.callAsync('VM.create', {
    name_label: 'x',
    memory_static_max: 4 << 20,
    PV_kernel: image,
    PV_args: 'a<b&c',
  });
  await xapi.callAsync('VM.start', vm, true, false);
  const record = await xapi.barrier(vm);
  t.deepEqual(
    [record.power_state, record.PV_args, record.memory_static_max],
    ['Paused', 'a<b&c', String(4 << 20)],
    'the record arrives whole',
  );
  await xapi.disconnect();
  await rig.close();
});
