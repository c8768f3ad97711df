/** The controller's part of migrations: whose VMs it moves, and to where. */
import test from 'tape';
import { newVmUuid } from '../../../src/model/uuid.ts';
import { makeApi, web } from './api-rig.ts';
import { until } from '../host/rig.ts';

test('a VM that is no service\'s moves; a copy, and what is not there, do not', async (t) => {
  const rig = await makeApi();
  for (const name of ['a', 'b']) await rig.call('PUT', `/v1/hosts/${name}`, { url: `https://${name}`, credential: name });
  const uuid = newVmUuid();
  const [a, b] = ['a', 'b'].map((name) => rig.hosts.get(name)!) as [NonNullable<ReturnType<typeof rig.hosts.get>>, NonNullable<ReturnType<typeof rig.hosts.get>>];
  a.put({ uuid, name: 'loose', copy: undefined, state: 'running', memoryKib: 4096, image: '', args: '', addresses: [] });
  await until(() => rig.controller.fleet.copies.foreignWithUuid(uuid) !== undefined, 'it is seen');
  const path = `/v1/vms/${uuid}/migrate`;
  t.equal((await rig.call('POST', path, { to: 'nowhere' })).status, 404);
  t.equal((await rig.call('POST', path, { to: 'a' })).status, 409);
  t.equal((await rig.call('POST', path, { where: 'b' })).status, 400);
  t.equal((await rig.call('POST', path, { to: 'b' }, await rig.tokenFor('tenant', 'acme'))).status, 403);
  const moved = await rig.call('POST', path, { to: 'b', live: true });
  t.deepEqual([moved.status, moved.body.from, moved.body.to], [200, 'a', 'b']);
  t.deepEqual([a.vms.has(uuid), b.vms.has(uuid)], [false, true]);
  await rig.call('PUT', '/v1/services/acme/web', { ...web, count: 1 });
  await until(() => a.vms.size + b.vms.size === 2, 'a copy');
  const copy = [...a.vms.values(), ...b.vms.values()].find((vm) => vm.copy !== undefined)!;
  await until(() => rig.controller.fleet.copies.withUuid(copy.uuid) !== undefined, 'it is seen');
  t.equal((await rig.call('POST', `/v1/vms/${copy.uuid}/migrate`, { to: 'b' })).status, 409, 'a copy is bound to its host');
  await rig.close();
});
