/**
 * Keeps the repository small: after some pushes what arrived loose goes into two packs, one of images and one of everything else. Images
 * pack well among themselves, and isomorphic-git, which keeps a pack it reads from whole in memory, never touches theirs.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { git, gitText } from '../../desired/git.ts';

export const thresholds = { looseObjects: 1500, looseKib: 48 * 1024, packs: 4 };

export interface Counts {
  looseObjects: number;
  looseKib: number;
  packs: number;
  packKib: number;
}

export async function counts(repository: string): Promise<Counts> {
  const text = await gitText(repository, ['count-objects', '-v']);
  const of = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  return { looseObjects: of('count'), looseKib: of('size'), packs: of('packs'), packKib: of('size-pack') };
}

export const isDue = (now: Counts, bounds = thresholds): boolean =>
  now.looseObjects > bounds.looseObjects || now.looseKib > bounds.looseKib || now.packs > bounds.packs;

/** While nothing is pushed or recorded. A kill leaves the old packs, or both. Throws REPOSITORY_FAILED. */
export async function repack(repository: string): Promise<void> {
  const folder = join(repository, 'objects/pack');
  const before = await readdir(folder).catch(() => []);
  const listed = (await gitText(repository, ['rev-list', '--objects', '--all'], { timeoutMs: 300_000 })).split('\n').filter((line) => line !== '');
  const isImage = (line: string): boolean => /^[0-9a-f]{40} images\/./.test(line);
  const kept: string[] = [];
  for (const part of [listed.filter((line) => !isImage(line)), listed.filter(isImage).map((line) => `${line.slice(0, 40)} image`)]) {
    if (part.length === 0) continue;
    // One name for all images: git then compares those of like size, whatever their digest.
    const name = await gitText(repository, ['pack-objects', '--quiet', '--delta-base-offset', '--window=10', join(folder, 'pack')], { input: `${part.join('\n')}\n`, timeoutMs: 600_000 });
    kept.push(`pack-${name}.`);
  }
  // The index first: a pack without one is nothing, an index without its pack is a complaint.
  for (const ending of ['.idx', '.rev', '.bitmap', '.keep', '.pack'])
    for (const name of before) if (name.endsWith(ending) && !kept.some((start) => name.startsWith(start))) await rm(join(folder, name), { force: true });
  await git(repository, ['prune-packed', '--quiet'], { timeoutMs: 120_000 });
}
