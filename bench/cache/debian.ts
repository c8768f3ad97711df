/**
 * nginx as a cache in a Debian guest, as lean as it can be had: dom0's own kernel, an initial RAM disk with nginx, its libraries and a program that gives
 * the guest its address. No disk, no systemd: a fair opponent boots no more than it needs. Made anew in each run, from what is installed here.
 */
import { copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { LabHost } from '../../src/lab/lab.ts';
import { buildTools } from '../../src/lab/build.ts';
import { dom0Image } from '../../src/lab/image.ts';
import { cacheFolder, repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';

const setup = { code: 'SETUP_FAILED', timeoutMs: 120_000 } as const;

export async function librariesOf(program: string): Promise<string[]> {
  const listed = await must(['ldd', program], setup);
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map((m) => m[1]!);
}

export async function inDom0(host: LabHost, command: string, timeoutMs = 120_000, input?: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command, input === undefined ? { timeoutMs } : { timeoutMs, input });
  if (code !== 0) throw new ShoalError('LAB_FAILED', `${command.slice(0, 80)}: ${stderr.trim().slice(-300)}`);
  return stdout.trim();
}

/** Where kernel, RAM disk and xl's configuration are in dom0. */
export const guestFolder = '/run/shoal-debian';
export const guestName = 'debian-nginx';

const settings = (origin: string): string => `user root; daemon off; worker_processes 1; pid /tmp/nginx.pid; error_log stderr crit;
events { worker_connections 512; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
proxy_cache_path /tmp/cache keys_zone=z:1m;
server { listen 80; location / { proxy_pass http://${origin}; proxy_cache z; } } }
`;

/** dom0's own kernel, for guests: its file, and modules by their paths (without `.ko`) out of its package, for they have to be of its version, into a folder. */
export async function kernelOf(host: LabHost): Promise<{ kernel: string; modules(paths: readonly string[], to: string): Promise<void> }> {
  const { kernel } = await dom0Image(await buildTools(), () => undefined);
  const version = await inDom0(host, 'uname -r');
  const archives = cacheFolder('apt', 'archives');
  const archive = readdirSync(archives).find((name) => name.startsWith(`linux-image-${version}_`));
  if (archive === undefined) throw new ShoalError('SETUP_FAILED', `The package of Linux ${version} is not in ${archives}.`, { hint: 'Remove the cache folder of the lab; the next `lab up` gets it again.' });
  return {
    kernel,
    modules: async (paths, to) => {
      const names = paths.map((path) => `./lib/modules/${version}/kernel/${path}.ko`);
      await must(['sh', '-c', `dpkg-deb --fsys-tarfile ${join(archives, archive)} | tar -x -f - -C ${to} --transform 's,.*/,,' ${names.join(' ')}`], setup);
    },
  };
}

/** Puts everything that `xl create ${guestFolder}/guest.cfg` needs into dom0. */
export async function prepareDebianGuest(host: LabHost, folder: string, guest: { ip: string; gateway: string; origin: string }): Promise<void> {
  const root = join(folder, 'debian');
  rmSync(root, { recursive: true, force: true });
  const put = (path: string): void => {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  };
  for (const path of ['/usr/sbin/nginx', ...(await librariesOf('/usr/sbin/nginx'))]) put(path);
  for (const name of ['etc', 'var/log/nginx', 'var/lib/nginx', 'tmp']) mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/false\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\n');
  writeFileSync(join(root, 'nginx.conf'), settings(guest.origin));
  await must(['gcc', '-O2', '-static', '-o', join(root, 'init'), join(repositoryRoot, 'bench/cache/init.c')], setup);
  const { kernel, modules } = await kernelOf(host);
  await modules(['drivers/net/xen-netfront'], root);
  const disk = join(folder, 'debian.cpio');
  await must(['sh', '-c', `cd ${root} && find . | cpio --quiet -o -H newc > ${disk}`], setup);
  await inDom0(host, `mkdir -p ${guestFolder}`);
  await host.put(disk, `${guestFolder}/ramdisk`);
  await host.put(kernel, `${guestFolder}/kernel`);
  const config = [
    `name = "${guestName}"`, 'type = "pv"', `kernel = "${guestFolder}/kernel"`, `ramdisk = "${guestFolder}/ramdisk"`, 'memory = 192', 'vcpus = 1',
    `extra = "console=hvc0 quiet guest=${guest.ip} gateway=${guest.gateway}"`, 'vif = ["bridge=xenbr0"]', '',
  ].join('\n');
  await host.exec(`cat > ${guestFolder}/guest.cfg`, { input: config });
}
