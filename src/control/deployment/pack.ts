/**
 * Keeps the repository small: soon after pushes what arrived loose goes into two packs, one of images and one of everything else, and these
 * take up the small packs before them. Images pack well among themselves, and isomorphic-git, which keeps a pack it reads from whole in
 * memory, never touches theirs. No object that a ref leads to is left out, whatever moment it is stopped at.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { git, gitText } from '../../desired/git.ts';
import { families, idsOf, looseIds, packFolder, packsOf, toMerge, type Family, type Pack } from './packs.ts';

/** Some fifteen releases, or few large images. Images are whole until they are packed: this is what the repository can be larger than need be. */
export const thresholds = { looseObjects: 150, looseKib: 6 * 1024, packs: 48 };

export interface Counts {
  looseObjects: number;
  looseKib: number;
  packs: number;
  packKib: number;
}

export const nothing: Counts = { looseObjects: 0, looseKib: 0, packs: 0, packKib: 0 };

export async function counts(repository: string): Promise<Counts> {
  const text = await gitText(repository, ['count-objects', '-v']);
  const of = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  return { looseObjects: of('count'), looseKib: of('size'), packs: of('packs'), packKib: of('size-pack') };
}

/** `left`: what was there after the last time, for no ref leads to it. */
export const isDue = (now: Counts, bounds = thresholds, left = nothing): boolean =>
  now.looseObjects - left.looseObjects > bounds.looseObjects || now.looseKib - left.looseKib > bounds.looseKib || now.packs - left.packs > bounds.packs;

/** Twice what makes it due: then a push waits for it, some hundred milliseconds. */
export const isOverdue = (now: Counts, bounds = thresholds, left = nothing): boolean =>
  isDue(now, { looseObjects: 2 * bounds.looseObjects, looseKib: 2 * bounds.looseKib, packs: 2 * bounds.packs }, left);

/** Bounded whatever the images' size: the compared ones are in memory at once. */
const packWords = ['pack-objects', '--quiet', '--delta-base-offset', '--window=10', '--window-memory=128m', '--depth=50', '--threads=1'];

/** While nothing is pushed or recorded. A kill, or `signal`, leaves the old packs, or both. Throws REPOSITORY_FAILED. */
export async function repack(repository: string, signal?: AbortSignal): Promise<void> {
  const folder = packFolder(repository);
  const stop = signal === undefined ? {} : { signal };
  const packs = await packsOf(repository);
  const foreign = packs.filter(({ family }) => family === undefined);
  const wanted = await looseIds(repository);
  for (const pack of foreign) for (const id of await idsOf(repository, pack)) wanted.add(id);
  // What is packed need not be walked, unless it is to be told apart.
  const walk = ['rev-list', '--objects', '--all', ...(foreign.length === 0 ? ['--unpacked'] : [])];
  const fresh: Record<Family, string[]> = { images: [], others: [] };
  for (const line of (await gitText(repository, walk, { timeoutMs: 300_000, ...stop })).split('\n')) {
    const id = line.slice(0, 40);
    if (!wanted.has(id)) continue;
    // One name for all images: git then compares those of like size, whatever their digest.
    if (line.startsWith(' images/', 40) && line.length > 48) fresh.images.push(`${id} image`);
    else fresh.others.push(line);
  }
  const kept = new Set<string>();
  const done: Pack[] = [...foreign];
  // Images first: a commit that is packed is not walked again, and what it leads to must not stay loose.
  for (const family of families) {
    const own = packs.filter((pack) => pack.family === family);
    const merged = own.slice(0, toMerge(own, fresh[family].length));
    const listed = [...fresh[family]];
    for (const pack of merged) for (const id of await idsOf(repository, pack)) listed.push(family === 'images' ? `${id} image` : id);
    if (listed.length === 0) continue;
    const hash = await gitText(repository, [...packWords, join(folder, `pack-${family}`)], { input: `${listed.join('\n')}\n`, timeoutMs: 600_000, ...stop });
    kept.add(`pack-${family}-${hash}`);
    done.push(...merged);
  }
  // From here on it is short, and goes to its end. The index first: a pack without one is nothing, an index without its pack is a complaint.
  for (const ending of ['.idx', '.rev', '.bitmap', '.keep', '.pack']) for (const { name } of done) if (!kept.has(name)) await rm(join(folder, name + ending), { force: true });
  await git(repository, ['prune-packed', '--quiet'], { timeoutMs: 120_000 });
}
