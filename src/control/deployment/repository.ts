/**
 * The bare repository the controller keeps: made, its configuration and hooks as they must be, and what a killed git left in the way taken
 * out of it. All of it can be run again at any time.
 */
import { chmod, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { git, gitText } from '../../desired/git.ts';

export interface RepositoryOptions {
  folder: string;
  branch: string;
  /** Text of an allowed_signers file: who may make the first commit. */
  anchor: string;
  /** Program and first words of src/main/receive.ts, absolute. */
  receive: readonly string[];
  /** Largest push. */
  pushBytes: number;
}

/** Left by a git that was killed; a live one is done with its own in less. */
const staleMs = 60_000;
const pushedName = 'pushed';

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

const configText = (pushBytes: number): string => `# Written by the controller at each start.
[core]
	fsync = committed,reference
	fsyncMethod = batch
[transfer]
	fsckObjects = true
	hideRefs = refs/shoal
[receive]
	fsckObjects = true
	denyNonFastForwards = true
	denyDeletes = true
	maxInputSize = ${pushBytes}
	unpackLimit = 5000
	autogc = false
	advertisePushOptions = false
[fetch]
	fsckObjects = true
	unpackLimit = 5000
[uploadpack]
	allowFilter = true
[http]
	receivepack = true
[gc]
	auto = 0
[fastimport]
	unpackLimit = 5000
[pack]
	threads = 1
`;

async function writeWhole(path: string, text: string, mode = 0o600): Promise<void> {
  const part = `${path}.part`;
  await writeFile(part, text, { mode });
  await chmod(part, mode);
  await rename(part, path);
}

/** Resolves with the file that is written anew after each push. Throws REPOSITORY_FAILED. */
export async function openRepository({ folder, branch, anchor, receive, pushBytes }: RepositoryOptions): Promise<{ pushedFile: string }> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const exists = (await readdir(folder)).includes('HEAD');
  if (!exists) await git(folder, ['init', '--quiet', '--bare', '--template=', `--initial-branch=${branch}`, '.']);
  await writeWhole(join(folder, 'shoal.config'), configText(pushBytes));
  await git(folder, ['config', '--replace-all', 'include.path', 'shoal.config']);
  await git(folder, ['symbolic-ref', 'HEAD', `refs/heads/${branch}`]);
  await writeWhole(join(folder, 'shoal.json'), `${JSON.stringify({ branch, anchor })}\n`);
  await mkdir(join(folder, 'hooks'), { recursive: true });
  await mkdir(join(folder, 'queue'), { recursive: true });
  await writeWhole(join(folder, 'hooks/pre-receive'), `#!/bin/sh\nexec ${receive.map(quoted).join(' ')} pre-receive\n`, 0o700);
  // It only says that there is something: who looks finds out what.
  await writeWhole(join(folder, 'hooks/post-receive'), `#!/bin/sh\ncat >queue/${pushedName}.part && mv queue/${pushedName}.part queue/${pushedName}\n`, 0o700);
  await sweep(folder);
  return { pushedFile: join(folder, 'queue', pushedName) };
}

/** Quarantines and locks of processes that are no more. */
export async function sweep(folder: string, olderThanMs = staleMs): Promise<void> {
  const old = async (path: string): Promise<boolean> => Date.now() - (await stat(path).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs > olderThanMs;
  const remove = async (path: string): Promise<void> => {
    if (await old(path)) await rm(path, { recursive: true, force: true });
  };
  for (const name of await readdir(join(folder, 'objects')))
    if (/^(incoming-|tmp_objdir-)/.test(name)) await remove(join(folder, 'objects', name));
  const packed = new Set(await readdir(join(folder, 'objects/pack')).catch(() => []));
  // A pack's index is written last.
  const halfWritten = (name: string): boolean => /^pack-.*\.(pack|rev)$/.test(name) && !packed.has(name.replace(/\.\w+$/, '.idx'));
  for (const name of packed) if (/^(tmp_|\.tmp-)/.test(name) || halfWritten(name)) await remove(join(folder, 'objects/pack', name));
  for (const name of await readdir(join(folder, 'refs'), { recursive: true })) if (name.endsWith('.lock')) await remove(join(folder, 'refs', name));
  for (const name of ['packed-refs.lock', 'HEAD.lock', 'config.lock', 'shallow.lock']) await remove(join(folder, name));
}

/** The commit of a ref; undefined when there is none. */
export async function commitOf(folder: string, ref: string): Promise<string | undefined> {
  const text = await gitText(folder, ['rev-parse', '--verify', '--quiet', `${ref}^{commit}`], { codes: [0, 1] });
  return text === '' ? undefined : text;
}

export const isAncestor = async (folder: string, before: string, after: string): Promise<boolean> =>
  (await git(folder, ['merge-base', '--is-ancestor', before, after], { codes: [0, 1, 128] })).code === 0;
