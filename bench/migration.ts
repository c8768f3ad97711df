/**
 * `migration`: suspend and resume through a file, and migrate, of an 8 MiB unikernel between two hosts of the lab, beside `xl save` and `xl restore` of the
 * same image there; alone and beside many running VMs; the standstill against what it cannot be shorter than; the estimator against what came.
 */
import { Client } from '../src/cli/client.ts';
import { command } from '../src/cli/main.ts';
import { p50 } from '../src/cli/demo/statistics.ts';
import { xlConfiguration } from '../src/cli/demo/xl.ts';
import { table } from '../src/cli/format.ts';
import { putImage, readImage } from '../src/cli/images.ts';
import { launch, launchMany } from '../src/cli/launch.ts';
import { readTarget } from '../src/cli/target.ts';
import { pingImage } from '../src/cli/verbs/build.ts';
import { destroyVms } from '../src/cli/verbs/vm-power.ts';
import { listVms, type VmName } from '../src/cli/vms.ts';
import { refOf } from '../src/xenapi/plugin-types.ts';
import type { HostFacts } from '../src/cli/verbs/host-show.ts';
import type { Departed } from '../src/xenapi/plugin-types.ts';
import type { LabHost } from '../src/lab/lab.ts';
import { ShoalError } from '../src/model/errors.ts';
import { migrateVm } from './migration/lab-waypoint.ts';
import { atLeast, atMost, compared, machineFacts, type BenchContext, type Benchmark, type BenchOutcome } from './harness.ts';

const memoryKib = 8192;
const timeoutMs = 180_000;
const lengths = { full: { rounds: 15, xlRounds: 5, together: 100 }, quick: { rounds: 7, xlRounds: 3, together: 50 } };
const folder = '/run/shoal-yardstick';
/** xl itself: in the lab, `xl` in the path is a wrapper that starts the console daemon when it is first needed. */
const xl = '$(ls /usr/lib/xen-*/bin/xl 2>/dev/null || echo xl)';
const xlName = 'xl-yardstick';

export interface Round {
  /** VMs that were running beside it. */
  running: number;
  saveMs: number;
  restoreMs: number;
  /** Of a VM that is alone on the other host, right after: the machine is not as busy from one minute to the next. */
  aloneSaveMs: number;
  aloneRestoreMs: number;
  migrateMs: number;
  standstillMs: number;
  liveMs: number;
  liveStandstillMs: number;
  bytes: number;
  predictedMs: number;
  predictedStandstillMs: number;
  /** Milliseconds of the plain migration's standstill; `there.` are parts of what the source waits for. */
  phases: Record<string, number>;
}

const phaseNames = ['suspend', 'open', 'ship', 'filled', 'commit', 'there.end', 'there.register', 'there.seal', 'there.journal', 'there.unpause'] as const;

export interface XlRound {
  running: number;
  saveMs: number;
  restoreMs: number;
}

/** Many VMs that moved by one `shoal vm migrate`. */
export interface Together {
  count: number;
  ms: number;
  standstillsMs: number[];
}

export interface Samples {
  ours: Round[];
  xl: XlRound[];
  together: Together | undefined;
  /** Bytes a second and milliseconds between both dom0s, by a plain TCP connection of the same programs. */
  bandwidthBps: number;
  rttMs: number;
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; value: T }> {
  const begun = performance.now();
  const value = await work();
  return { ms: performance.now() - begun, value };
}

async function must(host: LabHost, command: string, input?: string): Promise<string> {
  const result = await host.exec(command, { timeoutMs, ...(input === undefined ? {} : { input }) });
  if (result.code !== 0) throw new ShoalError('LAB_FAILED', `dom0: ${command}: ${result.stderr.trim() || result.stdout.trim()}`);
  return result.stdout;
}

