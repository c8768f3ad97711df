/**
 * The path agent over HTTPS (docs/formats/path-agent.md). It listens, and a coordinator that knows its certificate and its token calls: the ends of connections that are
 * moved are servers and gateways, which can be reached; a client needs no coordinator, it follows announcements by itself.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { isIP } from 'node:net';
import { asShoalError, ShoalError, type ErrorCode } from '../model/errors.ts';
import { waitMaxMs, type PathAgent } from './agent.ts';

export interface ApiOptions {
  agent: PathAgent;
  listen: { host: string; port: number } | { socket: string };
  tls: { cert: string; key: string };
  token: string;
  metrics: () => string;
  log: (line: string) => void;
}

const bodyMaxBytes = 1 << 20;
const tokensMax = 50_000;
const pageMax = 5_000;
const openMax = 256;

const statuses: Partial<Record<ErrorCode, number>> = { TOKEN_INVALID: 401, FORBIDDEN: 403, NOT_FOUND: 404, REQUEST_INVALID: 400, REQUEST_MALFORMED: 400, REQUEST_TOO_LARGE: 413, VALUE_NOT_SUPPORTED: 422 };

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    // Read on for a while, so that who sends gets to read why.
    if (bytes > 8 * bodyMaxBytes) break;
    if (bytes <= bodyMaxBytes) parts.push(part);
  }
  if (bytes > bodyMaxBytes) throw new ShoalError('REQUEST_TOO_LARGE', `A request has at most ${bodyMaxBytes} bytes.`);
  try {
    const value: unknown = JSON.parse(Buffer.concat(parts).toString());
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new ShoalError('REQUEST_MALFORMED', 'The body is no JSON object.', { hint: 'Send a JSON object.' });
}

const invalid = (field: string, why: string): ShoalError => new ShoalError('REQUEST_INVALID', `"${field}" ${why}.`, { data: { field } });

function addressIn(value: unknown, field: string): string {
  if (typeof value !== 'string' || isIP(value) === 0) throw invalid(field, 'must be an IPv4 or IPv6 address');
  return value;
}

function wholeIn(value: string | null, field: string, most: number): number | undefined {
  if (value === null) return undefined;
  const number = Number(value);
  if (!/^\d{1,10}$/.test(value) || number > most) throw invalid(field, `must be a whole number up to ${most}`);
  return number;
}

function tokensIn(value: unknown): number[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > tokensMax || value.some((one) => !Number.isSafeInteger(one) || (one as number) < 0)) throw invalid('tokens', `must be a list of up to ${tokensMax} tokens`);
  return value as number[];
}

function flagIn(body: Record<string, unknown>, field: string): boolean | undefined {
  const value = body[field];
  if (value !== undefined && typeof value !== 'boolean') throw invalid(field, 'must be true or false');
  return value;
}

/** Refuses fields that the call has not: a misspelt "tokens" would make it about every connection. */
function only(body: Record<string, unknown>, ...names: string[]): void {
  const other = Object.keys(body).find((name) => !names.includes(name));
  if (other !== undefined) throw invalid(other, 'is not a field of this call');
}

type Act = (agent: PathAgent, body: Record<string, unknown>) => Promise<unknown>;

const acts: Record<string, Act> = {
  announce(agent, body) {
    only(body, 'address', 'from', 'anew', 'tokens');
    return agent.announce({ anew: flagIn(body, 'anew'), address: addressIn(body['address'], 'address'), from: addressIn(body['from'], 'from'), tokens: tokensIn(body['tokens']) });
  },
  withdraw(agent, body) {
    only(body, 'address', 'gently', 'tokens');
    return agent.withdraw({ gently: flagIn(body, 'gently'), address: addressIn(body['address'], 'address'), tokens: tokensIn(body['tokens']) });
  },
  backup(agent, body) {
    only(body, 'address', 'backup', 'tokens');
    if (typeof body['backup'] !== 'boolean') throw invalid('backup', 'must be true or false');
    return agent.backup({ address: addressIn(body['address'], 'address'), backup: body['backup'], tokens: tokensIn(body['tokens']) });
  },
  destroy(agent, body) {
    only(body, 'address', 'tokens');
    return agent.destroy({ address: addressIn(body['address'], 'address'), tokens: tokensIn(body['tokens']) });
  },
};

function connections(agent: PathAgent, query: URLSearchParams): unknown {
  const limit = Math.max(1, wholeIn(query.get('limit'), 'limit', pageMax) ?? pageMax);
  const after = wholeIn(query.get('after'), 'after', 0xffffffff) ?? -1;
  const all = agent.port.connections().filter(({ token }) => token > after).sort((a, b) => a.token - b.token);
  const items = all.slice(0, limit);
  return { scope: agent.port.scope, items, ...(all.length > limit ? { next: items.at(-1)!.token } : {}) };
}

async function answer({ agent, metrics }: ApiOptions, request: IncomingMessage): Promise<string | object> {
  const { pathname, searchParams: query } = new URL(request.url ?? '/', 'https://agent');
  if (request.method === 'GET' && pathname === '/metrics') return metrics();
  if (request.method === 'GET' && pathname === '/v1/connections') return connections(agent, query) as object;
  if (request.method === 'GET' && pathname === '/v1/status')
    return agent.status({
      from: addressIn(query.get('from'), 'from'), to: addressIn(query.get('to'), 'to'), after: query.get('after') ?? undefined, waitMs: wholeIn(query.get('waitMs'), 'waitMs', waitMaxMs),
    });
  const act = request.method === 'POST' ? /^\/v1\/(\w+)$/.exec(pathname)?.[1] : undefined;
  if (act !== undefined && Object.hasOwn(acts, act)) return { outcomes: await acts[act]!(agent, await bodyOf(request)) };
  throw new ShoalError('NOT_FOUND', `There is no ${request.method} ${pathname.slice(0, 200)}.`, { hint: 'docs/formats/path-agent.md lists the calls.' });
}

function send(response: ServerResponse, status: number, value: string | object): void {
  const isText = typeof value === 'string';
  const text = isText ? value : JSON.stringify(value);
  response.writeHead(status, { 'content-type': isText ? 'application/openmetrics-text; version=1.0.0; charset=utf-8' : 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** Throws what listening throws. */
export async function serveAgent(options: ApiOptions): Promise<{ port: number; close(): Promise<void> }> {
  const { listen, tls, token, log } = options;
  const right = hash(token);
  const server = createServer({ ...tls, minVersion: 'TLSv1.3', requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 8192 }, (request, response) => {
    void (async () => {
      try {
        const given = /^Bearer (\S{1,512})$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
        if (!timingSafeEqual(hash(given), right)) throw new ShoalError('TOKEN_INVALID', 'The token is missing or wrong.', { hint: "Give the content of the agent's token file." });
        send(response, 200, await answer(options, request));
      } catch (thrown) {
        const error = asShoalError(thrown);
        if (error.code === 'INTERNAL_ERROR') log(`${request.method} ${request.url?.slice(0, 200)}: ${error.stack}`);
        const { code, message, hint, data } = error;
        // What was not read of the request is not waited for.
        response.shouldKeepAlive = false;
        send(response, statuses[code] ?? 500, { code, message: code === 'INTERNAL_ERROR' ? 'The path agent failed.' : message, hint, data });
      }
    })();
  });
  server.maxConnections = openMax;
  if ('socket' in listen) rmSync(listen.socket, { force: true });
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    if ('socket' in listen) server.listen(listen.socket, done);
    else server.listen(listen.port, listen.host, done);
  });
  const at = server.address() as AddressInfo | string;
  return {
    port: typeof at === 'string' ? 0 : at.port,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
