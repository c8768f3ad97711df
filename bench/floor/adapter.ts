/**
 * The adapter's own share of a launch, in dom0 and without the agent: launches N domains one after the other through the port and prints one
 * line of CSV a domain with the milliseconds of each step, then one JSON line with percentiles, store requests and memory. Stands beside
 * floor.c, which makes the same calls from C.
 *
 * node adapter.cjs ADDON IMAGE COUNT [memoryKib=4096] [bridge=xenbr0] [first=10.64.1.0] [keep] [vifs=1]
 */
import { readFileSync } from 'node:fs';
import { newVmUuid } from '../../src/model/uuid.ts';
import { parseKernel } from '../../src/image/elf.ts';
import { openXen } from '../../src/hypervisor/xen/adapter.ts';
import type { Domid } from '../../src/model/ids.ts';
import type { DomainConfig } from '../../src/hypervisor/port.ts';

const [addonPath, imagePath, countText, ...rest] = process.argv.slice(2);
if (!addonPath || !imagePath || !countText) throw new Error('usage: adapter.cjs ADDON IMAGE COUNT [name=value …]');
const option = (name: string, otherwise: string): string => rest.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) ?? otherwise;

const steps = ['create', 'build', 'register', 'attachVif', 'seal', 'unpause'] as const;

const address = (n: number): string => {
  const first = option('first', '10.64.1.0').split('.').map(Number).reduce((sum, part) => sum * 256 + part, 0);
  return [24, 16, 8, 0].map((shift) => ((first + n) >>> shift) & 255).join('.');
};

function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]! * 100) / 100;
}

async function main(): Promise<void> {
  const image = parseKernel(readFileSync(imagePath!));
  const began = performance.now();
  const xen = await openXen({ addonPath: addonPath!, networks: [{ name: 'default', bridge: option('bridge', 'xenbr0') }] });
  process.stderr.write(`opened in ${(performance.now() - began).toFixed(1)} ms\n`);
  const count = Number(countText);
  const vifs = Number(option('vifs', '1'));
  const series: number[][] = [];
  const domids: Domid[] = [];
  const before = await xen.facts();
  const requestsBefore = xen.storeCounts();
  console.log(['n', 'domid', ...steps, 'total'].join(','));
  for (let n = 0; n < count; n++) {
    const ip = address(n);
    const mac = `00:16:3e:${[16, 8, 0].map((shift) => ((n >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`;
    const config: DomainConfig = {
      uuid: newVmUuid(),
      name: `floor-${n}`,
      memoryKib: Number(option('memoryKib', '4096')),
      image,
      cmdline: option('cmdline', `name=floor-${n} ip=${ip}/16 gw=10.64.0.1`),
      vifs: vifs ? [{ handle: 0, mac, network: 'default', ipv4: [ip] }] : [],
    };
    const times: number[] = [];
    const timed = async <T>(work: () => Promise<T>): Promise<T> => {
      const from = performance.now();
      const result = await work();
      times.push(performance.now() - from);
      return result;
    };
    const domid = await timed(() => xen.create(config));
    domids.push(domid);
    await timed(() => xen.build(domid, config));
    await timed(() => xen.register(domid, config));
    await timed(async () => {
      for (const vif of config.vifs) await xen.attachVif(domid, vif);
    });
    await timed(() => xen.seal(domid, JSON.stringify({ name: config.name, ip })));
    await timed(() => xen.unpause(domid));
    series.push(times);
    console.log([n, domid, ...[...times, times.reduce((a, b) => a + b)].map((ms) => ms.toFixed(2))].join(','));
    const waitMs = Number(option('waitMs', '0'));
    if (waitMs) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
  const after = await xen.facts();
  const requests = xen.storeCounts();
  const summary: Record<string, unknown> = {
    count,
    kibPerDomain: (before.freeKib - after.freeKib) / count,
    storeRequestsPerDomain: (requests.requests - requestsBefore.requests) / count,
    storeChangesPerDomain: (requests.changes - requestsBefore.changes) / count,
    storeRetries: requests.retries,
  };
  for (const [i, step] of steps.entries()) {
    summary[step] = [0.5, 0.99].map((share) => percentile(series.map((times) => times[i]!), share));
  }
  const totals = series.map((times) => times.reduce((a, b) => a + b));
  summary['first50'] = percentile(totals.slice(0, 50), 0.5);
  summary['last50'] = percentile(totals.slice(-50), 0.5);
  if (!rest.includes('keep')) {
    const from = performance.now();
    const lanes = Number(option('lanes', '4'));
    await Promise.all(Array.from({ length: lanes }, async (_, lane) => {
      for (let i = lane; i < domids.length; i += lanes) await xen.destroy(domids[i]!);
    }));
    summary['destroyMsPerDomain'] = Math.round(((performance.now() - from) / count) * 100) / 100;
    summary['freeKibLost'] = before.freeKib - (await xen.facts()).freeKib;
  }
  console.log(JSON.stringify(summary));
  await xen.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
