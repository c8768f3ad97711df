/** `shoal ci publish` against a whole controller: what it commits, how it ends, and that others may push meanwhile. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { command } from '../../../src/cli/main.ts';
import { eventually } from '../control/api-rig.ts';
import { makeDeployment, type DeployRig } from '../deployment/rig.ts';
import { kernel } from '../desired/rig.ts';
import { cert } from '../xenapi/certificate.ts';

interface Outcome {
  code: number;
  err: string;
  json: any;
}

async function withCi(work: (rig: DeployRig, publish: (word: string, ...more: string[]) => Promise<Outcome>, folder: string) => Promise<void>): Promise<void> {
  const rig = await makeDeployment();
  const folder = mkdtempSync(join(tmpdir(), 'shoal-ci-'));
  const file = (name: string) => join(folder, name);
  writeFileSync(file('ca.pem'), cert);
  writeFileSync(file('token'), `${await rig.api.tokenFor('ci', 'acme')}\n`);
  const env = {
    SHOAL_CONTROLLER: `https://localhost:${rig.api.controller.server.port}`,
    SHOAL_CONTROLLER_CA: file('ca.pem'),
    SHOAL_TOKEN_FILE: file('token'),
    SHOAL_SIGNING_KEY: rig.repo.key('ci'),
  };
  const publish = async (word: string, ...more: string[]): Promise<Outcome> => {
    const image = file(`${word}.elf`);
    writeFileSync(image, kernel(word).bytes);
    let [out, err] = ['', ''];
    const code = await command(['ci', 'publish', ...(more.includes('--service') ? [] : ['--service', 'acme/ping']), '--image', image, '--source', rig.repo.work, '--json', ...more], { stdout: { write: (text: string) => void (out += text) }, stderr: { write: (text: string) => void (err += text) }, env } as never);
    return { code, err, json: out === '' ? undefined : JSON.parse(out.trimEnd().split('\n').at(-1)!) };
  };
  try {
    await rig.repo.push(rig.url());
    await work(rig, publish, folder);
  } finally {
    await rig.close();
    rmSync(folder, { recursive: true });
  }
}

test('publish: the release is committed signed with its image, pushed, and its rollout decides the exit code', (t) =>
  withCi(async ({ rollouts, images, repo, api }, publish) => {
    const end = async (release: number, state: 'done' | 'rolled-back' | 'failed', reason?: string) => {
      await eventually(async () => rollouts.begun.at(-1)?.services[0]?.release.counter === release, `release ${release} is begun`, 40_000);
      rollouts.answers.set('acme/ping', { release, state, ...(reason === undefined ? {} : { reason }) });
    };
    const [two] = await Promise.all([publish('two'), end(2, 'done')]);
    t.equal(two.code, 0, two.err);
    t.deepEqual([two.json.release, two.json.outcome, two.json.image, two.json.commit], [2, 'done', `sha256:${kernel('two').hex}`, await repo.head()]);
    t.ok(images.has(two.json.image));
    t.equal(two.json.source, await repo.git('rev-parse', 'HEAD'), 'the source commit is of the folder given');
    const [three] = await Promise.all([publish('three', '--rollout', 'hot-fix'), end(3, 'rolled-back', 'the canary did not answer')]);
    t.deepEqual([three.code, three.json.outcome, three.json.reason], [3, 'rolled-back', 'the canary did not answer']);
    t.equal(rollouts.begun.at(-1)!.services[0]!.rollout.mode, 'hot-fix', 'the policy named');
    const [four] = await Promise.all([publish('four'), end(4, 'failed')]);
    t.equal(four.code, 4);
    const five = await publish('five', '--timeout', '1');
    t.deepEqual([five.code, five.json.outcome], [6, 'under-way']);
    rollouts.answers.set('acme/ping', { release: 9, state: 'rolling' });
    t.equal((await publish('six')).code, 5, 'another came after it');

    const refusedByRight = await publish('seven', '--key', repo.key('eve'));
    t.deepEqual([refusedByRight.code, refusedByRight.json.error.code], [1, 'DEPLOYMENT_REFUSED']);
    t.match(JSON.stringify(refusedByRight.json), /not in signers/, "the controller's reason");
    t.equal((await publish('seven', '--service', 'acme/pong')).json.error.code, 'NOT_FOUND');
    t.equal((await publish('seven', '--rollout', 'bold')).json.error.code, 'DEPLOYMENT_REFUSED');
    t.equal((await publish('seven', '--no-wait', '--expires', '3651')).code, 2, 'what was typed wrong');
    t.equal((await api.call('GET', '/v1/deployment')).body.trouble, undefined);
  }));

test('publish: four at once are four releases; old ones leave the tree with their images, and stay in the history', (t) =>
  withCi(async ({ repo, api }, publish) => {
    const all = await Promise.all(['a', 'b', 'c', 'd'].map((word) => publish(word, '--no-wait', '--keep', '2')));
    t.deepEqual(all.map(({ code }) => code), [0, 0, 0, 0], all.map(({ err }) => err).join('\n'));
    t.deepEqual(all.map(({ json }) => json.release).sort(), [2, 3, 4, 5], 'each has a counter of its own');
    const tree = (await repo.run(['ls-tree', '-r', '--name-only', 'main'], repo.bare)).text;
    t.deepEqual(tree.match(/releases\/acme\/ping\/\d+\.json/g), ['releases/acme/ping/4.json', 'releases/acme/ping/5.json'], 'two stay');
    t.equal(tree.match(/images\//g)?.length, 2, 'and their images');
    const { deployment } = api.controller.deployment!;
    await eventually(async () => deployment.accepted === (await repo.head()), 'accepted', 40_000);
    const past = await deployment.releasesByCommit((await repo.git('rev-parse', 'HEAD')).slice(0, 10), 'acme', 'ping');
    t.deepEqual(past.map(({ counter }) => counter), [5, 4, 3, 2], 'the history has all');
  }));
