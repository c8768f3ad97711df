/**
 * `hotfix`, the deployment repository: releases of a one-line fix published to the controller as it is built, one after the other, over
 * HTTPS, each judged by the real hook. What grows: the repository on disk, the time of a push, the controller's memory.
 *
 * By itself: `node --import tsx bench/hotfix/repository.ts [RELEASES]`.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Checkout } from '../../src/cli/ci/checkout.ts';
import { imageOf } from '../../src/cli/ci/image.ts';
import { publish, releaseOn, type PublishOptions } from '../../src/cli/ci/publish.ts';
import { Control } from '../../src/cli/control.ts';
import { git, gitText } from '../../src/desired/git.ts';
import { buildController } from '../../src/lab/build.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { certificateCommand } from '../../src/setup/dom0.ts';
import { atMost, compared, machineFacts, type BenchOutcome } from '../harness.ts';

export interface RepositorySample {
  release: number;
  /** `git push` of a signed commit, to its end. */
  pushMs: number;
  /** From its end until the controller has read it and stored its image. */
  acceptMs: number;
  repositoryKib: number;
  /** Of the controller's process. */
  residentKib: number;
}

export interface RepositoryMeasure {
  imageBytes: number;
  samples: RepositorySample[];
}

/** Releases in one push between the points that are compared. */
const together = 10;
/** Milliseconds to wait for the controller, at most. */
const patienceMs = 60_000;

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const residentKib = (pid: number): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? NaN);

function kib(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const path = join(entry.parentPath ?? entry.path, entry.name);
      if (existsSync(path)) bytes += statSync(path).size;
    }
  return Math.round(bytes / 1024);
}

/** The image with another constant in its code, as a one-line fix has. */
function fixed(image: Buffer, release: number): Buffer {
  const copy = Buffer.from(image);
  copy.writeUInt32LE(release, 0x2000 + 64 * (release % 100));
  return copy;
}

