/**
 * `hotfix`, the deployment repository: releases of a one-line fix published to the controller as it is built, one after the other, over
 * HTTPS, each judged by the real hook. What grows: the repository on disk, the time of a push, the controller's memory.
 *
 * By itself: `node --import tsx bench/hotfix/repository.ts [RELEASES] [--quick] [--keep] [--within MINUTES]`.
 */
import { createHash } from 'node:crypto';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { certificateCommand } from '../../src/setup/dom0.ts';
import { atMost, compared, machineFacts, type BenchOutcome } from '../harness.ts';

export interface RepositorySample {
  release: number;
  /** Releases in this push. */
  together: number;
  /** `git push` of signed commits, to its end. */
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

/** Releases in one push between those that are compared. */
const mostTogether = 10;
/** Releases that are compared: so many at the beginning, so many at the end, each pushed alone. */
const comparedOf = (releases: number): number => Math.min(100, Math.max(1, Math.floor(releases / 4)));
export const quickReleases = 120;
/** When the time is over, so many more are pushed, each alone: then there is something to compare all the same. */
const lateAlone = 40;
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

/** Of the files' lengths. What goes away meanwhile does not count: git's own temporary folders come and go. */
function bytesBelow(folder: string): number {
  const look = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch {
      return undefined;
    }
  };
  let bytes = 0;
  for (const entry of look(() => readdirSync(folder, { withFileTypes: true })) ?? []) {
    const path = join(folder, entry.name);
    bytes += entry.isDirectory() ? bytesBelow(path) : (look(() => statSync(path).size) ?? 0);
  }
  return bytes;
}

export const kib = (folder: string): number => Math.round(bytesBelow(folder) / 1024);

/** Functions that are fixed: all in the image's code. */
const places = 512;

/** The image with some bytes of its code changed in one place, as a fix of a line has it; each on top of the ones before. */
export function fix(image: Buffer, release: number): void {
  const at = 0x2000 + 64 * ((release * 617) % places);
  createHash('sha256').update(String(release)).digest().copy(image, at, 0, 24);
}

