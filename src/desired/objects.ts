/**
 * Git's objects as far as they are needed here: bytes by id, and what is made of them. Two readers stand behind it: C git's, where a push
 * is judged in its quarantine, and isomorphic-git's, where the controller reads what was accepted. Nothing is ever read by a ref's name.
 */
import { ShoalError } from '../model/errors.ts';
import { limits } from './layout.ts';

export interface Objects {
  /** Throws REPOSITORY_FAILED when it is not there, of another type, damaged, or larger. */
  read(oid: string, type: 'commit' | 'tree' | 'blob', mostBytes: number): Promise<Buffer>;
}

export interface Entry {
  /** As git writes it: "40000" a folder, "100644" a file. */
  mode: string;
  oid: string;
}

export const broken = (what: string): ShoalError => new ShoalError('REPOSITORY_FAILED', what);
export const isOid = (text: string): boolean => /^[0-9a-f]{40}$/.test(text);
/** What git says for "no object": a ref that is made or deleted. */
export const noObject = '0'.repeat(40);

export interface Commit {
  tree: string;
  parents: string[];
  /** What was signed, and the signature; undefined when there is none. */
  signed: { payload: Buffer; signature: string } | undefined;
}

/** Out of the bytes themselves: the signature is over all of them but itself. */
export function parseCommit(bytes: Buffer): Commit {
  // Latin-1 keeps every byte.
  const text = bytes.toString('latin1');
  const end = text.indexOf('\n\n');
  const header = (end < 0 ? text : text.slice(0, end)).split('\n');
  const kept: string[] = [];
  const signature: string[] = [];
  let inSignature = false;
  for (const line of header) {
    if (inSignature && line.startsWith(' ')) signature.push(line.slice(1));
    else if (line.startsWith('gpgsig ')) {
      if (signature.length > 0) throw broken('A commit has two signatures.');
      signature.push(line.slice('gpgsig '.length));
      inSignature = true;
    } else {
      inSignature = false;
      kept.push(line);
    }
  }
  const words = (name: string): string[] => kept.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length + 1));
  const [tree] = words('tree');
  const parents = words('parent');
  if (tree === undefined || !isOid(tree) || !parents.every(isOid)) throw broken('A commit cannot be read.');
  const payload = Buffer.from(kept.join('\n') + (end < 0 ? '' : text.slice(end)), 'latin1');
  return { tree, parents, signed: signature.length === 0 ? undefined : { payload, signature: `${signature.join('\n')}\n` } };
}

export function parseTree(bytes: Buffer): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const zero = bytes.indexOf(0, space);
    if (space < 0 || zero < 0 || zero + 21 > bytes.length) throw broken('A tree cannot be read.');
    const mode = bytes.toString('latin1', at, space);
    entries.set(bytes.toString('utf8', space + 1, zero), { mode, oid: bytes.toString('hex', zero + 1, zero + 21) });
    at = zero + 21;
  }
  return entries;
}

export const isFolder = (entry: Entry | undefined): entry is Entry & { mode: '40000' } => entry?.mode === '40000';

export async function readCommit(objects: Objects, oid: string): Promise<Commit> {
  return parseCommit(await objects.read(oid, 'commit', limits.commitBytes));
}

/** Trees read, by reader and id: an id is the content. Dropped together when they have grown beyond the bound. */
const trees = new WeakMap<Objects, { entries: number; byId: Map<string, Map<string, Entry>> }>();
const mostEntries = 100_000;

export async function readTree(objects: Objects, oid: string): Promise<Map<string, Entry>> {
  let kept = trees.get(objects);
  if (kept === undefined || kept.entries > mostEntries) trees.set(objects, (kept = { entries: 0, byId: new Map() }));
  const before = kept.byId.get(oid);
  if (before !== undefined) return before;
  const tree = parseTree(await objects.read(oid, 'tree', limits.treeBytes));
  kept.byId.set(oid, tree);
  kept.entries += tree.size + 1;
  return tree;
}

/** The folder at a path below a tree; empty when there is none. */
export async function folderAt(objects: Objects, tree: string, path: string): Promise<Map<string, Entry>> {
  let entries = await readTree(objects, tree);
  for (const name of path.split('/')) {
    const entry = entries.get(name);
    if (!isFolder(entry)) return new Map();
    entries = await readTree(objects, entry.oid);
  }
  return entries;
}

/** The file at a path below a tree. */
export async function fileAt(objects: Objects, tree: string, path: string): Promise<Entry | undefined> {
  const slash = path.lastIndexOf('/');
  const folder = slash < 0 ? await readTree(objects, tree) : await folderAt(objects, tree, path.slice(0, slash));
  const entry = folder.get(path.slice(slash + 1));
  return isFolder(entry) ? undefined : entry;
}

/** Every file below a folder, with paths below it. Throws REPOSITORY_FAILED when there are too many. */
export async function* filesBelow(objects: Objects, tree: string, prefix = '', left = { files: limits.files as number }): AsyncGenerator<{ path: string; entry: Entry }> {
  for (const [name, entry] of await readTree(objects, tree)) {
    if (left.files-- <= 0) throw broken(`The tree has more than ${limits.files} files.`);
    if (!isFolder(entry)) yield { path: prefix + name, entry };
    else if (prefix.split('/').length < 20) yield* filesBelow(objects, entry.oid, `${prefix}${name}/`, left);
    else throw broken('The tree is too deep.');
  }
}

export interface FileChange {
  path: string;
  before: Entry | undefined;
  after: Entry | undefined;
}

/** What differs between two trees; folders that are the same are not opened. Bounded by `most`. */
export async function differences(objects: Objects, before: string | undefined, after: string, most: number): Promise<FileChange[]> {
  const found: FileChange[] = [];
  const add = (change: FileChange): void => {
    if (found.length >= most) throw broken(`More than ${most} files change.`);
    found.push(change);
  };
  const all = async (entry: Entry, path: string, side: 'before' | 'after'): Promise<void> => {
    if (!isFolder(entry)) return add({ path, before: side === 'before' ? entry : undefined, after: side === 'after' ? entry : undefined });
    for await (const file of filesBelow(objects, entry.oid, `${path}/`)) add({ path: file.path, before: undefined, after: undefined, [side]: file.entry });
  };
  const visit = async (a: string | undefined, b: string, prefix: string): Promise<void> => {
    const [old, now] = [a === undefined ? new Map<string, Entry>() : await readTree(objects, a), await readTree(objects, b)];
    for (const name of new Set([...old.keys(), ...now.keys()])) {
      const [x, y, path] = [old.get(name), now.get(name), prefix + name];
      if (x?.oid === y?.oid && x?.mode === y?.mode) continue;
      if (isFolder(x) && isFolder(y)) await visit(x.oid, y.oid, `${path}/`);
      else if (x !== undefined && y !== undefined && !isFolder(x) && !isFolder(y)) add({ path, before: x, after: y });
      else {
        if (x !== undefined) await all(x, path, 'before');
        if (y !== undefined) await all(y, path, 'after');
      }
    }
  };
  await visit(before, after, '');
  return found;
}
