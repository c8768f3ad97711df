/** The API as clients meet it: services, tasks, hosts, pages, events, metrics, and the document that says so. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { until } from '../host/rig.ts';
import { eventually, makeApi, web, type ApiRig } from './api-rig.ts';
import { digest } from './rig.ts';

const done = async (rig: ApiRig, id: string): Promise<boolean> =>
  (await rig.call('GET', `/v1/tasks/${id}`)).body.status === 'done';
const running = (rig: ApiRig): number => [...rig.hosts.values()].reduce((sum, host) => sum + host.vms.size, 0);

test('apply, watch the task, scale, restart, delete', async (t) => {
  const rig = await makeApi();
  const applied = await rig.call('PUT', '/v1/services/acme/web', web);
  t.deepEqual([applied.status, applied.body.kind, applied.body.subject, applied.body.tenant], [202, 'apply', 'acme/web', 'acme']);
  await eventually(() => done(rig, applied.body.id), 'the task is done');
  const { body } = await rig.call('GET', '/v1/services/acme/web');
  t.deepEqual(body.copies, { wanted: 3, ready: 3, serving: 3, starting: 0, waiting: 0, total: 3 });
  t.deepEqual([body.spec.placement.strategy, body.image, body.notes], ['spread', digest, []]);
  const scaled = await rig.call('POST', '/v1/services/acme/web/scale', { count: 5 });
  await eventually(() => done(rig, scaled.body.id), 'scaled');
  t.equal(running(rig), 5);
  const before = new Set((await rig.call('GET', '/v1/vms')).body.items.map((vm: { id: string }) => vm.id));
  const restarted = await rig.call('POST', '/v1/services/acme/web/restart');
  await eventually(() => done(rig, restarted.body.id), 'restarted');
  t.ok(
    (await rig.call('GET', '/v1/vms')).body.items.every((vm: { id: string }) => !before.has(vm.id)),
    'all copies are new',
  );
  t.equal(
    (await rig.call('PUT', '/v1/services/acme/web', { ...web, name: 'other' })).status,
    422,
    "a name that is not the path's",
  );
  const removed = await rig.call('DELETE', '/v1/services/acme/web');
  await eventually(() => done(rig, removed.body.id), 'deleted');
  t.equal(running(rig), 0);
  t.equal((await rig.call('GET', '/v1/services/acme/web')).status, 404);
  await rig.close();
});

test('several at once: all or none, every reason named', async (t) => {
  const rig = await makeApi();
  await rig.call('PUT', '/v1/quotas/acme', { vms: 10, memoryKib: 50_000 });
  const services = [
    { tenant: 'acme', name: 'one', ...web },
    { tenant: 'acme', name: 'two', ...web, count: 9, image: 'no-such', networks: [{ name: 'lan' }] },
    { tenant: 'acme', name: 'Three', ...web, count: -1 },
  ];
  const refused = await rig.call('POST', '/v1/apply', { services });
  t.deepEqual(
    [refused.status, refused.body.code, /^application\/problem\+json/.test(refused.headers['content-type']!)],
    [422, 'SPEC_INVALID', true],
  );
  const paths = refused.body.reasons.map(({ path }: { path: string }) => path);
  t.deepEqual(
    paths.sort(),
    ['', 'services/1/image', 'services/1/networks/0/name', 'services/2/count', 'services/2/name'],
    'shape, impossible and quota together',
  );
  t.deepEqual((await rig.call('GET', '/v1/services')).body.items, [], 'nothing was changed');
  t.equal((await rig.call('POST', '/v1/apply', { services: services.slice(0, 1) })).status, 202);
  const past = await rig.call('POST', '/v1/services/acme/one/scale', { count: 11 });
  t.deepEqual(
    [past.status, past.body.code, past.body.reasons[0].message],
    [403, 'QUOTA_EXCEEDED', 'acme would have 11 vms, its quota is 10.'],
  );
  const dry = await rig.call('POST', '/v1/apply?dryRun=true', { services: [{ tenant: 'acme', name: 'dry', ...web }] });
  t.deepEqual([dry.status, dry.body.tasks], [202, []]);
  t.equal((await rig.call('GET', '/v1/services/acme/dry')).status, 404, 'a dry run changes nothing');
  const impossible: [object, string][] = [
    [{ memoryKib: 8 * 1024 * 1024 }, 'memoryKib'],
    [{ placement: { labels: { zone: 'x' } } }, 'placement/labels/zone'],
    [{ placement: { required: true } }, 'count'],
    [{ networks: [{ name: 'default', addresses: { from: 'pool', pool: 'p' } }] }, 'networks/0/addresses/pool'],
    [
      { count: 1, networks: [{ name: 'default', addresses: { from: 'list', list: ['192.168.0.1'] } }] },
      'networks/0/addresses/list/0',
    ],
  ];
  for (const [change, path] of impossible) {
    const { status, body } = await rig.call('PUT', '/v1/services/beta/x', { ...web, ...change });
    t.deepEqual([status, body.code, body.reasons[0].path], [422, 'SPEC_IMPOSSIBLE', path], path);
  }
  await rig.close();
});

test('a task is cancelled: what was before is wanted again', async (t) => {
  const rig = await makeApi();
  const first = await rig.call('PUT', '/v1/services/acme/web', web);
  await eventually(() => done(rig, first.body.id), 'three');
  for (const host of rig.hosts.values()) host.launchMs = 30;
  const more = await rig.call('POST', '/v1/services/acme/web/scale', { count: 40 });
  await until(() => running(rig) > 5, 'under way');
  t.equal((await rig.call('POST', `/v1/tasks/${more.body.id}/cancel`)).body.status, 'cancelled');
  await eventually(
    async () => (await rig.call('GET', '/v1/services/acme/web')).body.copies.total === 3 && running(rig) === 3,
    'three again',
    10_000,
  );
  t.equal((await rig.call('POST', `/v1/tasks/${more.body.id}/cancel`)).status, 409, 'not twice');
  const fresh = await rig.call('PUT', '/v1/services/acme/new', { ...web, count: 20 });
  await rig.call('POST', `/v1/tasks/${fresh.body.id}/cancel`);
  await eventually(
    async () => (await rig.call('GET', '/v1/services/acme/new')).status === 404 && running(rig) === 3,
    'a new one leaves nothing',
    10_000,
  );
  await rig.close();
});

test('imperative calls say what becomes of them', async (t) => {
  const rig = await makeApi(['a']);
  const { body } = await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 1 });
  await eventually(() => done(rig, body.id), 'one');
  const [vm] = (await rig.call('GET', '/v1/vms')).body.items;
  t.equal((await rig.call('GET', `/v1/vms/${vm.uuid}`)).body.id, vm.id, 'by uuid, too');
  t.equal((await rig.call('GET', `/v1/vms/${vm.id}/console`)).body.text, `console of ${vm.id}\n`);
  const stopped = await rig.call('POST', `/v1/vms/${vm.id}/stop`);
  t.ok(stopped.body.note.includes('started again'), stopped.body.note);
  const killed = await rig.call('DELETE', `/v1/vms/${vm.id}`);
  t.ok(killed.body.note.includes('another one is made'), killed.body.note);
  await eventually(async () => (await rig.call('GET', '/v1/services/acme/web')).body.copies.ready === 1, 'back');
  await rig.close();
});

test('hosts: added, labelled, drained, dead, removed', async (t) => {
  const rig = await makeApi();
  t.equal((await rig.call('POST', '/v1/hosts', { name: 'a', url: 'https://x', credential: 'a' })).status, 409, 'a name twice');
  t.equal(
    (await rig.call('POST', '/v1/hosts', { name: 'c', url: 'https://a:443', credential: 'a' })).status,
    409,
    'a host twice',
  );
  t.equal(
    (await rig.call('POST', '/v1/hosts', { name: '../c', url: 'https://c', credential: '../../etc/passwd' })).status,
    400,
    'a path for a name',
  );
  t.deepEqual((await rig.call('PATCH', '/v1/hosts/a', { labels: { zone: 'x' } })).body.labels, { zone: 'x' });
  const applied = await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 4 });
  await eventually(() => done(rig, applied.body.id), 'four');
  t.equal((await rig.call('DELETE', '/v1/hosts/a')).status, 409, 'not while copies are on it');
  const drained = await rig.call('POST', '/v1/hosts/a/drain');
  await eventually(() => done(rig, drained.body.id), 'drained');
  t.deepEqual([rig.hosts.get('a')!.vms.size, rig.hosts.get('b')!.vms.size], [0, 4]);
  t.equal((await rig.call('POST', '/v1/hosts/a/undrain')).body.drained, false);
  t.equal((await rig.call('PATCH', '/v1/hosts/b', { dead: true })).status, 409, 'one that is reached is not dead');
  rig.hosts.get('b')!.disconnect();
  await rig.call('PATCH', '/v1/hosts/b', { dead: true });
  await eventually(async () => rig.hosts.get('a')!.vms.size === 4, 'what was on a dead one runs on the other');
  t.equal((await rig.call('DELETE', '/v1/hosts/b')).status, 204);
  t.deepEqual(
    (await rig.call('GET', '/v1/hosts')).body.items.map((host: { id: string }) => host.id),
    ['a'],
  );
  await rig.close();
});

test('pages, filters, 10,000 VMs', async (t) => {
  const rig = await makeApi(['a', 'b', 'c', 'd']);
  for (const host of rig.hosts.values()) host.totalKib = 64 * 1024 * 1024;
  for (const host of rig.hosts.values()) (host.disconnect(), host.connect());
  const applied = await rig.call('POST', '/v1/apply', {
    services: [0, 1, 2, 3, 4].map((n) => ({ tenant: 'acme', name: `s${n}`, ...web, count: 2000 })),
  });
  t.equal(applied.status, 202);
  await until(() => rig.controller.fleet.copies.size === 10_000 && running(rig) === 10_000, 'all run', 120_000);
  const began = performance.now();
  const all = await rig.call('GET', '/v1/vms?limit=10000');
  const ms = performance.now() - began;
  t.equal(all.body.items.length, 10_000);
  t.ok(ms < 1000, `10,000 listed in ${Math.round(ms)} ms`);
  const ids: string[] = [];
  let after = '';
  do {
    const { body } = await rig.call('GET', `/v1/vms?limit=999&host=b${after}`);
    ids.push(...body.items.map((vm: { id: string }) => vm.id));
    after = body.next === undefined ? '' : `&after=${encodeURIComponent(body.next)}`;
  } while (after !== '');
  t.deepEqual([ids.length, new Set(ids).size], [2500, 2500], 'page by page, each once');
  t.equal((await rig.call('GET', '/v1/vms?service=s3&limit=10000')).body.items.length, 2000);
  t.equal((await rig.call('GET', '/v1/vms?limit=0')).status, 400);
  t.equal((await rig.call('GET', '/v1/vms?colour=red')).status, 400, 'what is not known is refused');
  const text = (await rig.call('GET', '/metrics')).text;
  t.ok(
    text.endsWith('# EOF\n') &&
      text.includes('shoal_service_copies_ready{tenant="acme",service="s0"}') &&
      text.includes('shoal_host_up{host="a"} 1'),
    'metrics',
  );
  t.equal(text.split('\n').filter((line) => line.startsWith('shoal_vm_ready{')).length, 10_000, 'of every VM');
  await rig.close();
});

test('events: only changes, each once and as it is now; Last-Event-ID; latency', async (t) => {
  const rig = await makeApi(['a']);
  const stream = await rig.stream('/v1/events?kinds=vm,service');
  await until(() => stream.events.length === 1, 'hello');
  t.equal(stream.events[0]!.event, 'hello', 'nothing of what is there already');
  const applied = await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 2 });
  await eventually(() => done(rig, applied.body.id), 'two');
  await until(
    () => stream.events.some(({ event, data }) => event === 'service' && data.data.copies.ready === 2),
    'the service is ready',
  );
  t.ok(
    stream.events.every(({ event }) => ['hello', 'vm', 'service'].includes(event)),
    'only the kinds asked for',
  );
  const last = stream.events.at(-1)!.id;
  stream.close();
  const [vm] = [...rig.hosts.get('a')!.vms.values()];
  rig.hosts.get('a')!.change(vm!.uuid, { state: 'halted' });
  await until(() => rig.hosts.get('a')!.vms.get(vm!.uuid)!.state === 'running', 'died and came back');
  const again = await rig.stream('/v1/events?kinds=vm', rig.token, { 'last-event-id': last });
  await until(() => again.events.length > 0, 'what was missed');
  t.deepEqual(
    again.events.map(({ event, data }) => [event, data.key, data.data.state]),
    [['vm', vm!.name, 'running']],
    'one event, with the latest state',
  );
  again.close();
  const lost = await rig.stream('/v1/events', rig.token, { 'last-event-id': '00000000-17' });
  await until(() => lost.events.length > 0, 'an answer');
  t.equal(lost.events[0]!.event, 'reset', 'an id of another life');
  const delays: number[] = [];
  for (let i = 0; i < 50; i++) {
    const seen = lost.events.length;
    const at = performance.now();
    rig.hosts.get('a')!.change(vm!.uuid, { state: i % 2 === 0 ? 'busy' : 'running' });
    await until(() => lost.events.slice(seen).some(({ event, data }) => event === 'vm' && data.key === vm!.name), 'the event');
    delays.push(lost.events.slice(seen).find(({ event }) => event === 'vm')!.atMs - at);
  }
  const median = delays.sort((a, b) => a - b)[25]!;
  t.ok(median < 100, `change to event at a client: median ${median.toFixed(1)} ms`);
  lost.close();
  await rig.close();
});

test('the document names every route, and the state outlives the controller', async (t) => {
  const rig = await makeApi();
  const { body: document } = await rig.call('GET', '/openapi.json', undefined, null);
  t.equal(document.openapi, '3.1.0');
  t.ok(document.paths['/v1/services/{tenant}/{name}'].put && document.components.schemas.ServiceSpec.properties.memoryKib);
  const ids = Object.values<object>(document.paths).flatMap((path) => Object.values(path).map(({ operationId }) => operationId));
  t.equal(new Set(ids).size, ids.length, 'operation ids are unique');
  t.ok(ids.length >= 35, `${ids.length} operations`);
  const applied = await rig.call('PUT', '/v1/services/acme/web', web);
  await eventually(() => done(rig, applied.body.id), 'three');
  const names = (await rig.call('GET', '/v1/vms')).body.items.map((vm: { id: string }) => vm.id);
  await rig.reopen();
  await eventually(async () => (await rig.call('GET', '/v1/services/acme/web')).body.copies.ready === 3, 'ready again');
  t.deepEqual(
    (await rig.call('GET', '/v1/vms')).body.items.map((vm: { id: string }) => vm.id),
    names,
    'the same VMs, the same token',
  );
  t.ok((await readFile(join(rig.folder, 'audit.log'), 'utf8')).includes('"path":"/v1/services/acme/web"'), 'audited');
  await rig.close();
});
