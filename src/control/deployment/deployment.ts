/**
 * From a commit in the bare repository to what the fleet is to do. The ref is looked at after each push, after each fetch, at the start and
 * now and then; a commit counts once all of it was read, its images are in the image store with their digests right, and its id is kept in
 * the state. So a kill at any instant leaves the commit before or this one, and the next start looks again.
 */
import { watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import type { DeploymentState, PastRelease } from '../../desired/desired.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Digest } from '../../model/ids.ts';
import type { SummonPolicy } from '../../model/desired.ts';
import type { ReleaseManifest } from '../../model/manifest.ts';
import type { StateStore } from '../port.ts';
import { Guard } from './guard.ts';
import { counts, isDue, isOverdue, nothing, repack, thresholds, type Counts } from './pack.ts';
import type { RolloutControl } from './port.ts';
import { RolloutRecord } from './record.ts';
import { commitOf, isAncestor, openRepository, sweep, type RepositoryOptions } from './repository.ts';

/** src/desired's reader, as far as it is needed here. */
export interface Reader {
  at(commit: string): Promise<DeploymentState>;
  image(oid: string): AsyncIterable<Uint8Array>;
  releasesByCommit(head: string, prefix: string, tenant: string, service: string): Promise<PastRelease[]>;
  close(): Promise<void>;
}

export interface DeploymentOptions extends RepositoryOptions {
  store: StateStore;
  reader: Reader;
  rollouts: RolloutControl;
  images: { list(): { digest: string }[]; put(digest: string, chunks: AsyncIterable<Uint8Array>): Promise<void> };
  /** Labels as the repository has them, for the hosts it names. */
  onHosts?: (hosts: DeploymentState['hosts']) => Promise<void>;
  /** Between two looks that nobody asked for. */
  lookMs?: number;
  /** From a look until what it found is packed. */
  packAfterMs?: number;
  log: (line: string) => void;
}

const acceptedKey = 'deployment/accepted';
const firstRetryMs = 500;
const longestRetryMs = 60_000;

export interface DeploymentStatus {
  branch: string;
  /** What the fleet does or is being brought to; undefined before the first push. */
  accepted: string | undefined;
  services: number;
  trouble: { code: string; message: string; hint: string } | undefined;
}

export class Deployment {
  readonly repository: string;
  readonly guard = new Guard();
  readonly record: RolloutRecord;
  readonly #options: DeploymentOptions;
  #state: DeploymentState | undefined;
  #accepted: string | undefined;
  #trouble: ShoalError | undefined;
  #looking: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #watcher: FSWatcher | undefined;
  #retryMs = firstRetryMs;
  #packTimer: NodeJS.Timeout | undefined;
  #packing: Promise<void> | undefined;
  /** What the last packing left. */
  #left: Counts = nothing;
  #closed = false;

  private constructor(options: DeploymentOptions) {
    this.#options = options;
    this.repository = options.folder;
    this.record = new RolloutRecord(options.folder, this.guard.beside);
    this.#accepted = options.store.entries.get(acceptedKey) as string | undefined;
  }

  /** Throws REPOSITORY_FAILED when there can be no repository. */
  static async open(options: DeploymentOptions): Promise<Deployment> {
    const { pushedFile } = await openRepository(options);
    const deployment = new Deployment(options);
    deployment.#watcher = watch(dirname(pushedFile), () => deployment.poke());
    // Without a watch there is still the clock.
    deployment.#watcher.on('error', () => {});
    deployment.poke();
    return deployment;
  }

  get branch(): string {
    return this.#options.branch;
  }

  get accepted(): string | undefined {
    return this.#accepted;
  }

  status(): DeploymentStatus {
    const trouble = this.#trouble;
    return {
      branch: this.branch,
      accepted: this.#accepted,
      services: this.#state?.services.length ?? 0,
      trouble: trouble === undefined ? undefined : { code: trouble.code, message: trouble.message, hint: trouble.hint },
    };
  }

  /** What the accepted commit says of a service, and how its rollout stands. */
  service(tenant: string, name: string): { commit: string; release: ReleaseManifest; summon?: SummonPolicy; rollout: ReturnType<RolloutControl['status']> } | undefined {
    const found = this.#state?.services.find(({ spec }) => spec.tenant === tenant && spec.name === name);
    if (found === undefined) return undefined;
    const { release, summon } = found;
    return { commit: this.#state!.commit, release, ...(summon === undefined ? {} : { summon }), rollout: this.#options.rollouts.status(tenant, name) };
  }

  /** Every release there ever was whose source commit begins so, newest first. */
  async releasesByCommit(prefix: string, tenant: string, service: string): Promise<PastRelease[]> {
    return this.#accepted === undefined ? [] : this.#options.reader.releasesByCommit(this.#accepted, prefix, tenant, service);
  }

  /** Makes the image of any release bootable, out of the history when it has left the tree. Throws REPOSITORY_FAILED, IMAGE_*. */
  async ensureImage({ digest, imageOid }: Pick<PastRelease, 'digest' | 'imageOid'>): Promise<Digest> {
    const { images, reader } = this.#options;
    if (!images.list().some((image) => image.digest === digest)) await images.put(digest, reader.image(imageOid));
    return digest as Digest;
  }

  /** Looks at the ref soon; many calls are one look. */
  poke(): void {
    if (this.#closed) return;
    if (this.#looking !== undefined) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = this.#lookOnce().finally(() => {
      this.#looking = undefined;
      if (this.#again) {
        this.#again = false;
        return this.poke();
      }
      if (this.#closed) return;
      this.#packSoon();
      const { lookMs = 10_000 } = this.#options;
      this.#timer = setTimeout(() => this.poke(), this.#trouble === undefined ? lookMs : this.#retryMs);
    });
  }

  /** Resolves when nothing is left to look at now. */
  async settled(): Promise<void> {
    while (this.#looking !== undefined) await this.#looking;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#packTimer);
    this.#watcher?.close();
    await this.settled();
    // Entering stops it.
    await this.guard.beside(async () => this.#packing);
    await this.record.close();
    await this.#options.reader.close();
  }

  async #lookOnce(): Promise<void> {
    try {
      await this.#look();
      this.#trouble = undefined;
      this.#retryMs = firstRetryMs;
    } catch (thrown) {
      const error = asShoalError(thrown);
      if (error.message !== this.#trouble?.message) this.#options.log(`deployment: ${error.code}: ${error.message}`);
      this.#trouble = error;
      this.#retryMs = Math.min(longestRetryMs, this.#retryMs * 2);
    }
  }

  async #look(): Promise<void> {
    const { store, reader, rollouts, images, log } = this.#options;
    const head = await commitOf(this.repository, `refs/heads/${this.branch}`);
    const before = this.#accepted;
    if (head === undefined) {
      if (before !== undefined) throw lost(before, 'is empty');
      return;
    }
    if (head === this.#state?.commit) return;
    if (before !== undefined && before !== head && !(await isAncestor(this.repository, before, head))) throw lost(before, `is at ${head}, which does not come after it`);
    const began = performance.now();
    const state = await this.guard.beside(async () => {
      const read = await reader.at(head);
      const has = new Set(images.list().map(({ digest }) => digest));
      for (const { digest, oid } of read.images) if (!has.has(digest)) await images.put(digest, reader.image(oid));
      return read;
    });
    if (head !== before) await store.write([{ key: acceptedKey, value: head }]);
    this.#accepted = head;
    // Services are placed by labels.
    await this.#options.onHosts?.(state.hosts);
    await rollouts.begin({ commit: state.commit, services: state.services });
    this.#state = state;
    log(`deployment: ${head} accepted, ${state.services.length} services, ${Math.round(performance.now() - began)} ms`);
  }

  /** Not in the way of what was pushed: that is on its way to the hosts. */
  #packSoon(): void {
    const { packAfterMs = 2000 } = this.#options;
    this.#packTimer ??= setTimeout(() => {
      this.#packing = this.#pack().finally(() => (this.#packing = undefined));
    }, packAfterMs);
  }

  async #pack(): Promise<void> {
    const { log } = this.#options;
    let again = false;
    try {
      await sweep(this.repository);
      const now = await counts(this.repository);
      if (!isDue(now, thresholds, this.#left)) return;
      const began = performance.now();
      again = !(await this.guard.alone((signal) => repack(this.repository, signal), isOverdue(now, thresholds, this.#left)));
      if (again) return;
      this.#left = await counts(this.repository);
      log(`deployment: repository packed in ${Math.round(performance.now() - began)} ms, ${this.#left.packs} packs of ${this.#left.packKib} KiB`);
    } catch (error) {
      log(`deployment: the repository could not be packed: ${asShoalError(error).message}`);
    } finally {
      this.#packTimer = undefined;
      if (again && !this.#closed) this.#packSoon();
    }
  }
}

const lost = (accepted: string, what: string): ShoalError =>
  new ShoalError('REPOSITORY_FAILED', `${accepted} was accepted, and the repository ${what}.`, {
    hint: 'It was put back to an older state past the checks: restore the repository, or push what comes after the accepted commit.',
  });
