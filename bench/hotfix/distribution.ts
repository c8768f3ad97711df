/**
 * One fix to forty hosts: by orders and deltas from a controller to real agents over TLS, beside forty `git fetch` of the same fix at
 * once, on the same machine. The fixes are real: a line of ping's and of minicache's source, built by this checkout.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { byGit, type GitWay } from './git.ts';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { digestOf } from '../../src/cli/images.ts';
import { openController, type Controller } from '../../src/control/controller.ts';
import type { Brought } from '../../src/control/distribution.ts';
import { XenApiLink } from '../../src/control/links/xenapi.ts';
import { MemoryStore } from '../../src/control/store.ts';
import { DeltaStore } from '../../src/image/deltas.ts';
import { parseKernel } from '../../src/image/elf.ts';
import { makeDelta } from '../../src/image/make-delta.ts';
import { ImageStore } from '../../src/image/store.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import type { Digest } from '../../src/model/ids.ts';
import { atLeast, atMost, compared, machineFacts, type BenchOutcome } from '../harness.ts';

interface Fix {
  app: string;
  file: string;
  from: string;
  to: string;
}

/** The last moves code: the function grows beyond the room that its alignment leaves, and all behind it shift. */
const fixes: readonly Fix[] = [
  { app: 'ping', file: 'apps/ping/ping.c', from: 'error != ERR_OK || pcb == NULL)', to: 'error != ERR_OK || pcb == NULL || pcb->remote_port == 0)' },
  { app: 'ping', file: 'kernel/ip.c', from: 'if (packet->tot_len > SHOAL_NET_FRAME_BYTES) return', to: 'if (packet->tot_len > SHOAL_NET_FRAME_BYTES || packet->tot_len < 14) return' },
  { app: 'minicache', file: 'apps/minicache/policy.c', from: 'return response->status == 404 ||', to: 'return response->status == 404 || response->status == 451 ||' },
  { app: 'minicache', file: 'apps/minicache/policy.c', from: 'case 414: case 501: return true', to: 'case 414: case 451: case 501: return true' },
];

