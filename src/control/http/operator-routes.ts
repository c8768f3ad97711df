/** Hosts, tokens, quotas, releases, pools, images, the audit log: mostly the operator's. */
import { parseIpv4 } from '../links/records.ts';
import { refused } from '../schema.ts';
import type { HostRecord, PoolRecord, TokenRecord } from '../state.ts';
import { taskView } from '../tasks.ts';
import { roles, type Role } from '../tokens.ts';
import { hostView } from '../views.ts';
import { changers, mustSeeAll, operators, owners, page, pageQuery, readers, type Context, type Route } from './route.ts';
import { ShoalError } from '../../model/errors.ts';
import { isDigest } from '../../model/ids.ts';
import { tenantPattern, wordPattern, type Reason } from '../../model/service.ts';

const word = { type: 'string', pattern: wordPattern };
const labels = { type: 'object', maxProperties: 32, additionalProperties: { type: 'string', maxLength: 63 } };
const digestSchema = { type: 'string', pattern: '^sha256:[0-9a-f]{64}$' };
const address = { type: 'string', pattern: '^(\\d{1,3}\\.){3}\\d{1,3}$' };
const whole = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER };
const maxVifs = { type: 'integer', minimum: 0, maximum: 100_000, description: 'VIFs the host may have; 5,000 when left out.' };

const tokenView = ({ hash: _, createdMs, expiresMs, ...rest }: TokenRecord) => ({
  ...rest,
  created: new Date(createdMs).toISOString(),
  ...(expiresMs === undefined ? {} : { expires: new Date(expiresMs).toISOString() }),
});

function hostIn({ fleet, services }: Context, name: string) {
  services.needHost(name);
  return hostView(fleet, fleet.units.get(name)!);
}

/** Get, put and delete of a record that is found by name. */
function records<K extends 'quota' | 'release' | 'pool'>(
  kind: K,
  path: string,
  param: string,
  pattern: string,
  body: Route['body'],
  view: (name: string, value: unknown) => object,
  check: (context: Context, name: string, body: unknown) => unknown,
  seenBy: Route['who'],
  changedBy: Route['who'],
): Route[] {
  const params = { [param]: { type: 'string', pattern } };
  const touched = ({ fleet }: Context): void => {
    for (const key of fleet.keys()) fleet.poke(key);
  };
  return [
    {
      method: 'GET',
      path,
      summary: `Lists ${path.slice(4)}.`,
      who: seenBy,
      query: pageQuery,
      answers: { status: 200, what: 'A page.' },
      run: ({ fleet }, { actor, query }) =>
        page(
          [...fleet.state.all(kind)]
            .filter(([id]) => kind !== 'quota' || actor.tenant === undefined || id === actor.tenant)
            .map(([id, value]) => ({ id, ...view(id, value) })),
          query,
        ),
    },
    {
      method: 'PUT',
      path: `${path}/:${param}`,
      summary: `Makes a ${kind} so.`,
      who: changedBy,
      params,
      body: body!,
      answers: { status: 200, what: `The ${kind}.` },
      run: async (context, call) => {
        const id = call.params[param]!;
        const value = check(context, id, call.body) as never;
        await context.fleet.state.write([context.fleet.state.set(kind, id, value)]);
        touched(context);
        return { id, ...view(id, value) };
      },
    },
    {
      method: 'DELETE',
      path: `${path}/:${param}`,
      summary: `Takes a ${kind} out.`,
      who: operators,
      params,
      answers: { status: 204, what: 'It is gone.' },
      run: async ({ fleet }, call) => {
        const id = call.params[param]!;
        if (fleet.state.get(kind, id) === undefined) throw new ShoalError('NOT_FOUND', `There is no ${kind} ${id}.`);
        for (const [key, { spec }] of fleet.state.all('service')) {
          const used =
            kind === 'release'
              ? spec.image === id
              : kind === 'pool' && spec.networks.some(({ addresses }) => addresses.from === 'pool' && addresses.pool === id);
          if (used) throw new ShoalError('CONFLICT', `The service ${key} uses it.`, { hint: 'Change the service first.' });
        }
        await fleet.state.write([fleet.state.set(kind, id, undefined)]);
      },
    },
  ];
}

