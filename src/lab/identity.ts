/**
 * Secrets of this lab cache, made once and at random: the ssh keys of client and dom0, and for each host the agent's password and
 * certificate. They are the only part of an image that must not be the same everywhere, so they are a separate piece of the initramfs.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Dom0Image } from './image.ts';
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

export async function identity(): Promise<Identity> {
  const folder = cacheFolder('identity');
  const keyFile = join(folder, 'client');
  const dom0Key = join(folder, 'dom0');
  await makeKey(keyFile);
  await makeKey(dom0Key);
  const knownHostsFile = join(folder, 'known_hosts');
  writeFileSync(knownHostsFile, `dom0 ${readFileSync(`${dom0Key}.pub`, 'utf8')}`);
  const key = createHash('sha256').update(readFileSync(`${keyFile}.pub`)).update(readFileSync(`${dom0Key}.pub`)).digest('hex').slice(0, 16);
  return { keyFile, knownHostsFile, key };
}

/** The image's initramfs with this cache's keys behind it; the kernel unpacks both. */
export async function initramfsWithKeys(image: Dom0Image, who: Identity): Promise<string> {
  const folder = cacheFolder('identity');
  const name = `initramfs-${image.key}-${who.key}.zst`;
  const file = join(folder, name);
  if (existsSync(file)) return file;
  const root = join(folder, `root-${process.pid}`);
  mkdirSync(join(root, 'etc/ssh'), { recursive: true });
  mkdirSync(join(root, 'root/.ssh'), { recursive: true, mode: 0o700 });
  writeFileSync(join(root, 'etc/ssh/ssh_host_ed25519_key'), readFileSync(join(folder, 'dom0')), { mode: 0o600 });
  writeFileSync(join(root, 'root/.ssh/authorized_keys'), readFileSync(join(folder, 'client.pub')));
  const part = join(root, 'part');
  await must(['sh', '-c', 'find etc root -type f | cpio --quiet -o -H newc -R 0:0 | zstd -q | cat "$0" - > part', image.initramfs], { cwd: root });
  for (const old of readdirSync(folder)) if (old.startsWith('initramfs-')) rmSync(join(folder, old));
  renameSync(part, file);
  rmSync(root, { recursive: true });
  return file;
}

/** Password and certificate of host `index`; the certificate names its address and the loopback. */
export async function hostIdentity(index: number): Promise<HostIdentity> {
  const plan = hostPlan(index);
  const folder = cacheFolder('identity', plan.name);
  const files = { passwordFile: join(folder, 'password'), certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem') };
  if (!existsSync(files.passwordFile)) writeFileSync(files.passwordFile, `${randomBytes(18).toString('base64url')}\n`, { mode: 0o600 });
  if (!existsSync(files.certFile)) {
    const part = `${files.certFile}.part`;
    await must([
      'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '3650', '-subj', `/CN=${plan.name}`,
      '-addext', `subjectAltName=DNS:${plan.name},DNS:localhost,IP:127.0.0.1,IP:${plan.address}`, '-keyout', files.keyFile, '-out', part,
    ], { timeoutMs: 60_000 });
    renameSync(part, files.certFile);
  }
  return files;
}
