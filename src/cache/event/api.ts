/** The tenants' side: events made, listed, described and ended over HTTPS, by the controller's own tokens. Errors are as the controller's. */
import Fastify, { type FastifyInstance } from 'fastify';
import { problem, toProblemError } from '../../control/http/problems.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Events } from './events.ts';
import type { CacheFleet, Caller } from './fleet-port.ts';

export interface ApiOptions {
  host: string;
  port: number;
  tls: { cert: string; key: string } | undefined;
  events: Events;
  fleet: CacheFleet;
  log: (line: string) => void;
}

/** A token that the controller knew is not asked for again so long. */
const knownMs = 5_000;
const knownMax = 1_000;

export async function serveApi({ host, port, tls, events, fleet, log }: ApiOptions): Promise<{ port: number; close(): Promise<void> }> {
  const app = Fastify({ ...(tls === undefined ? {} : { https: { ...tls, minVersion: 'TLSv1.2' as const } }), bodyLimit: 64 * 1024, requestTimeout: 30_000, forceCloseConnections: true } as object) as unknown as FastifyInstance;
  const known = new Map<string, { caller: Caller; untilMs: number }>();
  async function callerOf(authorization: string | undefined): Promise<Caller> {
    const before = known.get(authorization ?? '');
    if (before !== undefined && before.untilMs > Date.now()) return before.caller;
    const caller = await fleet.whoami(authorization);
    if (known.size >= knownMax) known.clear();
    known.set(authorization!, { caller, untilMs: Date.now() + knownMs });
    return caller;
  }
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = toProblemError(thrown);
    if (error.code === 'INTERNAL_ERROR') log(`${request.method} ${request.url}: ${error.stack}`);
    const body = problem(error);
    return reply.code(body.status).type('application/problem+json').send(JSON.stringify(body));
  });
  app.setNotFoundHandler(async (request) => {
    throw new ShoalError('NOT_FOUND', `There is no ${request.method} ${request.url.split('?')[0]!.slice(0, 200)}.`);
  });
  const keyIn = (params: unknown): string => {
    const { tenant, name } = params as { tenant: string; name: string };
    return `${tenant}/${name}`;
  };
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.post('/v1/video-events', async (request, reply) => {
    const made = await events.create(request.body, await callerOf(request.headers.authorization));
    return reply.code(201).send(made);
  });
  app.get('/v1/video-events', async (request) => {
    const caller = await callerOf(request.headers.authorization);
    const { tenant } = request.query as { tenant?: string };
    return { items: events.list(caller, tenant) };
  });
  app.get('/v1/video-events/:tenant/:name', async (request) => events.view(keyIn(request.params), await callerOf(request.headers.authorization)));
  app.delete('/v1/video-events/:tenant/:name', async (request, reply) => {
    const view = await events.end(keyIn(request.params), await callerOf(request.headers.authorization));
    return reply.code(202).send(view);
  });
  await app.listen({ host, port });
  return { port: (app.server.address() as { port: number }).port, close: () => app.close() };
}
