/** The link to a host, over TLS against our own XenAPI server with the simulator behind it. */
import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import test from 'tape';
import { XenApiLink } from '../../../src/control/links/xenapi.ts';
import { launchOneByOne } from '../../../src/control/links/one-by-one.ts';
import type { LaunchItem, SeenHost, SeenVm } from '../../../src/control/port.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { toShoalError } from '../../../src/xenapi/errors.ts';
import { codeOf, image, until } from '../host/rig.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { failureOf, makeServer, password, type ServerRig } from '../xenapi/rig.ts';

const fingerprint = new X509Certificate(cert).fingerprint256;
const item = (n: number, more: Partial<LaunchItem> = {}): LaunchItem => ({
  name: `t.s.${n}.1`,
  copy: { fleet: '0123abcd', tenant: 't', service: 's', slot: n, serial: 1, revision: 'deadbeef' },
  image,
  memoryKib: 4096,
  args: '',
  vifs: [{ network: 'default' }],
  ...more,
});
const signal = new AbortController().signal;

/** A link, and what it told. */
function watch(rig: ServerRig, options: object = {}) {
  const link = new XenApiLink({ url: rig.url, password, fingerprint, retryMs: 20, pollS: 2, ...options });
  const seen = {
    vms: new Map<string, SeenVm>(),
    host: undefined as SeenHost | undefined,
    pictures: 0,
    told: [] as string[],
    away: [] as ShoalError[],
  };
  link.open({
    picture: (host, vms) => {
      seen.pictures++;
      seen.host = host;
      seen.vms = new Map(vms.map((vm) => [vm.uuid, vm]));
    },
    vm: (vm) => (seen.vms.set(vm.uuid, vm), void seen.told.push(`${vm.name} ${vm.state}`)),
    gone: (uuid) => void seen.vms.delete(uuid),
    host: (host) => (seen.host = host),
    away: (error) => void seen.away.push(error),
  });
  return { link, seen };
}

test('launch, see, stop, start, destroy; foreign VMs are seen as such', async (t) => {
  const rig = await makeServer();
  await rig.plugin('launch', { spec: JSON.stringify({ name: 'other', image, memoryKib: 4096 }) });
  const { link, seen } = watch(rig);
  await until(() => seen.pictures === 1, 'the picture');
  t.deepEqual(
    [...seen.vms.values()].map(({ name, copy, state }) => [name, copy, state]),
    [['other', undefined, 'running']],
  );
  t.equal(seen.host!.networks[0]!.name, 'default');
  t.equal(seen.host!.networks[0]!.range!.first, 0x0a400100, 'the range of its addresses');
  t.deepEqual(seen.host!.shortfalls, []);

  const outcomes = await link.launch(
    [item(0), item(1, { vifs: [{ network: 'default', ip: '10.64.9.9' }] }), item(2, { image: 'sha256:0' })],
    signal,
  );
  t.deepEqual(
    outcomes.map((o) => ('error' in o ? o.error.code : 'ok')),
    ['ok', 'ok', 'IMAGE_UNKNOWN'],
    'each for itself',
  );
  const uuids = outcomes.flatMap((o) => ('uuid' in o ? [o.uuid] : []));
  const [a, b] = uuids as [(typeof uuids)[0], (typeof uuids)[0]];
  await until(() => seen.vms.get(a)?.state === 'running' && seen.vms.get(b)?.addresses.length === 1, 'both running');
  t.deepEqual(seen.vms.get(b), {
    uuid: b,
    name: 't.s.1.1',
    copy: item(1).copy,
    state: 'running',
    memoryKib: 4096,
    image,
    args: '',
    addresses: [{ network: 'default', ip: '10.64.9.9' }],
  });
  t.deepEqual(await link.look(b), seen.vms.get(b), 'reading it again says the same');
  t.deepEqual(await link.held(['t.s.1.1', 'nobody']), ['t.s.1.1']);
  const again = await link.launch([item(0)], signal);
  t.equal('error' in again[0]! && again[0].error.code, 'NAME_IN_USE', 'a launch asked for twice is done once');

  await link.stop(a);
  await until(() => seen.vms.get(a)?.state === 'halted', 'halted');
  await link.start(a);
  await link.start(a);
  await until(() => seen.vms.get(a)?.state === 'running', 'running again');
  await rig.as('VM.pause', `OpaqueRef:${a}`);
  await until(() => seen.vms.get(a)?.state === 'paused', 'paused');
  await link.start(a);
  await link.restart(a);
  rig.sim.crash(rig.agent.fleet.get(b)!.domid!, 'oh');
  await until(() => seen.vms.get(b)?.state === 'halted', 'a crash is seen');
  t.deepEqual(
    await link.destroy([a, b, '5a0a15e4-0000-0000-0000-000000000000' as typeof a]),
    [],
    'one that is not there counts as destroyed',
  );
  await until(() => seen.vms.size === 1, 'gone');
  t.equal(await link.look(a), undefined);
  t.equal(await codeOf(link.start(a)), 'UUID_INVALID');
  const before = seen.host!.freeKib;
  t.ok((await link.lookAtHost()).freeKib >= before, 'memory as it is now');
  await link.close();
  await rig.close();
});

