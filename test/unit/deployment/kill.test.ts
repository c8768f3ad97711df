/** The controller as it is built, killed while somebody pushes: the branch is at the old commit or the new, and everything goes on. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import test from 'tape';
import { buildController } from '../../../src/lab/build.ts';
import { kernel, Repo } from '../desired/rig.ts';
import { eventually } from '../control/api-rig.ts';
import { cert, key } from '../xenapi/certificate.ts';

const get = (port: number, path: string, token: string): Promise<any> =>
  new Promise((done, fail) => {
    request({ host: 'localhost', port, ca: cert, path, agent: false, headers: { authorization: `Bearer ${token}` } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('error', fail);
      response.on('end', () => done(JSON.parse(text)));
    })
      .on('error', fail)
      .end();
  });

/** Git processes that serve this repository. */
const serving = (folder: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`GIT_PROJECT_ROOT=${folder}`);
    } catch {
      return false;
    }
  });

test('kill -9 of the controller at any moment of a push: old or new, never half; nothing is left running; the next push is taken', async (t) => {
  const script = await buildController();
  const repo = await Repo.open();
  const state = join(repo.folder, 'fleet');
  const file = (name: string) => join(repo.folder, name);
  await writeFile(file('cert.pem'), cert);
  await writeFile(file('key.pem'), key);
  await writeFile(file('anchor'), await repo.signers('anna'));
  await mkdir(file('credentials'));
  await writeFile(
    file('controller.json'),
    JSON.stringify({ listen: { port: 0 }, certFile: file('cert.pem'), keyFile: file('key.pem'), stateDir: state, credentialsDir: file('credentials'), deployment: { signersFile: file('anchor') } }),
  );
  let child: ChildProcess;
  let log = '';
  const start = async (): Promise<number> => {
    child = spawn(process.execPath, [script, file('controller.json')], { stdio: ['ignore', 'ignore', 'pipe'] });
    log = '';
    return new Promise((done, fail) => {
      const early = (code: number | null): void => fail(new Error(`the controller ended with ${code}: ${log}`));
      child.once('exit', early);
      child.stderr!.on('data', (part: Buffer) => {
        log += part.toString();
        const m = /ready on 127\.0\.0\.1:(\d+)/.exec(log);
        if (m !== null) {
          child.off('exit', early);
          done(Number(m[1]));
        }
      });
    });
  };
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((done) => child.once('exit', done));
    child.kill('SIGKILL');
    await gone;
  };
  const bare = join(state, 'deploy.git');
  t.teardown(async () => {
    await kill();
    // Its git processes may still be writing.
    await rm(repo.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
  const headOf = async (): Promise<string> => (await repo.run(['rev-parse', '--verify', '-q', 'refs/heads/main'], bare)).text.trim();

  let port = await start();
  const token = (await readFile(join(state, 'operator.token'), 'utf8')).trim();
  repo.with({ GIT_SSL_CAINFO: file('cert.pem'), GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraHeader', GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`x:${token}`).toString('base64')}` });
  const url = () => `https://localhost:${port}/git/deploy.git`;
  t.ok((await repo.push(url())).ok, 'the built controller takes a push');
  await eventually(async () => (await get(port, '/v1/deployment', token)).accepted === (await headOf()), 'the built controller accepts it', 40_000);

  const outcomes = { old: 0, new: 0 };
  for (let round = 0; round < 6; round++) {
    const before = await headOf();
    const files = await repo.releaseFiles(round + 2, `round-${round}`);
    // Something that takes a moment to send and to judge.
    const after = await repo.commit({ ...files, 'docs/noise': randomBytes(700_000).toString('base64') }, 'anna');
    const pushing = repo.push(url());
    await new Promise((resolve) => setTimeout(resolve, 40 + 90 * round));
    await kill();
    await pushing;
    await eventually(async () => serving(bare).length === 0, 'git ends when its controller is gone', 40_000);
    const now = await headOf();
    t.ok(now === before || now === after, `round ${round}: the branch is at the old or the new commit`);
    outcomes[now === before ? 'old' : 'new']++;
    t.equal((await repo.run(['fsck', '--connectivity-only'], bare)).code, 0, 'all it leads to is there');
    port = await start();
    const again = await repo.push(url());
    t.ok(again.ok, `taken after the restart: ${again.ok ? '' : again.text}`);
    await eventually(async () => (await get(port, '/v1/deployment', token)).accepted === after, 'and accepted', 40_000);
  }
  t.comment(`killed with the branch at the old commit ${outcomes.old} times, at the new ${outcomes.new} times`);
  t.ok((await readdirSync(join(state, 'images'))).includes(`${kernel('round-5').hex}.elf`), 'the last image is stored');
  await kill();
  t.equal(child!.signalCode, 'SIGKILL', `it ended by nothing else: ${log.slice(-1500)}`);
  await eventually(async () => serving(bare).length === 0, 'git ends, too', 40_000);
});
