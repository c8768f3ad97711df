/**
 * A bounded run of every libFuzzer target of the kernel; SHOAL_FUZZ_SECONDS says how long each (default 5). Longer runs:
 * make -C unikernels fuzz FUZZ_SECONDS=600.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const seconds = Number(process.env.SHOAL_FUZZ_SECONDS ?? '5');

test('no fuzzer of the kernel finds anything', (t) => {
  const command = ['-s', '-j2', '-C', join(root, 'unikernels'), 'fuzz', `FUZZ_SECONDS=${seconds}`];
  const { status, stdout, stderr } = spawnSync('make', command, {
    encoding: 'utf8',
    timeout: 300_000 + seconds * 10_000,
  });
  t.equal(status, 0, `${stdout}${stderr}`.slice(-5000));
  for (const name of ['http', 'config', 'store', 'netfront', 'network', 'wired', 'disk', 'blkfront', 'http1', 'cache_control', 'hls', 'click', 'click_ip']) {
    const runs = new RegExp(`^fuzz ${name}: (\\d+) runs without a finding$`, 'm').exec(stdout)?.[1];
    t.ok(Number(runs) > 100, `${name}: ${runs} runs`);
  }
  t.end();
});
