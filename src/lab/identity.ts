/**
 * Secrets of this lab cache, made once and at random: the ssh keys of client and dom0, and for each host the agent's password
 * and certificate. They are the only part of an image that must not be the same everywhere, so they are a separate piece of the
 * initramfs.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { certificateCommand } from '../setup/dom0.ts';
import type { Dom0Image } from './image.ts';
import { locked } from './lock.ts';
import { cacheFolder } from './paths.ts';
import { hostPlan } from './plan.ts';
import { must } from './processes.ts';
import { makeKey } from './ssh.ts';

export interface Identity {
  /** Client's private key. */
  keyFile: string;
  knownHostsFile: string;
  /** Names the content. */
  key: string;
}

export interface HostIdentity {
  passwordFile: string;
  certFile: string;
  keyFile: string;
}

export function identity(): Promise<Identity> {
  return locked('identity', 120_000, () => undefined, makeIdentity);
}

async function makeIdentity(): Promise<Identity> {
  const folder = cacheFolder('identity');
  const keyFile = join(folder, 'client');
  const dom0Key = join(folder, 'dom0');
  await makeKey(keyFile);
  await makeKey(dom0Key);
  const knownHostsFile = join(folder, 'known_hosts');
  writeFileSync(knownHostsFile, `dom0 ${readFileSync(`${dom0Key}.pub`, 'utf8')}`);
  const key = createHash('sha256')
    .update(readFileSync(`${keyFile}.pub`))
    .update(readFileSync(`${dom0Key}.pub`))
    .digest('hex')
    .slice(0, 16);
  return { keyFile, knownHostsFile, key };
}

/** A file of ours that has to be in dom0 from its first second on. */
export interface BootFile {
  from: string;
  /** Path in dom0 without the first slash. */
  to: string;
}

/** The image's initramfs with this cache's keys, and files of ours, behind it; the kernel unpacks both. */
export function bootInitramfs(
  image: Dom0Image,
  who: Identity,
  files: readonly BootFile[],
): Promise<{ file: string; key: string }> {
  return locked(
    'identity',
    120_000,
    () => undefined,
    () => makeBootInitramfs(image, who, files),
  );
}

async function makeBootInitramfs(
  image: Dom0Image,
  who: Identity,
  files: readonly BootFile[],
): Promise<{ file: string; key: string }> {
  const folder = cacheFolder('identity');
  const hash = createHash('sha256').update(image.key).update(who.key);
  for (const { from, to } of files) hash.update(to).update(readFileSync(from));
  const key = hash.digest('hex').slice(0, 20);
  const file = join(folder, `initramfs-${key}.zst`);
  if (existsSync(file)) {
    utimesSync(file, new Date(), new Date());
    return { file, key };
  }
  const root = join(folder, `root-${process.pid}`);
  const add = (to: string, from: string, mode: number) => {
    mkdirSync(dirname(join(root, to)), { recursive: true, mode: to.startsWith('root/') ? 0o700 : 0o755 });
    writeFileSync(join(root, to), readFileSync(from), { mode });
  };
  add('etc/ssh/ssh_host_ed25519_key', join(folder, 'dom0'), 0o600);
  add('root/.ssh/authorized_keys', join(folder, 'client.pub'), 0o600);
  for (const { from, to } of files) add(to, from, 0o755);
  const part = join(folder, `part-${process.pid}`);
  await must(
    [
      'sh',
      '-c',
      'find . -type f | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | zstd -q | cat "$0" - > "$1"',
      image.initramfs,
      part,
    ],
    { cwd: root },
  );
  rmSync(root, { recursive: true });
  const old = readdirSync(folder)
    .filter((name) => name.startsWith('initramfs-'))
    .map((name) => join(folder, name));
  old.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  for (const each of old.slice(2)) rmSync(each);
  renameSync(part, file);
  return { file, key };
}

/** Password and certificate of host `index`; the certificate names its address and the loopback. */
export async function hostIdentity(index: number): Promise<HostIdentity> {
  const files = hostFiles(index);
  if (!existsSync(files.certFile))
    await locked(
      'identity',
      120_000,
      () => undefined,
      () => makeHostIdentity(index, files),
    );
  return files;
}

function hostFiles(index: number): HostIdentity {
  const folder = cacheFolder('identity', hostPlan(index).name);
  return { passwordFile: join(folder, 'password'), certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem') };
}

async function makeHostIdentity(index: number, files: HostIdentity): Promise<void> {
  const plan = hostPlan(index);
  if (!existsSync(files.passwordFile))
    writeFileSync(files.passwordFile, `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 });
  if (!existsSync(files.certFile)) await makeCertificate(plan.name, ['127.0.0.1', plan.address], files);
}

/** A certificate that is its own authority, good for `name`, localhost and the addresses. It appears whole. */
export async function makeCertificate(name: string, addresses: readonly string[], { certFile, keyFile }: Pick<HostIdentity, 'certFile' | 'keyFile'>): Promise<void> {
  const part = `${certFile}.part`;
  await must(certificateCommand(name, addresses, keyFile, part), { timeoutMs: 60_000 });
  renameSync(part, certFile);
}
