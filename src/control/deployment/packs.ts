/**
 * What the object store of a repository consists of: loose objects and packs. The controller's own packs say in their name what is in them:
 * `pack-images-…` or `pack-others-…`; any other came as one with a push too large to be taken apart.
 */
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { broken } from '../../desired/objects.ts';

/** In the order in which they are packed. */
export const families = ['images', 'others'] as const;
export type Family = (typeof families)[number];

export interface Pack {
  /** File name without its ending. */
  name: string;
  /** Undefined: images and others mixed. */
  family: Family | undefined;
  objects: number;
}

const idBytes = 20;
/** Magic, version, and how many objects have an id that begins with at most each byte. */
const tableBytes = 8 + 256 * 4;
const nameForm = /^pack-(?:(images|others)-)?[0-9a-f]{40}$/;

export const packFolder = (repository: string): string => join(repository, 'objects/pack');

/** Only those with an index: a pack without one is nothing. Smallest first. Throws REPOSITORY_FAILED. */
export async function packsOf(repository: string): Promise<Pack[]> {
  const names = new Set(await readdir(packFolder(repository)).catch(() => []));
  const packs: Pack[] = [];
  for (const file of names) {
    const name = file.slice(0, -4);
    const match = nameForm.exec(name);
    if (!file.endsWith('.idx') || match === null || !names.has(`${name}.pack`)) continue;
    const index = await open(join(packFolder(repository), file));
    try {
      const table = Buffer.alloc(tableBytes);
      await index.read(table, 0, tableBytes, 0);
      packs.push({ name, family: match[1] as Family | undefined, objects: countOf(table, file) });
    } finally {
      await index.close();
    }
  }
  return packs.sort((a, b) => a.objects - b.objects);
}

/** Ids of the objects in a pack. Throws REPOSITORY_FAILED. */
export async function idsOf(repository: string, { name }: Pack): Promise<string[]> {
  const index = await readFile(join(packFolder(repository), `${name}.idx`));
  const ids: string[] = [];
  for (let i = 0, count = countOf(index, name); i < count; i++) ids.push(index.toString('hex', tableBytes + i * idBytes, tableBytes + (i + 1) * idBytes));
  return ids;
}

function countOf(index: Buffer, name: string): number {
  if (index.length < tableBytes || index.readUInt32BE(0) !== 0xff744f63 || index.readUInt32BE(4) !== 2) throw broken(`The index ${name} is damaged.`);
  const count = index.readUInt32BE(tableBytes - 4);
  if (index.length > tableBytes && index.length < tableBytes + count * idBytes) throw broken(`The index ${name} is cut short.`);
  return count;
}

export async function looseIds(repository: string): Promise<Set<string>> {
  const ids = new Set<string>();
  for (const start of await readdir(join(repository, 'objects')))
    if (/^[0-9a-f]{2}$/.test(start))
      for (const rest of await readdir(join(repository, 'objects', start)).catch(() => [])) if (/^[0-9a-f]{38}$/.test(rest)) ids.add(start + rest);
  return ids;
}

/**
 * Of packs sorted by size, how many of the smallest go into one with `fresh` new objects, so that each pack that is left has at least twice
 * as many objects as all smaller ones together: few packs, and each object is written anew only each time its pack doubles.
 */
export function toMerge(packs: readonly Pack[], fresh: number): number {
  let sum = fresh;
  let upTo = 0;
  for (const [i, { objects }] of packs.entries()) {
    if (objects < 2 * sum) upTo = i + 1;
    sum += objects;
  }
  return upTo;
}
