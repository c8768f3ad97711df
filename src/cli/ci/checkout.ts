/**
 * The deployment repository as a pipeline needs it: its last commit without any image, a new commit made from a few changed files, signed,
 * and pushed. Nothing is checked out.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { git, gitText, type GitOptions } from '../../desired/git.ts';
import { noObject } from '../../desired/objects.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';

export interface CheckoutOptions {
  url: string;
  branch: string;
  /** File of the private key that signs. */
  key: string;
  /** Who signs, as the commit says. */
  author: { name: string; email: string };
  /** Trust and token for the controller's own repository. */
  env: Record<string, string>;
}

/** undefined: removed. */
export type Changes = ReadonlyMap<string, Uint8Array | string | undefined>;

export type PushOutcome = { kind: 'pushed' } | { kind: 'behind' } | { kind: 'refused'; why: string };

const networkMs = 300_000;

export class Checkout {
  readonly #folder: string;
  readonly #options: CheckoutOptions;

  private constructor(folder: string, options: CheckoutOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  static async open(options: CheckoutOptions): Promise<Checkout> {
    const checkout = new Checkout(await mkdtemp(join(tmpdir(), 'shoal-publish-')), options);
    try {
      await checkout.#git(['init', '-q', '--bare', '.']);
      await checkout.#git(['remote', 'add', 'origin', options.url]);
      await checkout.#git(['config', 'remote.origin.promisor', 'true']);
      await checkout.#git(['config', 'remote.origin.partialclonefilter', 'blob:none']);
      return checkout;
    } catch (error) {
      await checkout.close();
      throw error;
    }
  }

  /** The branch's last commit, fetched. Throws REPOSITORY_FAILED. */
  async tip(): Promise<string> {
    const { branch } = this.#options;
    await this.#git(['fetch', '-q', '--depth=1', '--filter=blob:none', '--no-tags', 'origin', `+refs/heads/${branch}:refs/remotes/origin/${branch}`], { timeoutMs: networkMs });
    return this.#git(['rev-parse', `refs/remotes/origin/${branch}`]);
  }

  /** Of a file; undefined when there is none. */
  async read(commit: string, path: string): Promise<string | undefined> {
    if ((await this.#git(['ls-tree', commit, '--', path])) === '') return undefined;
    return (await git(this.#folder, ['cat-file', 'blob', `${commit}:${path}`], this.#with({ timeoutMs: networkMs }))).stdout.toString();
  }

  async names(commit: string, folder: string): Promise<string[]> {
    return (await this.#git(['ls-tree', '--name-only', `${commit}`, '--', `${folder}/`])).split('\n').filter((line) => line !== '');
  }

  /** Images of all releases in a commit, but those of the files named. */
  async digestsBut(commit: string, paths: ReadonlySet<string>): Promise<Set<string>> {
    const found = new Set<string>();
    const listed = await this.#git(['ls-tree', '-r', commit, '--', 'releases/']);
    const oids = listed.split('\n').flatMap((line) => {
      const m = /^100644 blob ([0-9a-f]{40})\t(.+)$/.exec(line);
      return m === null || paths.has(m[2]!) ? [] : [m[1]!];
    });
    const here = new Set((await this.#git(['cat-file', '--batch-all-objects', '--batch-check=%(objectname)', '--unordered'])).split('\n'));
    const missing = oids.filter((oid) => !here.has(oid));
    // Asked for one by one they would be fetched one by one.
    if (missing.length > 0) await this.#git(['fetch', '-q', '--no-tags', '--no-write-fetch-head', '--filter=blob:none', '--stdin', 'origin'], { input: `${missing.join('\n')}\n`, timeoutMs: networkMs }).catch(() => '');
    const { stdout } = await git(this.#folder, ['cat-file', '--batch'], this.#with({ input: `${oids.join('\n')}\n`, timeoutMs: networkMs }));
    for (const m of stdout.toString().matchAll(/"digest": *"(sha256:[0-9a-f]{64})"/g)) found.add(m[1]!);
    return found;
  }

  /** A signed commit on top of `parent`; its id. */
  async commit(parent: string, changes: Changes, message: string): Promise<string> {
    const { key, author } = this.#options;
    const index = { GIT_INDEX_FILE: join(this.#folder, 'publish-index') };
    await this.#git(['read-tree', parent], { env: index });
    let lines = '';
    for (const [path, content] of changes) {
      const oid = content === undefined ? undefined : await this.#git(['hash-object', '-w', '--stdin'], { input: content });
      lines += oid === undefined ? `0 ${noObject}\t${path}\n` : `100644 ${oid}\t${path}\n`;
    }
    await this.#git(['update-index', '--index-info'], { env: index, input: lines });
    const tree = await this.#git(['write-tree', '--missing-ok'], { env: index });
    const config = ['-c', 'gpg.format=ssh', '-c', `user.signingkey=${resolve(key)}`, '-c', `user.name=${author.name}`, '-c', `user.email=${author.email}`];
    return this.#git([...config, 'commit-tree', '-S', '-p', parent, '-m', message, tree]).catch((error: unknown) => {
      throw new ShoalError('USAGE', `The commit could not be signed: ${asShoalError(error).message}`, { hint: 'Give the file of an SSH private key without a passphrase with --key.', cause: error });
    });
  }

  async push(commit: string): Promise<PushOutcome> {
    const { code, stdout, stderr } = await git(this.#folder, ['push', '--porcelain', 'origin', `${commit}:refs/heads/${this.#options.branch}`], this.#with({ codes: [0, 1, 128], timeoutMs: networkMs }));
    if (code === 0) return { kind: 'pushed' };
    const line = /^!\t[^\n]*$/m.exec(stdout.toString())?.[0] ?? '';
    const told = stderr.split('\n').filter((each) => each.startsWith('remote: shoal:') || each.startsWith('remote:       ')).map((each) => each.slice('remote: '.length).trimEnd());
    if (/\[rejected\]|fetch first|non-fast-forward|failed to update ref|cannot lock ref|incorrect old value/.test(line)) return { kind: 'behind' };
    if (line !== '') return { kind: 'refused', why: told.length > 0 ? told.join('\n') : `${line.replace(/^!\t/, '')} ${stderr.trim().slice(-500)}`.trim() };
    // Nobody knows whether it arrived: whoever looks next sees it.
    if (/HTTP 4\d\d|error: 4\d\d|403|401|Authentication failed|not found/i.test(stderr)) return { kind: 'refused', why: stderr.trim().slice(-500) };
    return { kind: 'behind' };
  }

  /** Whether the branch has this commit, fetched anew. */
  async has(commit: string): Promise<boolean> {
    const { branch } = this.#options;
    // Only as far back as others may have pushed meanwhile.
    await this.#git(['fetch', '-q', '--depth=50', '--filter=blob:none', '--no-tags', 'origin', `+refs/heads/${branch}:refs/remotes/origin/${branch}`], { timeoutMs: networkMs });
    return (await git(this.#folder, ['merge-base', '--is-ancestor', commit, `refs/remotes/origin/${branch}`], this.#with({ codes: [0, 1, 128] }))).code === 0;
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  #with(options: GitOptions): GitOptions {
    return { ...options, asUser: true, env: { ...this.#options.env, ...options.env } };
  }

  #git(args: readonly string[], options: GitOptions = {}): Promise<string> {
    return gitText(this.#folder, args, this.#with(options));
  }
}
