/** Pushes over the controller's own HTTPS, and what it makes of them. */
import { spawn } from 'node:child_process';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { request } from 'node:https';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { eventually } from '../control/api-rig.ts';
import { kernel, Repo, sourceOf } from '../desired/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeDeployment } from './rig.ts';

test('a push over HTTPS is what the fleet does next: read, images stored, begun once; after a restart it is begun again', async (t) => {
  const rig = await makeDeployment();
  t.teardown(() => rig.close());
  const { repo, api, rollouts } = rig;
  const pushed = await repo.push(rig.url());
  t.ok(pushed.ok, `taken: ${pushed.text}`);
  await eventually(async () => rollouts.begun.length === 1, 'the first commit is begun');
  const [desired] = rollouts.begun;
  t.equal(desired!.commit, await repo.head());
  t.equal(desired!.services.length, 1);
  const { spec, release, rollout } = desired!.services[0]!;
  t.equal(spec.tenant, 'acme');
  t.equal(spec.image, release.image.digest, "the spec's image is the release's");
  t.equal(spec.update.maxAtOnce, 1, 'the spec is complete');
  t.equal(rollout.mode, 'waves');
  t.ok(rig.images.has(release.image.digest), 'its image is stored');
  t.deepEqual(api.controller.fleet.state.get('host', 'host0')?.labels, { place: 'berlin' }, 'the host has the labels of the repository');

  await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push(rig.url())).ok);
  await eventually(async () => rollouts.begun.length === 2, 'the second commit is begun');
  t.ok(rig.images.has(`sha256:${kernel('two').hex}` as never));
  rollouts.answers.set('acme/ping', { release: 2, state: 'rolling' });
  const { body } = await api.call('GET', '/v1/deployment/services/acme/ping');
  t.deepEqual([body.commit, body.release.counter, body.rollout.state], [await repo.head(), 2, 'rolling']);
  t.equal((await api.call('GET', '/v1/deployment/services/acme/ping', undefined, await api.tokenFor('ci', 'other'))).status, 404, 'not for another tenant');
  t.equal((await api.call('GET', '/v1/deployment')).body.accepted, await repo.head());

  await api.reopen();
  await eventually(async () => rollouts.begun.length === 3, 'begun again after the restart');
  t.equal(rollouts.begun[2]!.commit, await repo.head());
});

test('who may push: a token as the password; none, a wrong one and a viewer are turned away; a tenant changes only his own', async (t) => {
  const rig = await makeDeployment();
  t.teardown(() => rig.close());
  const { repo, api } = rig;
  t.equal((await api.call('GET', '/git/deploy.git/info/refs?service=git-upload-pack', undefined, null)).headers['www-authenticate'], 'Basic realm="shoal"', 'git is asked for a password');
  rig.as('shoal_00000000_wrong');
  t.notOk((await repo.push(rig.url())).ok, 'a wrong token');
  rig.as(await api.tokenFor('viewer'));
  t.match((await repo.push(rig.url())).text, /403/, 'a viewer');
  rig.as(await api.tokenFor('ci', 'acme'));
  t.match((await repo.push(rig.url())).text, /token is of the tenant acme/, 'a tenant does not found the repository');
  rig.as(api.token);
  t.ok((await repo.push(rig.url())).ok, 'the operator');
  rig.as(await api.tokenFor('ci', 'acme'));
  await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push(rig.url())).ok, "the tenant's own service");
  rig.as(await api.tokenFor('ci', 'other'));
  await repo.commit(await repo.releaseFiles(3, 'three'), 'anna');
  t.match((await repo.push(rig.url())).text, /token is of the tenant other, and this is not his/, "another tenant's token, whoever signed");
  const lines = (await api.call('GET', '/v1/audit')).body;
  t.ok(JSON.stringify(lines).includes('git-receive-pack'), 'pushes are in the audit log');
});