export const operatorRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/hosts',
    summary: 'Lists hosts.',
    who: readers,
    query: pageQuery,
    answers: { status: 200, what: 'A page.' },
    run: ({ fleet }, { actor, query }) => {
      mustSeeAll(actor);
      return page(
        [...fleet.units.values()].map((unit) => hostView(fleet, unit)),
        query,
      );
    },
  },
  {
    method: 'POST',
    path: '/v1/hosts',
    summary: 'Takes a host into the fleet.',
    who: operators,
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['name', 'url', 'credential'],
      properties: {
        name: word,
        url: { type: 'string', pattern: '^https://[^/\\s]+/?$', maxLength: 256 },
        fingerprint: {
          type: 'string',
          pattern: '^([0-9A-Fa-f]{2}:?){32}$',
          description: 'SHA-256 of its certificate; this or "ca".',
        },
        ca: { type: 'string', maxLength: 65_536, description: 'PEM of its certificate or of the authority that signed it.' },
        credential: { ...word, description: "Name of a file in the controller's folder of credentials, with the password." },
        labels,
        maxVifs,
      },
    },
    answers: { status: 201, what: 'The host; it is being connected to.' },
    run: async (context, { body }) => {
      const given = body as Pick<HostRecord, 'name' | 'url' | 'credential'> & Partial<HostRecord>;
      const record: HostRecord = { labels: {}, drained: false, dead: false, maxVifs: 5000, ...given };
      context.checkHost(record);
      await context.services.addHost(record);
      return hostIn(context, record.name);
    },
  },
  {
    method: 'GET',
    path: '/v1/hosts/:name',
    summary: 'One host.',
    who: readers,
    params: { name: word },
    answers: { status: 200, what: 'The host.' },
    run: (context, { actor, params }) => (mustSeeAll(actor), hostIn(context, params['name']!)),
  },
  {
    method: 'PATCH',
    path: '/v1/hosts/:name',
    summary:
      'Changes labels, its limit of vifs, or says that it is dead: gone for good, so that its addresses may be used again.',
    who: operators,
    params: { name: word },
    body: {
      type: 'object',
      additionalProperties: false,
      minProperties: 1,
      properties: { labels, maxVifs, dead: { type: 'boolean' } },
    },
    answers: { status: 200, what: 'The host.' },
    run: async (context, { params, body }) => {
      await context.services.changeHost(params['name']!, body as Partial<HostRecord>);
      return hostIn(context, params['name']!);
    },
  },
  {
    method: 'POST',
    path: '/v1/hosts/:name/drain',
    summary: 'Moves all copies to other hosts; no new ones come.',
    who: operators,
    params: { name: word },
    answers: { status: 202, what: 'The task.' },
    run: async ({ services }, { params }) => taskView(await services.drain(params['name']!)),
  },
  {
    method: 'POST',
    path: '/v1/hosts/:name/undrain',
    summary: 'Lets the host take copies again.',
    who: operators,
    params: { name: word },
    answers: { status: 200, what: 'The host.' },
    run: async (context, { params }) => {
      await context.services.changeHost(params['name']!, { drained: false });
      return hostIn(context, params['name']!);
    },
  },
  {
    method: 'DELETE',
    path: '/v1/hosts/:name',
    summary: 'Takes a host without copies out of the fleet.',
    who: operators,
    params: { name: word },
    answers: { status: 204, what: 'It is gone.' },
    run: ({ services }, { params }) => services.removeHost(params['name']!),
  },
  {
    method: 'GET',
    path: '/v1/tokens',
    summary: 'Lists tokens, never their secrets.',
    who: owners,
    query: pageQuery,
    answers: { status: 200, what: 'A page.' },
    run: ({ fleet }, { actor, query }) =>
      page(
        [...fleet.state.all('token').values()]
          .filter((each) => actor.tenant === undefined || each.tenant === actor.tenant)
          .map(tokenView),
        query,
      ),
  },
  {
    method: 'POST',
    path: '/v1/tokens',
    summary: 'Makes a token. A tenant makes tokens of the roles ci and viewer for itself.',
    who: owners,
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['role'],
      properties: {
        role: { enum: roles },
        tenant: { type: 'string', pattern: tenantPattern },
        note: { type: 'string', maxLength: 128 },
        expiresInS: { type: 'integer', minimum: 1, maximum: 10 * 365 * 86_400 },
      },
    },
    answers: { status: 201, what: 'The token itself, once.' },
    run: async ({ tokens, fleet }, { actor, body }) => {
      const given = body as { role: Role; tenant?: string; note?: string; expiresInS?: number };
      if (
        actor.tenant !== undefined &&
        ((given.role !== 'ci' && given.role !== 'viewer') || (given.tenant ?? actor.tenant) !== actor.tenant)
      )
        throw new ShoalError('FORBIDDEN', 'A tenant makes tokens of the roles ci and viewer for itself only.');
      const owner = given.tenant ?? actor.tenant;
      const { token, record, change } = tokens.make({
        role: given.role,
        ...(owner === undefined ? {} : { tenant: owner }),
        ...(given.note === undefined ? {} : { note: given.note }),
        ...(given.expiresInS === undefined ? {} : { expiresMs: fleet.now() + given.expiresInS * 1000 }),
      });
      await fleet.state.write([change]);
      return { token, ...tokenView(record) };
    },
  },
  {
    method: 'DELETE',
    path: '/v1/tokens/:id',
    summary: 'Ends a token.',
    who: owners,
    params: { id: { type: 'string', pattern: '^[0-9a-f]{8}$' } },
    answers: { status: 204, what: 'It is gone.' },
    run: async ({ fleet, tokens }, { actor, params }) => {
      const id = params['id']!;
      const record = fleet.state.get('token', id);
      if (record === undefined || (actor.tenant !== undefined && record.tenant !== actor.tenant))
        throw new ShoalError('NOT_FOUND', `There is no token ${id}.`);
      const change = fleet.state.set('token', id, undefined);
      if (!tokens.hasOperator()) {
        fleet.state.set('token', id, record);
        throw new ShoalError('CONFLICT', 'This is the last token of an operator.', { hint: 'Make another one first.' });
      }
      await fleet.state.write([change]);
    },
  },
  ...records(
    'quota',
    '/v1/quotas',
    'tenant',
    tenantPattern,
    { type: 'object', additionalProperties: false, properties: { vms: whole, memoryKib: whole, addresses: whole } },
    (_, value) => value as object,
    (_, __, body) => body,
    readers,
    operators,
  ),
  ...records(
    'release',
    '/v1/releases',
    'name',
    wordPattern,
    { type: 'object', additionalProperties: false, required: ['digest'], properties: { digest: digestSchema } },
    (_, value) => value as object,
    (_, __, body) => body,
    readers,
    ['operator'],
  ),
  ...records(
    'pool',
    '/v1/pools',
    'name',
    wordPattern,
    {
      type: 'object',
      additionalProperties: false,
      required: ['network', 'first', 'last'],
      properties: { network: word, first: address, last: address },
    },
    (_, value) => value as object,
    (_, name, body): PoolRecord => {
      const { network, first, last } = body as Omit<PoolRecord, 'name'>;
      const [from, to] = [parseIpv4(first), parseIpv4(last)];
      const reasons: Reason[] = [];
      if (from === undefined)
        reasons.push({ path: 'first', message: `"${first}" is no IPv4 address.`, hint: 'Give four numbers from 0 to 255.' });
      if (to === undefined)
        reasons.push({ path: 'last', message: `"${last}" is no IPv4 address.`, hint: 'Give four numbers from 0 to 255.' });
      if (from !== undefined && to !== undefined && from > to)
        reasons.push({ path: 'first', message: 'is behind last.', hint: 'Turn them round.' });
      if (reasons.length > 0) throw refused('REQUEST_INVALID', reasons);
      return { name, network, first, last };
    },
    readers,
    operators,
  ),
  {
    method: 'GET',
    path: '/v1/images',
    summary: 'Images the controller brings to hosts that miss them.',
    who: readers,
    answers: { status: 200, what: 'A page.' },
    run: ({ images }) => ({ items: (images?.list() ?? []).map(({ digest, fileBytes }) => ({ id: digest, digest, fileBytes })) }),
  },
  {
    method: 'PUT',
    path: '/v1/images/:digest',
    summary: 'Takes an image in; its bytes must have the digest.',
    who: changers,
    params: { digest: digestSchema },
    raw: true,
    answers: { status: 201, what: 'It is kept.' },
    run: async ({ images }, { params, request }) => {
      const digest = params['digest']!;
      if (images === undefined || !isDigest(digest)) throw new ShoalError('NOT_FOUND', 'This controller keeps no images.');
      await images.put(digest, request.raw);
      return { digest };
    },
  },
  {
    method: 'GET',
    path: '/v1/audit',
    summary: 'The last lines of the audit log.',
    who: operators,
    query: { limit: { type: 'integer', minimum: 1, maximum: 10_000 } },
    answers: { status: 200, what: 'Lines, newest last.' },
    run: async ({ audit }, { query }) => ({ items: await audit.last((query['limit'] as number | undefined) ?? 100) }),
  },
];
