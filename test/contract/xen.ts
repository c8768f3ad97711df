/**
 * The port's contract over Xen: bundled to one file and run in dom0, beside an agent that may run there. Arguments: the addon, an
 * image (ping), the bridge. Writes TAP.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { openXen } from '../../src/hypervisor/xen/adapter.ts';
import { parseKernel } from '../../src/image/elf.ts';
import { contract } from './port.ts';

const [, , addonPath, imagePath, bridge] = process.argv;
if (addonPath === undefined || imagePath === undefined || bridge === undefined) throw new Error('usage: xen ADDON IMAGE BRIDGE');
const image = parseKernel(readFileSync(imagePath));
const run = promisify(execFile);

/** With netback and the store, and wired to the switch that runs beside the agent. */
for (const backend of ['netback', 'switch'] as const) {
  contract(`xen, ${backend}`, async () => ({
    hypervisor: await openXen({ addonPath, networks: [{ name: 'default', bridge, backend }], switchPath: '/run/shoal/switch.sock' }),
    image,
    greeting: 'ping',
    network: 'default',
    address: '10.64.200.200',
    memoryKib: backend === 'netback' ? 4096 : 1024,
    lose: async (domid) => void (await run('xl', ['destroy', String(domid)])),
    boots: () => {},
  }));
}
