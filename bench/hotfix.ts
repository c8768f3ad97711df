/**
 * `hotfix`: from a push to the deployment repository to the fleet running it. On two lab hosts: push until the first VM on the new image answers, beside the raw boot of
 * one VM; all VMs replaced under HTTP load; an image that boots and answers nothing; names that boot what they name. Without the lab: what hosts fetch, and
 * the repository after many releases.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { p50 } from '../src/cli/demo/statistics.ts';
import { count } from '../src/cli/format.ts';
import { repositoryRoot } from '../src/lab/paths.ts';
import { ShoalError } from '../src/model/errors.ts';
import { atMost, compared, joined, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';
import { distribution } from './hotfix/distribution.ts';
import { Load, type LoadResult } from './hotfix/load.ts';
import { measureRepository, repositoryOutcome } from './hotfix/repository.ts';
import { measureSummon, outcomeOf as summonOutcome } from './hotfix/summon.ts';
import { openHotfixWorld, service, tenant, type HotfixWorld } from './hotfix/world.ts';

const servicePath = `/v1/services/${tenant}/${service}`;
const serviceFile = `services/${tenant}/${service}.json`;
/** Copies while single pushes are timed. */
const few = 10;
const repositoryMs = 300_000;
/** Requests a second over all copies, while they are replaced. */
const loadRate = 100;

const policy = {
  mode: 'hot-fix',
  canary: 1,
  waves: [100],
  observeMs: 0,
  budget: 200,
  gates: [
    { kind: 'ready', withinMs: 30_000 },
    { kind: 'http', port: 80, path: '/', status: 200, timesInRow: 1, timeoutMs: 2000 },
  ],
  failuresAllowed: 0,
  onFailure: 'rollback',
  replace: { address: 'move', drainMs: 1000 },
};
/** For a release whose canary is to be given up soon. */
const strict = { ...policy, gates: [{ kind: 'ready', withinMs: 6000 }] };
const spec = {
  count: 0,
  memoryKib: 1024,
  health: { kind: 'http', port: 80, path: '/', intervalMs: 30_000, timeoutMs: 2000, unhealthyAfter: 5, graceMs: 30_000 },
  rollout: 'bench',
};

interface Replaced {
  vms: number;
  /** From the end of the push until every address had answered with the new version, and until the rollout was done. */
  answeredS: number;
  doneS: number;
  load: LoadResult;
}

interface Back {
  /** From the moment the canary ran, which is before its first failed probe; and from the end of the push. */
  fromCanaryS: number;
  fromPushS: number;
  mostBad: number;
  failures: number;
}

async function scaled(world: HotfixWorld, copies: number, withinMs: number): Promise<void> {
  await world.push({ [serviceFile]: { ...(await world.json<object>(serviceFile)), count: copies } }, `${copies} copies`);
  for (const deadline = Date.now() + withinMs; ; await sleep(200)) {
    const { copies: now } = await world.control.call<{ copies: { ready: number; total: number } }>('GET', servicePath);
    if (now.ready === copies && now.total === copies) return;
    if (Date.now() > deadline) throw new ShoalError('LAB_FAILED', `of ${copies} copies ${now.ready} are ready after ${withinMs / 1000} s`);
  }
}

/** Only what a release under way left has to go: then every copy is one that stays. */
async function alone(world: HotfixWorld, copies: number): Promise<void> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(100))
    if ((await world.control.list('/v1/vms')).length === copies) return;
}

let built = 0;
const nextVersion = (): string => `0.2.${++built}`;

async function pushed(world: HotfixWorld, rollout = 'bench', mute = false): Promise<{ version: string; counter: number; endedMs: number }> {
  const version = nextVersion();
  const files = await world.release(await world.build(version, mute), { rollout });
  const counter = (files[serviceFile] as { release: number }).release;
  return { version, counter, ...(await world.push(files, `ping ${version}`)) };
}

/** Milliseconds from the end of `git push` to the first answer of the new version at an address of the service. */
async function pushToAnswer(world: HotfixWorld, rounds: number, onStep: (text: string) => void): Promise<number[]> {
  await scaled(world, few, 120_000);
  const found: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    onStep(`push ${round} of ${rounds}`);
    await alone(world, few);
    const addresses = await world.addresses();
    const load = await Load.start(world.lab.name, world.folder, addresses, 20, addresses[0]);
    const { version, counter, endedMs } = await pushed(world);
    found.push((await load.first(version, 60_000)) - endedMs);
    await world.until(counter, ['done'], 120_000);
    await load.stop();
  }
  return found;
}

async function replaceAll(world: HotfixWorld, vms: number, onStep: (text: string) => void): Promise<Replaced> {
  onStep(`${vms} copies`);
  await scaled(world, vms, 600_000);
  await alone(world, vms);
  const addresses = await world.addresses();
  const load = await Load.start(world.lab.name, world.folder, addresses, loadRate);
  try {
    await sleep(2000);
    onStep(`replacing ${vms}`);
    const { version, counter, endedMs } = await pushed(world);
    const { phase, reason, seenMs } = await world.until(counter, ['done', 'rolled-back', 'failed', 'paused'], 600_000);
    if (phase !== 'done') throw new ShoalError('LAB_FAILED', `the fix is ${phase}: ${reason}`);
    const answeredMs = await load.all(version, 120_000);
    // What drains goes under load too.
    await alone(world, vms);
    return { vms, answeredS: (answeredMs - endedMs) / 1000, doneS: (seenMs - endedMs) / 1000, load: await load.stop() };
  } catch (error) {
    await load.stop().catch(() => undefined);
    throw error;
  }
}

