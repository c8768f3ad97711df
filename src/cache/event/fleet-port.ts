/** The controller as the events need it, over its public API: services made so, scaled, ended; VMs listed; whose token it is. */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { isErrorCode, ShoalError } from '../../model/errors.ts';

export interface FleetVm {
  id: string;
  service: string;
  slot: number;
  state: string;
  /** First of its addresses; undefined when it has none. */
  address: string | undefined;
  hostAway: boolean;
}

export interface FleetService {
  /** "tenant/name". */
  id: string;
  count: number;
  args: string;
  deleting: boolean;
}

export interface Caller {
  role: 'operator' | 'tenant' | 'ci' | 'viewer';
  tenant: string | undefined;
}

/** Calls throw ShoalError: what the controller said, CONNECTION_FAILED or TIMEOUT. */
export interface CacheFleet {
  apply(services: readonly Record<string, unknown>[]): Promise<void>;
  scale(tenant: string, name: string, count: number): Promise<void>;
  /** One that is gone, or going, counts as removed. */
  remove(tenant: string, name: string): Promise<void>;
  services(tenant: string): Promise<FleetService[]>;
  vms(tenant: string, service: string): Promise<FleetVm[]>;
  /** Throws TOKEN_INVALID. `authorization`: the header as it came. */
  whoami(authorization: string | undefined): Promise<Caller>;
  close(): void;
}

const answerMaxBytes = 64 * 1024 * 1024;

export interface ControllerAddress {
  url: string;
  /** PEM. */
  ca: string;
  tokenFile: string;
  timeoutMs?: number;
}

interface VmItem {
  id: string;
  service?: string;
  slot?: number;
  state: string;
  addresses: string[];
  hostAway?: boolean;
}
interface ServiceItem {
  id: string;
  spec: { count: number; args: string };
  deleting: boolean;
}

export function controllerFleet({ url, ca, tokenFile, timeoutMs = 5_000 }: ControllerAddress): CacheFleet {
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ca, minVersion: 'TLSv1.2' });
  const own = (): string => `Bearer ${readFileSync(tokenFile, 'utf8').trim()}`;

  function call<T>(method: string, path: string, body?: unknown, authorization = own()): Promise<T> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const outgoing = request(
        new URL(path, url),
        { method, agent, headers: { authorization, ...(bytes === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes.length }) } },
        (response) => {
          const parts: Buffer[] = [];
          let size = 0;
          response.on('data', (part: Buffer) => {
            parts.push(part);
            if ((size += part.length) > answerMaxBytes) outgoing.destroy(new Error('the answer is too large'));
          });
          response.on('error', fail);
          response.on('end', () => {
            clearTimeout(timer);
            const text = Buffer.concat(parts).toString();
            if ((response.statusCode ?? 500) < 300) return resolve((text === '' ? undefined : JSON.parse(text)) as T);
            reject(problem(text, response.statusCode ?? 0));
          });
        },
      );
      const fail = (error: Error): void => {
        clearTimeout(timer);
        reject(error instanceof ShoalError ? error : new ShoalError('CONNECTION_FAILED', `Cannot reach the controller at ${url}: ${error.message}.`, { hint: 'Check that it runs; this goes on by itself.', cause: error }));
      };
      const timer = setTimeout(() => outgoing.destroy(new ShoalError('TIMEOUT', `The controller gave no answer within ${timeoutMs} ms.`)), timeoutMs);
      outgoing.on('error', fail);
      outgoing.end(bytes);
    });
  }

  function problem(text: string, status: number): ShoalError {
    try {
      const { code, detail, hint, reasons, data } = JSON.parse(text) as { code: string; detail: string; hint: string; reasons?: unknown[]; data?: Record<string, unknown> };
      return new ShoalError(isErrorCode(code) ? code : 'INTERNAL_ERROR', detail, { hint, data: { ...data, ...(reasons === undefined ? {} : { reasons }) } });
    } catch {
      return new ShoalError('CONNECTION_FAILED', `${url} answered ${status}: it is no controller.`);
    }
  }

  async function list<T>(path: string): Promise<T[]> {
    const items: T[] = [];
    for (let after = ''; ; ) {
      const page = await call<{ items: T[]; next?: string }>('GET', `${path}&limit=5000${after}`);
      items.push(...page.items);
      if (page.next === undefined) return items;
      after = `&after=${encodeURIComponent(page.next)}`;
    }
  }

  return {
    apply: async (services) => void (await call('POST', '/v1/apply', { services })),
    scale: async (tenant, name, count) => void (await call('POST', `/v1/services/${tenant}/${name}/scale`, { count })),
    remove: async (tenant, name) => {
      await call('DELETE', `/v1/services/${tenant}/${name}`).catch((error: ShoalError) => {
        if (error.code !== 'NOT_FOUND' && error.code !== 'CONFLICT') throw error;
      });
    },
    services: async (tenant) =>
      (await list<ServiceItem>(`/v1/services?tenant=${tenant}`)).map(({ id, spec, deleting }) => ({ id, count: spec.count, args: spec.args, deleting })),
    vms: async (tenant, label) =>
      (await list<VmItem>(`/v1/vms?tenant=${tenant}&service=${label}`)).flatMap(({ id, service, slot, state, addresses, hostAway }) =>
        service === undefined || slot === undefined ? [] : [{ id, service, slot, state, address: addresses[0], hostAway: hostAway === true }],
      ),
    whoami: async (authorization) => {
      if (authorization === undefined) throw new ShoalError('TOKEN_INVALID', 'A token is needed.');
      const { role, tenant } = await call<Caller>('GET', '/v1/whoami', undefined, authorization);
      return { role, tenant };
    },
    close: () => agent.destroy(),
  };
}