async function* once1(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Images before and after a fix, out of a copy of the source. */
async function built(folder: string, fix: Fix | undefined, app: string, i: number): Promise<Buffer> {
  const source = join(folder, `source${i}`);
  cpSync(join(repositoryRoot, 'unikernels'), source, { recursive: true });
  if (fix !== undefined) {
    const path = join(source, fix.file);
    const before = readFileSync(path, 'utf8');
    if (!before.includes(fix.from)) throw new Error(`${fix.file} has no longer the line that is to be fixed`);
    writeFileSync(path, before.replaceAll(fix.from, fix.to));
  }
  const out = join(folder, `out${i}`);
  const cache = process.env['SHOAL_CACHE'] ?? join(repositoryRoot, '.cache');
  await must(['make', '-s', '-j2', '-C', source, `OUT=${out}`, `CACHE=${cache}`, join(out, `${app}.elf`)], { code: 'SETUP_FAILED', timeoutMs: 300_000 });
  return readFileSync(join(out, `${app}.elf`));
}

interface Site {
  controller: Controller;
  images: ImageStore;
  agents: ChildProcess[];
}

async function openSite(folder: string, hosts: number, inlineBytes: number | undefined): Promise<Site> {
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  await must(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=bench', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certFile]);
  const tls = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  const fingerprint = new X509Certificate(tls.cert).fingerprint256;
  const program = join(repositoryRoot, 'bench/hotfix/agents.ts');
  // Each host has a process and threads of its own; here as many processes as cores, each with threads for its hosts.
  const processes = Math.min(hosts, availableParallelism());
  const env = { ...process.env, UV_THREADPOOL_SIZE: String(Math.min(128, 4 * Math.ceil(hosts / processes))) };
  const agents: ChildProcess[] = [];
  const ports: number[] = [];
  for (let i = 0; i < processes; i++) {
    const count = Math.floor(((i + 1) * hosts) / processes) - Math.floor((i * hosts) / processes);
    const child = spawn(process.execPath, ['--import', 'tsx', program, join(folder, `agents${i}`), String(count), certFile, keyFile], { stdio: ['pipe', 'pipe', 'inherit'], cwd: repositoryRoot, env });
    agents.push(child);
    const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
    ports.push(...(JSON.parse(line) as number[]));
  }
  const images = await ImageStore.open(join(folder, 'images'), { parse: parseKernel });
  const bytes = async (digest: string): Promise<Uint8Array | undefined> => (images.has(digest as Digest) ? images.bytes(digest as Digest) : undefined);
  const deltas = await DeltaStore.open(join(folder, 'deltas'), { bytes });
  const origin = { url: '', fingerprint };
  const controller = await openController({
    store: new MemoryStore(),
    auditFile: join(folder, 'audit.log'),
    operatorTokenFile: join(folder, 'operator.token'),
    listen: { host: '127.0.0.1', port: 0 },
    tls,
    graceMs: 60_000,
    link: ({ url }) => new XenApiLink({ url, password: 'bench', fingerprint }),
    checkHost: () => {},
    images: { list: () => images.list(), put: async (digest, parts) => void (await images.put(digest as Digest, parts)), bytes, file: (digest) => images.file(digest as Digest) },
    deltas,
    origin,
    inlineBytes,
    version: 'bench',
    log: () => {},
  });
  origin.url = `https://127.0.0.1:${controller.server.port}`;
  for (const [i, port] of ports.entries())
    controller.fleet.addUnit({ name: `h${i}`, url: `https://127.0.0.1:${port}`, fingerprint, credential: 'x', labels: {}, drained: false, dead: false, maxVifs: 1 });
  while (![...controller.fleet.units.values()].every((unit) => unit.up)) await new Promise((resolve) => setTimeout(resolve, 20));
  return { controller, images, agents };
}

async function closed({ agents, controller }: Site): Promise<void> {
  for (const { stdin } of agents) stdin!.end();
  await controller.close();
  for (const agent of agents) if (agent.exitCode === null) await once(agent, 'exit');
}

/** Milliseconds from the moment the controller has the image until every host has it. */
async function bring({ controller, images }: Site, image: Uint8Array): Promise<{ ms: number; brought: Brought[] }> {
  const digest = digestOf(image);
  await images.put(digest, once1(image));
  const began = performance.now();
  const brought = await Promise.all([...controller.fleet.units.values()].map((unit) => controller.distribution!.ensure(unit, digest)));
  return { ms: performance.now() - began, brought };
}

/** Rows of HF, for the benchmark "hotfix". */
export async function distribution({ quick, status = () => {} }: { quick: boolean; status?: (text: string) => void }): Promise<BenchOutcome> {
  const hosts = quick ? 10 : 40;
  const folder = mkdtempSync(join(tmpdir(), 'shoal-hotfix-'));
  const lines: string[] = [];
  try {
    const bases = new Map<string, Buffer>();
    const pairs: { fix: Fix; before: Buffer; after: Buffer; delta: number }[] = [];
    for (const [i, fix] of fixes.entries()) {
      status(`building fix ${i + 1} of ${fixes.length}`);
      const before = bases.get(fix.app) ?? (await built(folder, undefined, fix.app, 100 + i));
      bases.set(fix.app, before);
      const after = await built(folder, fix, fix.app, i);
      const delta = (await makeDelta(before, after))?.length ?? after.length;
      pairs.push({ fix, before, after, delta });
      lines.push(`${fix.app}, ${fix.file}: ${delta} bytes for ${after.length}, ${((100 * delta) / after.length).toFixed(2)} %`);
    }
    const runs: Record<string, number[]> = { order: [], files: [] };
    const gitRuns: Record<GitWay, number[]> = { https: [], git: [] };
    for (const [way, inlineBytes] of [['files', 0], ['order', undefined]] as const) {
      const siteFolder = join(folder, way);
      mkdirSync(siteFolder);
      status(`${hosts} agents`);
      const site = await openSite(siteFolder, hosts, inlineBytes);
      try {
        for (const image of bases.values()) await bring(site, image);
        for (const { after, before, fix } of pairs) {
          // In turns with git, so that what else the machine does meets both.
          for (const gitWay of way === 'order' ? (['https', 'git'] as const) : []) {
            status(`git fetch over ${gitWay}`);
            const gitFolder = mkdtempSync(join(folder, 'git-'));
            gitRuns[gitWay].push(await byGit(gitFolder, hosts, before, after, gitWay, siteFolder));
            rmSync(gitFolder, { recursive: true, force: true });
          }
          const { ms, brought } = await bring(site, after);
          if (brought.some(({ how }) => how !== 'delta')) throw new Error(`${fix.file}: not every host took the delta`);
          runs[way]!.push(ms);
          status(`${way}: ${fix.file}: ${ms.toFixed(0)} ms, ${brought[0]!.bytes} bytes a host`);
        }
      } finally {
        await closed(site);
      }
    }
    const median = (all: number[]): number => {
      const sorted = [...all].sort((a, b) => a - b);
      const half = sorted.length / 2;
      return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2;
    };
    const told = (all: number[]): string => all.map((each) => each.toFixed(0)).join(', ');
    lines.push(`${hosts} hosts, delta in the order: ${told(runs['order']!)} ms; fetched as files: ${told(runs['files']!)} ms; git fetch over HTTPS: ${told(gitRuns.https)} ms, over git's own protocol without TLS: ${told(gitRuns.git)} ms`);
    const best = median(runs['order']!);
    return {
      promises: [
        atMost('HF-3', 'bytes to a host for a one-line fix, of the image (worst of four)', Math.max(...pairs.map(({ delta, after: image }) => (100 * delta) / image.length)), '%', 2),
        atLeast('HF-4', `${hosts} hosts fetch one fix, beside ${hosts} git fetch, both over TLS, medians`, median(gitRuns.https) / best, 'times', 50),
        compared('HF-4', 'the same, every delta fetched as a file', median(gitRuns.https) / median(runs['files']!), 'times'),
        compared('HF-4', `beside ${hosts} git fetch from git daemon, without TLS`, median(gitRuns.git) / best, 'times'),
        compared('HF-4', `all ${hosts} hosts have the fix`, best, 'ms'),
      ],
      lines,
      files: {},
      machine: machineFacts(),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const outcome = await distribution({ quick: process.argv.includes('--quick'), status: (text) => void process.stderr.write(`${text}\n`) });
  for (const each of outcome.promises) process.stdout.write(`${each.row}  ${each.name}: ${each.value} ${each.unit}  ${each.target}\n`);
  for (const line of outcome.lines) process.stdout.write(`${line}\n`);
  process.exit(0);
}
