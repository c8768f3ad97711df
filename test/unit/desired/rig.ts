/** Deployment repositories to push to: the example of deploy-repo/, with keys made for the test, and a bare repository with the real hooks. */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openRepository } from '../../../src/control/deployment/repository.ts';
import { make, usual } from '../image/made.ts';
import { bundleMain, root } from '../main/process.ts';

export const example = join(root, 'deploy-repo');

/** A small kernel that can be told from the others by its word. */
export function kernel(word: string): { bytes: Buffer; hex: string } {
  const bytes = make({ notes: [[6, Buffer.from(`${word}\0`)], ...usual.slice(1)] });
  return { bytes, hex: createHash('sha256').update(bytes).digest('hex') };
}

export const sourceOf = (word: string): string => createHash('sha1').update(word).digest('hex');

export function release(counter: number, word: string, more: { service?: string; tenant?: string; created?: string; expires?: string; image?: object } = {}) {
  const { bytes, hex } = kernel(word);
  const { service = 'ping', tenant = 'acme', created = new Date(Date.now() - 1000).toISOString(), expires = new Date(Date.now() + 30 * 86_400_000).toISOString(), image = {} } = more;
  return {
    format: 'shoal-release-1',
    tenant,
    service,
    counter,
    image: { name: 'made', version: word, digest: `sha256:${hex}`, sizeBytes: bytes.length, source: { commit: sourceOf(word), digest: `sha256:${'0'.repeat(64)}`, dirty: false }, compiler: 'none', recipe: 'none', ...image },
    created,
    expires,
  };
}

export type Files = Record<string, string | Buffer | object | undefined>;

export interface Pushed {
  ok: boolean;
  /** What git said. */
  text: string;
}

const quiet = { GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null', GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };

let receiving: Promise<string[]> | undefined;
/** The hook's program, bundled as the controller's build does. */
export const receiveProgram = (): Promise<string[]> =>
  (receiving ??= (async () => {
    const folder = await mkdtemp(join(tmpdir(), 'shoal-receive-'));
    process.once('exit', () => execFileSync('rm', ['-rf', folder]));
    return [process.execPath, await bundleMain(folder, 'receive')];
  })());

export class Repo {
  readonly folder: string;
  readonly work: string;
  readonly bare: string;
  #env: Record<string, string> = {};

  private constructor(folder: string) {
    this.folder = folder;
    this.work = join(folder, 'work');
    this.bare = join(folder, 'deploy.git');
  }

  /** A working copy of the example, its first commit signed by anna, not yet pushed; a bare repository with hooks. */
  static async open(): Promise<Repo> {
    const repo = new Repo(await mkdtemp(join(tmpdir(), 'shoal-deploy-')));
    await mkdir(repo.work);
    for (const name of ['anna', 'ci', 'other', 'eve']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', repo.key(name)]);
    await cp(example, repo.work, { recursive: true });
    await repo.git('init', '-q', '-b', 'main', '.');
    await repo.commit({ signers: await repo.signers('anna', 'ci') }, 'anna');
    await openRepository(await repo.options());
    return repo;
  }

  async options() {
    return { folder: this.bare, branch: 'main', anchor: await this.signers('anna'), receive: await receiveProgram(), pushBytes: 16 * 1024 * 1024 };
  }

  key = (name: string): string => join(this.folder, `key-${name}`);

  async signers(...names: string[]): Promise<string> {
    const lines = await Promise.all(names.map(async (name) => `${name}@acme.example namespaces="git" ${(await readFile(`${this.key(name)}.pub`, 'utf8')).trim()}\n`));
    return lines.join('');
  }

  /** With environment for the next commands: a token, a certificate. */
  with(env: Record<string, string>): void {
    this.#env = env;
  }

  run(args: readonly string[], cwd = this.work): Promise<{ code: number; text: string }> {
    return new Promise((done) => {
      execFile('git', args as string[], { cwd, env: { PATH: process.env['PATH']!, HOME: this.folder, ...quiet, ...this.#env }, timeout: 60_000, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
        done({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, text: stdout + stderr }),
      );
    });
  }

  async git(...args: string[]): Promise<string> {
    const { code, text } = await this.run(args);
    if (code !== 0) throw new Error(`git ${args.join(' ')}: ${text}`);
    return text.trim();
  }

  /** Writes files (undefined: removes), commits all; `who` "nobody": not signed. The commit's id. */
  async commit(files: Files, who = 'ci', more: string[] = []): Promise<string> {
    for (const [path, content] of Object.entries(files)) {
      const place = join(this.work, path);
      if (content === undefined) {
        await rm(place, { force: true });
        continue;
      }
      await mkdir(dirname(place), { recursive: true });
      await writeFile(place, typeof content === 'string' || Buffer.isBuffer(content) ? content : `${JSON.stringify(content, null, 2)}\n`);
    }
    await this.git('add', '-A');
    const sign = who === 'nobody' ? ['--no-gpg-sign'] : ['-S'];
    const config = ['-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'gpg.format=ssh', ...(who === 'nobody' ? [] : ['-c', `user.signingkey=${this.key(who)}`])];
    await this.git(...config, 'commit', '-q', '--allow-empty', ...sign, '-m', 'change', ...more);
    return this.git('rev-parse', 'HEAD');
  }

  async json(path: string): Promise<any> {
    return JSON.parse(await readFile(join(this.work, path), 'utf8'));
  }

  /** A release of acme/ping: image, manifest, service. */
  async releaseFiles(counter: number, word: string, more: Parameters<typeof release>[2] = {}): Promise<Files> {
    const { bytes, hex } = kernel(word);
    return { [`images/${hex}`]: bytes, [`releases/acme/ping/${counter}.json`]: release(counter, word, more), 'services/acme/ping.json': { ...(await this.json('services/acme/ping.json')), release: counter } };
  }

  async push(url = this.bare, ...more: string[]): Promise<Pushed> {
    const { code, text } = await this.run(['push', ...more, url, 'HEAD:main']);
    return { ok: code === 0, text };
  }

  /** Where the bare repository's branch is. */
  async head(ref = 'refs/heads/main'): Promise<string> {
    return (await this.run(['rev-parse', '--verify', '-q', ref], this.bare)).text.trim();
  }

  /** Back to what was pushed. */
  async back(): Promise<void> {
    await this.git('reset', '-q', '--hard', await this.head());
    await this.git('clean', '-qfd');
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
