/** Makes a bundle out of a deployment repository: what came between two places of its main line. */
import { execFile } from 'node:child_process';
import { open, rename, rm } from 'node:fs/promises';
import { digestOf } from '../image/delta.ts';
import { makeDelta } from '../image/make-delta.ts';
import { ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';
import type { ReleaseManifest } from '../model/manifest.ts';
import { bundleLimits, formatFront, type BundleHeader, type BundleObject } from './format.ts';
import { sign } from './signing.ts';

export interface MakeBundle {
  /** The deployment repository, bare or not. */
  repository: string;
  revision?: string;
  /** Counter the site is at; 0 for a site that has nothing. */
  since: number;
  keyFile: string;
  expires: Date;
  created: Date;
  out: string;
}

function git(repository: string, ...words: string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    execFile('git', ['-C', repository, ...words], { encoding: 'buffer', maxBuffer: 2 * bundleLimits.imageBytes, timeout: 120_000 }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      reject(new ShoalError('SOURCE_MISSING', `git ${words[0]}: ${stderr.toString().trim() || error.message}`, { hint: 'Give a deployment repository with its history.', cause: error }));
    });
  });
}

async function releasesAt(repository: string, commit: string): Promise<Map<string, ReleaseManifest>> {
  const names = (await git(repository, 'ls-tree', '-r', '--name-only', commit, '--', 'releases')).toString().split('\n');
  const found = new Map<string, ReleaseManifest>();
  for (const name of names.filter((each) => /^releases\/[^/]+\/[^/]+\/\d+\.json$/.test(each)))
    found.set(name, JSON.parse((await git(repository, 'cat-file', 'blob', `${commit}:${name}`)).toString()) as ReleaseManifest);
  return found;
}

/** Throws SOURCE_MISSING, BUNDLE_OLD when there is nothing after `since`, DELTA_FAILED never: an image goes whole then. */
export async function makeBundle(options: MakeBundle): Promise<BundleHeader> {
  const { repository, since, out } = options;
  const line = (await git(repository, 'rev-list', '--first-parent', '--reverse', options.revision ?? 'HEAD')).toString().trim().split('\n');
  const counter = line.length;
  if (since >= counter) throw new ShoalError('BUNDLE_OLD', `The repository is at ${counter}: nothing came after ${since}.`, { hint: 'Give the counter the site is at (shoal bundle apply says it).' });
  const commit = line.at(-1)!;
  const before = since === 0 ? new Map<string, ReleaseManifest>() : await releasesAt(repository, line[since - 1]!);
  const now = await releasesAt(repository, commit);
  const releases = [...now].filter(([name]) => !before.has(name)).map(([, release]) => release);
  releases.sort((a, b) => a.counter - b.counter);
  const there = new Set<Digest>([...before.values()].map(({ image }) => image.digest));
  /** Image of a service that the site has by then, for a delta. */
  const last = new Map<string, Digest>();
  for (const { tenant, service, image } of [...before.values()].sort((a, b) => a.counter - b.counter)) last.set(`${tenant}/${service}`, image.digest);
  const bytesOf = (digest: Digest): Promise<Buffer> =>
    git(repository, 'cat-file', 'blob', `${commit}:images/${digest.slice(7)}`).catch(async (error: unknown) => {
      // It left the tree; the history has it.
      const [adding] = (await git(repository, 'log', '--format=%H', '--diff-filter=A', commit, '--', `images/${digest.slice(7)}`)).toString().trim().split('\n');
      if (adding === undefined || adding === '') throw error;
      return git(repository, 'cat-file', 'blob', `${adding}:images/${digest.slice(7)}`);
    });
  const objects: BundleObject[] = [];
  const part = `${out}.${process.pid}.part`;
  const payload = await open(`${part}.payload`, 'w+', 0o600);
  try {
    let offset = 0;
    for (const { tenant, service, image } of releases) {
      const key = `${tenant}/${service}`;
      const from = last.get(key);
      last.set(key, image.digest);
      if (there.has(image.digest)) continue;
      there.add(image.digest);
      const bytes = await bytesOf(image.digest);
      if (digestOf(bytes) !== image.digest) throw new ShoalError('IMAGE_DIGEST_MISMATCH', `The repository's image ${image.digest} has other bytes.`);
      const delta = from === undefined ? undefined : await makeDelta(await bytesOf(from), bytes).catch(() => undefined);
      const stored = delta ?? bytes;
      objects.push({ digest: image.digest, sizeBytes: bytes.length, offset, bytes: stored.length, stored: digestOf(stored), ...(delta === undefined ? {} : { from: from! }) });
      await payload.writeFile(stored);
      offset += stored.length;
    }
    const header: BundleHeader = {
      format: 'shoal-bundle-1',
      counter,
      since,
      commit,
      created: options.created.toISOString(),
      expires: options.expires.toISOString(),
      releases,
      objects,
    };
    const text = Buffer.from(JSON.stringify(header));
    const signature = Buffer.from(await sign(text, options.keyFile));
    const file = await open(part, 'w', 0o644);
    try {
      await file.writeFile(Buffer.concat([formatFront({ headerBytes: text.length, signatureBytes: signature.length, payloadBytes: offset }), text, signature]));
      for (const { offset: at, bytes } of objects) {
        const piece = Buffer.alloc(bytes);
        await payload.read(piece, 0, bytes, at);
        await file.writeFile(piece);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, out);
    return header;
  } finally {
    await payload.close();
    await rm(`${part}.payload`, { force: true });
    await rm(part, { force: true });
  }
}
