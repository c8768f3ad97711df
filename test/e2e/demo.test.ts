/**
 * The demo on two real Xen hosts, small: every VM that the controller spread over them answers, xl is measured beside them, the
 * report is written; run again, and interrupted.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'tape';
import { controlOf } from '../../src/cli/fleet-lab.ts';
import { labController } from '../../src/lab/controller.ts';
import { labAttach, labDown } from '../../src/lab/lab.ts';
import { shoal } from './shoal.ts';

const lab = 'tdemo';
const folder = mkdtempSync(join(tmpdir(), 'shoal-demo-'));
const report = join(folder, 'report.html');
const minutes = 60_000;
const demo = (...words: string[]) => ['demo', '--lab', lab, '--report', report, '--json', ...words];

/** VMs of the demo's service, as the controller has them; none while it cannot be asked. */
async function copies(): Promise<{ name: string; host: string; state: string; serial: number }[]> {
  const controller = labController(lab);
  if (controller === undefined) return [];
  const control = controlOf(controller);
  try {
    const vms = await control.list<{ name: string; host: string; state: string; foreign: boolean }>('/v1/vms');
    return vms.filter(({ foreign }) => !foreign).map((vm) => ({ ...vm, serial: Number.parseInt(vm.name.split('.').pop()!, 36) }));
  } catch {
    return [];
  } finally {
    control.close();
  }
}

const on = async (host: string): Promise<any[]> => (await shoal(['vm', 'list', '--lab', `${lab}/${host}`, '--json'])).json;

test('a small demo: every VM is created and answers, beside xl', async (t) => {
  const { code, json, err } = await shoal(demo('--vms', '12', '--xl-samples', '1'), 20 * minutes);
  t.equal(code, 0, err.split('\n').slice(-6).join(' | '));
  t.deepEqual([json?.created, json?.answered], [12, 12]);
  for (const field of ['p50Ms', 'p99Ms', 'maxMs', 'xlP50Ms', 'totalS']) t.ok(json?.[field] > 0, `${field}: ${json?.[field]}`);
  t.ok(json?.p50Ms <= json?.p99Ms && json?.p99Ms <= json?.maxMs, 'in their order');
  t.ok(json?.xlP50Ms > json?.p50Ms, `xl takes longer: ${json?.xlP50Ms} ms against ${json?.p50Ms} ms`);
  // The image's text is shared, and not of any VM.
  t.ok(json?.memoryKibPerVm >= 700 && json?.memoryKibPerVm <= 2048, `memory per VM: ${json?.memoryKibPerVm} KiB`);
  t.match(err, /shoal lab down --lab tdemo/, 'it says how to clean up');
  t.match(err, /https:\/\/127\.0\.0\.1:\d+\/ .*console[\s\S]*operator\.token/, 'and where the console is, and how to sign in');
});

test('the report has every VM and every sample of xl', (t) => {
  const html = readFileSync(report, 'utf8');
  t.match(html, /<h1>12 unikernels on two Xen hosts<\/h1>/);
  const [first = ''] = html.match(/<svg[\s\S]*?<\/svg>/) ?? [];
  t.equal(first.match(/<circle/g)?.length, 12);
  t.ok((first.match(/<path class="mark/g)?.length ?? 0) >= 3, 'xl at its fleet sizes');
  t.end();
});

test('the fleet stays up, spread over both hosts, and nothing of xl does', async (t) => {
  for (const host of (await labAttach(lab)).hosts) {
    t.equal((await on(host.name)).filter((vm) => vm.state === 'running').length, 6, `six on ${host.name}`);
    const { stdout } = await host.exec('xl list', { timeoutMs: 60_000 });
    const named = stdout.trim().split('\n').filter((line) => !line.startsWith('(null)'));
    t.equal(named.length, 1 + 1 + 6, 'a title, dom0, its VMs; shells and the template have no name');
    t.notOk(stdout.includes('yardstick'));
  }
  t.equal((await copies()).filter(({ state }) => state === 'running').length, 12, 'the controller sees the same');
});

test('run again, the demo clears the fleet before and boots another; Ctrl-C ends it with whole VMs', async (t) => {
  const before = Math.max(...(await copies()).map(({ serial }) => serial));
  let pid = 0;
  const run = shoal(demo('--vms', '200', '--xl-samples', '0'), 5 * minutes, (started) => (pid = started));
  // Once some of the new fleet are up, as an operator who has seen enough.
  let running = 0;
  for (const end = Date.now() + 2 * minutes; Date.now() < end && running < 3; await sleep(200))
    running = (await copies()).filter(({ serial, state }) => serial > before && state === 'running').length;
  process.kill(pid, 'SIGINT');
  const { code, json, err } = await run;
  t.equal(code, 130, 'the exit code of an interruption');
  t.ok(json?.created > 0 && json?.created < 200, `${json?.created} were booted`);
  t.equal(json?.answered, json?.created);
  t.match(err, /shoal lab down --lab tdemo/);
  const listed = [...(await on('host0')), ...(await on('host1'))];
  t.equal(listed.length, json?.created, 'every VM that is there is one it counted');
  t.ok(listed.every((vm) => vm.state === 'running'));
});

test('the lab goes, and a verb says so', async (t) => {
  t.equal((await shoal(['lab', 'down', '--lab', lab])).code, 0);
  const { code, json } = await shoal(['vm', 'list', '--lab', lab, '--json']);
  t.deepEqual([code, json?.error?.code], [1, 'LAB_NOT_UP']);
});

test.onFinish(() => {
  rmSync(folder, { recursive: true });
  void labDown(lab);
});
