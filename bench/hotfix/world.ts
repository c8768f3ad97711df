/**
 * Everything of a hot-fix at once, on a lab: two Xen hosts, a controller with its deployment repository, a working copy of the example that pushes to it over HTTPS by
 * C git, and a checkout of this repository where ping is fixed, committed and built. What test/e2e/hotfix.test.ts and the benchmark stand on.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Control } from '../../src/cli/control.ts';
import { openLabFleet } from '../../src/cli/fleet-lab.ts';
import { buildImage, checkoutAt } from '../../src/cli/image-source.ts';
import { git, gitText } from '../../src/desired/git.ts';
import { urlForHosts, type ControllerSettings, type LabController } from '../../src/lab/controller.ts';
import type { Lab } from '../../src/lab/lab.ts';
import { labFolder, repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import type { ImageManifest } from '../../src/model/manifest.ts';
import { nowMs } from './load.ts';

/** JSON, text or bytes; undefined: removed. */
export type Files = Record<string, object | string | Buffer | undefined>;

export interface Build {
  manifest: ImageManifest;
  file: string;
  bytes: Buffer;
  /** The folder it was built in, for `shoal image show --source`. */
  source: string;
}

export interface Rollout {
  phase: string;
  reason: string;
  wave: number;
  release: { counter: number; image: string };
  entries: { number: number; at: string; release: number; event: string; phase: string; wave: number; text: string }[];
}

export interface HotfixWorld {
  lab: Lab;
  /** Of the operator. It stays the same when the controller is started anew. */
  control: Control;
  controller: LabController;
  folder: string;
  /** Private key of the admin, who signs. */
  key: string;
  /** Of the deployment repository, over the forwarded port. */
  url: string;
  /** Trust and token, for git. */
  env: Record<string, string>;
  /** The command's, for `shoal`. */
  environment: Record<string, string>;
  /** Commits files on top of what the repository has, signed, and pushes; `endedMs`: when git had ended. Throws REPOSITORY_FAILED. */
  push(files: Files, message?: string): Promise<{ commit: string; endedMs: number }>;
  /** Files of the next release of acme/ping; `service`: fields of its file to change. */
  release(build: Pick<Build, 'manifest' | 'bytes'>, service?: object): Promise<Files>;
  /** Ping with another version word; `mute`: it boots, and answers nothing. Committed in a checkout of its own. */
  build(version: string, mute?: boolean): Promise<Build>;
  json<T>(path: string): Promise<T>;
  rollout(): Promise<Rollout>;
  /** Waits until the rollout of a release is in one of these phases; gives it with when that was seen. */
  until(counter: number, phases: readonly string[], withinMs: number): Promise<Rollout & { seenMs: number }>;
  /** The addresses of the service's copies, that of the canary first. */
  addresses(): Promise<string[]>;
  close(): void;
}

export const tenant = 'acme';
export const service = 'ping';
const rolloutPath = `/v1/rollouts/${tenant}/${service}`;

export interface WorldOptions {
  /** The service's file but for its release. */
  spec: object;
  policies: Record<string, object>;
  settings?: ControllerSettings;
}

