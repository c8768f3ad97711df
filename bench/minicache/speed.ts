/** Requests and bits a second of one core: minicache's Linux build, and over a veth nginx with the same files, Varnish before it and Node; wrk on the other core. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { minicacheProgram, run } from './programs.ts';
import type { Network } from './network.ts';

export const sizes = [1_000, 10_000, 100_000, 1_000_000] as const;
export const servers = ['minicache', 'nginx', 'varnish', 'node'] as const;
export type Server = (typeof servers)[number];

export interface Speed {
  server: Server;
  bytes: number;
  requestsPerS: number;
  gbps: number;
}

/** Out of wrk's report: requests a second, and errors it saw. Pure. */
export function readWrk(text: string): { requestsPerS: number; errors: number } {
  const perS = /^Requests\/sec:\s+([\d.]+)/m.exec(text)?.[1];
  const socket = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  const status = /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? '0';
  const errors = Number(status) + (socket === null ? 0 : socket.slice(1).reduce((sum, one) => sum + Number(one), 0));
  return { requestsPerS: Number(perS ?? NaN), errors };
}

export function nginxSettings(folder: string, listen: string, body: string): string {
  return `user root; daemon off; worker_processes 1; pid ${folder}/nginx-${listen.replaceAll(/\W/g, '-')}.pid; error_log stderr crit;
events { worker_connections 4096; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; client_body_temp_path ${folder}/body;
proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
${body} }
`;
}

/** A program for Node that serves bodies of the sizes out of memory. */
export const nodeServer = (port: number): string => `const bodies = new Map(${JSON.stringify(sizes)}.map((n) => ['/' + n, Buffer.alloc(n, 'shoal ')]));
require('node:http').createServer((request, response) => { const body = bodies.get(request.url); response.writeHead(body ? 200 : 404, { 'content-length': body?.length ?? 0 }); response.end(body); }).listen(${port});
`;

/** Medians of rounds of so many seconds each. */
export async function measureSpeed(network: Network, folder: string, { rounds, seconds }: { rounds: number; seconds: number }, onStep: (text: string) => void): Promise<Speed[]> {
  const files = join(folder, 'files');
  mkdirSync(files, { recursive: true });
  for (const bytes of sizes) writeFileSync(join(files, String(bytes)), Buffer.alloc(bytes, 'shoal '));
  const server = (listen: string) => `open_file_cache max=100; server { listen ${listen}; root ${files}; add_header Cache-Control "max-age=100000"; }`;
  writeFileSync(join(folder, 'speed.conf'), nginxSettings(folder, '10.1.0.2:80', server('10.1.0.2:80')));
  writeFileSync(join(folder, 'origin.conf'), nginxSettings(folder, '10.0.0.1:8000', server('10.0.0.1:8000')));
  const origin = network.start(network.client, 1, ['nginx', '-c', join(folder, 'origin.conf')]);
  const nginx = network.start(network.server, 0, ['nginx', '-c', join(folder, 'speed.conf')]);
  const minicache = network.start(network.client, 0, [minicacheProgram, 'tap0', 'name=b', 'ip=10.0.0.2/24', 'origin=10.0.0.1:8000', 'connections=256', 'ram=65536']);
  const varnish = network.start(network.server, 0, ['varnishd', '-F', '-a', '10.1.0.2:81', '-b', '10.1.0.2:80', '-n', join(folder, 'varnish-speed'), '-s', 'malloc,64m']);
  writeFileSync(join(folder, 'server.cjs'), nodeServer(82));
  const node = network.start(network.server, 0, [process.execPath, join(folder, 'server.cjs')]);
  const address: Record<Server, string> = { minicache: '10.0.0.2', nginx: '10.1.0.2', varnish: '10.1.0.2:81', node: '10.1.0.2:82' };
  const results: Speed[] = [];
  await network.ready('http://10.0.0.1:8000/1000');
  for (const name of servers) await network.ready(`http://${address[name]}/1000`);
  // In turns, for neighbours of this machine come and go.
  for (const bytes of sizes) {
    const seen = new Map<Server, number[]>(servers.map((name) => [name, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const name of servers) {
        onStep(`${name}, ${bytes} bytes, round ${round} of ${rounds}`);
        const { requestsPerS, errors } = readWrk(await run(network.words(network.client, 1, ['wrk', '-t1', '-c32', `-d${round === 0 ? 1 : seconds}s`, `http://${address[name]}/${bytes}`]), (seconds + 30) * 1000));
        if (errors > 0) throw new Error(`${name} at ${bytes} bytes: ${errors} errors`);
        if (round > 0) seen.get(name)!.push(requestsPerS);
      }
    }
    for (const name of servers) {
      const requestsPerS = p50(seen.get(name)!);
      results.push({ server: name, bytes, requestsPerS, gbps: (requestsPerS * bytes * 8) / 1e9 });
    }
  }
  for (const child of [minicache, node, varnish, nginx, origin]) await network.stop(child);
  return results;
}
