/**
 * The raw floor of a VM with wired devices (bench/floor): launched and destroyed from C, the agent and Node left out, beside
 * whatever runs on the host. Its guests are given what the agent gives: the switch, the shared pages of the image, the
 * processors.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { floorProgram } from '../../src/cli/verbs/build.ts';
import { mostTemplatePages } from '../../src/hypervisor/xen/native.ts';
import { parseKernel } from '../../src/image/elf.ts';
import type { LabHost } from '../../src/lab/lab.ts';
import type { KernelImage } from '../../src/model/kernel.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { floorTotals } from '../boot.ts';

export interface FloorTimes {
  /** Milliseconds of a launch, from the first call to the last; p50. */
  launchMs: number;
  /** Milliseconds of a destruction, one after the other; the mean. */
  destroyMs: number;
}

const folder = '/run/shoal-yardstick';
/** Far from the fleet's addresses, which are given from the start of the network. */
const addressesOf = (host: LabHost): string => host.gateway.replace(/\.\d+\.\d+$/, '.240.0');

export async function measureFloor(host: LabHost, imageFile: string, memoryKib: number, launches: number): Promise<FloorTimes> {
  const kernel = parseKernel(readFileSync(imageFile));
  const local = mkdtempSync(join(tmpdir(), 'shoal-floor-'));
  try {
    writeFileSync(join(local, 'pages'), kernel.pages);
    await host.exec(`mkdir -p ${folder}`);
    await host.put(floorProgram, `${folder}/floor`);
    await host.put(join(local, 'pages'), `${folder}/pages`);
  } finally {
    rmSync(local, { recursive: true });
  }
  const words = floorWords(kernel, {
    memoryKib,
    launches,
    first: addressesOf(host),
    gateway: host.gateway,
    guestCpus: (JSON.parse((await host.exec('cat /etc/shoal/agent.json')).stdout) as { guestCpus?: number[] }).guestCpus,
  });
  const result = await host.exec(`chmod +x ${folder}/floor && ${folder}/floor ${words.join(' ')}`, { timeoutMs: 300_000 });
  if (result.code !== 0)
    throw new ShoalError('LAB_FAILED', `The raw floor failed with exit code ${result.code}: ${result.stderr.trim()}`);
  return floorTimes(result.stdout);
}

/** What the program is called with. Pure. */
export function floorWords(
  kernel: KernelImage,
  given: { memoryKib: number; launches: number; first: string; gateway: string; guestCpus: readonly number[] | undefined },
): string[] {
  const hex = (n: bigint | number) => `0x${n.toString(16)}`;
  const processors = (given.guestCpus ?? []).reduce((mask, n) => mask | (1 << n), 0);
  return [
    `image=${folder}/pages`,
    `image-memory-bytes=${kernel.memoryBytes}`,
    `virt-base=${hex(kernel.virtBase)}`,
    `entry=${hex(kernel.entry)}`,
    ...(kernel.hypercallPage === undefined ? [] : [`hypercall-page=${hex(kernel.hypercallPage)}`]),
    `count=${given.launches}`,
    `memory-kib=${given.memoryKib}`,
    `first=${given.first}`,
    `gateway=${given.gateway}`,
    ...(kernel.wired ? ['wired=1', `shared-pages=${Math.min(Math.floor(kernel.sharedBytes / 4096), mostTemplatePages)}`] : []),
    ...(processors === 0 ? [] : [`guest-cpus=${hex(processors)}`]),
  ];
}

/** Out of what it printed: a line of CSV a launch, then one of JSON. Pure. */
export function floorTimes(stdout: string): FloorTimes {
  const line = stdout.split('\n').find((text) => text.startsWith('{'));
  const { destroyMsPerDomain } = JSON.parse(line ?? '{}') as { destroyMsPerDomain?: number };
  return { launchMs: p50(floorTotals(stdout)), destroyMs: destroyMsPerDomain ?? NaN };
}
