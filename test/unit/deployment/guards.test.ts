/** A repository that changes under what rolls, and one that is given back older than it was. */
import { join } from 'node:path';
import test from 'tape';
import { eventually } from '../control/api-rig.ts';
import { Repo } from '../desired/rig.ts';
import { makeDeployment } from './rig.ts';

const day = 86_400_000;

test('a signer who is removed while his release rolls: it rolls on, over a restart too, and was his last', async (t) => {
  const rig = await makeDeployment({}, true);
  t.teardown(() => rig.close());
  const { repo, api } = rig;
  const gates = [{ kind: 'ready', withinMs: 5000 }];
  const rollout = { mode: 'waves', canary: 1, waves: [100], observeMs: 3_600_000, budget: 10, gates, failuresAllowed: 0, onFailure: 'rollback', replace: { address: 'new', drainMs: 0 } };
  // Hosts in memory answer no probe.
  const service = { ...(await repo.json('services/acme/ping.json')), health: { kind: 'none' }, rollout: { ...rollout, mode: 'hot-fix', observeMs: 0 } };
  await repo.commit({ 'services/acme/ping.json': service });
  t.ok((await repo.push(rig.url())).ok);
  const view = async () => (await api.call('GET', '/v1/rollouts/acme/ping')).body as { phase: string; release: { counter: number } };
  await eventually(async () => (await view())?.phase === 'done', 'the first runs', 40_000);
  const files = await repo.releaseFiles(2, 'two');
  await repo.commit({ ...files, 'services/acme/ping.json': { ...service, rollout, release: 2 } }, 'ci');
  t.ok((await repo.push(rig.url())).ok, 'ci releases 2');
  await eventually(async () => (await view()).phase === 'observing', 'its canary is watched', 40_000);

  await repo.commit({ signers: await repo.signers('anna'), 'policy.json': { ...(await repo.json('policy.json')), signers: { 'anna@acme.example': { roles: ['admin'] } } } }, 'anna');
  t.ok((await repo.push(rig.url())).ok, 'ci is removed');
  await eventually(async () => (await api.call('GET', '/v1/deployment')).body.accepted === (await repo.head()), 'that is accepted', 40_000);
  t.equal((await view()).phase, 'observing', 'what rolls is not touched');
  await api.reopen();
  await eventually(async () => (await api.call('GET', '/v1/deployment')).body.accepted === (await repo.head()), 'the next controller knows it', 40_000);
  t.equal((await view()).phase, 'observing');
  await api.call('POST', '/v1/rollouts/acme/ping/promote');
  await eventually(async () => (await view()).phase === 'done', 'it comes to its end', 40_000);
  t.equal((await view()).release.counter, 2);
  const before = await repo.head();
  await repo.commit({ ...(await repo.releaseFiles(3, 'three')) }, 'ci');
  t.match((await repo.push(rig.url())).text, /key that is not in signers/, 'and he releases no other');
  t.equal(await repo.head(), before);
});

test('a service that was deleted does not come back with a release from before', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  await repo.push();
  await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push()).ok);
  const service = await repo.json('services/acme/ping.json');
  await repo.commit({ 'services/acme/ping.json': undefined });
  t.ok((await repo.push()).ok, 'it is deleted');
  await repo.commit({ 'services/acme/ping.json': { ...service, release: 1 } });
  t.match((await repo.push()).text, /goes back from 2 to 1/, 'with the release before');
  await repo.back();
  await repo.commit({ 'services/acme/ping.json': service });
  t.ok((await repo.push()).ok, 'with its last one it does');
});

test('a remote that is put back, or was held back until its release expired: told, and nothing is begun', async (t) => {
  const source = await Repo.open();
  t.teardown(() => source.close());
  // A plain bare repository without any checks of its own, as some other git host.
  const remote = join(source.folder, 'remote.git');
  await source.run(['init', '-q', '--bare', '-b', 'main', remote], source.folder);
  await source.push(remote);
  const old = await source.git('rev-parse', 'HEAD');
  const rig = await makeDeployment({ anchor: await source.signers('anna'), remote: { url: `file://${remote}`, pollMs: 3_600_000, token: undefined, webhookSecret: undefined } });
  t.teardown(() => rig.close());
  const { api, rollouts } = rig;
  const told = async (what: RegExp): Promise<void> => {
    api.controller.deployment!.remote!.poke();
    await eventually(async () => what.test(JSON.stringify((await api.call('GET', '/v1/deployment')).body.trouble ?? '')), `told: ${what}`, 40_000);
  };
  await eventually(async () => rollouts.begun.length === 1, 'fetched at the start', 40_000);
  await source.commit(await source.releaseFiles(2, 'two'));
  await source.push(remote);
  api.controller.deployment!.remote!.poke();
  await eventually(async () => rollouts.begun.length === 2, 'the next', 40_000);
  const newest = rollouts.begun[1]!.commit;

  await source.run(['update-ref', 'refs/heads/main', old], remote);
  await told(/does not come after/);
  await api.reopen();
  await told(/does not come after/);
  t.ok(rollouts.begun.every(({ commit }, i) => (i === 0) === (commit === old)), 'the old commit was begun once, at the beginning');
  t.equal((await api.call('GET', '/v1/deployment')).body.accepted, newest);

  await source.run(['update-ref', 'refs/heads/main', newest], remote);
  await source.commit(await source.releaseFiles(3, 'three', { created: new Date(Date.now() - 40 * day).toISOString(), expires: new Date(Date.now() - day).toISOString() }));
  await source.push(remote);
  await told(/expires was/);
  t.ok(rollouts.begun.every(({ commit }) => commit === old || commit === newest), 'and it is not begun');
  // A release that is new is what helps.
  await source.commit(await source.releaseFiles(4, 'four'));
  await source.push(remote);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  api.controller.deployment!.remote!.poke();
  await eventually(async () => rollouts.begun.at(-1)!.services[0]!.release.counter === 4, 'the next release is', 40_000);
});
