/** Launches: whole or never there, whichever step ends them and whatever ends it. */
import test from 'tape';
import { launchSteps } from '../../../src/host/launch.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import type { SimStep } from '../../../src/hypervisor/sim/sim.ts';
import { codeOf, image, makeRig, until } from './rig.ts';

const never = new AbortController().signal;
const spec = (more: object = {}) => ({ name: 'a', image, memoryKib: 4096, ...more });

/** What a VM and its domain take, to compare before and after. */
async function taken(rig: Awaited<ReturnType<typeof makeRig>>) {
  const { freeKib, domainCount } = await rig.sim.facts();
  return {
    freeKib,
    domainCount,
    vms: rig.agent.fleet.size,
    uses: rig.agent.fleet.imageInUse(image),
    held: rig.agent.fleet.withAddress('default', '10.64.1.0')?.name,
    lanes: rig.agent.runner.lanes.busy,
  };
}

test('a launch goes through the steps in order and says how long each took', async (t) => {
  const rig = await makeRig();
  const { vms } = await rig.agent.bulk.launch(spec({ args: 'port=80', ip: '10.64.3.4' }), never);
  const vm = vms[0]!;
  t.deepEqual(rig.sim.trail, ['create 1', 'build 1', 'register 1', 'attachVif 1', 'seal 1', 'unpause 1']);
  t.deepEqual(Object.keys(vm.steps), [...launchSteps], 'a time for each step');
  t.ok(vm.ms >= 0 && /^00:16:3e:/.test(vm.mac), 'and the whole, and a MAC');
  t.equal(rig.sim.cmdline(vm.domid), 'name=a ip=10.64.3.4/16 gw=10.64.0.1 port=80', "the guest's command line");
  t.deepEqual(rig.sim.vifs(vm.domid), [{ handle: 0, mac: vm.mac, network: 'default', ipv4: ['10.64.3.4'] }]);
  await rig.close();
});

for (const step of launchSteps) {
  test(`a failure in ${step} takes everything back`, async (t) => {
    const rig = await makeRig();
    const before = await taken(rig);
    rig.sim.failStep(step as SimStep, new ShoalError('VIF_FAILED', 'as arranged'));
    t.equal(await codeOf(rig.agent.bulk.launch(spec(), never)), 'VIF_FAILED', "the error is the step's own");
    t.deepEqual(await taken(rig), before, 'memory, domains, names, addresses as before');
    t.equal(await codeOf(rig.agent.bulk.launch(spec(), never)), 'none', 'the same name starts afterwards');
    await rig.close();
  });

  test(`a cancel during ${step} leaves nothing behind`, async (t) => {
    const abort = new AbortController();
    const rig = await makeRig({}, { hook: (moment) => (moment === step ? abort.abort() : undefined) });
    const before = await taken(rig);
    const code = await codeOf(rig.agent.bulk.launch(spec(), abort.signal));
    // A cancel that comes while the last step is under way comes too late.
    const late = step === 'unpause';
    t.equal(code, late ? 'none' : 'TASK_CANCELLED');
    if (!late) t.deepEqual(await taken(rig), before, 'memory, domains, names, addresses as before');
    else t.equal(rig.agent.fleet.named('a')?.power, 'Running', 'it runs');
    await rig.close();
  });

  for (const moment of [step, `after:${step}`]) {
    test(`killed at ${moment}: the next agent has a running VM or nothing`, async (t) => {
      let reached = false;
      const hook = (now: string) => {
        if (now !== moment) return undefined;
        reached = true;
        return new Promise<void>(() => {});
      };
      const rig = await makeRig({}, { hook });
      const before = await taken(rig);
      void rig.agent.bulk.launch(spec({ args: 'x' }), never);
      await until(() => reached, moment);
      const agent = await rig.crash();
      const whole = ['after:seal', 'unpause', 'after:unpause'].includes(moment);
      const vm = agent.fleet.named('a');
      if (whole) {
        t.deepEqual(
          [vm?.power, vm?.args, vm?.memoryKib, vm?.vifs[0]?.ipv4],
          ['Running', 'x', 4096, ['10.64.1.0']],
          'adopted from Xen',
        );
        t.equal((await rig.sim.get(vm!.domid!))?.state, 'running', 'the missing last step was done');
        t.equal(
          await codeOf(agent.bulk.launch(spec({ name: 'b', ip: '10.64.1.0' }), never)),
          'ADDRESS_IN_USE',
          'its address is known to be in use',
        );
        await agent.bulk.destroy('all', never);
      } else t.equal(vm, undefined, 'no VM');
      t.deepEqual({ ...(await taken(rig)), lanes: 0 }, before, 'nothing half built is left');
      t.equal(await codeOf(agent.bulk.launch(spec(), never)), 'none', 'the name is free again');
      await rig.close();
    });
  }
}

