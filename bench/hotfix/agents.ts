/**
 * Forty host agents for the benchmark of distribution, in a process of their own: real agents with their image stores on disk and their
 * XenAPI over TLS; only the hypervisor below them is simulated. Arguments: folder, how many, certificate, key. Prints its ports as JSON.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openAgent } from '../../src/host/agent.ts';
import { SimHypervisor } from '../../src/hypervisor/sim/sim.ts';
import { parseKernel } from '../../src/image/elf.ts';
import { ImageStore } from '../../src/image/store.ts';
import { Api } from '../../src/xenapi/api.ts';
import { listen } from '../../src/xenapi/server.ts';

const [folder, count, certFile, keyFile] = process.argv.slice(2) as [string, string, string, string];
const tls = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
const ports: number[] = [];
for (let i = 0; i < Number(count); i++) {
  const stateDir = join(folder, `host${i}`);
  const images = await ImageStore.open(join(stateDir, 'images'), { parse: parseKernel });
  const agent = await openAgent({ hypervisor: new SimHypervisor({ networks: [] }), images, stateDir, networks: [] });
  const api = Promise.resolve(new Api({ agent, version: 'bench', address: '127.0.0.1', password: 'bench' }));
  ports.push((await listen({ host: '127.0.0.1', port: 0, tls, api })).port);
}
process.stdout.write(`${JSON.stringify(ports)}\n`);
// Ends with whoever started it.
process.stdin.resume().on('end', () => process.exit(0));
