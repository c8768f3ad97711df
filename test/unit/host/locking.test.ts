/** A VM that may send from any address: said by every way to make one, kept wherever it goes and whoever is killed. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { admit, recordOf } from '../../../src/host/arrival.ts';
import { parseRecord } from '../../../src/host/saved.ts';
import { sealOf, unseal } from '../../../src/host/vm.ts';
import type { LaunchSpec } from '../../../src/host/bulk.ts';
import { failureOf, makeServer } from '../xenapi/rig.ts';
import { codeOf, image, makeRig } from './rig.ts';

const signal = new AbortController().signal;
const spec = (name: string, more: Partial<LaunchSpec> = {}): LaunchSpec => ({ name, image, memoryKib: 4096, ...more });
const router = { vifs: [{ network: 'default', ip: '10.64.7.1' }, { network: 'default' }], lockingMode: 'unlocked' } as const;

test('a VM is locked unless it is said otherwise, and each of its vifs is what was said', async (t) => {
  const rig = await makeRig();
  const registered: unknown[] = [];
  const register = rig.sim.register.bind(rig.sim);
  rig.sim.register = (domid, config) => {
    registered.push(config.vifs.map(({ ipv4, lockingMode }) => [ipv4[0], lockingMode]));
    return register(domid, config);
  };
  await rig.agent.bulk.launch(spec('plain'), signal);
  await rig.agent.bulk.launch(spec('router', router), signal);
  await rig.agent.bulk.launchEach([{ name: 'each', image, memoryKib: 4096, vifs: [{ network: 'default', lockingMode: 'unlocked' }, { network: 'default' }] }], signal);
  t.deepEqual(registered, [[['10.64.1.0', undefined]], [['10.64.7.1', 'unlocked'], ['10.64.1.1', 'unlocked']], [['10.64.1.2', 'unlocked'], ['10.64.1.3', undefined]]], 'the hypervisor is told so');
  t.equal(await codeOf(rig.agent.bulk.launch(spec('no', { vifs: [{ network: 'default', ip: '10.64.7.1' }] }), signal)), 'ADDRESS_IN_USE');
  await rig.close();
});

test('it stays so: after kills of the agent, without its journal, in copies, saved and brought back', async (t) => {
  const rig = await makeRig();
  const modes = (name: string): unknown => rig.agent.fleet.named(name)?.vifs.map((vif) => vif.lockingMode);
  await rig.agent.bulk.launch(spec('router', router), signal);
  await rig.crash();
  t.deepEqual(modes('router'), ['unlocked', 'unlocked'], 'by the journal');
  rig.agent.runner.close();
  await rig.agent.fleet.journal!.close();
  await rm(join(rig.stateDir, 'journal'), { recursive: true, force: true });
  await rig.crash();
  t.deepEqual(modes('router'), ['unlocked', 'unlocked'], 'by what was sealed into its domain');
  const vm = rig.agent.fleet.named('router')!;
  t.deepEqual(unseal(vm.uuid, sealOf(vm, false))!.vm.vifs, vm.vifs, 'a sealed record has it');
  await rig.agent.runner.hardShutdown(vm, signal);
  await rig.agent.definitions.clone(vm, 'copy');
  t.deepEqual(modes('copy'), ['unlocked', 'unlocked'], 'a clone of its definition');
  await rig.agent.bulk.launch(spec('single', { lockingMode: 'unlocked' }), signal);
  const single = rig.agent.fleet.named('single')!;
  await rig.agent.bulk.launch({ name: 'twin', clone: single.uuid }, signal);
  t.deepEqual(modes('twin'), ['unlocked'], 'a copy of a running one');
  await rig.agent.suspender.suspend(single, signal);
  await rig.crash();
  await rig.agent.suspender.resume(rig.agent.fleet.named('single')!, false, signal);
  t.deepEqual(modes('single'), ['unlocked'], 'suspended, and resumed by the next agent');
  await rig.close();
});

test('it goes along to another host, also as a copy, and nothing else does', async (t) => {
  const [from, to] = [await makeRig(), await makeRig()];
  await from.agent.bulk.launch(spec('router', router), signal);
  await from.agent.bulk.launch(spec('plain'), signal);
  const here = (name: string, copy: boolean): unknown => {
    const record = parseRecord(Buffer.from(JSON.stringify(recordOf(from.agent.fleet.named(name)!, from.agent.fleet, new Uint8Array(0), ''))));
    return admit(record, to.agent.fleet, () => true, copy ? { copy, name: `${name}-copy` } : {}).vifs.map((vif) => vif.lockingMode);
  };
  t.deepEqual(here('plain', false), [undefined]);
  t.deepEqual([here('router', false), here('router', true)], [['unlocked', 'unlocked'], ['unlocked', 'unlocked']]);
  await from.close();
  await to.close();
});

test('a saved VM that says something else of it is no saved VM', (t) => {
  const record = (lockingMode: unknown): Buffer =>
    Buffer.from(JSON.stringify({ uuid: 'u', name: 'n', description: '', image: '', memoryKib: 4, args: '', otherConfig: {}, startedMs: 0, cpuFeatures: '', hypervisor: '',
      vifs: [{ handle: 0, mac: 'm', network: 'n', subnet: '', ipv4: [], ...(lockingMode === undefined ? {} : { lockingMode }) }] }));
  t.equal(parseRecord(record('unlocked')).vifs[0]!.lockingMode, 'unlocked');
  t.equal(parseRecord(record(undefined)).vifs[0]!.lockingMode, undefined, 'one of before has none');
  for (const odd of ['disabled', '', 1, true, null]) t.throws(() => parseRecord(record(odd)), /lacks something/, String(odd));
  t.end();
});

test('by XenAPI', async (t) => {
  const rig = await makeServer();
  const vm = await rig.as('VM.create', { name_label: 'router', memory_static_max: 4 << 20, PV_kernel: image });
  const [network] = await rig.as('network.get_all');
  const vif = await rig.as('VIF.create', { VM: vm, network, device: '0', locking_mode: 'unlocked' });
  t.equal(await rig.as('VIF.get_locking_mode', vif), 'unlocked');
  await rig.as('VIF.set_locking_mode', vif, 'network_default');
  t.deepEqual([await rig.as('VIF.get_locking_mode', vif), rig.agent.fleet.named('router')!.vifs[0]!.lockingMode], ['network_default', undefined]);
  for (const mode of ['locked', 'disabled', '', 'UNLOCKED']) t.deepEqual((await failureOf(rig.as('VIF.set_locking_mode', vif, mode))).slice(0, 2), ['VALUE_NOT_SUPPORTED', 'locking_mode'], `"${mode}"`);
  await rig.as('VIF.set_locking_mode', vif, 'unlocked');
  await rig.as('VM.start', vm, false, false);
  t.equal((await failureOf(rig.as('VIF.set_locking_mode', vif, 'network_default')))[0], 'VM_BAD_POWER_STATE', 'of a VM that runs it stays');
  const launch = (more: object): Promise<string> => failureOf(rig.plugin('launch', { spec: JSON.stringify({ name: 'x', image, memoryKib: 4096, ...more }) })).then((f) => f[0] ?? '');
  t.equal(await launch({ lockingMode: 'disabled' }), 'VALUE_NOT_SUPPORTED');
  t.equal(await launch({ vifs: [] }), 'FIELD_TYPE_ERROR');
  t.equal(await launch({ vifs: [{ network: 'default' }], network: 'default' }), 'FIELD_TYPE_ERROR', 'one way or the other');
  t.equal(await launch({ vifs: [{ network: 'default', mac: 'x' }] }), 'FIELD_TYPE_ERROR');
  t.equal(await launch({ name: undefined, prefix: 'x', count: 2, vifs: [{ network: 'default', ip: '10.64.7.7' }] }), 'FIELD_TYPE_ERROR', 'one address for several VMs');
  const { vms } = await rig.plugin('launch', { spec: JSON.stringify({ name: 'y', image, memoryKib: 4096, vifs: [{ network: 'default', ip: '10.64.7.7' }, { network: 'default' }], lockingMode: 'unlocked' }) });
  t.equal(vms[0].ip, '10.64.7.7');
  const { rows } = await rig.plugin('list', { columns: JSON.stringify(['name', 'lockingModes']) });
  t.deepEqual(rows.sort(), [['router', 'unlocked'], ['y', 'unlocked unlocked']], 'the list says it');
  await rig.close();
});
