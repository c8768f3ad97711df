/** Pushes through git's own receive-pack and the real hook: what is taken, and what is refused with a message the pusher can act on. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { kernel, release, Repo, sourceOf, type Files } from './rig.ts';

test('the example is taken as it is, a signed release after it too, and nothing that is wrong', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  const first = await repo.push();
  t.ok(first.ok, `the example: ${first.text}`);
  await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push()).ok, 'a release by ci');
  const good = await repo.head();

  const service = await repo.json('services/acme/ping.json');
  const policy = await repo.json('policy.json');
  const two = kernel('two');
  const three = kernel('three');
  const withLabel = async (files: Files): Promise<Files> => ({ ...(await repo.releaseFiles(3, 'three')), ...files });
  const signersOf = (...names: string[]) => repo.signers(...names);

  const cases: [string, string, Files, RegExp][] = [
    ['not signed', 'nobody', await repo.releaseFiles(3, 'three'), /is not signed/],
    ['by a stranger', 'eve', await repo.releaseFiles(3, 'three'), /key that is not in signers/],
    ['ci changes the policy', 'ci', { 'policy.json': { ...policy, limits: {} } }, /policy\.json is not for this push: ci@acme\.example has not the role admin/],
    ['ci adds a signer', 'ci', { signers: await signersOf('anna', 'ci', 'eve') }, /signers is not for this push/],
    ['ci changes a host', 'ci', { 'hosts/host1.json': { labels: {} } }, /has not the role fleet/],
    ["another tenant's service", 'ci', { 'services/other/web.json': { ...service } }, /ci@acme\.example may not deploy other\/web/],
    ['no JSON', 'ci', { 'services/acme/ping.json': '{' }, /services\/acme\/ping\.json is not JSON/],
    ['two fields wrong, both told', 'ci', { 'services/acme/ping.json': { ...service, count: -1, colour: 1 } }, /count must be >= 0[^]*colour is not a field|colour is not a field[^]*count must be >= 0/],
    ['no such path', 'ci', { 'service/acme/ping.json': service }, /is no file of a deployment repository/],
    ['an equal counter', 'ci', { 'releases/acme/ping/2.json': release(2, 'two', { image: { version: 'x' } }) }, /2\.json is changed; a release never is/],
    ['a lower counter', 'ci', { 'releases/acme/ping/1.json': undefined, 'services/acme/ping.json': { ...service, release: 1 } }, /goes back from 2 to 1/],
    ['an expired release', 'ci', await repo.releaseFiles(3, 'three', { created: '2020-01-01T00:00:00Z', expires: '2020-02-01T00:00:00Z' }), /expires was 2020-02-01/],
    ['a release of tomorrow', 'ci', await repo.releaseFiles(3, 'three', { created: new Date(Date.now() + 86_400_000).toISOString() }), /created is .* here it is/],
    ['an expiry beyond the policy', 'ci', await repo.releaseFiles(3, 'three', { expires: '2099-01-01T00:00:00Z' }), /policy\.json allows 3650/],
    ['other bytes than the name says', 'ci', await withLabel({ [`images/${three.hex}`]: Buffer.concat([three.bytes, Buffer.from('x')]) }), /has the digest/],
    ['no ELF', 'ci', { 'images/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08': 'test' }, /not an ELF kernel/],
    ['a manifest without its image', 'ci', await withLabel({ [`images/${three.hex}`]: undefined }), /is not in the same commit/],
    ["another image's size", 'ci', await withLabel({ 'releases/acme/ping/3.json': release(3, 'three', { image: { sizeBytes: 5 } }) }), /image\/sizeBytes is 5/],
    ["another service's manifest", 'ci', await withLabel({ 'releases/acme/ping/3.json': release(3, 'three', { service: 'pong' }) }), /service is "pong", the path says "ping"/],
    ['a release that is not there', 'ci', { 'services/acme/ping.json': { ...service, release: 9 } }, /there is no releases\/acme\/ping\/9\.json/],
    ['idle never, for it is probed', 'ci', { 'services/acme/ping.json': { ...service, health: { kind: 'http', port: 80, path: '/', intervalMs: 2000 }, summon: { idleS: 5 } } }, /summon\/idleS never comes/],
    ['a rollout that is not there', 'ci', { 'services/acme/ping.json': { ...service, rollout: 'bold' } }, /names "bold"/],
    ['more copies than allowed', 'ci', { 'services/acme/ping.json': { ...service, count: 2001 } }, /policy\.json allows 2000/],
    ['the image that runs is deleted', 'ci', { [`images/${two.hex}`]: undefined }, /is not there/],
    ['the last release is deleted', 'ci', { 'releases/acme/ping/2.json': undefined, 'services/acme/ping.json': undefined }, /is the last release of its service/],
    ['no admin left', 'anna', { 'policy.json': { ...policy, signers: { 'ci@acme.example': policy.signers['ci@acme.example'] } } }, /leave no admin/],
    ['one key with two names', 'anna', { signers: (await signersOf('anna', 'ci')) + (await signersOf('ci')).replace('ci@', 'root@') }, /same key/],
    ['waves that fall', 'anna', { 'rollouts/careful.json': { ...(await repo.json('rollouts/careful.json')), waves: [50, 10, 100] } }, /waves do not rise to 100/],
    ['a gate of another kind', 'anna', { 'rollouts/careful.json': { ...(await repo.json('rollouts/careful.json')), gates: [{ kind: 'icmp', withinMs: 5 }] } }, /gates\/0\/timesInRow is needed/],
    ['a file too large', 'anna', { 'policy.json': `${' '.repeat(70_000)}{}` }, /65536 are the most/],
  ];
  for (const [what, who, files, message] of cases) {
    await repo.commit(files, who);
    const { ok, text } = await repo.push();
    t.notOk(ok, `${what}: refused`);
    t.match(text, message, `${what}: says why`);
    await repo.back();
  }
  t.equal(await repo.head(), good, 'nothing of it was taken');

  await repo.commit({ 'policy.json': { ...policy, limits: { ...policy.limits, imageBytes: 1024 } } }, 'anna');
  await repo.commit(await repo.releaseFiles(3, 'three'));
  t.match((await repo.push()).text, /has \d+ bytes; 1024 are the most/, 'over the size that the policy of the commit before allows');
  await repo.back();

  await repo.git('reset', '-q', '--hard', 'HEAD~1');
  await repo.commit({ 'README.md': 'x' }, 'anna');
  t.match((await repo.push(undefined, '--force')).text, /not a fast-forward/, 'a forced push');
  await repo.back();
  t.match((await repo.run(['push', repo.bare, 'HEAD:refs/heads/other'])).text, /Only refs\/heads\/main is taken/, 'another branch');
  t.match((await repo.run(['push', repo.bare, 'HEAD:refs/rollout/acme/ping'])).text, /Only refs\/heads\/main is taken/, "the record's refs");
  t.notOk((await repo.run(['push', repo.bare, ':main'])).code === 0, 'deleting the branch');

  // A merge would bring commits that were judged by nobody's policy.
  await repo.git('checkout', '-q', '-b', 'side', 'HEAD~1');
  await repo.commit({ 'docs/a.md': 'a' }, 'anna');
  await repo.git('checkout', '-q', 'main');
  await repo.run(['-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'gpg.format=ssh', '-c', `user.signingkey=${repo.key('anna')}`, 'merge', '-q', '-S', '--no-ff', '-m', 'm', 'side']);
  t.match((await repo.push()).text, /is a merge/, 'a merge');
  await repo.back();
  t.equal(await repo.head(), good, 'still nothing of it was taken');

  const probed = { kind: 'http', port: 80, path: '/', intervalMs: 6000 };
  await repo.commit({ 'services/acme/ping.json': { ...service, health: probed, summon: { idleS: 5 } } }, 'ci');
  const taken = await repo.push();
  t.ok(taken.ok, `probed more seldom than it is idle, a service can go to nothing: ${taken.text}`);
  t.notEqual(await repo.head(), good, 'taken');
});

test('the first commit is for the signers the operator named; a removed signer is out with the next commit', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  await repo.git('update-ref', '-d', 'HEAD');
  await repo.commit({ signers: await repo.signers('eve', 'ci') }, 'eve');
  t.match((await repo.push()).text, /not in signers/, 'a stranger does not found it');
  await repo.git('update-ref', '-d', 'HEAD');
  await repo.commit({ signers: await repo.signers('anna', 'ci') }, 'anna');
  t.ok((await repo.push()).ok, 'anna does');

  // Both in one push: the second commit is judged by the first.
  const policy = await repo.json('policy.json');
  await repo.commit({ signers: await repo.signers('anna') }, 'anna');
  await repo.commit(await repo.releaseFiles(2, 'two'), 'ci');
  t.match((await repo.push()).text, /key that is not in signers/, 'ci was removed by the commit before');
  await repo.back();
  await repo.commit({ 'policy.json': { ...policy, signers: { 'anna@acme.example': { roles: ['admin'] } } } }, 'anna');
  t.ok((await repo.push()).ok);
  await repo.commit(await repo.releaseFiles(2, 'two'), 'ci');
  t.match((await repo.push()).text, /gives no role to that name/, 'a key without a role');
  await repo.back();
  const soon = (await repo.signers('ci')).replace('namespaces="git"', 'namespaces="git",valid-before="20200101Z"');
  await repo.commit({ signers: (await repo.signers('anna')) + soon, 'policy.json': policy }, 'anna');
  t.ok((await repo.push()).ok);
  await repo.commit(await repo.releaseFiles(2, 'two'), 'ci', ['--date=2019-06-01T00:00:00Z']);
  t.match((await repo.push()).text, /not valid now/, 'a key past its time does not sign by an old date');
});

test('what was played before is not taken again: an old manifest after a newer, an old commit, a signature on other bytes', async (t) => {
  const repo = await Repo.open();
  t.teardown(() => repo.close());
  await repo.push();
  const old = await repo.commit(await repo.releaseFiles(2, 'two'));
  t.ok((await repo.push()).ok);
  await repo.commit({ ...(await repo.releaseFiles(3, 'three')), 'releases/acme/ping/2.json': undefined, 'releases/acme/ping/1.json': undefined });
  t.ok((await repo.push()).ok, 'old manifests may leave the tree');
  await repo.commit({ 'releases/acme/ping/2.json': await repo.git('show', `${old}:releases/acme/ping/2.json`) });
  t.match((await repo.push()).text, /counter is 2, and release 3 has been/, 'the manifest again');
  await repo.back();
  await repo.git('reset', '-q', '--hard', old);
  t.notOk((await repo.push(undefined, '--force')).ok, 'the commit again');

  await repo.back();
  await repo.commit(await repo.releaseFiles(4, 'four'), 'ci');
  const raw = await repo.git('cat-file', 'commit', 'HEAD');
  const file = join(repo.folder, 'forged');
  await writeFile(file, `${raw.replace(/\n\nchange$/, '\n\nanother')}\n`);
  const forged = await repo.git('hash-object', '-t', 'commit', '-w', file);
  await repo.git('reset', '-q', '--hard', forged);
  t.match((await repo.push()).text, /signature that is not right/, 'a signature moved to other bytes');
  t.ok((await readFile(file, 'utf8')).includes('another'));
  t.ok(sourceOf('a').length === 40);
});
