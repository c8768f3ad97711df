/** Rollouts over HTTP: who sees them, who may touch them, events, and the audit log. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import type { Probes } from '../../../src/control/gates.ts';
import { eventually, makeApi, type ApiRig } from './api-rig.ts';
import { policy, push } from './rollout-rig.ts';

const probes: Probes = { icmp: async () => true, http: async () => 200, udp: async () => true, command: async () => undefined };
const phase = (rig: ApiRig, is: string) => async () => (await rig.call('GET', '/v1/rollouts/t/s')).body.phase === is;

test('list, look, pause, resume, abort, promote, rollback, by role', async (t) => {
  const rig = await makeApi(['a', 'b'], { probes });
  const { rollouts } = rig.controller;
  t.deepEqual((await rig.call('GET', '/v1/rollouts')).body, { items: [] });
  t.equal((await rig.call('GET', '/v1/rollouts/t/s')).status, 404);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/pause')).status, 404);
  const events = await rig.stream('/v1/events?kinds=rollout');
  await rollouts.begin(push(1, 'a'));
  await eventually(phase(rig, 'done'), 'one');
  const slow = policy({ observeMs: 3_600_000 });
  await rollouts.begin(push(2, 'b', {}, slow));
  await eventually(phase(rig, 'observing'), 'the canary is watched');
  const shown = (await rig.call('GET', '/v1/rollouts/t/s')).body;
  t.deepEqual(
    [shown.release.counter, shown.good.counter, shown.wave, shown.waves],
    [2, 1, 0, [{ copies: 1, ready: 1, begun: true }, { copies: 2, ready: 0, begun: false }, { copies: 3, ready: 0, begun: false }]],
  );
  const service = (await rig.call('GET', '/v1/services/t/s')).body;
  t.deepEqual([service.release, service.rollout], [1, { phase: 'observing', release: 2, wave: 0, waves: 3 }]);
  const vms = (await rig.call('GET', '/v1/vms')).body.items as { release: number; current: boolean }[];
  t.deepEqual(vms.map(({ release }) => release).sort(), [1, 1, 1, 1, 1, 2], 'each copy knows its release');
  t.ok(vms.every(({ current }) => current), 'and each is what its slot should have');

  const [tenant, other, viewer, ci] = await Promise.all([rig.tokenFor('tenant', 't'), rig.tokenFor('tenant', 'u'), rig.tokenFor('viewer', 't'), rig.tokenFor('ci', 't')]);
  t.equal((await rig.call('GET', '/v1/rollouts/t/s', undefined, other)).status, 404, 'of another tenant');
  t.deepEqual((await rig.call('GET', '/v1/rollouts', undefined, other)).body.items, []);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/abort', {}, other)).status, 404);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/pause', {}, viewer)).status, 403);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/promote', {}, ci)).status, 403, 'CI skips no gate');
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/pause', undefined, ci)).body.phase, 'paused', 'without a body');
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/pause', {}, ci)).status, 409);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/resume', {}, tenant)).body.phase, 'observing');
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/rollback', { to: 'x' }, tenant)).status, 400);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/rollback', { to: 9 }, tenant)).status, 404);
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/promote', {}, tenant)).body.phase, 'promoting');
  await eventually(phase(rig, 'done'), 'promoted');
  t.equal((await rig.call('POST', '/v1/rollouts/t/s/rollback', {}, tenant)).body.phase, 'rolling-back');
  await eventually(phase(rig, 'rolled-back'), 'back');
  await rollouts.begin(push(3, 'c', {}, slow));
  await rig.call('POST', '/v1/rollouts/t/s/abort', {});
  await eventually(phase(rig, 'rolled-back'), 'aborted');

  await eventually(async () => events.events.some(({ data }) => data.data?.phase === 'rolling-back'), 'events');
  t.ok(events.events.every(({ event }) => event === 'rollout' || event === 'hello'), 'only those');
  const audit = await readFile(join(rig.folder, 'audit.log'), 'utf8');
  t.ok(/"method":"ROLLOUT"[^\n]*event=promote[^\n]*"code":"promoting"/.test(audit), 'each step is in the audit log');
  t.ok(audit.includes('/v1/rollouts/t/s/promote'), 'and who asked for it');
  const document = (await rig.call('GET', '/openapi.json')).body;
  t.ok(document.paths['/v1/rollouts/{tenant}/{name}/rollback']?.post, 'the document has them');
  await rig.reopen();
  t.equal((await rig.call('GET', '/v1/rollouts/t/s')).body.phase, 'rolled-back', 'kept');
  await rig.call('DELETE', '/v1/services/t/s');
  await eventually(async () => (await rig.call('GET', '/v1/rollouts/t/s')).status === 404, 'gone with its service');
  events.close();
  await rig.close();
});
