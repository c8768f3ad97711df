/**
 * What viewers meet. Media is redirected (302, path and query kept) to the cache that the ring names; playlists are handed through from one, so
 * that the player's next request comes here again and not to a cache that may be gone by then. Requests for the same playlist at the same time are
 * one request to a cache; when that cache fails it is the next one's, and the viewer sees neither.
 */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { Agent, get, type IncomingHttpHeaders } from 'node:http';
import { hashOf } from '../route/ring.ts';
import { placeOf, type PlacePrefix } from '../route/place.ts';
import type { CacheView } from '../route/table.ts';
import { pageRoutes } from '../page/routes.ts';
import type { Events } from './events.ts';
import type { Running } from './running.ts';

export interface ViewersOptions {
  host: string;
  port: number;
  events: Events;
  places: readonly PlacePrefix[];
  now: () => number;
}

export interface ViewersServer {
  port: number;
  close(): Promise<void>;
}

/** A new event's first viewers wait so long for its first cache. */
const firstCacheMs = 3_000;
const playlistMaxBytes = 4 * 1024 * 1024;
/** A blocking reload is held by the origin for three segments at most. */
const blockingMs = 30_000;
const playlistMs = 2_000;
/** Caches tried for one playlist. */
const tries = 3;
const underWayMax = 10_000;
const pathMaxBytes = 2_048;

interface Fetched {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

const agent = new Agent({ keepAlive: true, maxSockets: 256, maxFreeSockets: 64 });

function fetchFrom(url: string, timeoutMs: number, signal: AbortSignal): Promise<Fetched> {
  return new Promise((resolve, reject) => {
    const outgoing = get(url, { agent, signal }, (response) => {
      const parts: Buffer[] = [];
      let size = 0;
      response.on('data', (part: Buffer) => {
        parts.push(part);
        if ((size += part.length) > playlistMaxBytes) outgoing.destroy(new Error('the playlist is too large'));
      });
      response.on('error', fail);
      response.on('end', () => {
        clearTimeout(timer);
        // What ended before its announced end ends in an error above.
        resolve({ status: response.statusCode ?? 502, headers: response.headers, body: Buffer.concat(parts) });
      });
    });
    const fail = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    const timer = setTimeout(() => outgoing.destroy(new Error('late')), timeoutMs);
    outgoing.on('error', fail);
  });
}

const isPlaylist = (path: string): boolean => /\.(m3u8|mpd)$/i.test(path);
const passed = ['content-type', 'cache-control', 'etag', 'last-modified', 'age', 'date'] as const;

export async function serveViewers(options: ViewersOptions): Promise<ViewersServer> {
  const { events, places, now } = options;
  const app = Fastify({ requestTimeout: 60_000, keepAliveTimeout: 30_000, forceCloseConnections: true, return503OnClosing: true, routerOptions: { maxParamLength: pathMaxBytes } } as object) as unknown as FastifyInstance;
  const underWay = new Map<string, Promise<Fetched | undefined>>();
  app.addHook('onRequest', async (_request, reply) => {
    reply.header('access-control-allow-origin', '*').header('timing-allow-origin', '*');
  });
  app.setErrorHandler(async (thrown: { statusCode?: number }, _request, reply) =>
    reply.code(thrown.statusCode !== undefined && thrown.statusCode < 500 ? thrown.statusCode : 500).header('cache-control', 'no-store').type('text/plain').send('the request could not be served\n'),
  );
  app.setNotFoundHandler(async (_request, reply) => reply.code(404).header('cache-control', 'no-store').type('text/plain').send('not found\n'));
  app.options('/e/*', async (_request, reply) =>
    reply.header('access-control-allow-methods', 'GET, HEAD, OPTIONS').header('access-control-allow-headers', 'range').header('access-control-max-age', '86400').code(204).send(),
  );

  /** The path at the origin, query included, as it was sent; undefined for one that would lead out of the event. */
  function restOf(request: FastifyRequest): string | undefined {
    const at = request.url.split('/', 4).join('/').length;
    const rest = request.url.slice(at);
    return rest.length > pathMaxBytes || !/^\/[\x21-\x7e]*$/.test(rest) || /(^|\/)\.\.(\/|\?|$)/.test(decoded(rest)) ? undefined : rest;
  }

  async function playlist(running: Running, rest: string, place: string): Promise<Fetched | undefined> {
    const path = rest.split('?')[0]!;
    const deadline = rest.includes('_HLS_msn=') ? blockingMs : playlistMs;
    const tried = new Set<string>();
    for (let i = 0; i < tries; i++) {
      const cache: CacheView | undefined = running.route(path, place).find(({ id }) => !tried.has(id));
      const own = cache === undefined ? undefined : running.caches.get(cache.id);
      if (cache === undefined || own === undefined) break;
      tried.add(cache.id);
      own.assigned++;
      const found = await fetchFrom(cache.url + rest, deadline, own.signal).catch(() => undefined);
      // A cache that fails says so by its metrics too, a moment later; until then others take its viewers.
      if (found === undefined) own.suspect();
      else if (found.status < 500) return found;
    }
    return undefined;
  }

  app.get('/e/:tenant/:event/*', async (request, reply) => {
    const { tenant, event } = request.params as { tenant: string; event: string };
    const running = events.get(tenant, event);
    const rest = restOf(request);
    if (running === undefined || rest === undefined) return reply.callNotFound();
    if (running.over) return reply.code(410).header('cache-control', 'no-store').type('text/plain').send('this event is over\n');
    const client = request.ip;
    running.statistics.seen(`${client} ${hashOf(request.headers['user-agent'] ?? '')} ${String(request.headers['x-playback-session-id'] ?? '')}`, now());
    const place = placeOf(client, places);
    await running.untilServing(firstCacheMs);
    const path = rest.split('?')[0]!;
    if (!isPlaylist(path)) {
      const cache = running.route(path, place)[0];
      if (cache === undefined) return later(reply);
      const own = running.caches.get(cache.id);
      if (own !== undefined) own.assigned++;
      return reply.code(302).header('location', cache.url + rest).header('cache-control', 'no-store').send();
    }
    const key = `${tenant}/${event} ${place} ${rest}`;
    let fetching = underWay.get(key);
    if (fetching === undefined) {
      if (underWay.size >= underWayMax) return later(reply);
      fetching = playlist(running, rest, place).finally(() => underWay.delete(key));
      underWay.set(key, fetching);
    }
    const found = await fetching;
    if (found === undefined) return later(reply);
    for (const name of passed) {
      const value = found.headers[name];
      if (value !== undefined) reply.header(name, value);
    }
    return reply.code(found.status).send(found.body);
  });
  pageRoutes(app, events);
  await app.listen({ host: options.host, port: options.port });
  const { port } = app.server.address() as { port: number };
  return { port, close: () => app.close() };
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return '/..';
  }
}

const later = (reply: FastifyReply): FastifyReply => reply.code(503).header('retry-after', '1').header('cache-control', 'no-store').type('text/plain').send('no cache serves yet\n');
