/**
 * The one reader of the deployment repository: what it asks for at a commit, which releases there ever were, and an image's bytes. Files are
 * parsed in a thread of their own; images never pass through memory whole.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { refused } from '../schema/schema.ts';
import { gitEnv } from './git.ts';
import { History, type PastRelease } from './history.ts';
import { broken, isOid } from './objects.ts';
import type { DeploymentState } from './state.ts';
import type { ReadAnswer, ReadTask } from './worker.ts';

export type { DeploymentState, DesiredImage } from './state.ts';
export type { PastRelease } from './history.ts';

const workerFile = (): string => {
  const bundled = fileURLToPath(new URL('desired-worker.mjs', import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL('worker.mjs', import.meta.url));
};
const heapMib = 256;
const imageTimeoutMs = 120_000;

export class DesiredReader {
  readonly #repository: string;
  readonly #pool: Piscina;
  readonly #history: History;

  /** Of a bare repository. */
  constructor(repository: string) {
    this.#repository = repository;
    this.#history = new History(repository);
    this.#pool = new Piscina({ filename: workerFile(), minThreads: 1, maxThreads: 1, maxQueue: 64, resourceLimits: { maxOldGenerationSizeMb: heapMib } });
    this.#pool.on('error', () => {});
  }

  /** Throws REPOSITORY_FAILED when an object is missing or damaged, DEPLOYMENT_REFUSED with all reasons when it does not fit together. */
  async at(commit: string): Promise<DeploymentState> {
    if (!isOid(commit)) throw broken(`"${commit.slice(0, 60)}" is no commit.`);
    const packs = (await readdir(join(this.#repository, 'objects/pack')).catch(() => [])).sort().join(' ');
    const task: ReadTask = { repository: this.#repository, commit, packs };
    const answer = (await this.#pool.run(task).catch((error: Error) => {
      throw broken(`The reader of ${commit} ended: ${error.message}`);
    })) as ReadAnswer;
    if ('error' in answer) throw broken(answer.error.message);
    if (answer.reasons.length > 0) throw refused('DEPLOYMENT_REFUSED', answer.reasons);
    return answer.state;
  }

  /** Every release of a service that the history up to `head` has, built from a source commit that begins so; newest first. */
  releasesByCommit(head: string, prefix: string, tenant: string, service: string): Promise<PastRelease[]> {
    return this.#history.find(head, prefix, tenant, service);
  }

  /** Bytes of an image, by its blob's id as they are asked for. Throws REPOSITORY_FAILED; whoever stores it checks its digest. */
  async *image(oid: string): AsyncGenerator<Uint8Array> {
    if (!isOid(oid)) throw broken(`"${oid.slice(0, 60)}" is no object.`);
    const child = spawn('git', ['-C', this.#repository, 'cat-file', 'blob', oid], { env: gitEnv(), stdio: ['ignore', 'pipe', 'pipe'], timeout: imageTimeoutMs });
    let stderr = '';
    child.stderr.on('data', (part: Buffer) => (stderr = (stderr + part.toString()).slice(-1000)));
    const ended = new Promise<number | null>((resolve) => {
      child.on('error', () => resolve(1));
      child.on('close', resolve);
    });
    try {
      for await (const part of child.stdout) yield part as Uint8Array;
      if ((await ended) !== 0) throw broken(`The image ${oid} cannot be read: ${stderr.trim()}`);
    } finally {
      child.kill('SIGKILL');
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