test('addresses move, are held and counted', async (t) => {
  const rig = await makeServer();
  const { link, seen } = watch(rig);
  await until(() => seen.pictures === 1, 'the picture');
  const outcomes = await link.launch([item(0, { vifs: [{ network: 'default', ip: '10.64.9.9' }] }), item(1, { vifs: [{ network: 'default', ip: '10.64.9.10', also: ['10.64.9.9'] }] })], signal);
  const [from, to] = outcomes.map((o) => ('uuid' in o ? o.uuid : undefined)) as [SeenVm['uuid'], SeenVm['uuid']];
  const move = { from, to, ip: '10.64.9.9', drainMs: 1000 };
  t.deepEqual(await link.moveAddress([move]), [], 'moved');
  await until(() => seen.vms.get(from)?.addresses.length === 0, 'the old one has it no more');
  await until(() => seen.vms.get(to)?.addresses.length === 2, 'the new one has it');
  t.deepEqual(seen.vms.get(to)!.addresses, [{ network: 'default', ip: '10.64.9.9' }, { network: 'default', ip: '10.64.9.10' }], 'first');
  t.deepEqual(await link.moveAddress([move]), [], 'again is well');
  const [failed] = await link.moveAddress([move, { ...move, ip: '10.64.9.11', from: to, to: from }, { ...move, to: '5a0a15e4-0000-8000-8000-000000000000' as SeenVm['uuid'] }]);
  t.deepEqual([failed!.move.to, failed!.error.code], ['5a0a15e4-0000-8000-8000-000000000000', 'UUID_INVALID'], 'one that fails is told by itself');
  await link.holdAddress('default', '10.64.9.20', 5000);
  const [mine, held, none] = await link.addressTraffic('default', ['10.64.9.9', '10.64.9.20', '10.64.9.21']);
  t.deepEqual([mine?.held, held?.held, none], [false, true, undefined]);
  t.equal(await codeOf(link.holdAddress('nowhere', '10.64.9.20', 5000)), 'NETWORK_UNKNOWN');
  t.equal((await failureOf(rig.plugin('move-address', { moves: '[{"ip":"10.64.9.9"}]' })))[0], 'FIELD_TYPE_ERROR');
  t.equal((await failureOf(rig.plugin('move-address', { moves: '[]' })))[0], 'FIELD_TYPE_ERROR');
  t.equal((await failureOf(rig.plugin('move-address', { moves: JSON.stringify([{ ...move, drainMs: 3_600_001 }]) })))[0], 'FIELD_TYPE_ERROR');
  t.equal((await failureOf(rig.plugin('hold-address', { ip: '10.64.9.20', ms: '60001' })))[0], 'FIELD_TYPE_ERROR');
  const released = (await rig.plugin('release-address', { releases: JSON.stringify([{ vm: to, ip: '10.64.9.9', drainMs: 0 }]) })) as { failed: unknown[] };
  t.deepEqual(released.failed, [], 'off the host');
  await until(() => seen.vms.get(to)?.addresses.length === 1, 'it has it no more');
  await link.close();
  await rig.close();
});