/** `withinMs`: after so long no more releases than are needed for an end; `signal` ends it at once. */
export async function measureRepository(wanted: number, imageFile: string, onProgress: (done: number) => void, signal: AbortSignal, withinMs = Infinity): Promise<RepositoryMeasure> {
  const began = performance.now();
  let [releases, edge] = [wanted, comparedOf(wanted)];
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
      fix(image, release);
      writeFileSync(file('image.elf'), image);
      const made = await imageOf(file('image.elf'), { source: work, manifestFile: undefined, name: 'ping', version: undefined, compiler: undefined, recipe: undefined });
      // Each release of another source commit, as they are.
      made.manifest.source.commit = `${release.toString(16).padStart(8, '0')}${source.slice(8)}`;
      return { tenant: 'acme', service: 'ping', image: made, expiryDays: 90, keep: 20, rollout: undefined, spec: undefined, nowMs: Date.now, onAgain: () => {} };
    };
    const accepted = (commit: string) => until('the commit to be accepted', async () => ((await control!.call<{ accepted?: string }>('GET', '/v1/deployment')).accepted === commit ? true : undefined));
    for (let release = 1; release <= releases && !signal.aborted; ) {
      // Between those that are compared several in a push, to be there sooner.
      if (performance.now() - began > withinMs && release + lateAlone < releases - edge) [releases, edge] = [release + lateAlone - 1, lateAlone];
      const together = release <= comparedOf(wanted) ? 1 : Math.max(1, Math.min(mostTogether, releases - edge - release + 1));
      if (together === 1) await accepted((await publish(checkout, await publishable(release))).commit);
      else {
        let tip = await checkout.tip();
        for (let n = 0; n < together; n++) tip = (await releaseOn(checkout, tip, await publishable(release + n))).commit;
        const outcome = await checkout.push(tip);
        if (outcome.kind !== 'pushed') throw new Error(JSON.stringify(outcome));
        await accepted(tip);
      }
      const acceptMs = performance.now() - pushedAt;
      release += together;
      samples.push({ release: release - 1, together, pushMs, acceptMs, repositoryKib: kib(join(file('fleet'), 'deploy.git')), residentKib: residentKib(controller.pid!) });
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

const mib = (bytesKib: number): number => bytesKib / 1024;

/** Bytes a release: the slope of a line through all samples, so that it does not matter how much was loose at the first and the last. */
function slopeBytes(samples: readonly RepositorySample[]): number {
  const mean = (of: (sample: RepositorySample) => number): number => samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [x, y] = [mean(({ release }) => release), mean(({ repositoryKib }) => repositoryKib)];
  const above = samples.reduce((sum, { release, repositoryKib }) => sum + (release - x) * (repositoryKib - y), 0);
  return (1024 * above) / samples.reduce((sum, { release }) => sum + (release - x) ** 2, 0);
}

export function repositoryOutcome({ imageBytes, samples }: RepositoryMeasure): BenchOutcome {
  const last = samples.at(-1)!;
  const edge = comparedOf(last.release);
  const early = samples.filter(({ release }) => release <= edge);
  const late = samples.filter(({ release, together }) => together === 1 && release > last.release - edge);
  const of = (list: readonly RepositorySample[], field: 'pushMs' | 'acceptMs' | 'residentKib'): number => median(list.map((sample) => sample[field]));
  const slope = slopeBytes(samples);
  const told = (name: string, list: readonly RepositorySample[]): string =>
    `${name} ${edge}: push ${Math.round(of(list, 'pushMs'))} ms, the slowest ${Math.round(Math.max(...list.map(({ pushMs }) => pushMs)))} ms; accepted ${Math.round(of(list, 'acceptMs'))} ms later, the latest ${Math.round(Math.max(...list.map(({ acceptMs }) => acceptMs)))} ms; controller ${mib(of(list, 'residentKib')).toFixed(0)} MiB; repository at the end ${mib(list.at(-1)?.repositoryKib ?? NaN).toFixed(2)} MiB`;
  return {
    promises: [
      atMost(row, `push, p50 of the last ${edge} of ${last.release} releases, of the first ${edge}`, of(late, 'pushMs') / of(early, 'pushMs'), 'times', 1.5),
      atMost(row, "controller's memory, the same", of(late, 'residentKib') / of(early, 'residentKib'), 'times', 1.25),
      atMost(row, "repository's growth a release, of an image", slope / imageBytes, 'of it', 0.1),
      compared(row, "repository's growth a release", slope, 'bytes'),
      compared(row, 'git push, p50', of(late, 'pushMs'), 'ms'),
      compared(row, 'push ended until accepted, p50', of(late, 'acceptMs'), 'ms'),
    ],
    lines: [`image ${imageBytes} bytes`, told('first', early), told('last', late)],
    files: {
      'hotfix-repository.csv': ['release,together,push_ms,accept_ms,repository_kib,resident_kib', ...samples.map((s) => [s.release, s.together, s.pushMs.toFixed(1), s.acceptMs.toFixed(1), s.repositoryKib, s.residentKib].join(',')), ''].join('\n'),
      'hotfix-repository.svg': `${plotSvg({
        title: 'The deployment repository on disk, release by release',
        xLabel: 'releases pushed',
        yLabel: 'MiB',
        scale: 'linear',
        series: [
          { label: 'repository', points: samples.map((s) => [s.release, mib(s.repositoryKib)] as const), shape: 'dot' },
        ],
      })}\n`,
    },
    machine: machineFacts(),
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const stopped = new AbortController();
  process.once('SIGINT', () => stopped.abort());
  process.once('SIGTERM', () => stopped.abort());
  const words = process.argv.slice(2);
  const releases = Number(words.find((word, i) => /^\d+$/.test(word) && words[i - 1] !== '--within') ?? (words.includes('--quick') ? quickReleases : 1000));
  const measure = await measureRepository(releases, join(repositoryRoot, 'build/unikernels/ping.elf'), (done) => done % 50 === 0 && process.stderr.write(`${done} released\n`), stopped.signal, words.includes('--within') ? 60_000 * Number(words[words.indexOf('--within') + 1]) : undefined);
  const { promises, lines, files } = repositoryOutcome(measure);
  for (const promise of promises) process.stdout.write(`${JSON.stringify(promise)}\n`);
  process.stdout.write(`${lines.join('\n')}\n`);
  if (words.includes('--keep')) for (const [name, text] of Object.entries(files)) writeFileSync(join(repositoryRoot, 'docs/bench', name), text);
}
