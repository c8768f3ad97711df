/**
 * Linux as a middlebox: a Debian guest of two devices, as lean as the one of the cache's benchmark (dom0's own kernel, an initial RAM disk with
 * nft, its libraries, modules and one program), that does what router.click, firewall.click and nat.click do.
 */
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { inDom0, kernelOf, librariesOf } from '../cache/debian.ts';

export const kinds = ['router', 'firewall', 'nat'] as const;
export type Kind = (typeof kinds)[number];
export const debianMemoryMib = 192;

const setup = { code: 'SETUP_FAILED', timeoutMs: 60_000 } as const;

/** In the order in which they depend on one another. */
const conntrack = ['net/ipv4/netfilter/nf_defrag_ipv4', 'net/ipv6/netfilter/nf_defrag_ipv6', 'net/netfilter/nf_conntrack'];
const modulesOf: Record<Kind, readonly string[]> = {
  router: [],
  firewall: ['net/netfilter/nfnetlink', 'net/netfilter/nf_tables', ...conntrack, 'net/netfilter/nft_ct'],
  nat: ['net/netfilter/nfnetlink', 'net/netfilter/nf_tables', ...conntrack, 'net/netfilter/nf_nat', 'net/netfilter/nft_chain_nat', 'net/netfilter/nft_masq'],
};
const firstModules = ['crypto/crc32c_generic', 'lib/libcrc32c', 'drivers/net/xen-netfront'];

/** What firewall.click and nat.click let through; a router has no rules at all. */
const rulesOf: Record<Kind, string> = {
  router: '',
  firewall: `table ip filter {
  chain forward { type filter hook forward priority filter; policy drop;
    iifname "eth0" ip saddr != 10.0.0.0/24 drop
    iifname "eth1" ip saddr 10.0.0.0/24 drop
    ct state established accept
    iifname "eth0" oifname "eth1" ct state new ip protocol { icmp, tcp, udp } accept
  }
}
`,
  nat: `table ip nat {
  chain postrouting { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }
}
`,
};

/** Puts kernel and RAM disk into `folder` of dom0, one RAM disk for all kinds, and one of xl's configurations for each: KIND.cfg. */
export async function prepareDebian(host: LabHost, local: string, folder: string, vifs: string): Promise<void> {
  const root = join(local, 'debian');
  rmSync(root, { recursive: true, force: true });
  const { kernel, modules } = await kernelOf(host);
  for (const path of ['/usr/sbin/nft', ...(await librariesOf('/usr/sbin/nft'))]) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  }
  await must(['gcc', '-O2', '-static', '-o', join(root, 'init'), join(repositoryRoot, 'bench/click/init.c')], setup);
  await modules([...new Set([...firstModules, ...Object.values(modulesOf).flat()])], root);
  for (const kind of kinds) {
    writeFileSync(join(root, `${kind}.modules`), [...firstModules, ...modulesOf[kind]].map((path) => `/${basename(path)}.ko\n`).join(''));
    writeFileSync(join(root, `${kind}.rules`), rulesOf[kind]);
  }
  const disk = join(local, 'debian.cpio');
  await must(['sh', '-c', `cd ${root} && find . | cpio --quiet -o -H newc > ${disk}`], setup);
  await host.put(disk, `${folder}/ramdisk`);
  await host.put(kernel, `${folder}/kernel`);
  for (const kind of kinds) {
    const config = [`name = "debian-${kind}"`, 'type = "pv"', `kernel = "${folder}/kernel"`, `ramdisk = "${folder}/ramdisk"`, `memory = ${debianMemoryMib}`, 'vcpus = 1',
      `extra = "console=hvc0 quiet kind=${kind}"`, vifs, ''];
    await inDom0(host, `cat > ${folder}/debian-${kind}.cfg`, 20_000, config.join('\n'));
  }
}
