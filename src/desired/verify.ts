/**
 * Whether new commits of a deployment repository may become what the fleet does: judged one by one, each by the signers and the policy of
 * the commit before it, then the last one as a whole. The same for a push (in git's quarantine) and for what was fetched from a remote.
 */
import type { ReleaseManifest } from '../model/manifest.ts';
import type { Reason } from '../model/service.ts';
import { imageReasons, inFile, misplaced } from './documents.ts';
import { CatFile, git, gitText } from './git.ts';
import { limits, paths, placeOf, type Place } from './layout.ts';
import { differences, fileAt, folderAt, noObject, readCommit, type Commit, type FileChange } from './objects.ts';
import { expiryDaysOf, pusherRefusal, readSigners, refusal, type Policy, type Pusher } from './policy.ts';
import { signerOf } from './signature.ts';
import { Documents, readState } from './state.ts';

export interface Verification {
  /** The bare repository; in a hook, with the quarantine in the environment. */
  repository: string;
  /** `noObject` for the first push. */
  before: string;
  after: string;
  /** Text of an allowed_signers file: who may make the first commit. */
  anchor: string;
  pusher?: Pusher | undefined;
  nowMs: number;
}

/** Of the first commit: there is no policy before it, so those whom the controller's operator named may do everything, and set its limits. */
const anchorPolicy = (anchor: string, own: Policy | undefined): Policy => ({
  signers: Object.fromEntries(readSigners(anchor).keys.map(({ principal }) => [principal, { roles: ['admin'] }])),
  ...(own?.limits === undefined ? {} : { limits: own.limits }),
});

/** All that is wrong; nothing: it may be accepted. Throws REPOSITORY_FAILED when it cannot be read. */
export async function verify(asked: Verification): Promise<Reason[]> {
  const { repository, before, after } = asked;
  if (after === noObject) return [reason('', 'would delete the branch.', 'Push commits; to end services, commit their deletion.')];
  const commits = await newCommits(repository, before, after);
  if (!Array.isArray(commits)) return [commits];
  const objects = new CatFile(repository);
  try {
    const documents = new Documents(objects);
    let parent = before === noObject ? undefined : before;
    for (const id of commits) {
      const reasons = await judge(asked, documents, id, parent);
      // What comes after a commit that is wrong rests on it.
      if (reasons.length > 0) return reasons.slice(0, limits.reasons);
      parent = id;
    }
    const reasons = (await readState(documents, after)).reasons;
    return reasons.length > 0 ? reasons : await timesOfTip(documents, asked);
  } finally {
    objects.close();
  }
}

const reason = (path: string, message: string, hint: string): Reason => ({ path, message, hint });
const short = (id: string): string => id.slice(0, 12);

async function newCommits(repository: string, before: string, after: string): Promise<string[] | Reason> {
  if (before !== noObject) {
    const { code } = await git(repository, ['merge-base', '--is-ancestor', before, after], { codes: [0, 1] });
    if (code === 1) return reason('', `is not a fast-forward: ${short(after)} does not come after ${short(before)}.`, 'Fetch, rebase your commits onto what is there, sign them again, and push.');
  }
  const most = before === noObject ? limits.firstCommits : limits.commits;
  const range = before === noObject ? after : `${before}..${after}`;
  const lines = (await gitText(repository, ['rev-list', '--reverse', '--topo-order', '--parents', `--max-count=${most + 1}`, range])).split('\n').filter((line) => line !== '');
  if (lines.length > most) return reason('', `has more than ${most} new commits.`, 'Push fewer at once.');
  let parent = before === noObject ? undefined : before;
  const commits: string[] = [];
  for (const line of lines) {
    const [id, ...parents] = line.split(' ') as [string, ...string[]];
    if (parents.length > 1 || parents[0] !== parent)
      return reason(short(id), 'is a merge, or does not follow the commit before it.', 'Keep the history a line: rebase, do not merge. Who may change what is judged commit by commit.');
    parent = id;
    commits.push(id);
  }
  return commits;
}