test('a certificate that is not the pinned one, a wrong authority, a wrong password', async (t) => {
  const rig = await makeServer();
  const refused = async (options: object, code: string, what: string) => {
    const { link, seen } = watch(rig, options);
    await until(() => seen.away.length > 0, what);
    t.equal(seen.away[0]!.code, code, what);
    t.equal(seen.pictures, 0, 'nothing was read');
    await link.close();
  };
  await refused(
    { fingerprint: fingerprint.replace(/^../, fingerprint.startsWith('00') ? '01' : '00') },
    'CERTIFICATE_MISMATCH',
    'another fingerprint',
  );
  t.equal(rig.api.sessions.size, 0, 'and no password was sent');
  const { rootCertificates } = await import('node:tls');
  await refused({ fingerprint: undefined, ca: rootCertificates[0] }, 'CERTIFICATE_MISMATCH', 'another authority');
  await refused({ password: 'wrong' }, 'SESSION_AUTHENTICATION_FAILED', 'another password');
  const { link, seen } = watch(rig, { fingerprint: undefined, ca: cert });
  await until(() => seen.pictures === 1, 'the host as its own authority');
  await link.close();
  await refused({ fingerprint: undefined }, 'CONFIG_INVALID', 'no certificate at all');
  await refused({ url: 'http://127.0.0.1:1' }, 'CONFIG_INVALID', 'no TLS');
  await rig.close();
});

test('the connection breaks and comes back: away is told, then the whole picture again', async (t) => {
  const rig = await makeServer();
  const { link, seen } = watch(rig);
  await until(() => seen.pictures === 1, 'the picture');
  const { port } = rig.server;
  await rig.server.close();
  await until(() => seen.away.length > 0, 'away');
  t.equal(seen.away[0]!.code, 'CONNECTION_FAILED');
  t.equal(await codeOf(link.launch([item(0)], signal)), 'HOST_AWAY', 'nothing is tried meanwhile');
  const { listen } = await import('../../../src/xenapi/server.ts');
  await rig.agent.bulk.launchEach([{ ...item(5), vifs: [], otherConfig: {} }], signal);
  const server = await listen({ host: '127.0.0.1', port, tls: { cert, key }, api: Promise.resolve(rig.api), log: () => {} });
  await until(() => seen.pictures === 2, 'back');
  t.deepEqual(
    [...seen.vms.values()].map(({ name }) => name),
    ['t.s.5.1'],
    'with what happened meanwhile',
  );
  await link.close();
  await server.close();
  rig.api.close();
  await rig.agent.close();
});

test('of a VM the link asks for no more than it keeps, and sees the same as in the whole records', async (t) => {
  const rig = await makeServer();
  await rig.agent.bulk.launchEach([{ ...item(0, { args: 'a b' }), otherConfig: { shoal_copy: '0123abcd/t/s/0/1/deadbeef' } }, { ...item(1), vifs: [], otherConfig: {} }], signal);
  const lean = await rig.plugin('events', { token: '' });
  const of = (name: string) => lean.events.filter((event: { class: string }) => event.class === name).map((event: { snapshot: object }) => Object.keys(event.snapshot).length);
  t.deepEqual([of('vm'), of('vif')], [[8, 8], [4]], 'few fields of each');
  const { link, seen } = watch(rig);
  await until(() => seen.pictures === 1, 'the picture');
  const [vm] = [...seen.vms.values()].filter(({ name }) => name === 't.s.0.1');
  const { addresses, uuid } = vm!;
  t.deepEqual(vm, { uuid, name: 't.s.0.1', copy: item(0).copy, state: 'running', memoryKib: 4096, image, args: 'a b', addresses });
  t.deepEqual(addresses, [{ network: 'default', ip: rig.agent.fleet.need(uuid).vifs[0]!.ipv4[0] }]);
  const { addresses: none, ...whole } = (await link.look(uuid))!;
  const { addresses: some, ...rest } = vm!;
  t.deepEqual([whole, none], [rest, some]);
  const before = rig.api.events.token();
  const waiting = rig.plugin('events', { token: before, timeoutS: '5' });
  await rig.agent.runner.pause(rig.agent.fleet.need(uuid));
  t.ok((await waiting).events.some((event: { class: string; snapshot: { uuid: string } }) => event.class === 'vm' && event.snapshot.uuid === uuid), 'a change is waited for');
  await until(() => seen.vms.get(uuid)?.state === 'paused', 'and told');
  for (const args of [{ token: 'x' }, { token: before, timeoutS: '-1' }, { token: before, more: '1' }])
    t.ok(await codeOf(rig.plugin('events', args as unknown as Record<string, string>)), JSON.stringify(args));
  await link.close();
  await rig.close();
});

