/** What a summoner needs of a service's copies: their addresses before they are up, held by their hosts; and how much they are used. */
import type { Tracked } from '../copies.ts';
import { changers, mustSee, readers, type Call, type Context, type Route } from './route.ts';
import { asShoalError } from '../../model/errors.ts';
import { serviceKey, servicePattern, tenantPattern } from '../../model/service.ts';

const params = { tenant: { type: 'string', pattern: tenantPattern }, name: { type: 'string', pattern: servicePattern } };
const holdMostMs = 60_000;
const waitMostMs = 5_000;
const pollMs = 5;

function keyIn({ services }: Context, { actor, params: { tenant, name } }: Call): string {
  const key = serviceKey(tenant!, name!);
  mustSee(actor, tenant, `service ${key}`);
  services.need(key);
  return key;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Whether the host keeps the first frames for its address from now on, or gives them to the guest already. */
async function hold({ fleet }: Context, copy: Tracked, ms: number): Promise<boolean> {
  const unit = fleet.units.get(copy.host);
  const [first] = copy.record.addresses;
  if (unit === undefined || !unit.up || first === undefined || copy.state === 'halted' || copy.state === 'failed') return false;
  return unit.link.holdAddress(first.network, first.ip, ms).then(
    () => true,
    (error: unknown) => asShoalError(error).data['errno'] === 'EEXIST', // it is up
  );
}

export const summonRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: '/v1/services/:tenant/:name/hold',
    summary: 'Copies and their addresses as soon as they have some; hosts keep the first frames for those that are not up yet.',
    who: changers,
    params,
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['ms'],
      properties: {
        ms: { type: 'integer', minimum: 0, maximum: holdMostMs, description: 'How long frames are kept; 0 for not at all.' },
        waitMs: { type: 'integer', minimum: 0, maximum: waitMostMs, description: 'For the first copy; not at all when left out.' },
      },
    },
    answers: { status: 200, what: 'A list of copies: address, ready, held, failed.' },
    run: async (context, call) => {
      const key = keyIn(context, call);
      const { fleet } = context;
      const { ms, waitMs = 0 } = call.body as { ms: number; waitMs?: number };
      const untilMs = performance.now() + waitMs;
      const some = (): Tracked[] => [...fleet.copies.of(key)].filter(({ record }) => record.addresses.length > 0);
      while (some().length === 0 && performance.now() < untilMs) await pause(pollMs);
      const notes = fleet.notes.get(key);
      const items = await Promise.all(
        some().map(async (copy) => ({
          address: copy.record.addresses[0]!.ip,
          ready: copy.state === 'running' && copy.ready,
          held: ms > 0 && !(copy.state === 'running' && copy.ready) && (await hold(context, copy, ms)),
          failed: copy.state === 'failed',
        })),
      );
      // A copy that could not even be asked for leaves a note and nothing else.
      if (items.length === 0 && notes !== undefined && notes.size > 0) return { items: [{ ready: false, held: false, failed: true }] };
      return { items };
    },
  },
  {
    method: 'GET',
    path: '/v1/services/:tenant/:name/traffic',
    summary: 'Frames of TCP and UDP to and from the addresses of the copies, as their hosts count them, and how long there was none.',
    who: readers,
    params,
    answers: { status: 200, what: 'A list; without "frames" where the host does not count, or is away.' },
    run: async (context, call) => {
      const key = keyIn(context, call);
      const items = await Promise.all(
        [...context.fleet.copies.of(key)].flatMap((copy) =>
          copy.record.addresses.map(async ({ network, ip }) => {
            const unit = context.fleet.units.get(copy.host);
            const [traffic] = unit?.up === true ? await unit.link.addressTraffic(network, [ip]).catch(() => []) : [];
            return { address: ip, ...(traffic === undefined ? {} : { frames: traffic.frames, idleMs: traffic.idleMs }) };
          }),
        ),
      );
      return { items };
    },
  },
];
