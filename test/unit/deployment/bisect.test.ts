/** docs/walkthroughs/bisect.md as it says: git bisect over a source repository, by the releases that were pushed. Only the VM is a stand-in. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'tape';
import { eventually } from '../control/api-rig.ts';
import { kernel, release } from '../desired/rig.ts';
import { cert } from '../xenapi/certificate.ts';
import { makeDeployment } from './rig.ts';

test('git bisect run finds the source commit whose release broke it, passes over commits without a release, and ends its VMs', async (t) => {
  const rig = await makeDeployment();
  t.teardown(() => rig.close());
  const { repo, api } = rig;
  const folder = repo.folder;
  const source = join(folder, 'source');
  await mkdir(source);
  const git = async (...args: string[]): Promise<string> => {
    const { code, text } = await repo.run(['-c', 'user.name=t', '-c', 'user.email=t@t', ...args], source);
    if (code !== 0) throw new Error(text);
    return text.trim();
  };
  await git('init', '-q', '-b', 'main', '.');
  const commits: string[] = [];
  // From the sixth on it is broken; the fourth was never released.
  for (let i = 1; i <= 8; i++) {
    await git('commit', '-q', '--allow-empty', '-m', `v${i}`);
    commits.push(await git('rev-parse', 'HEAD'));
    if (i === 4) continue;
    const word = i < 6 ? `good${i}` : `bad${i}`;
    const made = release(i + 1, word);
    made.image.source.commit = commits.at(-1)!;
    await repo.commit({ ...(await repo.releaseFiles(i + 1, word)), [`releases/acme/ping/${i + 1}.json`]: made, ...(i > 2 ? { [`images/${kernel(`good${i - 1}`).hex}`]: undefined } : {}) });
  }
  const pushed = await repo.push(rig.url());
  t.ok(pushed.ok, pushed.text);
  await eventually(async () => api.controller.deployment!.deployment.accepted === (await repo.head()), 'accepted', 40_000);

  const shoal = join(folder, 'shoal');
  await writeFile(
    shoal,
    `#!/bin/sh\ncd ${folder}\ncase "$2" in\ncreate) grep -qa good "$5" && echo good >verdict || echo bad >verdict; echo '[{"name":"x","ip":"127.0.0.1"}]'; echo "+$3" >>vms; echo "$6 $7" >>options;;\ndestroy) echo "-$3" >>vms;;\nesac\n`,
  );
  await chmod(shoal, 0o755);
  for (const [name, text] of [['ca.pem', cert], ['token', api.token]] as const) await writeFile(join(folder, name), text);
  const step = new URL('../../../docs/walkthroughs/bisect-step', import.meta.url).pathname;
  const env = {
    ...process.env,
    SHOAL: shoal,
    SHOAL_CONTROLLER: `https://localhost:${api.controller.server.port}`,
    SHOAL_CONTROLLER_CA: join(folder, 'ca.pem'),
    SHOAL_TOKEN_FILE: join(folder, 'token'),
    SHOAL_DEPLOY: repo.bare,
    SHOAL_VM: "--args 'two words'",
  };
  const bisect = (...args: string[]): Promise<string> =>
    new Promise((done) => execFile('git', ['bisect', ...args], { cwd: source, env, timeout: 60_000 }, (_error, stdout, stderr) => done(stdout + stderr)));
  await bisect('start', '--first-parent', commits[7]!, commits[0]!);
  const found = await bisect('run', step, 'acme/ping', `grep -q good ${join(folder, 'verdict')} && [ "$ADDRESS" = 127.0.0.1 ]`);
  t.ok(found.includes(`${commits[5]} is the first bad commit`), found.slice(-600));
  const lines = (await readFile(join(folder, 'vms'), 'utf8')).trim().split('\n');
  t.deepEqual(lines.filter((line) => line.startsWith('+')).map((line) => line.slice(1)).sort(), lines.filter((line) => line.startsWith('-')).map((line) => line.slice(1)).sort(), 'every VM that was made is gone');
  t.ok((await readFile(join(folder, 'options'), 'utf8')).split('\n').every((line) => line === '' || line === '--args two words'), 'each with the options that were given');
});
