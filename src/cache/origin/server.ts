/**
 * The origin's HTTP side: files by @fastify/static with ranges and validators, live playlists and parts out of memory. Every answer says
 * how long a cache may keep it.
 */
import fastifyStatic from '@fastify/static';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { join } from 'node:path';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { cacheControl, mediaTypeOf, playlistControl, segmentMaxAgeS } from './lifetimes.ts';
import type { LiveStream } from './live.ts';

export interface OriginServerOptions {
  host: string;
  port: number;
  segmentS: number;
  /** Name in the path -> folder that is served under it. */
  folders: ReadonlyMap<string, string>;
  streams: ReadonlyMap<string, LiveStream>;
  /** Segments of the streams are in FOLDER/NAME. */
  liveFolder: string;
  log: (line: string) => void;
}

export interface OriginServer {
  port: number;
  close(): Promise<void>;
}

const statuses: Partial<Record<string, number>> = { REQUEST_INVALID: 400, NOT_FOUND: 404, TIMEOUT: 503, HOST_LIMIT: 503, MEDIA_FAILED: 503, MEDIA_UNREADABLE: 503 };
/** What is not there may be there in a second: a live viewer is a little early. */
const missControl = 'public, max-age=1';
const word = '[a-z0-9][a-z0-9-]{0,63}';

function numberOf(text: unknown, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (typeof text !== 'string' || !/^\d{1,9}$/.test(text)) throw new ShoalError('REQUEST_INVALID', `${name} is no number.`);
  return Number(text);
}

export async function serveOrigin(options: OriginServerOptions): Promise<OriginServer> {
  const { streams, segmentS, log } = options;
  const app: FastifyInstance = Fastify({ requestTimeout: 60_000, keepAliveTimeout: 60_000, forceCloseConnections: true, return503OnClosing: true } as object);
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('access-control-allow-origin', '*');
    reply.header('access-control-expose-headers', 'content-length, content-range, etag, age, date');
  });
  app.options('/*', async (_request, reply) =>
    reply.header('access-control-allow-methods', 'GET, HEAD, OPTIONS').header('access-control-allow-headers', 'range').header('access-control-max-age', '86400').code(204).send(),
  );
  app.setErrorHandler(async (thrown, request, reply) => answerError(asShoalError(thrown), request, reply));
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).header('cache-control', missControl).type('text/plain').send('not found\n'));

  function answerError(error: ShoalError, request: FastifyRequest, reply: FastifyReply): unknown {
    const own = (error.cause as { statusCode?: number } | undefined)?.statusCode;
    const status = statuses[error.code] ?? (own !== undefined && own >= 400 && own < 500 ? own : 500);
    if (status === 500) log(`${request.method} ${request.url}: ${error.message}`);
    if (status === 503) reply.header('retry-after', '1');
    return reply.code(status).header('cache-control', 'no-store').type('text/plain').send(`${status === 500 ? 'the origin failed' : error.message}\n`);
  }

  const living = (stream: LiveStream): LiveStream => {
    if (stream.state === 'starting') throw new ShoalError('TIMEOUT', 'The stream begins.');
    if (stream.state === 'failed') throw stream.error ?? new ShoalError('MEDIA_FAILED', 'The stream failed.');
    return stream;
  };
  const send = (reply: FastifyReply, path: string, body: string | Buffer, control: string): unknown =>
    reply.header('cache-control', control).type(mediaTypeOf(path)!).send(body);

  for (const [name, stream] of streams) {
    app.get(`/${name}/index.m3u8`, async (_request, reply) => send(reply, 'index.m3u8', living(stream).multivariant()!, playlistControl(segmentS, false)));
    app.get(`/${name}/manifest.mpd`, async (_request, reply) =>
      send(reply, 'manifest.mpd', living(stream).manifest(Date.now())!, playlistControl(segmentS, false)),
    );
    app.get(`/${name}/:rendition(^${word}$)/index.m3u8`, async (request, reply) => {
      const query = request.query as Record<string, unknown>;
      const [msn, part] = [numberOf(query['_HLS_msn'], '_HLS_msn'), numberOf(query['_HLS_part'], '_HLS_part')];
      if (part !== undefined && msn === undefined) throw new ShoalError('REQUEST_INVALID', '_HLS_part has no meaning without _HLS_msn.');
      const text = await living(stream).playlist((request.params as { rendition: string }).rendition, msn, part);
      if (text === undefined) throw new ShoalError('NOT_FOUND', 'There is no such rendition.');
      return send(reply, 'index.m3u8', text, playlistControl(segmentS, stream.state === 'live'));
    });
    app.get(`/${name}/:rendition(^${word}$)/:file(^[a-z0-9]+-\\d+\\.\\d+\\.m4s$)`, async (request, reply) => {
      const { rendition, file } = request.params as { rendition: string; file: string };
      const bytes = await living(stream).part(rendition, file);
      if (bytes === undefined) throw new ShoalError('NOT_FOUND', 'That part is not there.');
      return send(reply, file, bytes, `public, max-age=${segmentMaxAgeS}, immutable`);
    });
  }
  let decorate = true;
  const folders = [...options.folders, ...[...streams.keys()].map((name) => [name, join(options.liveFolder, name)] as const)];
  for (const [name, root] of folders) {
    await app.register(fastifyStatic, {
      root,
      prefix: `/${name}/`,
      decorateReply: decorate,
      index: false,
      list: false,
      dotfiles: 'ignore',
      cacheControl: false,
      setHeaders: (reply, path) => {
        reply.header('cache-control', cacheControl(path, segmentS));
        const type = mediaTypeOf(path);
        if (type !== undefined) reply.header('content-type', type);
      },
    });
    decorate = false;
  }
  await app.listen({ host: options.host, port: options.port });
  const { port } = app.server.address() as { port: number };
  return { port, close: () => app.close() };
}