async function judge(asked: Verification, documents: Documents, id: string, parent: string | undefined): Promise<Reason[]> {
  const { objects } = documents;
  const commit = await readCommit(objects, id);
  const base = parent === undefined ? undefined : (await readCommit(objects, parent)).tree;
  const policy = base === undefined ? anchorPolicy(asked.anchor, await documents.policy(commit.tree)) : await documents.policy(base);
  const keys = base === undefined ? asked.anchor : await signersText(documents, base);
  if (policy === undefined || keys === undefined) return [reason(short(id), 'follows a commit without signers or policy.', 'The branch was changed past this check; the operator has to put it right.')];
  const signer = await signerOf(commit, keys, asked.nowMs);
  if ('why' in signer)
    return [reason(short(id), `${signer.why}.`, base === undefined ? "The first commit is signed by one of the operator's signersFile." : 'Sign it (git commit -S, gpg.format ssh) with a key that is in signers of the commit before it.')];
  const changes = await differences(objects, base, commit.tree, limits.changes);
  const reasons: Reason[] = [];
  for (const change of changes) {
    if (reasons.length >= limits.reasons) break;
    const place = placeOf(change.path);
    if (place === undefined) {
      // What should never have been there may go.
      if (change.after !== undefined) reasons.push(misplaced(change.path));
      continue;
    }
    const no = refusal(policy, signer.name, place) ?? pusherRefusal(asked.pusher, place);
    if (no !== undefined) reasons.push(inFile(change.path, '', `is not for this push: ${no}`, "Have someone sign it who may, or ask an admin to change policy.json first."));
    else reasons.push(...(await contentReasons({ documents, commit, base, policy, sizeOf: (oid) => (objects as CatFile).size(oid) }, change, place)));
  }
  return reasons.map((each) => ({ ...each, path: `${short(id)} ${each.path}` }));
}

async function signersText(documents: Documents, tree: string): Promise<string | undefined> {
  const entry = await fileAt(documents.objects, tree, paths.signers);
  return entry === undefined ? undefined : (await documents.objects.read(entry.oid, 'blob', limits.fileBytes)).toString();
}

interface Judged {
  documents: Documents;
  commit: Commit;
  base: string | undefined;
  policy: Policy;
  sizeOf: (oid: string) => Promise<number>;
}

async function contentReasons(of: Judged, { path, before, after }: FileChange, place: Place): Promise<Reason[]> {
  const { documents, policy } = of;
  const { objects } = documents;
  if (after === undefined) return place.kind === 'release' ? goneRelease(of, path, place) : [];
  if (after.mode !== '100644' && !(place.kind === 'text' && after.mode === '100755')) return [inFile(path, '', 'is not a plain file.', 'Commit it as a plain file: no link, not executable.')];
  const most = place.kind === 'image' ? Math.min(limits.imageBytes, policy.limits?.imageBytes ?? limits.imageBytes) : place.kind === 'text' ? limits.textBytes : limits.fileBytes;
  const size = await of.sizeOf(after.oid);
  if (size > most) return [inFile(path, '', `has ${size} bytes; ${most} are the most.`, place.kind === 'image' ? 'Strip the image, or have an admin change the limit.' : 'Make it smaller.')];
  if (place.kind === 'text') return [];
  if (place.kind === 'image') return imageReasons(path, place.hex, await objects.read(after.oid, 'blob', most));
  const { document, reasons } = await documents.at(path, after);
  if (document?.kind === 'release' && place.kind === 'release') return newRelease(of, path, place, document.value, before !== undefined);
  if (document?.kind === 'service' && place.kind === 'service') {
    const old = of.base === undefined ? undefined : await documents.value('service', path, await fileAt(objects, of.base, path));
    const { release } = document.value;
    // One that was deleted comes back with its last release, or a newer one.
    const last = old?.release ?? (of.base === undefined ? 0 : highest((await folderAt(objects, of.base, releasesOf(place))).keys()));
    if (release < last)
      return [inFile(path, 'release', `goes back from ${last} to ${release}.`, 'To run an older image, make a new release of it with the next counter: `shoal ci publish --image FILE`.')];
  }
  return reasons;
}

type ReleasePlace = Extract<Place, { kind: 'release' }>;