async function badImage(world: HotfixWorld, onStep: (text: string) => void): Promise<Back> {
  onStep('an image that answers nothing');
  const addresses = await world.addresses();
  const load = await Load.start(world.lab.name, world.folder, addresses, loadRate);
  const { counter, endedMs } = await pushed(world, 'strict', true);
  let watching = true;
  let mostBad = 0;
  let ranMs = Infinity;
  const watch = (async () => {
    for (; watching; await sleep(100)) {
      const bad = (await world.control.list<{ release?: number; state: string; since: string }>('/v1/vms')).filter((vm) => vm.release === counter);
      mostBad = Math.max(mostBad, bad.length);
      for (const vm of bad) if (vm.state === 'running') ranMs = Math.min(ranMs, Date.parse(vm.since));
    }
  })();
  const { phase, seenMs } = await world.until(counter, ['rolled-back', 'done', 'failed', 'paused'], 120_000);
  watching = false;
  await watch;
  const { failures } = await load.stop();
  if (phase !== 'rolled-back') throw new ShoalError('LAB_FAILED', `the bad image is ${phase}`);
  return { fromCanaryS: (seenMs - ranMs) / 1000, fromPushS: (seenMs - endedMs) / 1000, mostBad, failures };
}

async function run(context: BenchContext): Promise<BenchOutcome> {
  const { terminal, quick, lab } = context;
  const vms = context.vms!;
  const onStep = (text: string): void => terminal.status(text);
  const world = await openHotfixWorld(lab, { spec, policies: { bench: policy, strict } });
  try {
    const summon = await measureSummon(lab, quick ? 3 : 5, onStep);
    const pushes = await pushToAnswer(world, quick ? 3 : 7, onStep);
    const replaced = await replaceAll(world, vms, onStep);
    const back = await badImage(world, onStep);
    const [raw, answer] = [p50(summon.raw), p50(pushes)];
    const { load } = replaced;
    return joined(
      {
        machine: { ...machineFacts(), accelerator: lab.accelerator },
        promises: [
          atMost('HOTFIX-1', 'git push ended to the first answer of the new image, p50, beyond the raw boot of one VM', (answer - raw) / 1000, 's', 1),
          compared('HOTFIX-1', 'git push ended to the first answer of the new image, p50', answer, 'ms'),
          compared('HOTFIX-1', 'raw boot of one VM to the first HTTP byte, p50', raw, 'ms'),
          atMost('HOTFIX-2', `${count(vms)} VMs over 2 hosts replaced, hot-fix mode, under ${loadRate} HTTP requests a second: push ended to every address on the new image`, replaced.answeredS, 's', 60),
          atMost('HOTFIX-2', `of ${count(load.requests)} requests meanwhile failed`, load.failures, '', 0),
          atMost('HOTFIX-3', 'bad image: from before its first failed probe until every VM is on the good one', back.fromCanaryS, 's', 10),
          atMost('HOTFIX-3', 'VMs that were ever on it', back.mostBad, '', 1),
        ],
        lines: [
          `push to first answer ${pushes.map(Math.round).join(', ')} ms`,
          `replaced: the rollout done after ${replaced.doneS.toFixed(1)} s, the slowest request ${load.slowestMs} ms${load.failures > 0 ? `; failed first: ${JSON.stringify(load.failed[0])}` : ''}`,
          `bad image: back ${back.fromPushS.toFixed(1)} s after its push; ${back.failures} requests failed meanwhile`,
        ],
        files: { 'hotfix-push.csv': ['push_to_answer_ms', ...pushes.map((ms) => ms.toFixed(1)), ''].join('\n') },
      },
      summonOutcome(summon),
    );
  } finally {
    terminal.status('');
    await world.push({ [serviceFile]: { ...(await world.json<object>(serviceFile)), count: 0 } }, 'None').catch(() => undefined);
    world.close();
  }
}

async function withoutLab({ terminal, quick, signal }: Omit<BenchContext, 'lab'>): Promise<BenchOutcome> {
  const outcome = await distribution({ quick, status: (text) => terminal.status(text) });
  terminal.status('');
  if (quick || signal.aborted) return outcome;
  const image = join(repositoryRoot, 'build/unikernels/ping.elf');
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(repositoryMs)]);
  const measure = await measureRepository(1000, image, (done) => terminal.status(`${done} of 1,000 releases`), bounded);
  terminal.status('');
  const last = measure.samples.at(-1)?.release ?? 0;
  const repository = repositoryOutcome(measure);
  return joined(outcome, { ...repository, lines: [...repository.lines, ...(last < 1000 ? [`the repository came to ${last} releases in ${repositoryMs / 1000} s`] : [])] });
}

export const hotfix: Benchmark = {
  name: 'hotfix',
  summary: 'from a push to the fleet running it, or back',
  vms: { full: 1000, quick: 100, least: 10, most: 5000 },
  hosts: 2,
  // While they are replaced each is there twice.
  memoryMib: (vms) => 2048 + 2 * vms,
  run,
  withoutLab,
};