/** What one TCP connection between the two dom0s carries: 16 MiB from one node program to another. */
async function measureWay(from: LabHost, to: LabHost): Promise<{ bandwidthBps: number; rttMs: number }> {
  const port = 7999;
  const sink =
    `require('net').createServer(s=>{let n=0,t;s.on('data',d=>{t??=performance.now();n+=d.length;if(d.length===1)return void s.write('x');` +
    `if(n>=${16 << 20})s.write(String(n/(performance.now()-t)*1000)+'\\n')})}).listen(${port});setTimeout(()=>process.exit(),60000)`;
  const source =
    `const s=require('net').connect(${port},'${to.address}',async()=>{s.setNoDelay(true);const r=[];for(let i=0;i<9;i++){const t=performance.now();s.write('x');` +
    `await new Promise(f=>s.once('data',f));r.push(performance.now()-t)}s.once('data',d=>{console.log(JSON.stringify({bandwidthBps:Number(d),rttMs:r.sort((a,b)=>a-b)[4]}));process.exit()});` +
    `s.write(Buffer.alloc(${16 << 20}))})`;
  for (const [host, script] of [[to, sink], [from, source]] as const) await must(host, `mkdir -p ${folder} && cat > ${folder}/way.cjs`, script);
  await must(to, `setsid -f node ${folder}/way.cjs </dev/null >${folder}/way.log 2>&1; for i in $(seq 50); do sleep 0.2; ss -ltn 2>/dev/null | grep -q :${port} && exit 0; done; cat ${folder}/way.log >&2; exit 1`);
  return JSON.parse(await must(from, `node ${folder}/way.cjs`)) as { bandwidthBps: number; rttMs: number };
}