export async function measureRepository(releases: number, imageFile: string, onProgress: (done: number) => void, signal: AbortSignal): Promise<RepositoryMeasure> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-bench-deploy-'));
  const file = (name: string): string => join(folder, name);
  let child: ChildProcess | undefined;
  let checkout: Checkout | undefined;
  let control: Control | undefined;
  const image = readFileSync(imageFile);
  const samples: RepositorySample[] = [];
  try {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', file('key')]);
    const [program, ...words] = certificateCommand('localhost', ['127.0.0.1'], file('tls.key'), file('tls.pem'));
    execFileSync(program!, words, { stdio: 'ignore' });
    const signers = `anna@acme.example ${readFileSync(file('key.pub'), 'utf8')}`;
    writeFileSync(file('signers'), signers);
    mkdirSync(file('credentials'));
    writeFileSync(
      file('controller.json'),
      JSON.stringify({ listen: { port: 0 }, certFile: file('tls.pem'), keyFile: file('tls.key'), stateDir: file('fleet'), credentialsDir: file('credentials'), deployment: { signersFile: file('signers') } }),
    );
    const controller = spawn(process.execPath, [await buildController(), file('controller.json')], { stdio: ['ignore', 'ignore', 'pipe'] });
    child = controller;
    let log = '';
    controller.stderr.on('data', (part: Buffer) => (log = (log + part.toString()).slice(-4000)));
    const port = await until('the controller', async () => /ready on 127\.0\.0\.1:(\d+)/.exec(log)?.[1]);
    const token = readFileSync(join(file('fleet'), 'operator.token'), 'utf8').trim();
    const url = `https://localhost:${port}/git/deploy.git`;
    const env = { GIT_SSL_CAINFO: file('tls.pem'), GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraHeader', GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`x:${token}`).toString('base64')}` };
    control = new Control(`https://localhost:${port}`, readFileSync(file('tls.pem'), 'utf8'), token);

    // The example, its only signer an admin, its service without copies: there are no hosts.
    const work = file('work');
    cpSync(join(repositoryRoot, 'deploy-repo'), work, { recursive: true });
    writeFileSync(join(work, 'signers'), signers);
    const service = join(work, 'services/acme/ping.json');
    writeFileSync(service, JSON.stringify({ ...(JSON.parse(readFileSync(service, 'utf8')) as object), count: 0, placement: { strategy: 'spread' } }));
    await git(work, ['init', '-q', '-b', 'main', '.']);
    await git(work, ['add', '-A']);
    await git(work, ['-c', 'user.name=b', '-c', 'user.email=b@b', '-c', 'gpg.format=ssh', '-c', `user.signingkey=${file('key')}`, 'commit', '-q', '-S', '-m', 'first']);
    await git(work, ['push', '-q', url, 'HEAD:main'], { env });

    checkout = await Checkout.open({ url, branch: 'main', key: file('key'), author: { name: 'b', email: 'b@b' }, env });
    let pushedAt = 0;
    let pushMs = 0;
    const push = checkout.push.bind(checkout);
    checkout.push = async (commit) => {
      const began = performance.now();
      const outcome = await push(commit);
      pushedAt = performance.now();
      pushMs = pushedAt - began;
      return outcome;
    };
    const source = await gitText(repositoryRoot, ['rev-parse', 'HEAD']);
    const publishable = async (release: number): Promise<PublishOptions> => {
      writeFileSync(file('image.elf'), fixed(image, release));
      const made = await imageOf(file('image.elf'), { source: work, manifestFile: undefined, name: 'ping', version: undefined, compiler: undefined, recipe: undefined });
      // Each release of another source commit, as they are.
      made.manifest.source.commit = `${release.toString(16).padStart(8, '0')}${source.slice(8)}`;
      return { tenant: 'acme', service: 'ping', image: made, expiryDays: 90, keep: 20, rollout: undefined, spec: undefined, nowMs: Date.now, onAgain: () => {} };
    };
    const accepted = (commit: string) => until('the commit to be accepted', async () => ((await control!.call<{ accepted?: string }>('GET', '/v1/deployment')).accepted === commit ? true : undefined));
    for (let release = 1; release <= releases && !signal.aborted; ) {
      // Around the points that are compared one release a push; between them several, to be there sooner.
      const alone = [1, 100, releases].some((point) => release > point - 20 && release < point + 20);
      if (alone) {
        const { commit } = await publish(checkout, await publishable(release));
        await accepted(commit);
        samples.push({ release, pushMs, acceptMs: performance.now() - pushedAt, repositoryKib: kib(join(file('fleet'), 'deploy.git')), residentKib: residentKib(controller.pid!) });
        release++;
      } else {
        let tip = await checkout.tip();
        for (let n = 0; n < together; n++, release++) tip = (await releaseOn(checkout, tip, await publishable(release))).commit;
        const outcome = await checkout.push(tip);
        if (outcome.kind !== 'pushed') throw new Error(JSON.stringify(outcome));
        await accepted(tip);
      }
      onProgress(release - 1);
    }
    return { imageBytes: image.length, samples };
  } catch (error) {
    // Who stops it stops git too.
    if (!signal.aborted || samples.length === 0) throw error;
    return { imageBytes: image.length, samples };
  } finally {
    control?.close();
    await checkout?.close();
    if (child !== undefined && child.exitCode === null) {
      const gone = new Promise((done) => child!.once('exit', done));
      child.kill('SIGTERM');
      await gone;
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
const row = 'HOTFIX-7';

export function repositoryOutcome({ imageBytes, samples }: RepositoryMeasure): BenchOutcome {
  const last = samples.at(-1)?.release ?? 0;
  const around = (at: number): RepositorySample[] => samples.filter(({ release }) => Math.abs(release - at) < 20);
  const early = around(100);
  const late = around(last);
  const of = (list: readonly RepositorySample[], field: 'pushMs' | 'acceptMs' | 'residentKib'): number => median(list.map((sample) => sample[field]));
  const growth = ((samples.at(-1)!.repositoryKib - samples[0]!.repositoryKib) * 1024) / Math.max(1, last - 1);
  return {
    promises: [
      atMost(row, `push at ${last} releases, of the same at 100`, of(late, 'pushMs') / of(early, 'pushMs'), 'times', 1.5),
      atMost(row, `controller's memory at ${last} releases, of the same at 100`, of(late, 'residentKib') / of(early, 'residentKib'), 'times', 1.25),
      atMost(row, "repository's growth a release, of an image", growth / imageBytes, 'of it', 0.1),
      compared(row, 'git push, p50', of(late, 'pushMs'), 'ms'),
      compared(row, 'push ended until accepted, p50', of(late, 'acceptMs'), 'ms'),
    ],
    lines: [1, 100, last]
      .filter((at) => samples.some(({ release }) => release === at))
      .map((at) => {
        const sample = samples.find(({ release }) => release === at)!;
        return `after ${at}: repository ${sample.repositoryKib} KiB, controller ${Math.round(sample.residentKib / 1024)} MiB, push ${Math.round(of(around(at), 'pushMs'))} ms, accepted ${Math.round(of(around(at), 'acceptMs'))} ms later`;
      }),
    files: { 'hotfix-repository.csv': ['release,push_ms,accept_ms,repository_kib,resident_kib', ...samples.map((s) => [s.release, s.pushMs.toFixed(1), s.acceptMs.toFixed(1), s.repositoryKib, s.residentKib].join(','))].join('\n') + '\n' },
    machine: machineFacts(),
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const stopped = new AbortController();
  process.once('SIGINT', () => stopped.abort());
  process.once('SIGTERM', () => stopped.abort());
  const measure = await measureRepository(Number(process.argv[2] ?? 1000), join(repositoryRoot, 'build/unikernels/ping.elf'), (done) => done % 50 === 0 && process.stderr.write(`${done} released\n`), stopped.signal);
  const { promises, lines, files } = repositoryOutcome(measure);
  for (const promise of promises) process.stdout.write(`${JSON.stringify(promise)}\n`);
  process.stdout.write(`${lines.join('\n')}\n`);
  if (process.argv.includes('--keep')) writeFileSync(join(repositoryRoot, 'docs/bench/hotfix-repository.csv'), files['hotfix-repository.csv']!);
}
