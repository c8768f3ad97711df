/** Health checks: when a copy counts as ready, when as dead, and that an update waits for the first and stops at the second. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'tape';
import { Health, probeNetwork, type Probe } from '../../../src/control/health.ts';
import { until } from '../host/rig.ts';
import { makeFleet } from './rig.ts';

const health = { kind: 'http', intervalMs: 200, timeoutMs: 100, unhealthyAfter: 2, graceMs: 0 };

test('ready only after it answers; dead after it fails; restarted with back-off', async (t) => {
  const rig = await makeFleet(['a']);
  const dead = new Set<string>();
  let mute = true;
  const asked: string[] = [];
  const probe: Probe = async (_, address) => {
    asked.push(address);
    return !mute && !dead.has(address);
  };
  const checks = new Health(rig.fleet, probe);
  const key = rig.apply({ count: 2, health: { ...health, graceMs: 5000 } });
  await until(() => rig.vms().length === 2 && asked.length >= 4, 'both run and are probed');
  t.equal(rig.ready(key), 0, 'but neither is ready');
  mute = false;
  await until(() => rig.ready(key) === 2, 'ready when they answer');
  const host = rig.hosts.get('a')!;
  const restarts: string[] = [];
  const change = host.change.bind(host);
  host.change = (uuid, what) => (restarts.push(String(what.state)), change(uuid, what));
  const [victim] = rig.vms();
  dead.add(victim!.ip!);
  await until(() => restarts.length > 0, 'the one that fails is restarted');
  t.ok(
    rig.log.some((line) => line.includes('does not answer')),
    'and it is said',
  );
  await until(() => rig.ready(key) === 1, 'not ready meanwhile');
  dead.clear();
  await until(() => rig.ready(key) === 2, 'and ready again');
  t.equal(rig.vms().length, 2);
  checks.close();
  await rig.close();
});

test('one that has not answered yet is asked again soon, with more patience each time, up to its own', async (t) => {
  const rig = await makeFleet(['a']);
  const patience: number[] = [];
  const checks = new Health(rig.fleet, async ({ timeoutMs }) => patience.push(timeoutMs) > 3);
  const key = rig.apply({ count: 1, health: { ...health, intervalMs: 600_000, timeoutMs: 1000, graceMs: 60_000 } });
  await until(() => rig.ready(key) === 1, 'ready long before its interval is over');
  t.deepEqual(patience, [150, 300, 600, 1000]);
  checks.close();
  await rig.close();
});

test('a release that does not answer goes no further than the first copies', async (t) => {
  const rig = await makeFleet(['a', 'b']);
  const good = new Set<string>();
  const checks = new Health(rig.fleet, async (_, address) => good.has(address));
  const allow = setInterval(() => {
    for (const host of rig.hosts.values()) for (const vm of host.vms.values()) if (vm.args === '') good.add(vm.addresses[0]!.ip);
  }, 5);
  const key = rig.apply({ count: 6, health: { ...health, graceMs: 300 }, update: { maxAtOnce: 2 } });
  await until(() => rig.ready(key) === 6, 'six');
  rig.apply({ count: 6, health: { ...health, graceMs: 300 }, update: { maxAtOnce: 2 }, args: 'bad' });
  let least = 6;
  let most = 0;
  const end = Date.now() + 1500;
  while (Date.now() < end) {
    const old =
      rig.vms().length - [...rig.hosts.values()].flatMap((h) => [...h.vms.values()]).filter(({ args }) => args === 'bad').length;
    least = Math.min(least, old);
    most = Math.max(most, rig.vms().length - old);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.equal(least, 6, 'the six that answer all stay');
  t.ok(most >= 1 && most <= 2, `at most two of the new ones at once: ${most}`);
  rig.apply({ count: 6, health: { ...health, graceMs: 300 }, update: { maxAtOnce: 2 } });
  await until(() => rig.vms().length === 6 && rig.ready(key) === 6, 'rolled back');
  clearInterval(allow);
  checks.close();
  await rig.close();
});

test('the http probe: an answer, an error, silence', async (t) => {
  const server = createServer((request, response) => {
    if (request.url === '/slow') return;
    response.writeHead(request.url === '/bad' ? 500 : 200).end('x');
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const check = {
    kind: 'http',
    port,
    path: '/',
    intervalMs: 1000,
    timeoutMs: 100,
    healthyAfter: 1,
    unhealthyAfter: 1,
    graceMs: 0,
  } as const;
  t.equal(await probeNetwork(check, '127.0.0.1'), true);
  t.equal(await probeNetwork({ ...check, path: '/bad' }, '127.0.0.1'), false);
  const began = performance.now();
  t.equal(await probeNetwork({ ...check, path: '/slow' }, '127.0.0.1'), false);
  t.ok(performance.now() - began < 1000, 'not for longer than it may take');
  server.closeAllConnections();
  server.close();
  t.equal(await probeNetwork(check, '127.0.0.1'), false, 'nobody there');
});
