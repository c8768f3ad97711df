/** A whole controller over HTTPS on the loopback interface, with hosts in memory; and a plain client with a token. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { Agent, request, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openController, type Controller, type ControllerOptions } from '../../../src/control/controller.ts';
import { FakeHost } from '../../../src/control/links/fake.ts';
import { JournalStore } from '../../../src/control/store.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { digest } from './rig.ts';

export interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  text: string;
  body: any;
}

export interface ApiRig {
  controller: Controller;
  hosts: Map<string, FakeHost>;
  folder: string;
  /** The operator's. */
  token: string;
  log: string[];
  call(method: string, path: string, body?: unknown, token?: string | null, headers?: Record<string, string>): Promise<Reply>;
  /** The events of a stream as they come; `close` ends it. */
  stream(
    path: string,
    token?: string,
    headers?: Record<string, string>,
  ): Promise<{ events: { id: string; event: string; data: any; atMs: number }[]; close(): void; isClosed(): boolean; status: number }>;
  /** Makes a token. */
  tokenFor(role: string, tenant?: string, more?: object): Promise<string>;
  reopen(): Promise<void>;
  close(): Promise<void>;
}

export const web = { image: digest, count: 3, memoryKib: 4096 };

export async function makeApi(names: string[] = ['a', 'b'], options: Partial<ControllerOptions> = {}): Promise<ApiRig> {
  const folder = await mkdtemp(join(tmpdir(), 'shoal-fleet-'));
  const hosts = new Map(names.map((name) => [name, new FakeHost(name)]));
  const log: string[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const open = async (): Promise<Controller> =>
    openController({
      store: await JournalStore.open(folder),
      auditFile: join(folder, 'audit.log'),
      operatorTokenFile: join(folder, 'operator.token'),
      listen: { host: '127.0.0.1', port: 0 },
      tls: { cert, key },
      graceMs: 200,
      link: ({ name }) => (hosts.get(name) ?? hosts.set(name, new FakeHost(name)).get(name)!).link(),
      checkHost: () => {},
      version: 'test',
      log: (line) => log.push(line),
      ...options,
    });
  const rig = { controller: await open(), hosts, folder, log } as ApiRig;
  rig.token = (await readFile(join(folder, 'operator.token'), 'utf8')).trim();
  const optionsOf = (method: string, path: string, token: string | null, headers: Record<string, string>): RequestOptions => ({
    host: '127.0.0.1',
    port: rig.controller.server.port,
    ca: cert,
    agent,
    method,
    path,
    headers: { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...headers },
  });
  rig.call = (method, path, body, token = rig.token, headers = {}) =>
    new Promise((resolve, reject) => {
      const type = body === undefined || headers['content-type'] !== undefined ? {} : { 'content-type': 'application/json' };
      const outgoing = request(optionsOf(method, path, token, { ...type, ...headers }), (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(parts).toString();
          let parsed: unknown;
          try {
            parsed = JSON.parse(text);
          } catch {
            parsed = undefined;
          }
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: parsed });
        });
      });
      outgoing.on('error', reject);
      outgoing.end(
        body === undefined ? undefined : typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
      );
    });
  rig.stream = (path, token = rig.token, headers = {}) =>
    new Promise((resolve, reject) => {
      const events: { id: string; event: string; data: any; atMs: number }[] = [];
      const outgoing = request({ ...optionsOf('GET', path, token, headers), agent: false }, (response) => {
        let rest = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          rest += part;
          for (let at = rest.indexOf('\n\n'); at >= 0; at = rest.indexOf('\n\n')) {
            const lines = Object.fromEntries(
              rest
                .slice(0, at)
                .split('\n')
                .map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]),
            );
            rest = rest.slice(at + 2);
            if (lines['event'] !== undefined)
              events.push({ id: lines['id']!, event: lines['event'], data: JSON.parse(lines['data']!), atMs: performance.now() });
          }
        });
        response.on('error', () => {});
        resolve({ events, close: () => outgoing.destroy(), isClosed: () => response.closed, status: response.statusCode ?? 0 });
      });
      outgoing.on('error', reject);
      outgoing.end();
    });
  rig.tokenFor = async (role, tenant, more = {}) =>
    (await rig.call('POST', '/v1/tokens', { role, ...(tenant === undefined ? {} : { tenant }), ...more })).body.token as string;
  rig.reopen = async () => {
    await rig.controller.close();
    rig.controller = await open();
  };
  rig.close = async () => {
    agent.destroy();
    await rig.controller.close();
    await rm(folder, { recursive: true, force: true });
  };
  for (const name of names)
    await rig.call('POST', '/v1/hosts', { name, url: `https://${name}:443`, credential: name, fingerprint: 'ab'.repeat(32) });
  return rig;
}

/** Polls until the condition holds; fails after `timeoutMs`. */
export async function eventually(condition: () => Promise<boolean>, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