const releasesOf = ({ tenant, service }: { tenant: string; service: string }): string => `releases/${tenant}/${service}`;

const highest = (names: Iterable<string>): number => Math.max(0, ...[...names].map((name) => Number(/^(\d+)\.json$/.exec(name)?.[1] ?? 0)));

async function newRelease(of: Judged, path: string, place: ReleasePlace, manifest: ReleaseManifest, changed: boolean): Promise<Reason[]> {
  if (changed) return [inFile(path, '', 'is changed; a release never is.', 'Make a new one with the next counter.')];
  const { objects } = of.documents;
  const folder = releasesOf(place);
  const last = of.base === undefined ? 0 : highest((await folderAt(objects, of.base, folder)).keys());
  if (place.counter <= last) return [inFile(path, 'counter', `is ${place.counter}, and release ${last} has been.`, `Give it a counter above ${last}: an old manifest is not taken again.`)];
  const image = await fileAt(objects, of.commit.tree, paths.image(manifest.image.digest));
  if (image === undefined) return [inFile(path, 'image/digest', `names ${manifest.image.digest}, and ${paths.image(manifest.image.digest)} is not in the same commit.`, 'Commit image and manifest together; a manifest of one image does not go with another.')];
  const size = await of.sizeOf(image.oid);
  const reasons = size === manifest.image.sizeBytes ? [] : [inFile(path, 'image/sizeBytes', `is ${manifest.image.sizeBytes}; the image has ${size}.`, 'Manifest and image do not belong together: build them anew.')];
  const days = (Date.parse(manifest.expires) - Date.parse(manifest.created)) / 86_400_000;
  const most = expiryDaysOf(of.policy);
  if (days > most) reasons.push(inFile(path, 'expires', `is ${Math.ceil(days)} days after created; policy.json allows ${most}.`, 'Let it expire sooner.'));
  return reasons;
}

/** Of the releases that services run from now on, whenever those were committed: a history may be older than what it ends in. */
async function timesOfTip(documents: Documents, { before, after, nowMs }: Verification): Promise<Reason[]> {
  const { objects } = documents;
  const { tree } = await readCommit(objects, after);
  const base = before === noObject ? undefined : (await readCommit(objects, before)).tree;
  const reasons: Reason[] = [];
  for (const change of await differences(objects, base, tree, limits.files)) {
    const place = placeOf(change.path);
    if (place?.kind !== 'service' || change.after === undefined) continue;
    const [old, now] = [await documents.value('service', change.path, change.before), await documents.value('service', change.path, change.after)];
    if (now === undefined || old?.release === now.release) continue;
    const path = paths.release(place.tenant, place.service, now.release);
    const manifest = await documents.value('release', path, await fileAt(objects, tree, path));
    if (manifest !== undefined) reasons.push(...timeReasons(nowMs, path, manifest));
  }
  return reasons.slice(0, limits.reasons);
}

function timeReasons(nowMs: number, path: string, { created, expires }: { created: string; expires: string }): Reason[] {
  const reasons: Reason[] = [];
  const now = new Date(nowMs).toISOString();
  if (Date.parse(expires) + limits.clockMs <= nowMs) reasons.push(inFile(path, 'expires', `was ${expires}; here it is ${now}.`, 'Build and sign a new release; an old one is not taken any more.'));
  if (Date.parse(created) - limits.clockMs > nowMs) reasons.push(inFile(path, 'created', `is ${created}; here it is ${now}.`, 'Set the clock of the machine that signs.'));
  return reasons;
}

/** The last release stays, even of a service that is deleted: its counter keeps older ones from coming again. */
async function goneRelease(of: Judged, path: string, place: ReleasePlace): Promise<Reason[]> {
  const folder = releasesOf(place);
  const before = of.base === undefined ? 0 : highest((await folderAt(of.documents.objects, of.base, folder)).keys());
  const now = highest((await folderAt(of.documents.objects, of.commit.tree, folder)).keys());
  return now >= before ? [] : [inFile(path, '', 'is the last release of its service, and is deleted.', 'Keep it, even when the service goes: its counter guards against old releases.')];
}