test('a cancel while a launch waits for its place', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 30 } }, { launches: 1 });
  const abort = new AbortController();
  const first = rig.agent.bulk.launch(spec(), never);
  const second = codeOf(rig.agent.bulk.launch(spec({ name: 'b' }), abort.signal));
  await new Promise((resolve) => setTimeout(resolve, 5));
  abort.abort();
  t.equal(await second, 'TASK_CANCELLED');
  await first;
  t.equal(await codeOf(rig.agent.bulk.launch(spec({ name: 'b' }), never)), 'none', 'the place was given back');
  await rig.close();
});

test('a rollback that fails is tried again until the domain is gone', async (t) => {
  const rig = await makeRig();
  rig.sim.failStep('seal', new ShoalError('XENSTORE_FAILED', 'as arranged'));
  rig.sim.failStep('destroy', new ShoalError('XENSTORE_FAILED', 'as arranged'));
  t.equal(
    await codeOf(rig.agent.bulk.launch(spec(), never)),
    'XENSTORE_FAILED',
    'the reason of the failure, not of the rollback',
  );
  t.equal((await rig.sim.list()).length, 1, 'the domain is still there');
  const keepAlive = setInterval(() => {}, 100);
  let gone = false;
  const look = setInterval(() => void rig.sim.list().then((l) => (gone = l.length === 0)), 50);
  await until(() => gone, 'the domain is gone', 4000);
  clearInterval(look);
  clearInterval(keepAlive);
  t.pass('it is gone');
  await rig.close();
});

test('two launches race for one name, and for one address: one wins, the other is told', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 5 } });
  const codes = await Promise.all([spec(), spec()].map((s) => codeOf(rig.agent.bulk.launch(s, never))));
  t.deepEqual(codes.sort(), ['NAME_IN_USE', 'none'].sort());
  const more = await Promise.all(['b', 'c'].map((name) => codeOf(rig.agent.bulk.launch(spec({ name, ip: '10.64.9.9' }), never))));
  t.deepEqual(more.sort(), ['ADDRESS_IN_USE', 'none'].sort());
  t.equal((await rig.sim.list()).length, 2, 'two domains');
  await rig.close();
});

test('no more launches at once than allowed', async (t) => {
  let now = 0;
  let most = 0;
  const hook = (moment: string) => {
    if (moment === 'create') most = Math.max(most, ++now);
    if (moment === 'after:unpause') now--;
  };
  const rig = await makeRig({ delaysMs: { build: 1 } }, { launches: 2, hook });
  await Promise.all([
    rig.agent.bulk.launch({ prefix: 'a', count: 10, image, memoryKib: 4096 }, never),
    rig.agent.bulk.launch({ prefix: 'b', count: 10, image, memoryKib: 4096, concurrency: 60 }, never),
  ]);
  t.equal(most, 2);
  await rig.close();
});

test('memory that runs out at VM 700 of 1,000', async (t) => {
  const eachKib = 4096 + 72;
  const rig = await makeRig({ totalKib: 1024 * 1024 + 8192 + 699 * eachKib, dom0Kib: 1024 * 1024 });
  const { vms, error } = await rig.agent.bulk.launch({ prefix: 'w', count: 1000, image, memoryKib: 4096 }, never);
  t.equal(vms.length, 699, '699 were started');
  t.equal(error?.code, 'LAUNCH_INCOMPLETE');
  const { started, notStarted, reason } = error!.data as { started: number; notStarted: string[]; reason: { code: string } };
  t.deepEqual(
    [started, notStarted.length, reason.code],
    [699, 301, 'HOST_NOT_ENOUGH_FREE_MEMORY'],
    'the error says what was not',
  );
  t.equal(new Set([...notStarted, ...vms.map((vm) => vm.name)]).size, 1000, 'each name is in one of the two lists');
  t.equal(rig.agent.fleet.size, 699, 'what was started stays');
  t.equal((await rig.sim.list()).filter((d) => d.state === 'running').length, 699, 'and runs');
  await rig.close();
});

