/** The fleet over the controller's API. The token is an operator's, or a tenant's whose names alone are then known. */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'undici';
import { isErrorCode, ShoalError } from '../model/errors.ts';
import type { ServiceSpec } from '../model/service.ts';
import type { Release, SummonCopy, SummonFleet, SummonService, SummonTraffic } from './port.ts';

export interface ControllerAddress {
  url: string;
  /** PEM. */
  ca: string;
  tokenFile: string;
  timeoutMs?: number;
  /** "tenant/name" of services that may be summoned although no repository says so, with the seconds after which each is idle. */
  policies?: Readonly<Record<string, { idleS: number }>>;
}

const answerMaxBytes = 64 * 1024 * 1024;

export function summonFleet({ url, ca, tokenFile, timeoutMs = 10_000, policies = {} }: ControllerAddress): SummonFleet {
  const dispatcher = new Agent({ connect: { ca }, connections: 16, maxResponseSize: answerMaxBytes });

  async function call<T>(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<T> {
    const headers = { authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) };
    const answer = await request(new URL(path, url), {
      method, headers, dispatcher, headersTimeout: timeoutMs, bodyTimeout: timeoutMs, ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((cause: unknown) => {
      throw new ShoalError('CONNECTION_FAILED', `Cannot reach the controller at ${url}: ${(cause as Error).message}.`, { hint: 'Check that it runs; this goes on by itself.', cause });
    });
    const text = await answer.body.text();
    if (answer.statusCode < 300) return (text === '' ? undefined : JSON.parse(text)) as T;
    throw problem(text, answer.statusCode);
  }

  function problem(text: string, status: number): ShoalError {
    try {
      const { code, detail, hint } = JSON.parse(text) as { code: string; detail: string; hint: string };
      return new ShoalError(isErrorCode(code) ? code : 'INTERNAL_ERROR', detail, { hint });
    } catch {
      return new ShoalError('CONNECTION_FAILED', `${url} answered ${status}: it is no controller.`);
    }
  }

  /** Where the controller knows nothing of it: no repository, no such service. */
  const absent = async <T>(work: Promise<T>): Promise<T | undefined> =>
    work.catch((error: unknown) => {
      if (error instanceof ShoalError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    });

  return {
    services: async () => {
      const items: SummonService[] = [];
      for (let after = ''; ; ) {
        const page = await call<{ items: SummonService[]; next?: string }>('GET', `/v1/services?limit=5000${after}`);
        items.push(...page.items.map(({ id, spec, deleting }) => ({ id, spec, deleting })));
        if (page.next === undefined) return items;
        after = `&after=${encodeURIComponent(page.next)}`;
      }
    },
    policy: async (tenant, name) => {
      const own = policies[`${tenant}/${name}`];
      if (own !== undefined) return own;
      return (await absent(call<{ summon?: { idleS: number } }>('GET', `/v1/deployment/services/${tenant}/${name}`)))?.summon;
    },
    releases: async (tenant, name) => (await absent(call<{ items: Release[] }>('GET', `/v1/deployment/releases/${tenant}/${name}`)))?.items ?? [],
    // Where the repository cannot be asked for it, the image may be there all the same: then the boot says what is missing.
    ensureImage: async (tenant, name, { counter }) => void (await absent(call('POST', `/v1/deployment/releases/${tenant}/${name}/${counter}/image`))),
    apply: async (spec: ServiceSpec) => void (await call('PUT', `/v1/services/${spec.tenant}/${spec.name}`, spec)),
    scale: async (tenant, name, count) => void (await call('POST', `/v1/services/${tenant}/${name}/scale`, { count })),
    remove: async (tenant, name) => {
      await call('DELETE', `/v1/services/${tenant}/${name}`).catch((error: unknown) => {
        if (!(error instanceof ShoalError) || (error.code !== 'NOT_FOUND' && error.code !== 'CONFLICT')) throw error;
      });
    },
    copies: async (tenant, name, holdMs, waitMs) =>
      (await call<{ items: SummonCopy[] }>('POST', `/v1/services/${tenant}/${name}/hold`, { ms: holdMs, waitMs })).items,
    traffic: async (tenant, name) => {
      const { items } = await call<{ items: (SummonTraffic | { address: string; frames?: undefined })[] }>('GET', `/v1/services/${tenant}/${name}/traffic`);
      const counted = items.filter((each): each is SummonTraffic => each.frames !== undefined);
      return counted.length === items.length ? counted : undefined;
    },
    close: () => void dispatcher.destroy().catch(() => {}),
  };
}
