/**
 * A whole XenAPI server on the loopback interface, over TLS, with the simulator behind it; and plain clients for both protocols.
 */
import { request } from 'node:https';
import type { AgentOptions } from '../../../src/host/agent.ts';
import type { SimOptions } from '../../../src/hypervisor/sim/sim.ts';
import { Api, type ApiOptions } from '../../../src/xenapi/api.ts';
import { listen, type ServerOptions, type XenApiServer } from '../../../src/xenapi/server.ts';
import { makeRig, type Rig } from '../host/rig.ts';
import { cert, key } from './certificate.ts';

export const password = 'correct horse';

export interface Answer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  text: string;
}

export interface ServerRig extends Rig {
  api: Api;
  server: XenApiServer;
  url: string;
  http(method: string, path: string, body?: string | Uint8Array, headers?: Record<string, string>): Promise<Answer>;
  /** One JSON-RPC call; a failure is thrown as an array. */
  call(method: string, ...params: unknown[]): Promise<any>;
  /** As `call`, with the session of a login made once. */
  as(method: string, ...params: unknown[]): Promise<any>;
  plugin(fn: string, args?: Record<string, string>): Promise<any>;
}

/** The failure list a call ends in; [] when it does not fail. */
export async function failureOf(promise: Promise<unknown>): Promise<string[]> {
  try {
    await promise;
    return [];
  } catch (failure) {
    if (Array.isArray(failure)) return failure as string[];
    throw failure;
  }
}

export interface ServerRigOptions {
  sim?: SimOptions;
  agent?: Partial<AgentOptions>;
  api?: Partial<ApiOptions>;
  server?: Partial<ServerOptions>;
}

export async function makeServer(options: ServerRigOptions = {}): Promise<ServerRig> {
  const rig = await makeRig(options.sim, options.agent);
  const api = new Api({ agent: rig.agent, version: 'test', address: '127.0.0.1', password, penaltyMs: 20, ...options.api });
  const server = await listen({
    host: '127.0.0.1',
    port: 0,
    tls: { cert, key },
    api: Promise.resolve(api),
    log: (line) => rig.log.push(line),
    ...options.server,
  });
  let session: Promise<string> | undefined;
  const http: ServerRig['http'] = (method, path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const outgoing = request(
        { host: '127.0.0.1', port: server.port, ca: cert, method, path, headers, agent: false },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('end', () =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text: Buffer.concat(parts).toString() }),
          );
          response.on('error', reject);
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  const call: ServerRig['call'] = async (method, ...params) => {
    const { text } = await http('POST', '/jsonrpc', JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
    const { result, error } = JSON.parse(text) as { result?: unknown; error?: { message: string; data: string[] } };
    if (error !== undefined) throw [error.message, ...error.data];
    return result;
  };
  const as: ServerRig['as'] = async (method, ...params) => {
    session ??= call('session.login_with_password', 'root', password) as Promise<string>;
    return call(method, await session, ...params);
  };
  return Object.assign(rig, {
    api,
    server,
    url: `https://127.0.0.1:${server.port}`,
    http,
    call,
    as,
    plugin: async (fn: string, args: Record<string, string> = {}) =>
      JSON.parse(await as('host.call_plugin', api.refs.host, 'shoal', fn, args)),
    close: async () => {
      await server.close();
      api.close();
      const { rm } = await import('node:fs/promises');
      await rig.agent.close();
      await rm(rig.stateDir, { recursive: true, force: true });
    },
  });
}
