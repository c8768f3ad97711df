/** The OpenAPI 3.1 document of the API, made from the routes themselves. */
import type { Route } from './route.ts';
import { serviceSchema } from '../../model/service.ts';

const reason = {
  type: 'object',
  properties: { path: { type: 'string' }, message: { type: 'string' }, hint: { type: 'string' } },
};
const problemSchema = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail', 'code', 'hint'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string', description: 'docs/errors.md lists them.' },
    hint: { type: 'string', description: 'What to do next.' },
    reasons: { type: 'array', items: reason },
    data: { type: 'object' },
  },
};

/** ":name" as "{name}". */
const pathOf = (path: string): string => path.replace(/:(\w+)/g, '{$1}');

const idOf = ({ method, path }: Route): string =>
  method.toLowerCase() + path.replace(/^\/v1/, '').replace(/[/:.]+(\w?)/g, (_, letter: string) => letter.toUpperCase());

export function openApi(routes: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const { method, path, summary, who, params = {}, query = {}, body, answers, raw } = route;
    const parameters = [
      ...Object.entries(params).map(([name, schema]) => ({ name, in: 'path', required: true, schema })),
      ...Object.entries(query).map(([name, schema]) => ({ name, in: 'query', required: false, schema })),
    ];
    const spec = (body?.['properties'] as Record<string, unknown> | undefined)?.['services'] !== undefined;
    const shownBody =
      path === '/v1/services/:tenant/:name' && method === 'PUT'
        ? { $ref: '#/components/schemas/ServiceSpec' }
        : spec
          ? { ...body, properties: { services: { type: 'array', items: { $ref: '#/components/schemas/ServiceSpec' } } } }
          : body;
    (paths[pathOf(path)] ??= {})[method.toLowerCase()] = {
      operationId: idOf(route),
      summary,
      description: who === 'anyone' ? 'Needs no token.' : `Roles: ${who.join(', ')}.`,
      ...(who === 'anyone' ? { security: [] } : {}),
      ...(parameters.length === 0 ? {} : { parameters }),
      ...(raw === true && method === 'PUT'
        ? {
            requestBody: {
              required: true,
              content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } },
            },
          }
        : {}),
      ...(body === undefined ? {} : { requestBody: { required: true, content: { 'application/json': { schema: shownBody } } } }),
      responses: {
        [String(answers.status)]: {
          description: answers.what,
          ...(answers.status === 204
            ? {}
            : { content: { 'application/json': { schema: answers.schema ?? { type: 'object' } } } }),
        },
        default: {
          description: 'What went wrong, and what to do.',
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
    };
  }
  const { $id: _, ...spec } = serviceSchema;
  return {
    openapi: '3.1.0',
    info: {
      title: 'Shoal fleet',
      version,
      description: 'One controller over several Xen hosts: what is wanted goes in, facts come out.',
    },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { ServiceSpec: spec, Problem: problemSchema },
    },
  };
}
