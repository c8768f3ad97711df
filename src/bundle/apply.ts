/**
 * A site takes in a bundle: signature, expiry and counters first, then every image, whole and with its digest, and last one file that says
 * what the site is at. Until that file is renamed into place nothing was applied; images that came with a bundle that failed are taken
 * away again, and those that a kill left behind are known by their digest and used by the next attempt.
 */
import { mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { applyDelta, digestOf } from '../image/delta.ts';
import type { ImageStore } from '../image/store.ts';
import { ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';
import type { ReleaseManifest } from '../model/manifest.ts';
import { frontBytes, invalid, parseFront, parseHeader, type BundleHeader, type BundleObject } from './format.ts';
import { signerOf } from './signing.ts';

/** What the site has: the newest release of each service first applied to last. */
export interface SiteState {
  format: 'shoal-site-1';
  counter: number;
  commit: string;
  signer: string;
  appliedAt: string;
  releases: ReleaseManifest[];
}

/** A clock may be so much behind the maker's. */
const clockToleranceMs = 5 * 60_000;

const empty: SiteState = { format: 'shoal-site-1', counter: 0, commit: '', signer: '', appliedAt: '', releases: [] };

/** Throws STATE_UNREADABLE. */
export async function readSite(folder: string): Promise<SiteState> {
  let text: string;
  try {
    text = await readFile(join(folder, 'site.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return empty;
    throw error;
  }
  try {
    const state = JSON.parse(text) as SiteState;
    if (state.format === 'shoal-site-1' && Number.isSafeInteger(state.counter) && Array.isArray(state.releases)) return state;
  } catch {
    // As any other file that is not ours.
  }
  throw new ShoalError('STATE_UNREADABLE', `${join(folder, 'site.json')} is not what a site is at.`);
}

export interface ApplyBundle {
  file: string;
  /** Folder of the site's state. */
  folder: string;
  images: ImageStore;
  allowedSigners: string;
  now: Date;
}

/** Throws BUNDLE_INVALID, BUNDLE_UNTRUSTED, BUNDLE_EXPIRED, BUNDLE_OLD, and what the store says of an image. */
export async function applyBundle({ file, folder, images, allowedSigners, now }: ApplyBundle): Promise<{ header: BundleHeader; state: SiteState; added: Digest[] }> {
  const handle = await open(file, 'r');
  try {
    const front = parseFront(await exactly(handle, 0, Math.min(frontBytes, (await handle.stat()).size)), (await handle.stat()).size);
    const text = await exactly(handle, frontBytes, front.headerBytes);
    const signature = await exactly(handle, frontBytes + front.headerBytes, front.signatureBytes);
    const signer = await signerOf(text, signature, allowedSigners);
    const header = parseHeader(text.toString('utf8'), front.payloadBytes);
    const state = await readSite(folder);
    if (Date.parse(header.expires) <= now.getTime()) throw new ShoalError('BUNDLE_EXPIRED', `The bundle was good until ${header.expires}; it is ${now.toISOString()}.`);
    if (Date.parse(header.created) > now.getTime() + clockToleranceMs)
      throw new ShoalError('BUNDLE_EXPIRED', `The bundle was made at ${header.created}; here it is ${now.toISOString()}.`, { hint: 'Set the clock of this machine.' });
    if (header.counter <= state.counter) throw new ShoalError('BUNDLE_OLD', `The site is at ${state.counter}; the bundle brings it to ${header.counter} only.`);
    if (header.since > state.counter) throw new ShoalError('BUNDLE_OLD', `The site is at ${state.counter}; the bundle goes on from ${header.since}.`);
    const releases = joined(state.releases, header.releases);
    const added: Digest[] = [];
    try {
      for (const object of header.objects) {
        if (images.has(object.digest)) continue;
        const stored = await exactly(handle, frontBytes + front.headerBytes + front.signatureBytes + object.offset, object.bytes);
        await images.put(object.digest, one(await imageOf(object, stored, images)));
        added.push(object.digest);
      }
      const missing = header.releases.find(({ image }) => !images.has(image.digest));
      if (missing !== undefined) throw invalid(`it has no image for release ${missing.counter} of ${missing.tenant}/${missing.service}`);
      const next: SiteState = { format: 'shoal-site-1', counter: header.counter, commit: header.commit, signer, appliedAt: now.toISOString(), releases };
      await keep(folder, next);
      return { header, state: next, added };
    } catch (error) {
      for (const digest of added) await images.remove(digest).catch(() => {});
      throw error;
    }
  } finally {
    await handle.close();
  }
}

async function imageOf({ digest, from, stored, sizeBytes }: BundleObject, bytes: Buffer, images: ImageStore): Promise<Buffer> {
  if (digestOf(bytes) !== stored) throw invalid(`what it has of ${digest} is damaged`);
  if (from === undefined) return bytes;
  if (!images.has(from)) throw invalid(`it has ${digest} as a delta against ${from}, which this site has not got`);
  return applyDelta(await images.bytes(from), bytes, { to: digest, maxBytes: sizeBytes });
}

/** Throws BUNDLE_OLD when a release of a service has no higher counter than the site's. */
function joined(had: readonly ReleaseManifest[], fresh: readonly ReleaseManifest[]): ReleaseManifest[] {
  const newest = new Map<string, number>();
  const key = ({ tenant, service }: ReleaseManifest): string => `${tenant}/${service}`;
  for (const release of had) newest.set(key(release), Math.max(release.counter, newest.get(key(release)) ?? 0));
  for (const release of fresh) {
    const before = newest.get(key(release)) ?? 0;
    if (release.counter <= before) throw new ShoalError('BUNDLE_OLD', `${key(release)} is at release ${before} here; the bundle brings ${release.counter}.`);
    newest.set(key(release), release.counter);
  }
  return [...had, ...fresh];
}

async function keep(folder: string, state: SiteState): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const part = join(folder, 'site.json.part');
  const handle = await open(part, 'w', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(state, null, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(part, join(folder, 'site.json'));
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function exactly(handle: FileHandle, at: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await handle.read(buffer, 0, bytes, at);
  if (bytesRead !== bytes) throw invalid('it ends too soon');
  return buffer;
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
