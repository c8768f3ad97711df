/**
 * The record of rollouts, in git: each step is a commit with one JSON file on refs/rollout/TENANT/NAME. One writer; steps that come while
 * it writes go together, and a batch is there or not.
 */
import { git, gitText } from '../../desired/git.ts';
import { ShoalError } from '../../model/errors.ts';

interface Waiting {
  ref: string;
  text: string;
  subject: string;
  done: () => void;
  fail: (error: unknown) => void;
}

const mostWaiting = 10_000;
const mostTogether = 500;
const mostBytes = 64 * 1024;

export class RolloutRecord {
  readonly #repository: string;
  readonly #now: () => number;
  /** Runs a write while no maintenance does. */
  readonly #guarded: <T>(work: () => Promise<T>) => Promise<T>;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;

  constructor(repository: string, guarded: <T>(work: () => Promise<T>) => Promise<T> = (work) => work(), now: () => number = Date.now) {
    this.#repository = repository;
    this.#guarded = guarded;
    this.#now = now;
  }

  /** Resolves when the step is in the repository. Throws REPOSITORY_FAILED, HOST_LIMIT when too many wait. */
  append(tenant: string, name: string, entry: object): Promise<void> {
    const text = `${JSON.stringify(entry, null, 1)}\n`;
    if (this.#waiting.length >= mostWaiting) return Promise.reject(new ShoalError('HOST_LIMIT', `${mostWaiting} steps of rollouts wait to be recorded.`));
    if (text.length > mostBytes) return Promise.reject(new ShoalError('REQUEST_TOO_LARGE', `A step of ${tenant}/${name} has ${text.length} characters.`));
    const { state, event } = entry as { state?: unknown; event?: unknown };
    const subject = [tenant, '/', name, ...[event, state].filter((word) => typeof word === 'string').map((word) => ` ${word as string}`)].join('').slice(0, 200);
    return new Promise((done, fail) => {
      this.#waiting.push({ ref: `refs/rollout/${tenant}/${name}`, text, subject, done, fail });
      this.#writing ??= this.#drain().finally(() => (this.#writing = undefined));
    });
  }

  async close(): Promise<void> {
    await this.#writing;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, mostTogether);
      try {
        await this.#guarded(() => this.#write(batch));
        for (const { done } of batch) done();
      } catch (error) {
        for (const { fail } of batch) fail(error);
      }
    }
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    const there = new Set((await gitText(this.#repository, ['for-each-ref', '--format=%(refname)', 'refs/rollout'])).split('\n'));
    const at = Math.floor(this.#now() / 1000);
    const data = (text: string): string => `data ${Buffer.byteLength(text)}\n${text}\n`;
    let stream = 'feature done\n';
    for (const { ref, text, subject } of batch) {
      stream += `commit ${ref}\ncommitter shoal <controller@shoal> ${at} +0000\n${data(subject.replaceAll('\n', ' '))}`;
      // Once in a stream: git goes on from what it has just made.
      if (there.delete(ref)) stream += `from ${ref}^0\n`;
      stream += `deleteall\nM 100644 inline step.json\n${data(text)}\n`;
    }
    await git(this.#repository, ['fast-import', '--quiet', '--done'], { input: `${stream}done\n` });
  }

  /** The last steps of one service's rollouts, newest first. */
  async last(tenant: string, name: string, most: number): Promise<unknown[]> {
    const text = await gitText(this.#repository, ['log', '--format=%H', `--max-count=${most}`, `refs/rollout/${tenant}/${name}`, '--'], { codes: [0, 128] });
    const steps: unknown[] = [];
    for (const id of text.split('\n').filter((line) => line !== '')) steps.push(JSON.parse(await gitText(this.#repository, ['cat-file', 'blob', `${id}:step.json`])));
    return steps;
  }
}
