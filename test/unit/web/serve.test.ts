/** What the controller does for the console: its files and their headers, metrics of one VM, streams that end with their token. */
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { XenApiLink } from '../../../src/control/links/xenapi.ts';
import type { SeenVm } from '../../../src/control/port.ts';
import { buildConsole } from '../../../src/lab/build.ts';
import { eventually, makeApi, web } from '../control/api-rig.ts';
import { codeOf, image, until } from '../host/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeServer, password } from '../xenapi/rig.ts';

test("the console's files: built whole, served with a policy, and nothing else of the disk", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-files-'));
  const files = join(folder, 'console');
  await buildConsole(files);
  await buildConsole(files);
  t.deepEqual((await readdir(folder)).sort(), ['console'], 'a build over a build leaves nothing beside it');
  t.deepEqual((await readdir(files)).sort(), ['console.css', 'icon.svg', 'index.html', 'main.js']);
  await writeFile(join(folder, 'secret'), 'not for anyone');
  await writeFile(join(files, '.hidden'), 'not for anyone');
  const rig = await makeApi([], { console: files });
  const page = await rig.call('GET', '/', undefined, null);
  t.deepEqual([page.status, page.headers['content-type'], page.headers['cache-control']], [200, 'text/html; charset=utf-8', 'no-cache']);
  const policy = Object.fromEntries(
    page.headers['content-security-policy']!.toString().split('; ').map((each) => each.split(/ (.*)/s) as [string, string]),
  );
  t.deepEqual(
    [policy['default-src'], policy['script-src'], policy['style-src'], policy['connect-src'], policy['frame-ancestors']],
    ["'none'", "'self'", "'self'", "'self'", "'none'"],
  );
  t.notOk(/unsafe|\*|https?:/.test(JSON.stringify(policy)), 'no exception in the policy');
  t.equal(page.headers['x-content-type-options'], 'nosniff');
  t.notOk(/<script>|<style|\son\w+=|style=/i.test(page.text), 'nothing inline in the page');
  for (const [name, type] of [
    ['main.js', /javascript/],
    ['console.css', /css/],
    ['icon.svg', /svg/],
  ] as const) {
    const { status, headers, text } = await rig.call('GET', `/${name}`, undefined, null);
    t.ok(status === 200 && type.test(headers['content-type']!) && headers['content-security-policy'] !== undefined, name);
    t.notOk(/https?:\/\/(?!www\.w3\.org\/|HOST\b)/.test(text), `${name} names no other origin`);
    const again = await rig.call('GET', `/${name}`, undefined, null, { 'if-none-match': headers['etag']! });
    t.deepEqual([again.status, again.text], [304, ''], `${name} is not sent twice`);
  }
  for (const path of ['/.hidden', '/%2e%2e/secret', '/..%2fsecret', '/../secret', '/.%2e/%2e./etc/passwd', '/main.js/', '/console', '/index.html%00', '//etc/passwd']) {
    const { status, text } = await rig.call('GET', path, undefined, null);
    t.ok(status === 404 && !text.includes('not for anyone') && !text.includes('root:'), path);
  }
  t.equal((await rig.call('PUT', '/main.js', {}, null)).status, 404, 'read only');
  t.equal((await rig.call('GET', '/v1/services', undefined, null)).status, 401, 'the API still asks for a token');
  t.equal((await rig.call('GET', '/healthz', undefined, null)).body.status, 'ok');
  await rig.close();
  const without = await makeApi([]);
  t.equal((await without.call('GET', '/', undefined, null)).status, 404, 'a controller without these files serves its API all the same');
  await without.close();
  await rm(folder, { recursive: true, force: true });
});

test('metrics of one VM: counted, not counted, not running, away, of another tenant', async (t) => {
  const rig = await makeApi(['a']);
  const host = rig.hosts.get('a')!;
  const other = await rig.tokenFor('tenant', 'other');
  await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 1, restart: { firstMs: 60_000, maxMs: 60_000 } });
  await eventually(async () => (await rig.call('GET', '/v1/vms?state=running')).body.items.length === 1, 'one runs');
  const { id, uuid } = (await rig.call('GET', '/v1/vms')).body.items[0];
  const path = `/v1/vms/${id}/metrics`;
  const plain = await rig.call('GET', path);
  t.deepEqual(plain.body.vifs, [{ network: 'default', address: '10.64.1.0' }], 'nobody counts');
  t.deepEqual([plain.body.memoryKib, Math.abs(Date.parse(plain.body.at) - Date.now()) < 60_000], [4096, true]);
  const counters = { rxFrames: 1, rxBytes: 2, txFrames: 3, txBytes: 4, rxDropped: 5, txDropped: 6 };
  host.countersOf = (_, handle) => (handle === 0 ? counters : undefined);
  t.deepEqual((await rig.call('GET', path)).body.vifs[0].counters, counters);
  t.equal((await rig.call('GET', path, undefined, other)).status, 404, 'not there for another tenant');
  t.equal((await rig.call('GET', '/v1/vms/nosuch/metrics')).status, 404);
  host.change(uuid, { state: 'halted' });
  await eventually(async () => (await rig.call('GET', path)).body.vifs?.[0].counters === undefined, 'a halted VM has none');
  host.disconnect();
  t.deepEqual([(await rig.call('GET', path)).status, (await rig.call('GET', path)).body.code], [503, 'HOST_AWAY']);
  await rig.close();
});

