/**
 * The controller's one API over HTTPS, by fastify: routes are checked by the schemas they show, callers by their tokens, and every
 * call that changes something is in the audit log before it is answered.
 */
import { Readable } from 'node:stream';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { ajv, reasonsOf, refused, textAjv } from '../schema.ts';
import type { ChangeKind } from '../changes.ts';
import type { Actor } from '../tokens.ts';
import { serveConsole } from './console.ts';
import { metrics } from './metrics.ts';
import { openApi } from './openapi.ts';
import { migrationRoutes } from './migration-routes.ts';
import { operatorRoutes } from './operator-routes.ts';
import { problem, toProblemError } from './problems.ts';
import { mustSeeAll, readers, type Context, type Route } from './route.ts';
import { deploymentRoutes } from './deployment-routes.ts';
import { rolloutRoutes } from './rollout-routes.ts';
import { serviceRoutes } from './service-routes.ts';
import { summonRoutes } from './summon-routes.ts';
import { Streams } from './stream.ts';
import { serveFile } from '../../image/serving.ts';
import { ShoalError } from '../../model/errors.ts';

export interface ServerOptions {
  host: string;
  port: number;
  /** PEM; undefined only where nobody but this machine can connect. */
  tls: { cert: string; key: string } | undefined;
  context: Context;
  /** Folder of the web console's files; without it there is none. */
  console?: string | undefined;
  heartbeatMs?: number | undefined;
  log: (line: string) => void;
}

export interface FleetServer {
  port: number;
  close(): Promise<void>;
}

/** A thousand services with all their fields are below this. */
const bodyLimitBytes = 4 * 1024 * 1024;
const maxStreams = 500;
const kinds: readonly ChangeKind[] = ['vm', 'service', 'host', 'task', 'note', 'rollout'];

export async function serveFleet(options: ServerOptions): Promise<FleetServer> {
  const { context, log } = options;
  const streams = new Streams(options.heartbeatMs);
  const app = Fastify({
    ...(options.tls === undefined ? {} : { https: { ...options.tls, minVersion: 'TLSv1.2' as const } }),
    bodyLimit: bodyLimitBytes,
    requestTimeout: 120_000,
    forceCloseConnections: true,
    return503OnClosing: true,
    routerOptions: { maxParamLength: 200 },
  } as object) as unknown as FastifyInstance;
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? ajv : textAjv).compile(schema as object));
  app.setSchemaErrorFormatter((errors) => refused('REQUEST_INVALID', reasonsOf(errors as never)));
  // Bytes are read by the route that wants them.
  for (const type of ['application/octet-stream', 'application/x-git-upload-pack-request', 'application/x-git-receive-pack-request'])
    app.addContentTypeParser(type, (_request, _payload, done) => done(null));

  const all: Route[] = [...serviceRoutes, ...rolloutRoutes, ...summonRoutes, ...operatorRoutes, ...migrationRoutes, ...deploymentRoutes, ...ownRoutes(streams)];
  const document = JSON.stringify(openApi(all, context.version));
  all.push(openApiRoute(document));

  app.setErrorHandler(async (thrown, request, reply) => answerError(thrown, request, reply));
  app.setNotFoundHandler(async (request, reply) =>
    answerError(
      new ShoalError('NOT_FOUND', `There is no ${request.method} ${request.url.split('?')[0]!.slice(0, 200)}.`, {
        hint: 'See /openapi.json.',
      }),
      request,
      reply,
    ),
  );

  async function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const error = toProblemError(thrown);
    if (error.code === 'INTERNAL_ERROR')
      log(
        `${request.method} ${request.url.split('?')[0]}: ${(error.cause as Error | undefined)?.stack ?? error.stack ?? error.message}`,
      );
    context.requests.failed++;
    (request as Marked).shoalCode = error.code;
    const body = problem(error);
    if (error.code === 'TOKEN_INVALID') reply.header('www-authenticate', request.url.startsWith('/git/') ? 'Basic realm="shoal"' : 'Bearer');
    return reply.code(body.status).type('application/problem+json').send(JSON.stringify(body));
  }

  app.addHook('onRequest', async (request) => {
    context.requests.count++;
    const route = (request.routeOptions.config as { route?: Route }).route;
    if (route === undefined || route.who === 'anyone') return;
    const actor = context.tokens.check(request.headers.authorization);
    (request as Marked).actor = actor;
    if (!route.who.includes(actor.role))
      throw new ShoalError('FORBIDDEN', `The role ${actor.role} may not do this.`, {
        hint: `These may: ${route.who.join(', ')}.`,
      });
  });
  app.addHook('onSend', async (request, reply, payload) => {
    if (request.method === 'GET' || request.method === 'HEAD') return payload;
    const { actor, shoalCode } = request as Marked;
    await context.audit.append({
      at: new Date().toISOString(),
      token: actor?.id ?? '',
      role: actor?.role ?? '',
      tenant: actor?.tenant ?? '',
      from: request.ip,
      method: request.method,
      path: request.url.split('?')[0]!.slice(0, 300),
      status: reply.statusCode,
      code: shoalCode ?? '',
    });
    return payload;
  });

  for (const route of all) {
    const { method, path, params, query, body, answers, keepsBytes = false } = route;
    app.route({
      method,
      url: path,
      config: { route },
      ...(keepsBytes ? { preParsing: keepBytes } : {}),
      schema: {
        ...(params === undefined ? {} : { params: { type: 'object', properties: params, required: Object.keys(params) } }),
        querystring: { type: 'object', additionalProperties: false, properties: query ?? {} },
        ...(body === undefined ? {} : { body }),
      },
      handler: async (request, reply) => {
        const actor = (request as Marked).actor ?? nobody;
        const result = await route.run(context, {
          actor,
          params: request.params as Record<string, string>,
          query: request.query as Record<string, unknown>,
          body: request.body,
          bytes: (request as Marked).shoalBytes,
          request,
          reply,
        });
        if (result === reply || reply.sent || reply.raw.headersSent) return reply;
        reply.code(answers.status);
        if (answers.status === 204) return reply.send();
        return typeof result === 'string' ? reply.send(result) : reply.type('application/json').send(JSON.stringify(result));
      },
    });
  }
  if (options.console !== undefined) await serveConsole(app, options.console);
  await app.listen({ host: options.host, port: options.port });
  const address = app.server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: async () => {
      streams.closeAll();
      await app.close();
    },
  };
}

