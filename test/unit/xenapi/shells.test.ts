/** The plugin's `shells` over the simulator: seen, prepared, ended, limited, and refused when it is not understood. */
import test from 'tape';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import { image } from '../host/rig.ts';
import { failureOf, makeServer, type ServerRig } from './rig.ts';

const launch = (name: string, memoryKib = 4096) => ({ spec: JSON.stringify({ name, image, memoryKib }) });
const prepare = (count: number, more: object = {}) => ({ prepare: JSON.stringify({ image, memoryKib: 4096, count, ...more }) });
const domains = async (rig: ServerRig): Promise<number> => (await rig.sim.list()).length;

test('shells are prepared for VMs that nobody has defined, and starts find them', async (t) => {
  const rig = await makeServer({ agent: { shells: 8 } });
  t.deepEqual(await rig.plugin('shells'), []);
  t.deepEqual(await rig.plugin('shells', prepare(3)), { ready: 3 });
  t.deepEqual(await rig.plugin('shells'), [{ image, memoryKib: 4096, ready: 3, wanted: 3 }]);
  t.deepEqual([await domains(rig), rig.agent.fleet.size], [3, 0], 'they are domains, and no VMs');
  const { vms } = await rig.plugin('launch', launch('a'));
  t.notOk('create' in vms[0].steps, 'a start with the default network takes one');
  t.equal((await rig.plugin('shells'))[0].ready, 2);
  t.ok('create' in (await rig.plugin('launch', launch('b', 8192))).vms[0].steps, 'one of another size does not');
  t.deepEqual(await rig.plugin('shells', prepare(1, { memoryKib: 2048, network: '' })), { ready: 1 }, 'one without a device');
  t.deepEqual(await rig.plugin('shells', prepare(100, { memoryKib: 1024 })), { ready: 2 }, 'no more than the limit leaves');
  await rig.close();
});

test('all of them end, and the VMs do not', async (t) => {
  const rig = await makeServer({ agent: { shells: 8 } });
  await rig.plugin('shells', prepare(5));
  await rig.plugin('launch', launch('a'));
  t.deepEqual(await rig.plugin('shells', { drain: 'true' }), { ended: 4 });
  t.deepEqual(await rig.plugin('shells'), []);
  t.equal(await domains(rig), 1);
  await rig.close();
});

test('the limit is changed while the agent runs; 0 is none at all', async (t) => {
  const rig = await makeServer({ agent: { shells: 8 } });
  await rig.plugin('shells', prepare(3, { memoryKib: 8192 }));
  await rig.plugin('shells', prepare(5));
  t.deepEqual(await rig.plugin('shells', { most: '6' }), { most: 6, before: 8 });
  t.deepEqual(
    (await rig.plugin('shells')).map((kind: any) => [kind.memoryKib, kind.ready, kind.wanted]),
    [
      [8192, 1, 1],
      [4096, 5, 5],
    ],
    'the shape that was used last keeps its own',
  );
  t.equal(await domains(rig), 6);
  t.deepEqual(await rig.plugin('shells', { most: '0' }), { most: 0, before: 6 });
  t.equal(await domains(rig), 0);
  t.deepEqual(await rig.plugin('shells', prepare(3)), { ready: 0 }, 'none are made');
  t.ok('create' in (await rig.plugin('launch', launch('a'))).vms[0].steps, 'and a start asks for none');
  t.deepEqual(await rig.plugin('shells', { most: '8' }), { most: 8, before: 0 });
  t.deepEqual(await rig.plugin('shells', prepare(3)), { ready: 3 });
  await rig.close();
});

test('prepared shells outlive the window in which nobody started them yet, and go with the next', async (t) => {
  const rig = await makeServer({ agent: { shells: 8, shellWindowMs: 500 } });
  await rig.plugin('shells', prepare(4));
  const awake = setInterval(() => {}, 20);
  const sleep = (timeMs: number) => new Promise((resolve) => setTimeout(resolve, timeMs));
  await sleep(700);
  t.equal(await domains(rig), 4, 'after one window');
  for (let i = 0; i < 100 && (await domains(rig)) > 0; i++) await sleep(20);
  t.equal(await domains(rig), 0, 'after the next');
  clearInterval(awake);
  await rig.close();
});

test('what is not understood is refused, and nothing is made', async (t) => {
  const rig = await makeServer({ agent: { shells: 8 } });
  const wrong: [Record<string, string>, string][] = [
    [{ drain: 'yes' }, 'FIELD_TYPE_ERROR'],
    [{ drain: 'true', most: '1' }, 'FIELD_TYPE_ERROR'],
    [{ most: '-1' }, 'FIELD_TYPE_ERROR'],
    [{ most: '' }, 'FIELD_TYPE_ERROR'],
    [{ most: 'all' }, 'FIELD_TYPE_ERROR'],
    [{ prepare: '7' }, 'FIELD_TYPE_ERROR'],
    [{ prepare: '{' }, 'FIELD_TYPE_ERROR'],
    [prepare(-1), 'FIELD_TYPE_ERROR'],
    [prepare(1, { colour: 'red' }), 'FIELD_TYPE_ERROR'],
    [prepare(1, { image: 7 }), 'FIELD_TYPE_ERROR'],
    [prepare(1, { image: '../agent.journal' }), 'IMAGE_UNKNOWN'],
    [prepare(1, { image: `sha256:${'0'.repeat(64)}` }), 'IMAGE_UNKNOWN'],
    [prepare(1, { memoryKib: 4097 }), 'MEMORY_INVALID'],
    [prepare(1, { network: 'nowhere' }), 'NETWORK_UNKNOWN'],
    [{ colour: 'red' }, 'XENAPI_PLUGIN_FAILURE'],
  ];
  for (const [args, code] of wrong) t.equal((await failureOf(rig.plugin('shells', args)))[0], code, JSON.stringify(args));
  t.equal(await domains(rig), 0);
  t.deepEqual(await rig.plugin('shells', { most: '8' }), { most: 8, before: 8 }, 'the limit is as it was');
  await rig.close();
});

test('facts carry what the store was asked, where there is one', async (t) => {
  const rig = await makeServer();
  t.equal((await rig.plugin('facts')).store, null, 'the simulator has none');
  (rig.sim as Hypervisor).storeCounts = () => ({ requests: 30, changes: 12 });
  t.deepEqual((await rig.plugin('facts')).store, { requests: 30, changes: 12 });
  await rig.close();
});