test('a bulk launch stops at the first failure', async (t) => {
  const rig = await makeRig({}, { launches: 1 });
  rig.sim.failStep('create', new ShoalError('HOST_LIMIT', 'as arranged'), { skip: 3 });
  const { vms, error } = await rig.agent.bulk.launch({ prefix: 'w', count: 10, image, memoryKib: 4096 }, never);
  t.deepEqual(
    [vms.map((vm) => vm.name), error?.data['notStarted']],
    [
      ['w-1', 'w-2', 'w-3'],
      ['w-4', 'w-5', 'w-6', 'w-7', 'w-8', 'w-9', 'w-10'],
    ],
  );
  await rig.close();
});

test('bad input changes nothing', async (t) => {
  const rig = await makeRig();
  await rig.agent.bulk.launch(spec({ ip: '10.64.2.2' }), never);
  const before = await taken(rig);
  const other = (more: object) => codeOf(rig.agent.bulk.launch(spec({ name: 'b', ...more }), never));
  t.equal(await other({ name: 'a' }), 'NAME_IN_USE', 'duplicate name');
  t.equal(await other({ network: 'nowhere' }), 'NETWORK_UNKNOWN', 'unknown network');
  t.equal(await other({ ip: '10.64.2.2' }), 'ADDRESS_IN_USE', 'address in use');
  for (const ip of ['10.64.0.1', '10.65.1.1', '10.64.1', '10.64.01.1', '10.64.255.255', ''])
    t.equal(await other({ ip }), 'ADDRESS_INVALID', `address "${ip}"`);
  t.equal(await other({ image: 'sha256:' + '0'.repeat(64) }), 'IMAGE_UNKNOWN', 'unknown image');
  t.equal(await other({ image: '../../etc/passwd' }), 'IMAGE_UNKNOWN', 'no digest');
  for (const memoryKib of [0, 512, 4095, 4097, -4, 1.5, 2 ** 40])
    t.equal(await other({ memoryKib }), 'MEMORY_INVALID', `memory ${memoryKib}`);
  t.equal(await other({ memoryKib: 2 ** 29 }), 'HOST_NOT_ENOUGH_FREE_MEMORY', 'more than the host has');
  t.equal(await other({ args: 'x'.repeat(1000) }), 'COMMAND_LINE_TOO_LONG', 'arguments too long');
  t.equal(await other({ args: 'a\nb' }), 'VALUE_NOT_SUPPORTED', 'control characters');
  for (const name of ['', 'a b', '-a', 'ä', 'x'.repeat(65), 'a/b'])
    t.equal(await other({ name }), 'VALUE_NOT_SUPPORTED', `name "${name.slice(0, 9)}"`);
  t.deepEqual(await taken(rig), before, 'nothing changed');
  t.deepEqual(await rig.sim.list().then((l) => l.length), 1, 'one domain');
  await rig.close();
});

test('an image larger than the memory of its VM', async (t) => {
  const rig = await makeRig();
  const vm = await rig.agent.definitions.create({ name: 'small', image, memoryKib: 1024 });
  await rig.agent.runner.start(vm, false);
  t.equal(vm.power, 'Running', '512 KiB fit into 1,024');
  const { kernel } = rig.agent.images;
  rig.agent.images.kernel = async (digest) => ({ ...(await kernel.call(rig.agent.images, digest)), memoryBytes: 5 << 20 });
  t.equal(await codeOf(rig.agent.bulk.launch(spec(), never)), 'IMAGE_TOO_LARGE');
  t.equal(rig.agent.fleet.size, 1, 'nothing changed');
  await rig.close();
});

test('a VM with an IPv6 address: the hypervisor is told, and whether it is made of the MAC', async (t) => {
  const rig = await makeRig();
  const told: unknown[] = [];
  const register = rig.sim.register.bind(rig.sim);
  rig.sim.register = (domid, config) => {
    told.push(config.vifs.map(({ ipv6 }) => ipv6));
    return register(domid, config);
  };
  for (const [i, args] of ['', 'ip6=fd00:1:: gw6=fd00:1::1', 'x=1 ip6=fd00:1::/64', 'ip6=fd00:1::7', 'noip6=fd00:1::'].entries())
    await rig.agent.bulk.launch({ name: `six-${i}`, image, memoryKib: 4096, args }, never);
  t.deepEqual(told, [[undefined], ['from-mac'], ['from-mac'], ['other'], [undefined]]);
  t.ok(rig.agent.fleet.named('six-1')!.vifs.every((vif) => !('ipv6' in vif)), 'its arguments are what is kept');
  await rig.close();
});