test('two at once: one is taken, the other is told to fetch; what is cut in the middle leaves nothing', async (t) => {
  const rig = await makeDeployment();
  t.teardown(() => rig.close());
  const { repo, api } = rig;
  await repo.push(rig.url());
  const other = join(repo.folder, 'other');
  await repo.run(['clone', '-q', repo.bare, other], repo.folder);
  await repo.commit(await repo.releaseFiles(2, 'two'));
  const mine = await repo.git('rev-parse', 'HEAD');
  await repo.run(['-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'gpg.format=ssh', '-c', `user.signingkey=${repo.key('anna')}`, 'commit', '-q', '-S', '--allow-empty', '-m', 'x'], other);
  const both = await Promise.all([repo.push(rig.url()), repo.run(['push', rig.url(), 'HEAD:main'], other)]);
  t.equal([both[0].ok, both[1].code === 0].filter(Boolean).length, 1, `one of two is taken: ${both[0].text} ${both[1].text}`);
  if (!both[0].ok) {
    await repo.git('fetch', '-q', repo.bare, 'main');
    await repo.git('-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'gpg.format=ssh', '-c', `user.signingkey=${repo.key('ci')}`, 'rebase', '-q', '--gpg-sign', 'FETCH_HEAD');
    t.ok((await repo.push(rig.url())).ok, 'and the other after a rebase');
  } else t.equal(await repo.head(), mine);

  // A push whose body ends at each tenth of its pack.
  const head = await repo.head();
  await repo.git('reset', '-q', '--hard', head);
  const image = kernel('cut');
  const padded = Buffer.concat([image.bytes, randomBytes(300_000)]);
  const hex = createHash('sha256').update(padded).digest('hex');
  await repo.commit({ [`images/${hex}`]: padded });
  const pack = await packOf(repo, head, await repo.git('rev-parse', 'HEAD'));
  for (let tenth = 0; tenth < 10; tenth++) await cutPush(api.controller.server.port, api.token, pack, Math.floor((pack.length * tenth) / 10));
  await eventually(async () => (await readdir(join(repo.bare, 'objects'))).every((name) => !/^(incoming|tmp_objdir)/.test(name)), 'no quarantine is left', 40_000);
  t.equal(await repo.head(), head, 'nothing of it was taken');
  t.ok((await repo.push(rig.url())).ok, 'and whole it is');
});

const packet = (text: string): string => (text.length + 4).toString(16).padStart(4, '0') + text;

async function packOf(repo: Repo, before: string, after: string): Promise<Buffer> {
  const child = spawn('git', ['pack-objects', '--stdout', '--revs', '-q'], { cwd: repo.work, stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.end(`${after}\n^${before}\n`);
  const parts: Buffer[] = [];
  for await (const part of child.stdout) parts.push(part as Buffer);
  return Buffer.concat([Buffer.from(`${packet(`${before} ${after} refs/heads/main\0 report-status`)}0000`), ...parts]);
}

function cutPush(port: number, token: string, body: Buffer, at: number): Promise<void> {
  return new Promise((done) => {
    const outgoing = request({ host: 'localhost', port, ca: cert, method: 'POST', path: '/git/deploy.git/git-receive-pack', agent: false, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/x-git-receive-pack-request', 'content-length': body.length } });
    outgoing.on('error', () => done());
    outgoing.on('close', () => done());
    outgoing.write(body.subarray(0, at), () => setTimeout(() => outgoing.destroy(), 30));
  });
}

test('a remote: fetched by polling and by its hook, judged like a push; what is damaged or refused changes nothing and is told', async (t) => {
  const source = await Repo.open();
  t.teardown(() => source.close());
  // A plain bare repository without any checks of its own, as some other git host.
  const remote = join(source.folder, 'remote.git');
  await source.run(['init', '-q', '--bare', '-b', 'main', remote], source.folder);
  await source.push(remote);
  const options = { anchor: await source.signers('anna'), remote: { url: `file://${remote}`, pollMs: 3_600_000, token: undefined, webhookSecret: 'hush' } };
  const rig = await makeDeployment(options);
  t.teardown(() => rig.close());
  const { api, rollouts } = rig;
  await eventually(async () => rollouts.begun.length === 1, 'fetched at the start', 40_000);
  t.notOk((await rig.repo.push(rig.url())).ok, 'a push here is refused: the other host is the source');

  const hook = (body: string, header: string) => api.call('POST', '/git/webhook', body, null, { 'content-type': 'application/json', 'x-hub-signature-256': header });
  const sign = (body: string, secret: string) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
  await source.commit(await source.releaseFiles(2, 'two'));
  await source.push(remote);
  t.equal((await hook('{"a":1}', sign('{"a":1}', 'wrong'))).status, 401, 'a hook with another secret');
  t.equal((await hook('{"a":1}', sign('{"a":2}', 'hush'))).status, 401, 'of another body');
  t.equal((await hook('{"a":1}', sign('{"a":1}', 'hush'))).status, 202, 'of the host itself');
  await eventually(async () => rollouts.begun.length === 2, 'fetched by the hook', 40_000);

  await source.commit(await source.releaseFiles(3, 'three'), 'eve');
  await source.push(remote);
  const poke = async () => {
    api.controller.deployment!.remote!.poke();
    await eventually(async () => (await api.call('GET', '/v1/deployment')).body.trouble !== undefined, 'trouble is told', 40_000);
    return (await api.call('GET', '/v1/deployment')).body;
  };
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const told = await poke();
  t.equal(told.trouble.code, 'DEPLOYMENT_REFUSED');
  t.match(JSON.stringify(told.trouble), /not in signers/);
  t.equal(rollouts.begun.length, 2, 'and nothing was begun');

  // The remote goes back to good, but one of its objects is damaged.
  await source.git('reset', '-q', '--hard', 'HEAD~1');
  await source.commit(await source.releaseFiles(3, 'three'), 'ci');
  await source.push(remote, '--force');
  const oid = await source.git('rev-parse', 'HEAD:services/acme/ping.json');
  const place = join(remote, 'objects', oid.slice(0, 2), oid.slice(2));
  const whole = await readFile(place);
  const bad = Buffer.from(whole);
  bad[whole.length - 3]! ^= 0xff;
  await (await import('node:fs/promises')).chmod(place, 0o600);
  await writeFile(place, bad);
  api.controller.deployment!.remote!.poke();
  await eventually(async () => (await api.call('GET', '/v1/deployment')).body.trouble?.code === 'REPOSITORY_FAILED', 'the damage is told', 40_000);
  t.equal(rollouts.begun.length, 2);
  await writeFile(place, whole);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  api.controller.deployment!.remote!.poke();
  await eventually(async () => rollouts.begun.length === 3, 'put right, it is taken', 40_000);
  t.equal((await api.call('GET', '/v1/deployment')).body.trouble, undefined);
});

test('the ref is not believed past its objects: a lost image, a branch put back, an engine that fails are told, and tried again', async (t) => {
  const rig = await makeDeployment({ lookMs: 200 });
  t.teardown(() => rig.close());
  const { repo, api, rollouts } = rig;
  await repo.push(rig.url());
  await eventually(async () => rollouts.begun.length === 1, 'begun');
  const first = await repo.head();
  rollouts.fail = new Error('the disk is full');
  await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push(rig.url())).ok);
  await eventually(async () => (await api.call('GET', '/v1/deployment')).body.trouble?.message === 'the disk is full', 'the trouble is told');
  rollouts.fail = undefined;
  await eventually(async () => rollouts.begun.length === 2, 'it is tried again');

  await repo.run(['update-ref', 'refs/heads/main', first], repo.bare);
  await eventually(async () => (await api.call('GET', '/v1/deployment')).body.trouble?.code === 'REPOSITORY_FAILED', 'a branch that went back is told');
  t.match((await api.call('GET', '/v1/deployment')).body.trouble.message, /does not come after it/);
  t.equal(rollouts.begun.length, 2, 'and not begun');
});

test('a past version is found by its source commit when its files have left the tree, and its image comes out of the history', async (t) => {
  const rig = await makeDeployment();
  t.teardown(() => rig.close());
  const { repo, rollouts } = rig;
  await repo.commit(await repo.releaseFiles(2, 'two'));
  await repo.commit({ ...(await repo.releaseFiles(3, 'three')), 'releases/acme/ping/2.json': undefined, [`images/${kernel('two').hex}`]: undefined });
  t.ok((await repo.push(rig.url())).ok);
  await eventually(async () => rollouts.begun.length === 1, 'begun');
  const { deployment } = rig.api.controller.deployment!;
  t.notOk(rig.images.has(`sha256:${kernel('two').hex}` as never), 'its image is not stored: no service runs it');
  const all = (await rig.api.call('GET', '/v1/deployment/releases/acme/ping')).body.items as { counter: number }[];
  t.deepEqual(all.map(({ counter }) => counter), [3, 2, 1], 'all there ever were');
  const [past, ...others] = await deployment.releasesByCommit(sourceOf('two').slice(0, 8), 'acme', 'ping');
  t.equal(others.length, 0);
  t.equal(past?.counter, 2);
  const made = await rig.api.call('POST', '/v1/deployment/releases/acme/ping/2/image');
  t.deepEqual([made.status, made.body.digest], [200, past!.digest]);
  t.equal((await rig.api.call('POST', '/v1/deployment/releases/acme/ping/9/image')).status, 404);
  t.equal((await rig.api.call('POST', '/v1/deployment/releases/acme/ping/2/image', undefined, await rig.api.tokenFor('ci', 'other'))).status, 404);
  t.deepEqual(Buffer.from(await rig.images.bytes(`sha256:${kernel('two').hex}` as never)), kernel('two').bytes, 'its image is bootable');
  await repo.commit(await repo.releaseFiles(4, 'two'));
  t.ok((await repo.push(rig.url())).ok);
  await eventually(async () => rollouts.begun.length === 2, 'begun');
  const items = (await rig.api.call('GET', `/v1/deployment/releases/acme/ping?commit=${sourceOf('two').slice(0, 7)}`)).body.items;
  t.deepEqual(items.map(({ counter }: { counter: number }) => counter), [4, 2], 'the newest first');
  for (const [prefix, tenant, service] of [['abc', 'acme', 'ping'], ['ffffffff', 'acme', 'ping'], [sourceOf('two'), 'acme', 'pong'], ['..', 'acme', 'ping']] as const)
    t.deepEqual(await deployment.releasesByCommit(prefix, tenant, service), [], `${prefix} ${tenant}/${service}: none`);
});

test('what is pushed is rolled out by the controller itself, each step recorded in the repository; a service that is gone ends', async (t) => {
  const rig = await makeDeployment({}, true);
  t.teardown(() => rig.close());
  const { repo, api } = rig;
  const rollout = { mode: 'waves', canary: 1, waves: [100], observeMs: 0, budget: 10, gates: [{ kind: 'ready', withinMs: 5000 }], failuresAllowed: 0, onFailure: 'rollback', replace: { address: 'new', drainMs: 0 } };
  // Hosts in memory answer no probe.
  await repo.commit({ 'services/acme/ping.json': { ...(await repo.json('services/acme/ping.json')), health: { kind: 'none' }, rollout } });
  t.ok((await repo.push(rig.url())).ok);
  const view = async () => (await api.call('GET', '/v1/deployment/services/acme/ping')).body.rollout as { state: string; release: number } | undefined;
  await eventually(async () => (await view())?.state === 'done', 'ten copies run', 40_000);
  t.equal(api.hosts.get('host0')!.vms.size, 10);
  const { record } = api.controller.deployment!.deployment;
  const last = async () => (await record.last('acme', 'ping', 1))[0] as { release: number; phase: string } | undefined;
  await eventually(async () => (await last())?.phase === 'done', 'its end is in the record', 40_000);
  t.equal((await last())!.release, (await view())!.release, 'as the controller says');
  await repo.commit({ 'services/acme/ping.json': undefined });
  t.ok((await repo.push(rig.url())).ok, 'a service is deleted');
  await eventually(async () => api.hosts.get('host0')!.vms.size === 0, 'its copies end', 40_000);
});
