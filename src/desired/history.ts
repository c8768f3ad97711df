/**
 * Which releases of a service there ever were. Files of old releases and their images may leave the tree; the history keeps them, so every
 * version that was ever pushed stays bootable. What was found is kept per service, bounded, and carried on from the last commit looked at.
 */
import type { ReleaseManifest } from '../model/manifest.ts';
import { serviceKey } from '../model/service.ts';
import { CatFile, git, gitText } from './git.ts';
import { paths } from './layout.ts';
import { broken, fileAt, isOid, readCommit } from './objects.ts';
import { Documents } from './state.ts';

export interface PastRelease {
  counter: number;
  /** Of the source the image was built from. */
  source: string;
  digest: string;
  sizeBytes: number;
  expires: string;
  /** Of the deployment repository: it added the release. */
  commit: string;
  /** Blobs in it: the image, the manifest. */
  imageOid: string;
  manifestOid: string;
}

interface Known {
  head: string;
  releases: PastRelease[];
}

/** Services remembered at once. */
const mostServices = 64;
const mostReleases = 100_000;
const prefixForm = /^[0-9a-f]{4,64}$/;

export class History {
  readonly #repository: string;
  readonly #known = new Map<string, Promise<Known>>();

  constructor(repository: string) {
    this.#repository = repository;
  }

  /** With an empty prefix all of them. */
  async find(head: string, prefix: string, tenant: string, service: string): Promise<PastRelease[]> {
    // At least four digits, as git itself: less would match by chance.
    if (!isOid(head) || (prefix !== '' && !prefixForm.test(prefix))) return [];
    const key = serviceKey(tenant, service);
    const before = this.#known.get(key);
    const known = (before ?? Promise.resolve(undefined)).catch(() => undefined).then((old) => this.#upTo(head, old, tenant, service));
    this.#known.delete(key);
    this.#known.set(key, known);
    if (this.#known.size > mostServices) this.#known.delete(this.#known.keys().next().value!);
    try {
      return (await known).releases.filter(({ source }) => source.startsWith(prefix));
    } catch (error) {
      this.#known.delete(key);
      throw error;
    }
  }

  async #upTo(head: string, old: Known | undefined, tenant: string, service: string): Promise<Known> {
    if (old?.head === head) return old;
    const follows = old !== undefined && (await git(this.#repository, ['merge-base', '--is-ancestor', old.head, head], { codes: [0, 1, 128] })).code === 0;
    const range = follows ? `${old.head}..${head}` : head;
    const folder = `releases/${tenant}/${service}/`;
    const log = await gitText(this.#repository, ['log', '--format=commit %H', '--raw', '--no-abbrev', '--no-renames', '--diff-filter=A', `--max-count=${mostReleases}`, range, '--', folder]);
    const found: PastRelease[] = [];
    if (log !== '') {
      const objects = new CatFile(this.#repository);
      try {
        const documents = new Documents(objects);
        let commit = '';
        for (const line of log.split('\n')) {
          if (line.startsWith('commit ')) commit = line.slice('commit '.length);
          const m = /^:000000 100644 0+ ([0-9a-f]{40}) A\t(.+)$/.exec(line);
          if (m === null) continue;
          const manifest = await documents.value('release', m[2]!, { oid: m[1]!, mode: '100644' });
          if (manifest !== undefined) found.push(await this.#past(objects, commit, m[1]!, manifest));
        }
      } finally {
        objects.close();
      }
    }
    return { head, releases: [...found, ...(follows ? old.releases : [])] };
  }

  async #past(objects: CatFile, commit: string, manifestOid: string, { counter, image, expires }: ReleaseManifest): Promise<PastRelease> {
    // A release and its image are in the same commit: it would not have been accepted otherwise.
    const { tree } = await readCommit(objects, commit);
    const entry = await fileAt(objects, tree, paths.image(image.digest));
    if (entry === undefined) throw broken(`The image of release ${counter} is not in ${commit}.`);
    const { digest, sizeBytes, source } = image;
    return { counter, source: source.commit, digest, sizeBytes, expires, commit, imageOid: entry.oid, manifestOid };
  }
}
