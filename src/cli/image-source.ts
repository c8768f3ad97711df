/**
 * From an image to its source and back. The index (images/NAME.json, kept in the repository) has the manifest of each application's image;
 * its history has those of all images there ever were. An image is built from a commit, and the same commit gives the same bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repositoryRoot } from '../lab/paths.ts';
import { must, run } from '../lab/processes.ts';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { ImageManifest } from '../model/manifest.ts';
import { digestOf } from './images.ts';

export interface Checkout {
  root: string;
  /** Folder of images built here, by digest, with their manifests. */
  store: string;
  /** lwIP's source and what else is fetched once. */
  cache: string;
}

/** This one by default. */
export const checkoutAt = (root: string = repositoryRoot): Checkout => ({
  root,
  store: join(root, 'build/images'),
  cache: process.env['SHOAL_CACHE'] ?? join(repositoryRoot, '.cache'),
});

export const sourceOption = { value: 'DIR', help: 'checkout of the source repository; default this one' };

const buildMs = 600_000;
const manifestForm = /^[0-9a-f]{64}\.json$/;

const git = async ({ root }: Checkout, ...words: string[]): Promise<string> => {
  const { code, stdout, stderr } = await run(['git', '-C', root, ...words]);
  if (code === 0) return stdout;
  throw new ShoalError('SOURCE_MISSING', `git ${words[0]}: ${stderr.trim().split('\n').at(-1) ?? code}`);
};

/** Applications of which others take files: `app_with_…` in the Makefile. */
const borrowed: Readonly<Record<string, readonly string[]>> = { click: ['apps/minicache'] };

/** What an application's image is made of, below unikernels/: files and folders. */
export const sourcePaths = (app: string): string[] => ['include', 'kernel', 'platform/xen', 'lwip', 'libc', `apps/${app}`, ...(borrowed[app] ?? []), 'Makefile'];

/** Applications that there are. */
export const applications = ({ root }: Checkout): string[] =>
  readdirSync(join(root, 'unikernels/apps')).filter((name) => existsSync(join(root, 'unikernels/apps', name, 'manifest.json'))).sort();

/** SHA-256 over names and contents of the source files in a folder `unikernels`: changes with them and with nothing else. */
export function sourceDigest(unikernels: string, app: string): Digest {
  const files = sourcePaths(app).flatMap((path) => {
    if (!statSync(join(unikernels, path)).isDirectory()) return [path];
    return readdirSync(join(unikernels, path), { recursive: true, encoding: 'utf8' })
      .map((name) => `${path}/${name}`)
      .filter((name) => statSync(join(unikernels, name)).isFile());
  });
  files.sort();
  return digestOf(Buffer.from(files.map((name) => `${createHash('sha256').update(readFileSync(join(unikernels, name))).digest('hex')}  ${name}\n`).join('')));
}

const make = (unikernels: string, out: string, cache: string, app: string): Promise<string> =>
  must(['make', '-s', '-j2', '-C', unikernels, `OUT=${out}`, `CACHE=${cache}`, join(out, `${app}.elf`)], { code: 'SETUP_FAILED', timeoutMs: buildMs });

/** Whole or as it was before. */
function write(path: string, bytes: Uint8Array | string): void {
  const part = `${path}.${process.pid}.part`;
  writeFileSync(part, bytes);
  renameSync(part, path);
}

const textOf = (manifest: ImageManifest): string => `${JSON.stringify(manifest, null, 2)}\n`;

/** Builds an application as the checkout has it, keeps the image, and writes its entry of the index. Throws SETUP_FAILED, SOURCE_MISSING. */
export async function buildImage(checkout: Checkout, app: string): Promise<ImageManifest> {
  const { root, store, cache } = checkout;
  const unikernels = join(root, 'unikernels');
  const out = join(root, 'build/unikernels');
  const paths = sourcePaths(app).map((path) => `unikernels/${path}`);
  const commit = (await git(checkout, 'log', '-1', '--format=%H', '--', ...paths)).trim();
  if (commit === '') throw new ShoalError('SOURCE_MISSING', `No commit has the source of ${app}.`, { hint: 'Commit it first.' });
  await make(unikernels, out, cache, app);
  const bytes = readFileSync(join(out, `${app}.elf`));
  const manifest: ImageManifest = {
    name: app,
    version: (JSON.parse(readFileSync(join(unikernels, 'apps', app, 'manifest.json'), 'utf8')) as { version: string }).version,
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    source: {
      commit,
      digest: sourceDigest(unikernels, app),
      dirty: (await git(checkout, 'status', '--porcelain', '--', ...paths)).trim() !== '',
    },
    compiler: (await must(['gcc', '--version'], { code: 'SETUP_FAILED' })).split('\n')[0]!,
    recipe: `make -C unikernels ../build/unikernels/${app}.elf`,
  };
  mkdirSync(store, { recursive: true });
  const hex = manifest.digest.slice(7);
  // The image before what tells of it.
  write(join(store, `${hex}.elf`), bytes);
  write(join(store, `${hex}.json`), textOf(manifest));
  write(join(root, 'images', `${app}.json`), textOf(manifest));
  return manifest;
}

