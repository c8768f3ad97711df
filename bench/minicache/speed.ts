/** Requests and bits a second of one core: minicache's Linux build, and nginx with the same files over a veth; wrk on the other core. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { minicacheProgram, run } from './programs.ts';
import type { Network } from './network.ts';

export const sizes = [1_000, 10_000, 100_000, 1_000_000] as const;
export type Server = 'minicache' | 'nginx';

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

export async function measureSpeed(network: Network, folder: string, seconds: number, onStep: (text: string) => void): Promise<Speed[]> {
  const files = join(folder, 'files');
  mkdirSync(files, { recursive: true });
  for (const bytes of sizes) writeFileSync(join(files, String(bytes)), Buffer.alloc(bytes, 'shoal '));
  const server = (listen: string) => `open_file_cache max=100; server { listen ${listen}; root ${files}; add_header Cache-Control "max-age=100000"; }`;
  writeFileSync(join(folder, 'speed.conf'), nginxSettings(folder, '10.1.0.2:80', server('10.1.0.2:80')));
  writeFileSync(join(folder, 'origin.conf'), nginxSettings(folder, '10.0.0.1:8000', server('10.0.0.1:8000')));
  const origin = network.start(network.client, 1, ['nginx', '-c', join(folder, 'origin.conf')]);
  const nginx = network.start(network.server, 0, ['nginx', '-c', join(folder, 'speed.conf')]);
  const minicache = network.start(network.client, 0, [minicacheProgram, 'tap0', 'name=b', 'ip=10.0.0.2/24', 'origin=10.0.0.1:8000', 'connections=256', 'ram=65536']);
  const address: Record<Server, string> = { minicache: '10.0.0.2', nginx: '10.1.0.2' };
  const results: Speed[] = [];
  await network.ready('http://10.0.0.1:8000/1000');
  for (const name of ['minicache', 'nginx'] as const) {
    await network.ready(`http://${address[name]}/1000`);
    for (const bytes of sizes) {
      onStep(`${name}, ${bytes} bytes`);
      const url = `http://${address[name]}/${bytes}`;
      const wrk = (s: number) => run(network.words(network.client, 1, ['wrk', '-t1', '-c32', `-d${s}s`, url]), (s + 30) * 1000);
      await wrk(1);
      const { requestsPerS, errors } = readWrk(await wrk(seconds));
      if (errors > 0) throw new Error(`${name} at ${bytes} bytes: ${errors} errors`);
      results.push({ server: name, bytes, requestsPerS, gbps: (requestsPerS * bytes * 8) / 1e9 });
    }
  }
  for (const child of [minicache, nginx, origin]) await network.stop(child);
  return results;
}
