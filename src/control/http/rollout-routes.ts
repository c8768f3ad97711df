/** Rollouts: how far they are, and the hand on them. */
import { changers, mustSee, owners, page, pageQuery, readers, type Call, type Route } from './route.ts';
import type { RolloutAction } from '../rollouts.ts';
import { serviceKey, servicePattern, tenantPattern } from '../../model/service.ts';

const tenant = { type: 'string', pattern: tenantPattern };
const params = { tenant, name: { type: 'string', pattern: servicePattern } };
const rollout = {
  type: 'object',
  description: 'phase, release, good, wave and waves (copies, ready, begun), failures, reason, and the last entries of its record.',
};

function keyIn({ actor, params: at }: Call): string {
  const id = serviceKey(at['tenant']!, at['name']!);
  mustSee(actor, at['tenant'], `rollout of ${id}`);
  return id;
}

const action = (name: RolloutAction, summary: string, who: Route['who'], body?: Route['body']): Route => ({
  method: 'POST',
  path: `/v1/rollouts/:tenant/:name/${name}`,
  summary,
  who,
  params,
  ...(body === undefined ? {} : { body }),
  answers: { status: 200, what: 'The rollout.', schema: rollout },
  run: async ({ rollouts }, call) => {
    const id = keyIn(call);
    const to = (call.body as { to?: number } | null | undefined)?.to;
    await rollouts.act(id, name, `${call.actor.role} ${call.actor.id}`, to);
    return rollouts.view(id);
  },
});

export const rolloutRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/rollouts',
    summary: 'Lists rollouts: one a service that came by the deployment repository.',
    who: readers,
    query: { ...pageQuery, tenant },
    answers: {
      status: 200,
      what: 'A page.',
      schema: { type: 'object', properties: { items: { type: 'array', items: rollout }, next: { type: 'string' } } },
    },
    run: ({ rollouts }, { actor, query }) => {
      const only = actor.tenant ?? (query['tenant'] as string | undefined);
      const ids = [...rollouts.keys()].filter((id) => only === undefined || id.startsWith(`${only}/`));
      const { items, next } = page(
        ids.map((id) => ({ id })),
        query,
      );
      return { items: items.map(({ id }) => rollouts.view(id)), ...(next === undefined ? {} : { next }) };
    },
  },
  {
    method: 'GET',
    path: '/v1/rollouts/:tenant/:name',
    summary: 'One rollout.',
    who: readers,
    params,
    answers: { status: 200, what: 'The rollout.', schema: rollout },
    run: ({ rollouts }, call) => rollouts.view(keyIn(call)),
  },
  action('pause', 'Nothing more is replaced until it is resumed.', changers),
  action('resume', 'Goes on where it was paused; failures are counted anew.', changers),
  action('abort', 'Back to the release before, from wherever it is.', changers),
  action('promote', 'All copies go to the new release at once, no gate is asked; also where the release before is sick.', owners),
  action('rollback', 'All copies go back at once: to the release before, or to another one that passed.', changers, {
    type: ['object', 'null'],
    additionalProperties: false,
    properties: { to: { type: 'integer', minimum: 0, description: 'Number of a release that passed here.' } },
  }),
];