/** A manifest of the shape of today; entries of an older shape of the index have less. */
function readManifest(text: string): ImageManifest | undefined {
  try {
    const entry = JSON.parse(text) as ImageManifest & { source: ImageManifest['source'] | string };
    return typeof entry.name === 'string' && isDigest(entry.digest) && typeof entry.source === 'object' ? entry : undefined;
  } catch {
    return undefined;
  }
}

/** The index, and what else was built here; the index first. */
export function knownManifests({ root, store }: Checkout): ImageManifest[] {
  const found = new Map<string, ImageManifest>();
  const index = existsSync(join(root, 'images')) ? readdirSync(join(root, 'images')).filter((name) => name.endsWith('.json')).map((name) => join(root, 'images', name)) : [];
  const built = existsSync(store) ? readdirSync(store).filter((name) => manifestForm.test(name)).map((name) => join(store, name)) : [];
  for (const path of [...index, ...built]) {
    const manifest = readManifest(readFileSync(path, 'utf8'));
    if (manifest !== undefined && !found.has(manifest.digest)) found.set(manifest.digest, manifest);
  }
  return [...found.values()];
}

/** Of an image that is known here, or ever was in the index. Throws IMAGE_UNKNOWN. */
export async function manifestOf(checkout: Checkout, digest: Digest): Promise<ImageManifest> {
  const known = knownManifests(checkout).find((manifest) => manifest.digest === digest);
  if (known !== undefined) return known;
  const commits = await git(checkout, 'log', '--all', '--format=%H', `-S${digest}`, '--', 'images').catch(() => '');
  for (const commit of commits.split('\n').filter(Boolean)) {
    const names = (await git(checkout, 'ls-tree', '--name-only', commit, 'images/')).split('\n').filter((name) => name.endsWith('.json'));
    for (const name of names) {
      const manifest = readManifest(await git(checkout, 'show', `${commit}:${name}`));
      if (manifest?.digest === digest) return manifest;
    }
  }
  throw new ShoalError('IMAGE_UNKNOWN', `No manifest here, and none in the history of images/, has the image ${digest}.`, {
    hint: 'It was built elsewhere, or its manifest was never committed.',
    data: { image: digest },
  });
}

/** What a word means: an application of the index, APP@REVISION of it, a digest or its beginning, a file. Throws IMAGE_UNKNOWN. */
export async function chosen(checkout: Checkout, word: string): Promise<{ digest: Digest; manifest: ImageManifest | undefined; bytes: Uint8Array | undefined }> {
  const of = async (digest: Digest, bytes?: Uint8Array) => ({
    digest,
    manifest: await manifestOf(checkout, digest).catch(() => undefined),
    bytes: bytes ?? imageBytes(checkout, digest),
  });
  const [, app, revision] = /^([a-z][a-z0-9-]*)@([\w./^~-]+)$/.exec(word) ?? [];
  if (app !== undefined && revision !== undefined) {
    const manifest = readManifest(await git(checkout, 'show', `${revision}:images/${app}.json`));
    if (manifest !== undefined) return { digest: manifest.digest, manifest, bytes: imageBytes(checkout, manifest.digest) };
  }
  const known = knownManifests(checkout);
  const named = existsSync(join(checkout.root, 'images', `${word}.json`)) ? known.find(({ name }) => name === word) : undefined;
  if (named !== undefined) return { digest: named.digest, manifest: named, bytes: imageBytes(checkout, named.digest) };
  if (isDigest(word)) return of(word);
  if (/^(sha256:)?[0-9a-f]{4,64}$/.test(word)) {
    const start = `sha256:${word.replace(/^sha256:/, '')}`;
    const found = known.filter(({ digest }) => digest.startsWith(start));
    if (found.length === 1) return of(found[0]!.digest);
  }
  if (existsSync(word) && statSync(word).isFile()) {
    const bytes = readFileSync(word);
    return of(digestOf(bytes), bytes);
  }
  throw new ShoalError('IMAGE_UNKNOWN', `"${word.slice(0, 100)}" is no application, digest or file of an image.`, { hint: 'See `shoal image list --local`.' });
}