/** Attaches to what an earlier one left in the same lab. Throws LAB_FAILED. */
export async function openHotfixWorld(lab: Lab, { spec, policies, settings = {} }: WorldOptions): Promise<HotfixWorld> {
  const folder = join(labFolder(lab.name), 'hotfix');
  const inFolder = (name: string): string => join(folder, name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const key = inFolder('key');
  if (!existsSync(key)) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', key]);
  const signers = `anna@acme.example namespaces="git" ${readFileSync(`${key}.pub`, 'utf8').trim()}\n`;
  writeFileSync(inFolder('signers'), signers);
  const { controller, control } = await openLabFleet(lab.name, lab.hosts, { url: urlForHosts(), deployment: { signersFile: inFolder('signers') }, ...settings });
  const url = `${controller.url}/git/deploy.git`;
  const token = readFileSync(controller.tokenFile, 'utf8').trim();
  const env = { GIT_SSL_CAINFO: controller.caFile, GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraHeader', GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`shoal:${token}`).toString('base64')}` };
  const work = inFolder('work');
  const signed = ['-c', 'user.name=Anna', '-c', 'user.email=anna@acme.example', '-c', 'gpg.format=ssh', '-c', `user.signingkey=${key}`];

  const put = (files: Files): void => {
    for (const [path, content] of Object.entries(files)) {
      const at = join(work, path);
      if (content === undefined) {
        rmSync(at, { force: true });
        continue;
      }
      mkdirSync(dirname(at), { recursive: true });
      writeFileSync(at, typeof content === 'string' || Buffer.isBuffer(content) ? content : `${JSON.stringify(content, null, 2)}\n`);
    }
  };
  const commitAndPush = async (message: string) => {
    await git(work, ['add', '-A']);
    await git(work, [...signed, 'commit', '-q', '-S', '-m', message]);
    await git(work, ['push', '-q', url, 'HEAD:main'], { env });
    return { commit: await gitText(work, ['rev-parse', 'HEAD']), endedMs: nowMs() };
  };
  const catchUp = async (): Promise<void> => {
    await git(work, ['fetch', '-q', url, 'main'], { env });
    await git(work, ['reset', '-q', '--hard', 'FETCH_HEAD']);
  };
  const world: HotfixWorld = {
    lab,
    control,
    controller,
    folder,
    key,
    url,
    env,
    environment: { SHOAL_CONTROLLER: controller.url, SHOAL_CONTROLLER_CA: controller.caFile, SHOAL_TOKEN_FILE: controller.tokenFile, SHOAL_SIGNING_KEY: key },
    push: async (files, message = 'A change') => {
      await catchUp();
      put(files);
      return commitAndPush(message);
    },
    release: async ({ manifest, bytes }, more = {}) => {
      await catchUp();
      const path = `services/${tenant}/${service}.json`;
      const before = JSON.parse(readFileSync(join(work, path), 'utf8')) as { release: number };
      const names = (await gitText(work, ['ls-files', `releases/${tenant}/${service}`])).split('\n');
      const counter = Math.max(0, ...names.map((name) => Number(/(\d+)\.json$/.exec(name)?.[1] ?? 0))) + 1;
      const day = 86_400_000;
      return {
        [`images/${manifest.digest.slice(7)}`]: bytes,
        [`releases/${tenant}/${service}/${counter}.json`]: {
          format: 'shoal-release-1', tenant, service, counter, image: manifest,
          created: new Date(Date.now() - 1000).toISOString(), expires: new Date(Date.now() + 30 * day).toISOString(),
        },
        [path]: { ...before, ...more, release: counter },
      };
    },
    build: (version, mute = false) => buildPing(inFolder('source'), version, mute),
    json: async (path) => {
      await catchUp();
      return JSON.parse(readFileSync(join(work, path), 'utf8')) as never;
    },
    rollout: () => control.call<Rollout>('GET', rolloutPath),
    until: async (counter, phases, withinMs) => {
      let last: Rollout | undefined;
      for (const deadline = Date.now() + withinMs; ; await sleep(100)) {
        // The controller may be on its way.
        const found = await world.rollout().catch(() => undefined);
        if (found !== undefined) last = found;
        if (found?.release.counter === counter && phases.includes(found.phase)) return { ...found, seenMs: nowMs() };
        if (Date.now() > deadline) throw new Error(`release ${counter} is not ${phases.join(' or ')}: ${JSON.stringify(last === undefined ? undefined : { ...last, entries: last.entries.slice(-4) })}`);
      }
    },
    addresses: async () => {
      const vms = await control.list<{ slot: number; addresses: string[]; retired?: true; takesFrom?: number }>(`/v1/vms?tenant=${tenant}&service=${service}`);
      const now = vms.filter((vm) => vm.retired !== true && vm.takesFrom === undefined);
      return now.sort((a, b) => a.slot - b.slot).map((vm) => vm.addresses[0]!);
    },
    close: () => control.close(),
  };
  if (!existsSync(join(work, '.git'))) {
    cpSync(join(repositoryRoot, 'deploy-repo'), work, { recursive: true });
    await git(work, ['init', '-q', '-b', 'main', '.']);
  }
  const known = await control.call<{ accepted?: string }>('GET', '/v1/deployment');
  const before = JSON.parse(readFileSync(join(repositoryRoot, `deploy-repo/services/${tenant}/${service}.json`), 'utf8')) as object;
  if (known.accepted === undefined) {
    const hosts = Object.fromEntries(lab.hosts.map(({ name }) => [`hosts/${name}.json`, { labels: { place: 'berlin' } }]));
    const rollouts = Object.fromEntries(Object.entries(policies).map(([name, policy]) => [`rollouts/${name}.json`, policy]));
    put({ signers, 'policy.json': { ...(JSON.parse(readFileSync(join(work, 'policy.json'), 'utf8')) as object), signers: { 'anna@acme.example': { roles: ['admin'] } } }, [`services/${tenant}/${service}.json`]: { ...before, ...spec }, ...hosts, ...rollouts });
    await commitAndPush('The example');
  }
  return world;
}

/** A fix as people make one: a line changed, committed, built. */
async function buildPing(source: string, version: string, mute: boolean): Promise<Build> {
  if (!existsSync(join(source, '.git'))) await must(['git', 'clone', '-q', '--shared', repositoryRoot, source], { code: 'SETUP_FAILED', timeoutMs: 120_000 });
  const edit = (path: string, change: (text: string) => string): void => {
    const at = join(source, 'unikernels/apps/ping', path);
    const before = readFileSync(at, 'utf8');
    const after = change(before);
    if (after !== before) writeFileSync(at, after);
  };
  edit('manifest.json', (text) => text.replace(/"version": "[^"]*"/, `"version": "${version}"`));
  const [on, off] = ['if (shoal_ip_start(NULL))', 'if (APP_VERSION[0] == 0 && shoal_ip_start(NULL))'];
  edit('ping.c', (text) => (mute ? text.replace(on, off) : text.replace(off, on)));
  const who = ['-c', 'user.name=Bob', '-c', 'user.email=bob@acme.example'];
  await must(['git', '-C', source, ...who, 'commit', '-q', '-a', '--allow-empty', '-m', `ping ${version}`], { code: 'SETUP_FAILED' });
  const manifest = await buildImage({ ...checkoutAt(source), cache: checkoutAt().cache }, 'ping');
  const file = join(source, 'build/unikernels/ping.elf');
  return { manifest, file, bytes: readFileSync(file), source };
}

