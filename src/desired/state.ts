/**
 * All of a commit's tree put together: what it asks for, and everything that does not fit. Where a push is judged and where the controller
 * reads it is the same code. Parsed files are remembered by their object's id, bounded, so that a commit that changes one service reads one.
 */
import type { Desired, DesiredService } from '../model/desired.ts';
import type { ReleaseManifest } from '../model/manifest.ts';
import type { RolloutPolicy } from '../model/rollout.ts';
import { serviceKey, type Reason } from '../model/service.ts';
import { inFile, misplaced, readDocument, type Read, type Values } from './documents.ts';
import { limits, paths, placeOf } from './layout.ts';
import { filesBelow, fileAt, folderAt, isFolder, readCommit, readTree, type Entry, type Objects } from './objects.ts';
import type { Key, Policy } from './policy.ts';

export interface DesiredImage {
  digest: string;
  /** Of the blob. */
  oid: string;
  sizeBytes: number;
}

export interface DeploymentState extends Desired {
  hosts: { name: string; labels: Record<string, string> }[];
  /** Images of the releases in `services`, each once. */
  images: DesiredImage[];
}

const mostRemembered = 20_000;

export class Documents {
  readonly objects: Objects;
  readonly #seen = new Map<string, Read>();

  constructor(objects: Objects) {
    this.objects = objects;
  }

  /** Of a path whose place is a JSON file or `signers`. */
  async at(path: string, { oid, mode }: Entry): Promise<Read> {
    const place = placeOf(path);
    if (place === undefined || place.kind === 'image' || place.kind === 'text') return { document: undefined, reasons: [misplaced(path)] };
    const key = `${oid} ${path}`;
    const before = this.#seen.get(key);
    if (before !== undefined) {
      this.#seen.delete(key);
      this.#seen.set(key, before);
      return before;
    }
    if (mode !== '100644') return { document: undefined, reasons: [inFile(path, '', 'is not a plain file.', 'Commit it as a plain file: no link, not executable.')] };
    const read = readDocument(path, place, await this.objects.read(oid, 'blob', limits.fileBytes));
    this.#seen.set(key, read);
    if (this.#seen.size > mostRemembered) this.#seen.delete(this.#seen.keys().next().value!);
    return read;
  }

  /** Undefined when it is not there or not right. */
  async value<K extends keyof Values>(kind: K, path: string, entry: Entry | undefined): Promise<Values[K] | undefined> {
    if (entry === undefined || isFolder(entry)) return undefined;
    const { document } = await this.at(path, entry);
    return document?.kind === kind ? (document.value as Values[K]) : undefined;
  }

  async policy(tree: string): Promise<Policy | undefined> {
    return this.value('policy', paths.policy, await fileAt(this.objects, tree, paths.policy));
  }

  async signers(tree: string): Promise<Key[] | undefined> {
    return this.value('signers', paths.signers, await fileAt(this.objects, tree, paths.signers));
  }
}

/** Throws REPOSITORY_FAILED when an object cannot be read. The state is whole only without reasons. */
export async function readState(documents: Documents, commit: string): Promise<{ state: DeploymentState; reasons: Reason[] }> {
  const { objects } = documents;
  const { tree } = await readCommit(objects, commit);
  const reasons: Reason[] = [];
  const state: DeploymentState = { commit, services: [], hosts: [], images: [] };
  const root = await readTree(objects, tree);
  const policy = await documents.policy(tree);
  for (const name of [paths.signers, paths.policy]) {
    const entry = root.get(name);
    if (entry === undefined || isFolder(entry)) reasons.push(inFile(name, '', 'is missing.', 'See docs/formats/deployment-repository.md; deploy-repo/ is an example to copy.'));
    else reasons.push(...(await documents.at(name, entry)).reasons);
  }
  reasons.push(...adminReasons(policy, await documents.signers(tree)));
  const images = isFolder(root.get('images')) ? await readTree(objects, root.get('images')!.oid) : new Map<string, Entry>();
  const rollouts = new Map<string, RolloutPolicy>();
  for (const kind of ['rollout', 'host'] as const) {
    for (const [file, entry] of await folderAt(objects, tree, `${kind}s`)) {
      const path = `${kind}s/${file}`;
      const read = await documents.at(path, entry);
      reasons.push(...read.reasons);
      const name = file.replace(/\.json$/, '');
      if (read.document?.kind === 'rollout') rollouts.set(name, read.document.value);
      if (read.document?.kind === 'host') state.hosts.push({ name, labels: read.document.value.labels });
    }
  }
  const services = root.get('services');
  const found = new Map<string, DesiredImage>();
  if (isFolder(services))
    for await (const { path, entry } of filesBelow(objects, services.oid, 'services/')) {
      const read = await documents.at(path, entry);
      reasons.push(...read.reasons);
      if (read.document?.kind !== 'service') continue;
      const { spec, release: counter, rollout, summon } = read.document.value;
      const releasePath = paths.release(spec.tenant, spec.name, counter);
      const releaseEntry = await fileAt(objects, tree, releasePath);
      if (releaseEntry === undefined) {
        reasons.push(inFile(path, 'release', `is ${counter}, and there is no ${releasePath}.`, 'Commit the release with the change of the service.'));
        continue;
      }
      const releaseRead = await documents.at(releasePath, releaseEntry);
      reasons.push(...releaseRead.reasons);
      const named = typeof rollout === 'string' ? rollouts.get(rollout) : rollout;
      if (named === undefined) reasons.push(inFile(path, 'rollout', `names "${String(rollout)}", and there is no rollouts/${String(rollout)}.json that is right.`, 'Commit the policy, or name another.'));
      const mostCopies = policy?.limits?.copies;
      if (mostCopies !== undefined && spec.count > mostCopies) reasons.push(inFile(path, 'count', `is ${spec.count}; policy.json allows ${mostCopies}.`, 'Ask for fewer copies, or have an admin change the limit.'));
      if (releaseRead.document?.kind !== 'release' || named === undefined) continue;
      const release: ReleaseManifest = releaseRead.document.value;
      const { digest, sizeBytes } = release.image;
      const image = images.get(digest.slice('sha256:'.length));
      if (image === undefined || isFolder(image)) {
        reasons.push(inFile(releasePath, 'image/digest', `names ${digest}, and ${paths.image(digest)} is not there.`, 'Commit the image with the release; a digest that belongs to another image is a mistake.'));
        continue;
      }
      found.set(digest, { digest, oid: image.oid, sizeBytes });
      const service: DesiredService = { spec: { ...spec, image: digest }, release, rollout: named, ...(summon === undefined ? {} : { summon }) };
      state.services.push(service);
    }
  const key = ({ spec }: DesiredService): string => serviceKey(spec.tenant, spec.name);
  state.services.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  state.images.push(...found.values());
  return { state, reasons: reasons.slice(0, limits.reasons) };
}

/** Without an admin who has a key nobody could ever change the policy again. */
function adminReasons(policy: Policy | undefined, keys: Key[] | undefined): Reason[] {
  if (policy === undefined || keys === undefined) return [];
  const admins = Object.entries(policy.signers).filter(([, { roles }]) => roles.includes('admin'));
  if (admins.some(([name]) => keys.some(({ principal }) => principal === name))) return [];
  return [inFile(paths.policy, 'signers', 'leave no admin who has a key in signers.', 'Keep at least one.')];
}
