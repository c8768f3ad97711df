/**
 * The controller as a process: its configuration, a second one over the same state, and kill -9 of controller and agents at random
 * while what is wanted changes. Bounded: about 20 seconds.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { parseControllerConfig } from '../../../src/main/controller-config.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { FleetProcs, kernel, kernelDigest, type RealVm } from './fleet-rig.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("the configuration is read, and what it cannot mean is refused with the field's name", (t) => {
  const good = { stateDir: 's', credentialsDir: 'c', certFile: 'a', keyFile: 'b' };
  t.deepEqual(parseControllerConfig(JSON.stringify(good)), {
    listen: { host: '127.0.0.1', port: 7443 },
    tls: { certFile: 'a', keyFile: 'b' },
    url: undefined,
    stateDir: 's',
    credentialsDir: 'c',
    graceMs: 60_000,
    pollS: 10,
    patienceMs: 10_000,
  });
  for (const [change, field] of [
    [{ colour: 1 }, 'colour'],
    [{ stateDir: undefined }, 'stateDir'],
    [{ certFile: undefined }, 'certFile'],
    [{ listen: { port: -1 } }, 'listen.port'],
    [{ graceMs: 'x' }, 'graceMs'],
    [{ url: 'http://controller' }, 'url'],
    [{ tls: false, listen: { host: '0.0.0.0' }, certFile: undefined, keyFile: undefined }, 'tls'],
  ] as [object, string][]) {
    try {
      parseControllerConfig(JSON.stringify({ ...good, ...change }));
      t.fail(field);
    } catch (error) {
      t.equal((error as ShoalError).data['field'], field);
    }
  }
  const urlOf = (host: string, url?: string): string | undefined => parseControllerConfig(JSON.stringify({ ...good, listen: { host }, url })).url;
  t.equal(urlOf('192.0.2.1'), 'https://192.0.2.1:7443', 'one address is where hosts reach it');
  t.equal(urlOf('0.0.0.0'), undefined, 'every address is none');
  t.equal(urlOf('0.0.0.0', 'https://controller:7443'), 'https://controller:7443');
  t.end();
});

test('kill -9 of controller and agents under churn: in the end observed equals desired, no address was ever on two VMs', async (t) => {
  const names = ['a', 'b', 'c'];
  const rig = await FleetProcs.open(names);
  t.teardown(() => rig.close());
  let round = 0;
  // Another number is another sequence of kills.
  const seed = Number(process.env['SHOAL_SEED'] ?? 7);
  t.comment(`seed ${seed}`);
  let state = seed;
  const roll = (sides: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
  t.equal((await rig.api('PUT', `/v1/images/${kernelDigest}`, kernel)).status, 201, 'the image is given to the controller only');
  t.equal((await rig.api('PUT', '/v1/releases/web', { digest: kernelDigest })).status, 200);

  const second = await rig.anotherController();
  t.deepEqual([second.port, (await second.exit).code], [0, 1], 'a second controller over the same state ends with 1');
  t.ok(second.log().includes('HOST_LIMIT'), 'and says why');

  // Watched all the time, straight at the hosts. A copy that moves may be read twice: an address counts as double when two VMs have it
  // in two rounds one after the other.
  const doubled: string[] = [];
  let before = new Set<string>();
  let watching = true;
  let looks = 0;
  const watcher = (async () => {
    while (watching) {
      const all = (await Promise.all(names.map((name) => rig.real(name)))).flatMap((vms) => vms ?? []);
      const owners = new Map<string, Set<string>>();
      for (const { host, name, ip } of all)
        if (ip !== undefined) owners.set(ip, (owners.get(ip) ?? new Set()).add(`${host}/${name}`));
      const now = new Set([...owners].filter(([, who]) => who.size > 1).map(([ip, who]) => `${ip} ${[...who].sort().join(' ')}`));
      for (const each of now) if (before.has(each)) doubled.push(each);
      before = now;
      looks++;
      await sleep(60);
    }
  })();

  const tell = async (method: string, path: string, body?: unknown): Promise<number> =>
    (await rig.api(method, path, body).catch(() => ({ status: 0 }))).status;
  const until = Date.now() + 9000;
  let kills = 0;
  let accepted = 0;
  while (Date.now() < until) {
    round++;
    const what = roll(10);
    const count = 1 + roll(25);
    if (what < 6)
      accepted +=
        (await tell('PUT', '/v1/services/acme/web', {
          image: 'web',
          memoryKib: 4096,
          count,
          args: `v${roll(3)}`,
          restart: { firstMs: 50, maxMs: 400 },
          update: { maxAtOnce: 8 },
        })) === 202
          ? 1
          : 0;
    else if (what < 8)
      accepted +=
        (await tell('PUT', '/v1/services/beta/api', {
          image: 'web',
          memoryKib: 2048,
          count,
          placement: { strategy: 'pack' },
          restart: { firstMs: 50, maxMs: 400 },
        })) === 202
          ? 1
          : 0;
    else if (what === 8) await tell('DELETE', '/v1/services/beta/api');
    else await tell('POST', `/v1/hosts/${names[roll(3)]}/${roll(2) === 0 ? 'drain' : 'undrain'}`);
    await sleep(roll(120));
    if (roll(3) === 0) {
      kills++;
      await rig.kill(rig.controller);
      await rig.startController();
    } else if (roll(14) === 0) {
      kills++;
      const name = names[roll(3)]!;
      const { port } = rig.agents.get(name)!;
      await rig.kill(rig.agents.get(name)!);
      await rig.startAgent(name, port);
    }
  }
  t.ok(kills >= 4 && accepted >= 5, `${kills} kills, ${accepted} changes in ${round} rounds`);

  for (const name of names) await rig.api('POST', `/v1/hosts/${name}/undrain`);
  await rig.api('PUT', '/v1/services/acme/web', {
    image: 'web',
    memoryKib: 4096,
    count: 12,
    args: 'last',
    restart: { firstMs: 50, maxMs: 400 },
    update: { maxAtOnce: 8 },
  });
  await rig.api('DELETE', '/v1/services/beta/api');
  let all: RealVm[] = [];
  const settled = async (): Promise<boolean> => {
    all = (await Promise.all(names.map((name) => rig.real(name)))).flatMap((vms) => vms ?? []);
    const { body } = await rig.api('GET', '/v1/services/acme/web');
    return (
      body.copies?.ready === 12 && body.copies.total === 12 && all.length === 12 && all.every(({ power }) => power === 'Running')
    );
  };
  const deadline = Date.now() + 40_000;
  let right = false;
  while (!right && Date.now() < deadline) {
    right = await settled();
    await sleep(50);
  }
  watching = false;
  await watcher;
  t.ok(right, `observed equals desired: ${all.length} VMs on the hosts`);
  if (!right)
    t.comment(
      JSON.stringify({
        all,
        service: (await rig.api('GET', '/v1/services/acme/web')).body,
        log: rig.controller.log().slice(-3000),
      }),
    );
  t.deepEqual(doubled, [], `no address on two VMs, in ${looks} looks`);
  const listed = (await rig.api('GET', '/v1/vms')).body.items;
  t.deepEqual(
    listed.map((vm: { id: string; addresses: string[] }) => `${vm.id} ${vm.addresses[0]}`).sort(),
    all.map(({ name, ip }) => `${name} ${ip}`).sort(),
    'the controller knows them as they are, with their addresses',
  );
  t.equal((await rig.api('GET', '/v1/services/beta/api')).status, 404, 'what was deleted is gone');

  rig.controller.child.kill('SIGTERM');
  t.deepEqual(await rig.controller.exit, { code: 0, signal: null }, 'SIGTERM ends the controller');
  t.equal((await Promise.all(names.map((name) => rig.real(name)))).flat().length, 12, 'and no VM');
  t.notOk(/shoal_[0-9a-f]{8}_|pw-[abc]/.test(rig.controller.log()), 'no token and no password in its log');
  await writeFile(join(rig.folder, 'fleet', 'controller.pid'), String(2 ** 22 + 1));
  await rig.startController();
  t.ok(rig.controller.port > 0, 'a lock of a process that is gone does not keep the next one out');
});

/** What is waited for comes in a second or two; the bound is for a machine that does much else. */
async function eventually(what: string, rig: FleetProcs, condition: () => Promise<boolean>, timeoutMs = 40_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}; ${rig.controller.log().slice(-1500)}`);
    await sleep(30);
  }
}

const readyOf = async (rig: FleetProcs): Promise<number> => (await rig.api('GET', '/v1/services/acme/web')).body.copies?.ready;
const want = (rig: FleetProcs, count: number) =>
  rig.api('PUT', '/v1/services/acme/web', { image: kernelDigest, memoryKib: 2048, count, restart: { firstMs: 50, maxMs: 200 } });

test('a host that stands still (SIGSTOP) in the middle of launches, and goes on later', async (t) => {
  const rig = await FleetProcs.open(['a', 'b'], { graceMs: 1000, pollS: 1, patienceMs: 1000 });
  t.teardown(() => rig.close());
  await rig.api('PUT', `/v1/images/${kernelDigest}`, kernel);
  await want(rig, 20);
  await eventually('twenty', rig, async () => (await readyOf(rig)) === 20);
  await want(rig, 200);
  await sleep(40);
  rig.agents.get('a')!.child.kill('SIGSTOP');
  await eventually('all on b', rig, async () => (await readyOf(rig)) === 200);
  const host = (await rig.api('GET', '/v1/hosts/a')).body;
  t.deepEqual([host.state, typeof host.error.code], ['away', 'string'], 'it is seen to be away, and why');
  const onB = new Set((await rig.real('b'))!.map(({ ip }) => ip));
  t.equal(onB.size, 200, 'b has 200, each with an address of its own');
  rig.agents.get('a')!.child.kill('SIGCONT');
  const left: RealVm[] = (await rig.real('a')) ?? [];
  t.ok(left.length > 0 && !left.some(({ ip }) => onB.has(ip)), `${left.length} VMs went on on a, with other addresses`);
  await eventually(
    'no doubles',
    rig,
    async () => (await rig.real('a'))!.length + (await rig.real('b'))!.length === 200 && (await readyOf(rig)) === 200,
  );
  t.pass('two hundred in all');
});

test('a host that stands still (SIGSTOP) with the only copy of an image among the hosts keeps no other from it', async (t) => {
  // It is believed to be there for as long as the controller is patient: the next host that needs the image is sent to it.
  const rig = await FleetProcs.open(['a'], { graceMs: 60_000, pollS: 60, patienceMs: 60_000 });
  t.teardown(() => rig.close());
  await rig.api('PUT', `/v1/images/${kernelDigest}`, kernel);
  await want(rig, 4);
  await eventually('four', rig, async () => (await readyOf(rig)) === 4);
  await rig.startAgent('b');
  await rig.addHost('b');
  await eventually('b is up', rig, async () => (await rig.api('GET', '/v1/hosts/b')).body.state === 'up');
  rig.agents.get('a')!.child.kill('SIGSTOP');
  await want(rig, 40);
  await eventually('an image on b', rig, async () => rig.controller.log().includes('b: has the image'));
  t.ok(/b: a did not give .*TIMEOUT/.test(rig.controller.log()), 'a was asked first');
  await eventually('VMs on b', rig, async () => ((await rig.real('b')) ?? []).some(({ power }) => power === 'Running'));
  t.equal((await rig.api('GET', '/v1/hosts/a')).body.state, 'up', 'while a still passes for up');
});