/** Of an image that was built here and is still whole. */
function imageBytes({ root, store }: Checkout, digest: Digest): Uint8Array | undefined {
  const built = existsSync(join(root, 'build/unikernels')) ? readdirSync(join(root, 'build/unikernels')).filter((name) => name.endsWith('.elf')) : [];
  for (const path of [join(store, `${digest.slice(7)}.elf`), ...built.map((name) => join(root, 'build/unikernels', name))]) {
    if (!existsSync(path)) continue;
    const bytes = readFileSync(path);
    if (digestOf(bytes) === digest) return bytes;
  }
  return undefined;
}

export interface Verified {
  manifest: ImageManifest;
  same: boolean;
  /** Of what the commit gives here. */
  digest: Digest;
  /** Why it may differ; for people. */
  reasons: string[];
}

/** Builds the commit of a manifest anew in a folder of its own, and compares bytes. Throws SOURCE_MISSING, SETUP_FAILED. */
export async function verifyImage(checkout: Checkout, manifest: ImageManifest): Promise<Verified> {
  const { name, source } = manifest;
  const folder = await mkdtemp(join(tmpdir(), 'shoal-verify-'));
  try {
    const archive = join(folder, 'source.tar');
    await git(checkout, 'archive', `--output=${archive}`, source.commit, 'unikernels');
    await must(['tar', '-xf', archive, '-C', folder], { code: 'SETUP_FAILED' });
    const unikernels = join(folder, 'unikernels');
    await make(unikernels, join(folder, 'out'), checkout.cache, name);
    const digest = digestOf(readFileSync(join(folder, 'out', `${name}.elf`)));
    const compiler = (await must(['gcc', '--version'], { code: 'SETUP_FAILED' })).split('\n')[0]!;
    const reasons: string[] = [];
    if (source.dirty) reasons.push('it was built from files that differed from the commit');
    if (sourceDigest(unikernels, name) !== source.digest) reasons.push('the source files of the commit are not those it was built from');
    if (compiler !== manifest.compiler) reasons.push(`the compiler here is ${compiler}, not ${manifest.compiler}`);
    return { manifest, same: digest === manifest.digest, digest, reasons };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** One line of git's about a commit; undefined when this repository has not got it. */
export async function commitLine(checkout: Checkout, commit: string): Promise<{ subject: string; author: string; date: string } | undefined> {
  const line = await git(checkout, 'show', '-s', '--format=%s%x00%an%x00%cI', commit).catch(() => undefined);
  const [subject, author, date] = line?.trim().split('\0') ?? [];
  return subject === undefined || author === undefined || date === undefined ? undefined : { subject, author, date };
}

/** Commits that changed an application's source between two others, the newest first, at most `most`. */
export async function sourceLog(checkout: Checkout, from: ImageManifest, to: ImageManifest, most = 50): Promise<{ commit: string; subject: string }[]> {
  const paths = [...new Set([...sourcePaths(from.name), ...sourcePaths(to.name)])].map((path) => `unikernels/${path}`);
  const text = await git(checkout, 'log', `-${most}`, '--format=%H%x00%s', `${from.source.commit}..${to.source.commit}`, '--', ...paths);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => ({ commit: line.split('\0')[0]!, subject: line.split('\0')[1] ?? '' }));
}

/** Forgets images built here that the index does not name; what they were. */
export function collectLocal({ root, store }: Checkout, keep: ReadonlySet<string>): { digest: string; bytes: number }[] {
  if (!existsSync(store)) return [];
  const named = new Set(knownManifests({ root, store: join(store, 'none'), cache: '' }).map(({ digest }) => digest.slice(7)));
  const gone: { digest: string; bytes: number }[] = [];
  for (const file of readdirSync(store)) {
    const hex = /^([0-9a-f]{64})\.(elf|json)$/.exec(file)?.[1];
    if (hex === undefined) {
      if (file.endsWith('.part')) rmSync(join(store, file), { force: true });
      continue;
    }
    if (named.has(hex) || keep.has(`sha256:${hex}`)) continue;
    if (file.endsWith('.elf')) gone.push({ digest: `sha256:${hex}`, bytes: statSync(join(store, file)).size });
    unlinkSync(join(store, file));
  }
  return gone;
}