test('without the plugin: one by one, with calls that every XAPI has', async (t) => {
  const rig = await makeServer();
  const networkRef = (await rig.as('network.get_all'))[0] as string;
  const calls: string[] = [];
  const call = async (method: string, ...args: unknown[]) => {
    calls.push(method);
    return rig.as(method, ...args).catch((failure: unknown) => {
      throw Array.isArray(failure) ? toShoalError(failure as string[]) : failure;
    });
  };
  const launchAll = (...items: LaunchItem[]) => launchOneByOne(call, items, new Map([['default', networkRef]]), signal);
  const [a, b, c] = await launchAll(
    item(0, { vifs: [{ network: 'default', ip: '10.64.9.9' }], args: 'x' }),
    item(1, { image: 'sha256:0' }),
    item(2, { vifs: [{ network: 'none' }] }),
  );
  t.ok('uuid' in a!, 'one is launched');
  t.deepEqual(['error' in b! && b.error.code, 'error' in c! && c.error.code], ['IMAGE_UNKNOWN', 'NETWORK_UNKNOWN']);
  t.deepEqual(
    [...rig.agent.fleet.all()].map((vm) => [vm.name, vm.power, vm.vifs[0]!.ipv4[0], vm.args]),
    [['t.s.0.1', 'Running', '10.64.9.9', 'x']],
    'what failed left nothing',
  );
  t.deepEqual(await launchAll(item(0)), [a], 'asked for again it is the same VM');
  const half = item(3);
  await call('VM.create', {
    name_label: half.name,
    memory_static_max: 4 << 20,
    PV_kernel: image,
    other_config: { shoal_copy: '0123abcd/t/s/3/1/deadbeef' },
  });
  const [done] = await launchAll(half);
  t.equal(rig.agent.fleet.get('uuid' in done! ? done.uuid : '')!.power, 'Running', 'one that was half made is finished');
  await rig.as('VM.create', { name_label: `shoal-${image.slice(7, 19)}`, memory_static_max: 8 << 20, PV_kernel: image });
  calls.length = 0;
  t.ok('uuid' in (await launchAll(item(4, { args: 'y' })))[0]!, 'out of a template');
  t.ok(calls.includes('VM.clone') && !calls.includes('VM.create'), 'by a clone');
  const clone = rig.agent.fleet.named('t.s.4.1')!;
  t.deepEqual([clone.memoryKib, clone.args, clone.otherConfig], [4096, 'y', { shoal_copy: '0123abcd/t/s/4/1/deadbeef' }]);
  await rig.close();
});

test('the link finds out by itself that a host has no plugin, says so, and does without', async (t) => {
  const rig = await makeServer();
  // In between, the plugin gets another name, so that the server answers as one without it.
  const between = createServer({ cert, key }, (incoming, outgoing) => {
    let body = '';
    incoming.on('data', (part: Buffer) => (body += part.toString()));
    incoming.on(
      'end',
      () =>
        void rig.http('POST', incoming.url!, body.replace('"shoal","', '"nope","')).then(
          ({ status, text }) => outgoing.writeHead(status, { 'content-type': 'application/json' }).end(text),
          () => outgoing.destroy(),
        ),
    );
  });
  await new Promise<void>((done) => between.listen(0, '127.0.0.1', done));
  const { link, seen } = watch(rig, { url: `https://127.0.0.1:${(between.address() as AddressInfo).port}` });
  await until(() => seen.pictures === 1, 'the picture');
  t.ok(seen.host!.shortfalls[0]?.includes('plugin "shoal"'), 'it is said');
  const [outcome] = await link.launch([item(0)], signal);
  t.ok('uuid' in outcome!, 'launched');
  t.deepEqual(await link.held(['t.s.0.1', 'x']), ['t.s.0.1']);
  t.deepEqual(await link.destroy(['uuid' in outcome! ? outcome.uuid : ('' as never)]), []);
  t.equal(rig.agent.fleet.size, 0, 'destroyed');
  await link.close();
  between.closeAllConnections();
  between.close();
  await rig.close();
});
