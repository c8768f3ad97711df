/** The middlebox as a guest of 5 MiB on real Xen, by the switch and by netback: configured while it runs, replaced live, wrong ones refused with line and column. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { labAttach, labDown, type Lab } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { shoal } from './shoal.ts';

const name = process.env['SHOAL_TEST_LAB'] ?? 'click';
const minutes = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'shoal-click-'));
const secretFile = join(folder, 'secret');
let lab: Lab;

/** The command, where guests can be reached. */
async function click(verb: string, ...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const { code, stdout, stderr } = await lab.inside([join(repositoryRoot, 'shoal'), 'click', verb, ...words, '--secret-file', secretFile], { timeoutMs: minutes });
  return { code, out: stdout.trim(), err: stderr };
}
function configuration(text: string): string {
  const file = join(folder, 'configuration.click');
  writeFileSync(file, text);
  return file;
}

test('click: a host', { timeout: 10 * minutes }, async (t) => {
  writeFileSync(secretFile, 's\n');
  await labDown(name);
  const up = await shoal(['lab', 'up', '--lab', name, '--memory', '2048'], 9 * minutes);
  t.equal(up.code, 0, up.err);
  lab = await labAttach(name);
});

for (const [i, backend] of ['switch', 'netback'].entries())
  test(`click: configured, replaced and read while it runs, by ${backend}`, { timeout: 5 * minutes }, async (t) => {
    const ip = `10.64.9.${i + 1}`;
    const made = await shoal(['vm', 'create', `middlebox-${backend}`, '--image', 'build/unikernels/click.elf', '--memory-kib', '5120', '--ip', ip, '--backend', backend, '--args', 'secret=s', '--lab', name, '--json'], minutes);
    t.equal(made.code, 0, made.err);
    const source = 'source :: RatedSource(RATE 100) -> counted :: Counter -> Discard;';
    let installed = await click('install', ip, configuration(source));
    for (let tries = 0; installed.code !== 0 && tries < 20; tries++) {
      await sleep(500);
      installed = await click('install', ip, configuration(source));
    }
    t.equal(installed.code, 0, installed.err);
    const count = async (): Promise<number> => Number((await click('read', ip, 'counted.count')).out);
    await sleep(500);
    const first = await count();
    t.ok(first > 0, `${first} packets`);
    const wrong = await click('install', ip, configuration('counted :: Counter;\ncounted -> Nonsense -> Discard;'));
    t.notEqual(wrong.code, 0);
    t.match(wrong.err, /2:\d+: .*Nonsense/, 'a wrong one is refused, with line and column');
    await sleep(300);
    t.ok((await count()) > first, 'the one that runs runs on');
    t.equal((await click('install', ip, configuration(`${source} Idle -> Discard;`))).code, 0, 'replaced');
    t.ok((await count()) >= first, 'what was counted is still counted');
    t.equal((await click('write', ip, 'counted.reset')).code, 0);
    t.ok((await count()) < first + 200, 'reset');
    t.equal((await lab.inside(['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '--max-time', '10', `http://${ip}:8081/`], { timeoutMs: 30_000 }).catch(() => ({ stdout: '000' }))).stdout.trim() !== '200', true, 'nothing without the secret');
    t.equal((await shoal(['vm', 'destroy', `middlebox-${backend}`, '--lab', name])).code, 0);
  });

test('click: down', { timeout: 2 * minutes }, async () => {
  rmSync(folder, { recursive: true });
  await labDown(name);
});
test.onFinish(() => void labDown(name));
