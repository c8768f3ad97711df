/** The yardstick of distribution: forty `git fetch` of one commit at once, over HTTPS by git's own http-backend, or from `git daemon`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { must } from '../../src/lab/processes.ts';

export type GitWay = 'https' | 'git';

const git = (cwd: string, ...words: string[]): Promise<string> => gitWith({}, cwd, ...words);
const gitWith = (env: Record<string, string>, cwd: string, ...words: string[]): Promise<string> =>
  must(['git', '-c', 'user.name=B', '-c', 'user.email=b@example.org', '-C', cwd, ...words], { env });

/** `git http-backend` as CGI. */
function backend(folder: string, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'https://x');
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'],
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      REQUEST_METHOD: request.method,
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: String(request.headers['content-encoding'] ?? ''),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  request.pipe(child.stdin);
  child.stdin.on('error', () => {});
  let head = '';
  const onHead = (part: Buffer): void => {
    head += part.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    child.stdout.off('data', onHead);
    const lines = head.slice(0, end).split('\r\n').map((line) => line.split(': ') as [string, string]);
    const status = lines.find(([name]) => name === 'Status')?.[1];
    response.writeHead(status === undefined ? 200 : Number.parseInt(status, 10), Object.fromEntries(lines.filter(([name]) => name !== 'Status')));
    response.write(Buffer.from(head.slice(end + 4), 'latin1'));
    child.stdout.pipe(response);
  };
  child.stdout.on('data', onHead);
  child.stdout.on('end', () => response.end());
}

async function served(folder: string, way: GitWay, tlsFolder: string): Promise<{ url: string; env: Record<string, string>; close(): void }> {
  if (way === 'https') {
    const cert = join(tlsFolder, 'cert.pem');
    const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(join(tlsFolder, 'key.pem')) }, (request, response) => backend(folder, request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/deploy.git`, env: { GIT_SSL_CAINFO: cert }, close: () => (server.close(), server.closeAllConnections()) };
  }
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  const words = ['daemon', '--export-all', '--listen=127.0.0.1', `--port=${port}`, `--base-path=${folder}`, '--max-connections=100', '--reuseaddr', folder];
  const daemon = spawn('git', words, { stdio: 'ignore', detached: true });
  await new Promise((resolve) => setTimeout(resolve, 1000));
  // The daemon forks; its group is its own.
  return { url: `git://127.0.0.1:${port}/deploy.git`, env: {}, close: () => void process.kill(-daemon.pid!) };
}

/** Milliseconds for all hosts' fetch of the commit that has the fix, begun at once; a repository of two releases, the best case for git. */
export async function byGit(folder: string, hosts: number, before: Uint8Array, after: Uint8Array, way: GitWay, tlsFolder: string): Promise<number> {
  const work = join(folder, 'work');
  mkdirSync(work);
  await git(folder, 'init', '-q', '-b', 'main', 'work');
  const commit = async (image: Uint8Array): Promise<void> => {
    writeFileSync(join(work, 'image'), image);
    await git(work, 'add', '-A');
    await git(work, 'commit', '-qm', 'release');
  };
  await commit(before);
  await git(folder, 'clone', '-q', '--bare', 'work', 'deploy.git');
  for (let i = 0; i < hosts; i++) await git(folder, 'clone', '-q', '--bare', '--no-hardlinks', 'deploy.git', `clone${i}.git`);
  await commit(after);
  await git(work, 'push', '-q', join(folder, 'deploy.git'), 'main');
  const server = await served(folder, way, tlsFolder);
  try {
    const began = performance.now();
    await Promise.all(Array.from({ length: hosts }, (_, i) => gitWith(server.env, join(folder, `clone${i}.git`), 'fetch', '-q', server.url, 'main:main')));
    const ms = performance.now() - began;
    const tip = (await git(work, 'rev-parse', 'main')).trim();
    for (let i = 0; i < hosts; i++) if ((await git(join(folder, `clone${i}.git`), 'rev-parse', 'main')).trim() !== tip) throw new Error('a fetch did not bring the fix');
    return ms;
  } finally {
    server.close();
  }
}