type Marked = FastifyRequest & { actor?: Actor; shoalCode?: string; shoalBytes?: Buffer };

const mostKeptBytes = 1024 * 1024;

/** The body is read here, kept, and given on to the parser. */
async function keepBytes(request: FastifyRequest, _reply: FastifyReply, payload: AsyncIterable<Buffer>): Promise<Readable> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of payload) {
    bytes += part.length;
    if (bytes > mostKeptBytes) throw new ShoalError('REQUEST_TOO_LARGE', 'The body is larger than this call takes.');
    parts.push(part);
  }
  const whole = Buffer.concat(parts);
  (request as Marked).shoalBytes = whole;
  return Object.assign(Readable.from(whole.length === 0 ? [] : [whole]), { receivedEncodedLength: whole.length });
}
const nobody: Actor = { id: '', role: 'viewer', tenant: '' };

const openApiRoute = (document: string): Route => ({
  method: 'GET',
  path: '/openapi.json',
  summary: 'The OpenAPI document of this API.',
  who: 'anyone',
  answers: { status: 200, what: 'The document.' },
  run: (_, { reply }) => {
    reply.type('application/json');
    return document;
  },
});

const hex = { type: 'string', pattern: '^[0-9a-f]{64}$' };

/** For hosts, which have no token but an address that their order gave them. */
const fileRoute = (path: string, names: readonly string[], summary: string): Route => ({
  method: 'GET',
  path,
  summary,
  who: 'anyone',
  params: Object.fromEntries(names.map((name) => [name, hex])),
  query: { until: { type: 'string', maxLength: 20 }, cap: { type: 'string', maxLength: 64 } },
  raw: true,
  answers: { status: 200, what: 'The bytes; 206 for a range of them.' },
  run: ({ distribution }, { request, reply }) => {
    if (distribution === undefined) throw new ShoalError('NOT_FOUND', 'This controller keeps no images.');
    const url = new URL(request.url, 'https://controller');
    reply.hijack();
    serveFile(distribution.shelf(), request.raw, reply.raw, url.pathname, url.searchParams);
  },
});

const ownRoutes = (streams: Streams): Route[] => [
  fileRoute('/blobs/sha256/:hex', ['hex'], 'An image, for hosts that were told to fetch it.'),
  fileRoute('/deltas/:from/:to', ['from', 'to'], 'What turns one image into another, for hosts that were told to fetch it.'),
  {
    method: 'GET',
    path: '/healthz',
    summary: 'Whether the controller serves.',
    who: 'anyone',
    answers: { status: 200, what: 'It does.' },
    run: () => ({ status: 'ok' }),
  },
  {
    method: 'GET',
    path: '/v1/whoami',
    summary: 'What the token is good for.',
    who: readers,
    answers: { status: 200, what: 'Role and tenant.' },
    run: ({ version, fleet }, { actor }) => ({ ...actor, version, fleet: fleet.state.fleet }),
  },
  {
    method: 'GET',
    path: '/metrics',
    summary: 'OpenMetrics of controller, hosts and VMs.',
    who: readers,
    answers: { status: 200, what: 'Text.' },
    run: (context, { actor, reply }) => {
      mustSeeAll(actor);
      reply.type('application/openmetrics-text; version=1.0.0; charset=utf-8');
      return metrics(context);
    },
  },
  {
    method: 'GET',
    path: '/v1/events',
    summary:
      'Changes as server-sent events: "vm", "service", "host", "task", "note", "rollout", with {op: "put" | "del", key, data}; "reset": list anew.',
    who: readers,
    query: {
      kinds: { type: 'string', maxLength: 100, description: 'Only these, separated by commas.' },
      since: { type: 'string', maxLength: 40, description: 'As the header Last-Event-ID.' },
    },
    raw: true,
    answers: { status: 200, what: 'A stream.' },
    run: ({ fleet, tokens }, { actor, query, request, reply }) => {
      if (streams.count >= maxStreams)
        throw new ShoalError('HOST_LIMIT', `${maxStreams} clients watch already.`, { hint: 'Close some of them.' });
      const wanted = (query['kinds'] as string | undefined)?.split(',');
      const unknown = wanted?.find((kind) => !(kinds as readonly string[]).includes(kind));
      if (unknown !== undefined)
        throw refused('REQUEST_INVALID', [
          { path: 'kinds', message: `"${unknown}" is no kind.`, hint: `There are: ${kinds.join(', ')}.` },
        ]);
      const header = request.headers['last-event-id'];
      const last = (typeof header === 'string' ? header : undefined) ?? (query['since'] as string | undefined);
      const { authorization } = request.headers;
      streams.serve({
        changes: fleet.changes,
        actor,
        lastId: last,
        kinds: wanted === undefined ? undefined : new Set(wanted as ChangeKind[]),
        isGood: () => tokens.isGood(authorization),
        reply,
      });
    },
  },
];
