/**
 * The page of an event: a few files that change only with this program, and the numbers behind them, which the page's key opens. Nothing on it comes
 * from elsewhere than the router and the caches it names.
 */
import type { FastifyInstance } from 'fastify';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the page needs of the events. */
export interface PageEvents {
  byPage(tenant: string, name: string, pageKey: string): Record<string, unknown> | undefined;
}

const here = dirname(fileURLToPath(import.meta.url));
/** Scripts and styles are files of ours; media comes from the caches, whose addresses are not known beforehand; hls.js feeds it from blobs. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src *; media-src * blob:; worker-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

export function pageRoutes(app: FastifyInstance, events: PageEvents): void {
  const hls = createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js');
  const files: Readonly<Record<string, readonly [string, Buffer]>> = {
    'page.js': ['text/javascript', readFileSync(join(here, 'page.js'))],
    'page.css': ['text/css', readFileSync(join(here, 'page.css'))],
    'hls.js': ['text/javascript', readFileSync(hls)],
  };
  const html = readFileSync(join(here, 'page.html'));
  app.get('/pages/:tenant/:event/', async (_request, reply) =>
    reply.header('content-security-policy', policy).header('referrer-policy', 'no-referrer').header('cache-control', 'no-cache').type('text/html; charset=utf-8').send(html),
  );
  app.get('/pages/files/:file', async (request, reply) => {
    const file = files[(request.params as { file: string }).file];
    if (file === undefined) return reply.callNotFound();
    return reply.header('cache-control', 'public, max-age=300').header('x-content-type-options', 'nosniff').type(`${file[0]}; charset=utf-8`).send(file[1]);
  });
  app.get('/pages/:tenant/:event/numbers', async (request, reply) => {
    const { tenant, event } = request.params as { tenant: string; event: string };
    const key = /^Bearer ([\w-]{1,64})$/.exec(request.headers.authorization ?? '')?.[1];
    const view = key === undefined ? undefined : events.byPage(tenant, event, key);
    reply.header('cache-control', 'no-store');
    // A wrong key and no such event look the same.
    if (view === undefined) return reply.code(404).send({ code: 'NOT_FOUND' });
    return reply.send(view);
  });
}
