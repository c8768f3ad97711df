/** What is published: an image's bytes and what is known of them, from a file or as an app of this checkout builds. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gitText } from '../../desired/git.ts';
import { parseKernel } from '../../image/elf.ts';
import { repositoryRoot } from '../../lab/paths.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Digest } from '../../model/ids.ts';
import type { ImageManifest } from '../../model/manifest.ts';
import { digestOf, readImage } from '../images.ts';

export interface Publishable {
  bytes: Uint8Array;
  manifest: ImageManifest;
}

export interface ImageWords {
  /** Folder of the source repository. */
  source: string;
  /** A manifest as JSON, instead of one made here. */
  manifestFile: string | undefined;
  name: string | undefined;
  version: string | undefined;
  compiler: string | undefined;
  recipe: string | undefined;
}

function json(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ShoalError('USAGE', `${file} cannot be read: ${(cause as Error).message}.`, { hint: 'Give a file of JSON.', cause });
  }
}

/** Throws USAGE, IMAGE_*. */
export async function imageOf(file: string, words: ImageWords): Promise<Publishable> {
  const bytes = readImage(file);
  parseKernel(bytes);
  const digest = digestOf(bytes);
  if (words.manifestFile !== undefined) {
    const manifest = json(words.manifestFile) as ImageManifest;
    if (manifest.digest !== digest) throw new ShoalError('IMAGE_DIGEST_MISMATCH', `${words.manifestFile} is of ${String(manifest.digest)}, ${file} has ${digest}.`, { hint: 'Build them together.' });
    return { bytes, manifest };
  }
  const asked = (args: string[]): Promise<string> =>
    gitText(words.source, args, { asUser: true }).catch((cause: unknown) => {
      throw new ShoalError('USAGE', `${words.source} is no git repository: the source commit is not known.`, { hint: 'Give the folder of the source with --source, or a manifest with --manifest.', cause });
    });
  const [commit, tree, changed] = [await asked(['rev-parse', 'HEAD']), await asked(['rev-parse', 'HEAD^{tree}']), await asked(['status', '--porcelain'])];
  return {
    bytes,
    manifest: {
      name: words.name ?? basename(file).replace(/\.elf$/, ''),
      version: words.version ?? commit.slice(0, 12),
      digest,
      sizeBytes: bytes.length,
      // The tree's id stands for the files: a change of any changes it.
      source: { commit, digest: digestOf(Buffer.from(tree)), dirty: changed !== '' },
      compiler: words.compiler ?? 'not said',
      recipe: words.recipe ?? 'not said',
    },
  };
}

/** The file of an app of this checkout; undefined when it has none of that name. */
export const appFile = (app: string): string | undefined =>
  /^[a-z][a-z0-9-]{0,30}$/.test(app) && existsSync(join(repositoryRoot, 'unikernels/apps', app)) ? join(repositoryRoot, 'build/unikernels', `${app}.elf`) : undefined;

/** After a build: its own manifest when the index has one of these bytes. */
export async function appImage(app: string, file: string, words: ImageWords): Promise<Publishable> {
  const index = join(repositoryRoot, 'images', `${app}.json`);
  const known = existsSync(index) ? (json(index) as Partial<ImageManifest>) : {};
  const made = await imageOf(file, {
    ...words,
    source: repositoryRoot,
    name: words.name ?? app,
    version: words.version ?? known.version,
    compiler: words.compiler ?? known.compiler,
    recipe: words.recipe ?? known.recipe ?? 'make -C unikernels',
  });
  const source = known.source as unknown;
  if (words.manifestFile !== undefined || known.digest !== made.manifest.digest) return made;
  const from = typeof source === 'string' ? { ...made.manifest.source, digest: source as Digest } : typeof source === 'object' && source !== null ? (source as ImageManifest['source']) : made.manifest.source;
  return { ...made, manifest: { ...made.manifest, source: from } };
}
