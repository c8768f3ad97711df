/** Launching VMs that differ: each for itself, names held from the first moment, and owners that outlive the host's disk. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { image, makeRig } from './rig.ts';

const spec = (name: string, more: object = {}) => ({ name, image, memoryKib: 4096, vifs: [{ network: 'default' }], ...more });
const signal = () => new AbortController().signal;

test('one VM that cannot start keeps none of the others from starting', async (t) => {
  const rig = await makeRig();
  const results = await rig.agent.bulk.launchEach(
    [
      spec('a', { vifs: [{ network: 'default', ip: '10.64.9.9' }], args: 'x=1', otherConfig: { shoal_copy: 'k' } }),
      spec('b', { vifs: [{ network: 'default', ip: '10.64.9.9' }] }),
      spec('a'),
      spec('c', { image: 'sha256:0' }),
      spec('d', { vifs: [{ network: 'default' }, { network: 'default' }] }),
    ],
    signal(),
  );
  t.deepEqual(
    results.map(({ name, vm, error }) => [name, vm?.ip ?? error?.code]),
    [
      ['a', '10.64.9.9'],
      ['b', 'ADDRESS_IN_USE'],
      ['a', 'NAME_IN_USE'],
      ['c', 'IMAGE_UNKNOWN'],
      ['d', '10.64.1.0'],
    ],
  );
  t.deepEqual([...rig.agent.fleet.all()].map((vm) => vm.name).sort(), ['a', 'd'], 'those that failed left nothing');
  t.match(rig.sim.cmdline(rig.agent.fleet.named('d')!.domid!), /^name=d ip=10\.64\.1\.0\/16 gw=10\.64\.0\.1 ip1=10\.64\.1\.1\/16 gw1=10\.64\.0\.1$/, 'two vifs, and the guest knows both addresses');
  t.ok(rig.agent.fleet.promiseNames(['b', 'c']), 'names of those that failed are free again');
  await rig.close();
});

test('a name is held while its launch waits', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 40 } }, { launches: 1 });
  const first = rig.agent.bulk.launchEach([spec('a'), spec('b')], signal());
  const again = await rig.agent.bulk.launchEach([spec('b')], signal());
  t.equal(again[0]!.error?.code, 'NAME_IN_USE', 'although b is not there yet');
  t.ok((await first).every(({ vm }) => vm !== undefined));
  await rig.close();
});

test('a cancelled call leaves nothing of what it had not started', async (t) => {
  const rig = await makeRig({ delaysMs: { build: 20 } }, { launches: 1 });
  const abort = new AbortController();
  const call = rig.agent.bulk.launchEach([spec('a'), spec('b'), spec('c')], abort.signal);
  setTimeout(() => abort.abort(), 5);
  const results = await call;
  t.ok(
    results.every(({ error }) => error?.code === 'TASK_CANCELLED'),
    'all say so',
  );
  t.equal(rig.agent.fleet.size, 0);
  await rig.close();
});

test('a host that lost its disk knows from Xen alone whose VMs run', async (t) => {
  const rig = await makeRig();
  await rig.agent.bulk.launchEach([spec('a', { otherConfig: { shoal_copy: 'me', note: 'x' } })], signal());
  rig.agent.runner.close();
  await rig.agent.fleet.journal!.close();
  await rm(join(rig.stateDir, 'agent.journal'));
  const agent = await rig.crash();
  t.deepEqual(agent.fleet.named('a')!.otherConfig, { shoal_copy: 'me' }, 'the owner is in the sealed record');
  await rig.close();
});

test('the error of a VM is the one the host has', async (t) => {
  const rig = await makeRig();
  rig.sim.failStep('create', new ShoalError('HOST_LIMIT', 'full'));
  const [result] = await rig.agent.bulk.launchEach([spec('a')], signal());
  t.equal(result!.error?.code, 'HOST_LIMIT');
  await rig.close();
});