async function run({ terminal, quick, vms, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const [near, far] = lab.hosts as [LabHost, LabHost];
  const clients = [near, far].map((host) => new Client(readTarget(host))) as [Client, Client];
  const { rounds, xlRounds, together } = quick ? lengths.quick : lengths.full;
  const samples: Samples = { ours: [], xl: [], together: undefined, bandwidthBps: NaN, rttMs: NaN };
  try {
    const bytes = readImage(pingImage);
    const { digest: image } = await putImage(clients[0], bytes);
    await putImage(clients[1], bytes);
    Object.assign(samples, await measureWay(near, far));
    const { vms: made, error } = await launch(clients[0], { name: 'moving', image, memoryKib });
    if (error !== undefined) throw error;
    const { uuid } = made[0]!;
    const other = await launch(clients[1], { name: 'alone', image, memoryKib });
    if (other.error !== undefined) throw other.error;
    const alone = other.vms[0]!.uuid;
    await must(near, `mkdir -p ${folder}`);
    await near.put(pingImage, `${folder}/kernel.elf`);
    await must(near, `cat > ${folder}/vm.cfg`, xlConfiguration({ memoryKib, address: near.address.replace(/\.\d+\.\d+$/, '.250.250'), gateway: near.gateway, prefixLength: 16 }));
    // One that does not count: the wrapper in the path starts the console daemon, and files are read.
    await must(near, `xl create -q ${folder}/vm.cfg && xl destroy ${xlName}`);
    for (const running of [1, vms!]) {
      if (running > 1) await launchMany(terminal, clients[0], { prefix: 'still', count: running - 1, image, memoryKib: 1024 });
      for (let round = 1; round <= rounds && !signal.aborted; round++) {
        terminal.status(`beside ${running} VMs, round ${round} of ${rounds}`);
        samples.ours.push(await oneRound(clients, uuid, alone, running));
      }
      for (let round = 1; round <= xlRounds && !signal.aborted; round++) {
        terminal.status(`xl beside ${running} VMs, round ${round} of ${xlRounds}`);
        samples.xl.push(await xlRound(near, running));
      }
    }
    terminal.status(`${together} VMs together`);
    if (!signal.aborted) samples.together = await moveTogether(lab.name, Math.min(together, vms! - 1));
    terminal.status('');
    const facts = await clients[0].plugin<HostFacts>('facts');
    return outcomeOf(samples, { ...machineFacts(), accelerator: lab.accelerator, xen: facts.xen });
  } finally {
    await near.exec(`${xl} destroy ${xlName} 2>/dev/null; rm -rf ${folder}`, { timeoutMs });
    for (const client of clients) {
      const left = (await listVms(client, ['uuid'])).filter(({ name }) => /^(moving|alone|still-\d+)$/.test(name)).map(({ uuid, name }): VmName => ({ ref: refOf(uuid), uuid, name }));
      await destroyVms(terminal, client, left);
      await client.close();
    }
  }
}

async function moveTogether(lab: string, count: number): Promise<Together> {
  const names = Array.from({ length: count }, (_, i) => `still-${i + 1}`);
  let text = '';
  const code = await command(['vm', 'migrate', ...names, '--lab', `${lab}/host0`, '--to', `${lab}/host1`, '--json'], { stdout: { write: (piece: string) => (text += piece) }, stderr: process.stderr, env: process.env });
  if (code !== 0) throw new ShoalError('LAB_FAILED', `vm migrate of ${count} VMs: ${text.slice(-500)}`);
  const { ms, moved } = JSON.parse(text.trimEnd().split('\n').at(-1)!) as { ms: number; moved: Departed[] };
  return { count, ms, standstillsMs: moved.map(({ downtimeMs }) => downtimeMs) };
}

async function suspendAndResume(client: Client, uuid: string): Promise<{ saveMs: number; restoreMs: number }> {
  const saved = await timed(() => client.call('VM.suspend', [refOf(uuid)], { timeoutMs }));
  const restored = await timed(() => client.call('VM.resume', [refOf(uuid)], { timeoutMs }));
  return { saveMs: saved.ms, restoreMs: restored.ms };
}

async function oneRound(clients: [Client, Client], uuid: string, alone: string, running: number): Promise<Round> {
  const [near, far] = clients;
  const here = await suspendAndResume(near, uuid);
  const other = await suspendAndResume(far, alone);
  const there = await migrateVm(near, far, uuid);
  await migrateVm(far, near, uuid);
  const live = await migrateVm(near, far, uuid, true);
  await migrateVm(far, near, uuid);
  return {
    running, ...here, aloneSaveMs: other.saveMs, aloneRestoreMs: other.restoreMs, migrateMs: there.totalMs, standstillMs: there.downtimeMs, liveMs: live.totalMs, liveStandstillMs: live.downtimeMs,
    bytes: there.bytes, predictedMs: there.predicted.totalMs, predictedStandstillMs: there.predicted.downtimeMs,
    phases: { ...there.phases.here, ...Object.fromEntries(Object.entries(there.phases.there).map(([name, ms]) => [`there.${name}`, ms])) },
  };
}

/** Without what a command in dom0 costs by itself: it is timed there, by the shell's clock in nanoseconds. */
async function xlRound(host: LabHost, running: number): Promise<XlRound> {
  await must(host, `${xl} create -q ${folder}/vm.cfg`);
  // Until it is up: before that it has no way to hear that it is to suspend itself.
  await must(host, `for i in $(seq 100); do ping -c1 -W1 ${host.address.replace(/\.\d+\.\d+$/, '.250.250')} >/dev/null 2>&1 && exit 0; sleep 0.2; done; exit 1`);
  const clocked = async (command: string): Promise<number> => Number(await must(host, `a=$(date +%s%N); ${command} >/dev/null 2>&1 || exit 1; b=$(date +%s%N); echo $(( (b-a)/1000 ))`)) / 1000;
  const saveMs = await clocked(`${xl} save ${xlName} ${folder}/saved`);
  const restoreMs = await clocked(`${xl} restore ${folder}/saved`);
  await must(host, `${xl} destroy ${xlName}; rm -f ${folder}/saved`);
  return { running, saveMs, restoreMs };
}

/** Pure; exported for its test. */
export function outcomeOf({ ours, xl: yardstick, together, bandwidthBps, rttMs }: Samples, machine: BenchOutcome['machine']): BenchOutcome {
  const sizes = [...new Set(ours.map(({ running }) => running))];
  const [few, many] = [sizes[0]!, sizes.at(-1)!];
  const of = (running: number, pick: (round: Round) => number) => p50(ours.filter((each) => each.running === running).map(pick));
  const xlOf = (running: number) => p50(yardstick.filter((each) => each.running === running).map((each) => each.saveMs + each.restoreMs));
  const both = (round: Round): number => round.saveMs + round.restoreMs;
  const alone = (round: Round): number => round.aloneSaveMs + round.aloneRestoreMs;
  const overAlone = (running: number): number => of(running, both) / of(running, alone);
  const move_ = (round: Round): number => round.migrateMs;
  const least = (pick: (round: Round) => number) => Math.min(...sizes.map((running) => xlOf(running) / of(running, pick)));
  const ideal = (round: Round): number => (2 * round.bytes * 1000) / bandwidthBps + rttMs;
  // The first rounds teach it.
  const foretold = ours.slice(3);
  const off = (round: Round): number => Math.abs(round.predictedMs - round.migrateMs) / round.migrateMs;
  const offStill = (round: Round): number => Math.abs(round.predictedStandstillMs - round.standstillMs) / round.standstillMs;
  const right = (title: string) => ({ title, align: 'right' as const });
  const cell = (ms: number): string => ms.toFixed(1);
  return {
    machine,
    promises: [
      atLeast('MIG-1', 'suspend to a file and resume, xl save and restore over ours, the least of the sizes', least(both), '×', 5),
      atLeast('MIG-2', 'migrate to another host, the same of xl (without any way between) over ours', least(move_), '×', 5),
      atMost('MIG-3', `suspend and resume beside ${many} VMs over beside ${few}, each over one alone on the other host in turns`, overAlone(many) / overAlone(few), '×', 1.25),
      atMost('MIG-4', `migrate beside ${many} VMs over beside ${few}`, of(many, move_) / of(few, move_), '×', 1.25),
      atMost('MIG-5', 'standstill of a migration over twice bytes ÷ bandwidth + RTT', p50(ours.map((each) => each.standstillMs / ideal(each))), '×', 1),
      compared('MIG-6', 'standstill of a live migration', p50(ours.map((each) => each.liveStandstillMs)), 'ms'),
      atMost('MIG-7', 'estimator: median error of the whole time', 100 * p50(foretold.map(off)), '%', 20),
      compared('MIG-8', 'estimator: median error of the standstill', 100 * p50(foretold.map(offStill)), '%'),
      ...(together === undefined ? [] : [atLeast('MIG-15', `${together.count} VMs by one \`vm migrate\`, xl save and restore of each over ours`, (together.count * xlOf(many)) / together.ms, '×', 5)]),
    ],
    lines: [
      table(
        [right('BESIDE'), right('SUSPEND'), right('RESUME'), right('MIGRATE'), right('STANDSTILL'), right('LIVE'), right('STANDSTILL'), right('XL SAVE'), right('XL RESTORE')],
        sizes.map((running) => [
          String(running),
          ...[of(running, (r) => r.saveMs), of(running, (r) => r.restoreMs), of(running, move_), of(running, (r) => r.standstillMs), of(running, (r) => r.liveMs), of(running, (r) => r.liveStandstillMs)].map(cell),
          cell(p50(yardstick.filter((each) => each.running === running).map((each) => each.saveMs))),
          cell(p50(yardstick.filter((each) => each.running === running).map((each) => each.restoreMs))),
        ]),
      ),
      `Milliseconds, medians of ${ours.length} rounds and ${yardstick.length} of xl; ${Math.round(p50(ours.map(({ bytes }) => bytes)) / 1024)} KiB shipped of ${memoryKib}; ` +
        `between the dom0s ${(bandwidthBps / 1e6).toFixed(1)} MB/s, ${rttMs.toFixed(1)} ms.`,
      ...(together === undefined ? [] : [`${together.count} VMs together: ${cell(together.ms / together.count)} ms each; standstill ${cell(p50(together.standstillsMs))} ms in the median, ${cell(Math.max(...together.standstillsMs))} the longest.`]),
      `The standstill beside ${many}: ${phaseNames.map((name) => `${name} ${cell(of(many, ({ phases }) => phases[name] ?? 0))}`).join(', ')}.`,
    ],
    files: {
      'migration.csv': `running,save_ms,restore_ms,alone_save_ms,alone_restore_ms,migrate_ms,standstill_ms,live_ms,live_standstill_ms,bytes,predicted_ms,predicted_standstill_ms,${phaseNames.map((name) => `${name.replace('.', '_')}_ms`).join(',')}\n${ours
        .map((r) => [r.running, ...[r.saveMs, r.restoreMs, r.aloneSaveMs, r.aloneRestoreMs, r.migrateMs, r.standstillMs, r.liveMs, r.liveStandstillMs].map((ms) => ms.toFixed(2)), r.bytes, r.predictedMs.toFixed(2), r.predictedStandstillMs.toFixed(2), ...phaseNames.map((name) => (r.phases[name] ?? 0).toFixed(2))].join(','))
        .join('\n')}\n`,
      'migration-xl.csv': `running,save_ms,restore_ms\n${yardstick.map((r) => `${r.running},${r.saveMs.toFixed(2)},${r.restoreMs.toFixed(2)}`).join('\n')}\n`,
    },
  };
}

export const migration: Benchmark = {
  name: 'migration',
  summary: 'suspend, resume and migrate between two hosts, beside xl',
  vms: { full: 1000, quick: 100, least: 2, most: 5000 },
  hosts: 2,
  memoryMib: (vms) => 2048 + Math.ceil(vms * 1.5),
  run,
};