test('counters over XenAPI; a vif that the switch does not carry is not counted', async (t) => {
  const rig = await makeServer();
  const link = new XenApiLink({ url: rig.url, password, fingerprint: new X509Certificate(cert).fingerprint256, retryMs: 20, pollS: 2 });
  const vms = new Map<string, SeenVm>();
  let pictures = 0;
  link.open({ picture: () => pictures++, vm: (vm) => vms.set(vm.name, vm), gone: () => {}, host: () => {}, away: () => {} });
  await until(() => pictures === 1, 'the picture');
  for (const backend of ['switch', 'netback']) await rig.plugin('launch', { spec: JSON.stringify({ name: backend, image, memoryKib: 4096, backend }) });
  await until(() => vms.get('switch')?.state === 'running' && vms.get('netback')?.state === 'running', 'both run');
  const counters = await link.counters(vms.get('switch')!.uuid, 0);
  t.deepEqual(Object.keys(counters ?? {}).sort(), ['rxBytes', 'rxDropped', 'rxFrames', 'txBytes', 'txDropped', 'txFrames']);
  t.equal(await link.counters(vms.get('netback')!.uuid, 0), undefined);
  t.equal(await codeOf(link.counters('5a0a15e4-0000-0000-0000-000000000000' as SeenVm['uuid'], 0)), 'UUID_INVALID', 'other failures are told');
  await link.close();
  await rig.close();
});

test('a stream of events ends soon after its token does; others go on', async (t) => {
  const rig = await makeApi([], { heartbeatMs: 30 });
  const made = (await rig.call('POST', '/v1/tokens', { role: 'viewer' })).body;
  const ended = await rig.stream('/v1/events', made.token);
  const stays = await rig.stream('/v1/events');
  await rig.call('PUT', '/v1/services/acme/one', { ...web, count: 0 });
  await until(() => ended.events.some(({ event }) => event === 'service'), 'it is told');
  await rig.call('DELETE', `/v1/tokens/${made.id}`);
  await until(() => ended.isClosed(), 'closed');
  await rig.call('PUT', '/v1/services/acme/two', { ...web, count: 0 });
  await until(() => stays.events.some(({ data }) => data.key === 'acme/two'), 'the other one is told');
  t.notOk(ended.events.some(({ data }) => data.key === 'acme/two'), 'nothing after the end');
  t.equal((await rig.stream('/v1/events', made.token)).status, 401);
  stays.close();
  await rig.close();
});

test('a service is told of until the last copy that is too many has gone', async (t) => {
  const rig = await makeApi(['a', 'b']);
  await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 6 });
  await eventually(async () => (await rig.call('GET', '/v1/services/acme/web')).body.copies.ready === 6, 'six');
  const { events, close } = await rig.stream('/v1/events?kinds=service');
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => (open = resolve));
  for (const { link } of rig.controller.fleet.units.values()) {
    const destroy = link.destroy.bind(link);
    link.destroy = async (uuids) => {
      await gate;
      return destroy(uuids);
    };
  }
  await rig.call('POST', '/v1/services/acme/web/scale', { count: 2 });
  await until(() => events.at(-1)?.data.data?.copies?.wanted === 2, 'told what is wanted');
  t.equal(events.at(-1)!.data.data.copies.total, 6, 'four are still there');
  open();
  await eventually(async () => (await rig.call('GET', '/v1/services/acme/web')).body.copies.total === 2, 'two');
  await until(() => events.at(-1)?.data.data?.copies?.total === 2, 'told so');
  t.deepEqual(events.at(-1)!.data.data.copies, { wanted: 2, ready: 2, serving: 2, starting: 0, waiting: 0, total: 2 });
  close();
  await rig.close();
});
