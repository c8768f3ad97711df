/** Requests a second of 1 KB to 1 MB: minicache as a guest of one host, node and nginx in that host's dom0, asked by wrk from outside of the host. */
import type { LabHost } from '../../src/lab/lab.ts';
import { run } from '../minicache/programs.ts';
import type { Network } from '../minicache/network.ts';
import { nginxSettings, nodeServer, readWrk, sizes } from '../minicache/speed.ts';
import { inDom0, librariesOf } from './debian.ts';

export { sizes };
export type GuestServer = 'switch' | 'netback' | 'node' | 'nginx';
export const servers: readonly GuestServer[] = ['switch', 'netback', 'node', 'nginx'];

export interface GuestSpeed {
  server: GuestServer;
  bytes: number;
  round: number;
  requestsPerS: number;
  /** Of wrk: connections that failed, answers that were late or wrong. */
  errors: number;
}

const folder = '/run/shoal-bench';
const ports = { node: 8101, nginx: 8102 };

/** Starts node and nginx in dom0, with what they serve in memory. They end with `endServers`. */
export async function startServers(host: LabHost): Promise<void> {
  await inDom0(host, `mkdir -p ${folder}/files ${folder}/lib; cd ${folder}/files; for n in ${sizes.join(' ')}; do yes 'shoal ' | head -c $n > $n; done`);
  for (const file of ['/usr/sbin/nginx', ...(await librariesOf('/usr/sbin/nginx'))]) await host.put(file, `${folder}/lib/${file.split('/').pop()}`);
  const server = `open_file_cache max=100; server { listen ${ports.nginx}; root ${folder}/files; }`;
  await host.exec(`cat > ${folder}/nginx.conf`, { input: nginxSettings(folder, `0.0.0.0:${ports.nginx}`, server) });
  await host.exec(`cat > ${folder}/server.cjs`, { input: nodeServer(ports.node) });
  const loader = `${folder}/lib/ld-linux-x86-64.so.2 --library-path ${folder}/lib ${folder}/lib/nginx`;
  await inDom0(
    host,
    `mkdir -p /var/log/nginx; chmod +x ${folder}/lib/*; cd ${folder}; ( node server.cjs >node.log 2>&1 & echo $! > node.pid ); ( ${loader} -c ${folder}/nginx.conf >nginx.log 2>&1 & echo $! > nginx.pid )`,
  );
}

export const endServers = (host: LabHost): Promise<unknown> => host.exec(`kill $(cat ${folder}/*.pid); rm -rf ${folder}`);

export async function measureGuests(
  network: Network,
  host: LabHost,
  guests: { switch: string; netback: string },
  { rounds, seconds }: { rounds: number; seconds: number },
  onStep: (text: string) => void,
): Promise<GuestSpeed[]> {
  const base: Record<GuestServer, string> = {
    switch: `http://${guests.switch}`,
    netback: `http://${guests.netback}`,
    node: `http://${host.address}:${ports.node}`,
    nginx: `http://${host.address}:${ports.nginx}`,
  };
  for (const server of servers) await network.ready(`${base[server]}/${sizes[0]}`);
  const wrk = (url: string, s: number) => run(network.words(network.client, -1, ['wrk', '-t1', '-c16', `-d${s}s`, url]), (s + 30) * 1000);
  const found: GuestSpeed[] = [];
  for (const bytes of sizes) {
    for (const server of servers) await wrk(`${base[server]}/${bytes}`, 1);
    for (let round = 1; round <= rounds; round++) {
      for (const server of servers) {
        onStep(`${server}, ${bytes} bytes, round ${round} of ${rounds}`);
        const { requestsPerS, errors } = readWrk(await wrk(`${base[server]}/${bytes}`, seconds));
        found.push({ server, bytes, round, requestsPerS, errors });
      }
    }
  }
  return found;
}

export const csvOf = (speeds: readonly GuestSpeed[]): string =>
  ['server,bytes,round,requests_per_s,errors', ...speeds.map(({ server, bytes, round, requestsPerS, errors }) => `${server},${bytes},${round},${requestsPerS},${errors}`), ''].join('\n');
