/**
 * Who signed a commit, by OpenSSH's own program. A signature is judged by the keys that are allowed now and at this time: the date in a
 * commit is whatever its author wrote.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Commit } from './objects.ts';

const run = promisify(execFile);
const timeoutMs = 20_000;

/** `why` is a sentence for whoever pushed. */
export type Signer = { name: string } | { why: string };

const stamp = (ms: number): string => new Date(ms).toISOString().replace(/[-:]|\.\d+/g, '').replace('T', '');

/** `allowed` is the text of an allowed_signers file. */
export async function signerOf(commit: Commit, allowed: string, nowMs: number): Promise<Signer> {
  if (commit.signed === undefined) return { why: 'is not signed' };
  const { payload, signature } = commit.signed;
  if (!signature.startsWith('-----BEGIN SSH SIGNATURE-----')) return { why: 'is signed with something else than an SSH key' };
  const folder = await mkdtemp(join(tmpdir(), 'shoal-signature-'));
  try {
    const [keys, file] = [join(folder, 'signers'), join(folder, 'signature')];
    await writeFile(keys, allowed, { mode: 0o600 });
    await writeFile(file, signature, { mode: 0o600 });
    // UTC: without the Z, OpenSSH 9.2 takes it as local time.
    const time = `-Overify-time=${stamp(nowMs)}`;
    const found = await run('ssh-keygen', ['-Y', 'find-principals', '-s', file, '-f', keys, time], { timeout: timeoutMs }).catch(() => undefined);
    const name = found?.stdout.split('\n')[0]?.trim();
    if (name === undefined || name === '') return { why: 'is signed with a key that is not in signers, or not valid now' };
    const code = await verify(['-Y', 'verify', '-n', 'git', '-I', name, '-s', file, '-f', keys, time], payload);
    return code === 0 ? { name } : { why: 'has a signature that is not right' };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function verify(args: string[], payload: Buffer): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn('ssh-keygen', args, { stdio: ['pipe', 'ignore', 'ignore'], timeout: timeoutMs });
    child.on('error', () => resolve(1));
    child.on('close', (code) => resolve(code ?? 1));
    child.stdin.on('error', () => {});
    child.stdin.end(payload);
  });
}
