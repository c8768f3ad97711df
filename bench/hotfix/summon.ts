/**
 * `hotfix`, names: from a DNS query for a service that runs nowhere to the answer, and to the first byte of its page, beside the raw boot of the same VM: the
 * launch asked of the host's agent, to the first byte of the page. In both a client's first SYN waits at the host, so neither is made longer by its retry.
 *
 * By itself: `node --import tsx bench/hotfix/summon.ts LAB [ROUNDS]`, in a lab that is up.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Client } from '../../src/cli/client.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { openLabFleet } from '../../src/cli/fleet-lab.ts';
import { digestOf } from '../../src/cli/images.ts';
import { readTarget } from '../../src/cli/target.ts';
import { labAttach, type Lab } from '../../src/lab/lab.ts';
import { enter } from '../../src/lab/network.ts';
import { labFolder, repositoryRoot } from '../../src/lab/paths.ts';
import { routerNamespace } from '../../src/lab/plan.ts';
import { lastLines } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { atMost, compared, type BenchOutcome } from '../harness.ts';

export const outside = '10.64.0.1';
const port = 5300;
export const zone = 'summon.example';
const memoryKib = 4096;
const script = join(repositoryRoot, 'bench/hotfix/summon-client.mjs');
const readyMs = 60_000;

export interface SummonMeasure {
  /** Milliseconds of each round. */
  raw: number[];
  answer: number[];
  firstByte: number[];
}

/** Starts `shoal summon` in the router's namespace; gives how it is ended. */
export async function startSummoner(lab: Lab, controller: { caFile: string; tokenFile: string }, idleS = 3600): Promise<(signal?: NodeJS.Signals) => void> {
  const folder = join(labFolder(lab.name), 'summon');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const configFile = join(folder, 'summon.json');
  const config = {
    dns: { host: outside, port, zone, server: `ns.${zone}`, serverAddress: outside, ttlS: 0 },
    controller: { caFile: controller.caFile, tokenFile: controller.tokenFile },
    idleS,
    services: { 'bench/page': { idleS } },
  };
  writeFileSync(configFile, JSON.stringify(config), { mode: 0o600 });
  const logFile = join(folder, 'summon.log');
  const log = openSync(logFile, 'w', 0o600);
  const [program, ...words] = [...enter(routerNamespace(lab.name)), process.execPath, '--import', 'tsx', join(repositoryRoot, 'src/main/summon.ts'), configFile];
  const child = spawn(program!, words, { stdio: ['ignore', log, log], cwd: repositoryRoot });
  closeSync(log);
  for (const end = Date.now() + readyMs; !/summon: names/.test(readFileSync(logFile, 'utf8')); await sleep(50))
    if (child.exitCode !== null || Date.now() > end) throw new ShoalError('LAB_FAILED', `the summoner is not ready: ${lastLines(readFileSync(logFile, 'utf8'), 5)}`);
  return (signal = 'SIGTERM') => void child.kill(signal);
}

async function inside<T>(lab: Lab, words: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await lab.inside([process.execPath, script, ...words], { timeoutMs: 90_000 });
  if (code !== 0) throw new ShoalError('LAB_FAILED', `no answer: ${stderr.trim().slice(-300)}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as T;
}

/** The lab is up; one host of it is used. */
export async function measureSummon(lab: Lab, rounds: number, onStep: (text: string) => void = () => {}): Promise<SummonMeasure> {
  const found: SummonMeasure = { raw: [], answer: [], firstByte: [] };
  const host = lab.hosts[0]!;
  const { controller, control } = await openLabFleet(lab.name, [host]);
  const bytes = readFileSync(join(repositoryRoot, 'build/unikernels/ping.elf'));
  const image = digestOf(bytes);
  await control.call('PUT', `/v1/images/${image}`, bytes);
  await control.call('PUT', '/v1/services/bench/page', { image, count: 0, memoryKib });
  const client = new Client(readTarget(host));
  await client.resource('PUT', `/image/${image}`, {}, bytes);
  const end = await startSummoner(lab, controller);
  const nobody = async (): Promise<void> => {
    while ((await control.list<object>('/v1/vms')).length > 0) await sleep(20);
    await client.plugin('shells', { drain: 'true' }); // each boots from nothing
  };
  try {
    for (let round = 0; round < rounds; round++) {
      onStep(`raw boot, ${round + 1} of ${rounds}`);
      await nobody();
      const ip = `10.64.240.${round + 1}`;
      await client.plugin('hold-address', { ip, ms: '60000' });
      const page = inside<{ firstByteMs: number }>(lab, ['page', ip]);
      await sleep(1500); // its SYN waits, or waits again
      const beganMs = performance.timeOrigin + performance.now();
      const { results } = await client.plugin<{ results: { vm?: { uuid: string } }[] }>('launch-each', { specs: [{ name: `raw-${round}`, image, memoryKib, vifs: [{ network: 'default', ip }] }] }, { timeoutMs: 60_000 });
      found.raw.push((await page).firstByteMs - beganMs);
      await client.plugin('destroy', { vms: [results[0]!.vm!.uuid] });

      onStep(`summoned, ${round + 1} of ${rounds}`);
      await nobody();
      const { askedMs, answeredMs, firstByteMs } = await inside<{ askedMs: number; answeredMs: number; firstByteMs: number }>(lab, ['dns', outside, String(port), `page.bench.${zone}`]);
      found.answer.push(answeredMs - askedMs);
      found.firstByte.push(firstByteMs - askedMs);
      await control.call('POST', '/v1/services/bench/page/scale', { count: 0 });
      await nobody();
      await sleep(5500); // the summoner sees that somebody else ended it
    }
  } finally {
    end();
    await control.call('DELETE', '/v1/services/bench/page').catch(() => undefined);
    control.close();
    await client.close();
  }
  return found;
}

export function outcomeOf({ raw, answer, firstByte }: SummonMeasure): BenchOutcome {
  const list = (values: readonly number[]): string => values.map(Math.round).join(', ');
  return {
    machine: {},
    promises: [
      atMost('SUMMON-4', 'DNS query for a stopped version to the first HTTP byte, over the raw boot', p50(firstByte) / p50(raw), 'times', 1.5),
      compared('SUMMON-4', 'DNS query for a stopped version to the answer, over the raw boot', p50(answer) / p50(raw), 'times'),
      compared('SUMMON-4', 'raw boot to the first HTTP byte', p50(raw), 'ms'),
    ],
    lines: [`raw boot ${list(raw)} ms; query to answer ${list(answer)} ms; query to first byte ${list(firstByte)} ms`],
    files: { 'hotfix-summon.csv': ['raw_ms,answer_ms,first_byte_ms', ...raw.map((ms, i) => [ms, answer[i]!, firstByte[i]!].map((n) => n.toFixed(1)).join(',')), ''].join('\n') },
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [name, rounds] = process.argv.slice(2);
  const measure = await measureSummon(await labAttach(name), Number(rounds ?? 5), (text) => process.stderr.write(`${text}\n`));
  const { promises, lines } = outcomeOf(measure);
  process.stdout.write(`${[...lines, ...promises.map(({ name: what, value, unit }) => `${what}: ${value} ${unit}`)].join('\n')}\n`);
}
