/**
 * A deployment repository that lives on another git host: fetched now and then and when the host says so, judged by the same program as a
 * push, and only then the branch moves. Of what the host sends nothing is believed but the objects, and those after they were verified.
 */
import { execFile } from 'node:child_process';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { git } from '../../desired/git.ts';
import { noObject } from '../../desired/objects.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Reason } from '../../model/service.ts';
import { refused } from '../schema.ts';
import type { Deployment } from './deployment.ts';
import { commitOf } from './repository.ts';

const run = promisify(execFile);

export interface RemoteOptions {
  url: string;
  pollMs: number;
  /** Sent as the password of Basic auth. */
  token?: string | undefined;
  webhookSecret?: string | undefined;
  receive: readonly string[];
  deployment: Deployment;
  log: (line: string) => void;
}

const incoming = 'refs/shoal/incoming';
const fetchTimeoutMs = 300_000;
/** A commit that was refused is judged anew after so long: a clock may have been put right. */
const judgeAgainMs = 600_000;

export class Remote {
  readonly #options: RemoteOptions;
  #timer: NodeJS.Timeout | undefined;
  #polling: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #trouble: ShoalError | undefined;
  #refusedAt: { pair: string; ms: number } | undefined;
  readonly #stopped = new AbortController();

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.poke();
  }

  get trouble(): ShoalError | undefined {
    return this.#trouble;
  }

  /** Fetches soon; many calls are one fetch, and one more when it is under way. */
  poke(): void {
    if (this.#closed) return;
    if (this.#polling !== undefined) return void (this.#again = true);
    clearTimeout(this.#timer);
    this.#polling = this.#pollOnce().finally(() => {
      this.#polling = undefined;
      if (this.#closed) return;
      const again = this.#again;
      this.#again = false;
      // However many hooks come, at most one fetch a second.
      this.#timer = setTimeout(() => this.poke(), again ? 1000 : this.#options.pollMs);
    });
  }

  async settled(): Promise<void> {
    await this.#polling;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stopped.abort();
    await this.#polling;
  }

  async #pollOnce(): Promise<void> {
    try {
      await this.#options.deployment.guard.beside(() => this.#poll());
      this.#trouble = undefined;
    } catch (thrown) {
      const error = asShoalError(thrown);
      if (error.message !== this.#trouble?.message && !this.#closed) this.#options.log(`deployment remote: ${error.code}: ${error.message}`);
      this.#trouble = error;
    }
  }

  async #poll(): Promise<void> {
    const { url, token, receive, deployment } = this.#options;
    const { repository, branch } = deployment;
    const env: Record<string, string> =
      token === undefined
        ? {}
        : { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraHeader', GIT_CONFIG_VALUE_0: `Authorization: Basic ${Buffer.from(`shoal:${token}`).toString('base64')}` };
    await git(repository, ['fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--', url, `+refs/heads/${branch}:${incoming}`], { env, timeoutMs: fetchTimeoutMs, signal: this.#stopped.signal });
    const [before, after] = [await commitOf(repository, `refs/heads/${branch}`), await commitOf(repository, incoming)];
    if (after === undefined || before === after) return;
    const pair = `${before ?? ''} ${after}`;
    if (this.#refusedAt?.pair === pair && Date.now() - this.#refusedAt.ms < judgeAgainMs && this.#trouble !== undefined) throw this.#trouble;
    const [program, ...words] = receive;
    const { stdout } = await run(program!, [...words, 'check', repository, before ?? noObject, after], { timeout: fetchTimeoutMs, maxBuffer: 4 * 1024 * 1024 }).catch((error: { stdout?: string; message: string }) => {
      if (error.stdout?.startsWith('{')) return { stdout: error.stdout };
      throw new ShoalError('REPOSITORY_FAILED', `${after} could not be judged: ${error.message.slice(0, 300)}`);
    });
    const verdict = JSON.parse(stdout) as { reasons: Reason[] } | { error: string };
    if ('error' in verdict) throw new ShoalError('REPOSITORY_FAILED', verdict.error);
    if (verdict.reasons.length > 0) {
      this.#refusedAt = { pair, ms: Date.now() };
      throw refused('DEPLOYMENT_REFUSED', verdict.reasons);
    }
    await git(repository, ['update-ref', `refs/heads/${branch}`, after, before ?? noObject]);
    deployment.poke();
  }

  /** Whether a webhook's body is from the host that knows the secret: GitHub's, Gitea's and Forgejo's HMAC, or GitLab's token. */
  isGenuine(body: Buffer, headers: Record<string, unknown>): boolean {
    const { webhookSecret } = this.#options;
    if (webhookSecret === undefined) return false;
    const same = (given: unknown, wanted: string): boolean => {
      if (typeof given !== 'string') return false;
      const [a, b] = [given, wanted].map((text) => createHmac('sha256', 'compare').update(text).digest());
      return timingSafeEqual(a!, b!);
    };
    const hmac = createHmac('sha256', webhookSecret).update(body).digest('hex');
    return (
      same(headers['x-hub-signature-256'], `sha256=${hmac}`) ||
      same(headers['x-gitea-signature'], hmac) ||
      same(headers['x-forgejo-signature'], hmac) ||
      same(headers['x-gitlab-token'], webhookSecret)
    );
  }
}
