/** Services, VMs and tasks. */
import { keyOf, type Foreign, type Tracked } from '../copies.ts';
import type { Fleet } from '../fleet.ts';
import { taskView } from '../tasks.ts';
import { serviceView, vmView } from '../views.ts';
import { changers, mustSee, owners, page, pageQuery, readers, type Call, type Context, type Route } from './route.ts';
import { ShoalError } from '../../model/errors.ts';
import { serviceKey, servicePattern, serviceSchema, tenantPattern } from '../../model/service.ts';

const tenant = { type: 'string', pattern: tenantPattern };
const name = { type: 'string', pattern: servicePattern };
const key = { tenant, name };
const service = { type: 'object', description: 'The spec, how many copies there are, and notes on what is not as it should be.' };
const task = { type: 'object', description: 'id, kind, subject, status, progress (0 to 1), detail.' };
const vm = { type: 'object', description: 'id, uuid, host, state, ready, addresses, service and slot.' };
const anyBody = { description: 'Checked as a ServiceSpec, with all reasons at once.' };

function keyIn({ actor, params }: Call): string {
  const id = serviceKey(params['tenant']!, params['name']!);
  mustSee(actor, params['tenant'], `service ${id}`);
  return id;
}

/** By its name, or by its uuid. */
function vmIn({ fleet }: Context, { actor, params }: Call): Tracked | Foreign {
  const id = params['id']!;
  const serial = Number.parseInt(/\.([0-9a-z]{1,11})$/.exec(id)?.[1] ?? '', 36);
  const named = fleet.copies.get(serial);
  const found = named?.name === id ? named : (fleet.copies.withUuid(id) ?? fleet.copies.foreignWithUuid(id));
  if (found === undefined) throw new ShoalError('NOT_FOUND', `There is no VM ${id}.`);
  mustSee(actor, 'id' in found ? found.id.tenant : '', `VM ${id}`);
  return found;
}

/** What the loop will make of a change by hand. */
function reconciled(fleet: Fleet, found: Tracked | Foreign, what: 'stopped' | 'destroyed'): string {
  if (!('id' in found)) return "This VM is no service's: it stays as you leave it.";
  const wanted = fleet.wanted(keyOf(found.id));
  if (wanted === undefined || found.id.slot >= wanted.spec.count) return 'No service wants this VM any more.';
  const again = what === 'stopped' ? 'it is started again' : 'another one is made in its place';
  return `The service ${keyOf(found.id)} wants ${wanted.spec.count} copies: ${again}, after ${wanted.spec.restart.firstMs} ms at the earliest. To have fewer, scale the service.`;
}

async function onVm(context: Context, call: Call, what: 'start' | 'stop' | 'restart' | 'destroy'): Promise<unknown> {
  const found = vmIn(context, call);
  const unit = context.fleet.units.get(found.host);
  if (!('id' in found) && call.actor.role !== 'operator')
    throw new ShoalError('FORBIDDEN', "Only the operator may touch VMs that are no service's.");
  if (unit === undefined || found.uuid === undefined)
    throw new ShoalError('CONFLICT', 'The VM is not there yet.', { hint: 'Wait until it runs.' });
  if (!unit.up) throw new ShoalError('HOST_AWAY', `${found.host} is away.`);
  if (what === 'destroy') {
    const [failed] = await unit.link.destroy([found.uuid]);
    if (failed !== undefined) throw failed.error;
  } else await unit.link[what](found.uuid);
  const note =
    what === 'stop'
      ? reconciled(context.fleet, found, 'stopped')
      : what === 'destroy'
        ? reconciled(context.fleet, found, 'destroyed')
        : undefined;
  return { id: call.params['id'], done: what, ...(note === undefined ? {} : { note }) };
}

const vmRoute = (
  method: Route['method'],
  path: string,
  what: 'start' | 'stop' | 'restart' | 'destroy',
  summary: string,
): Route => ({
  method,
  path,
  summary,
  who: owners,
  params: { id: { type: 'string', maxLength: 64 } },
  answers: { status: 200, what: 'What was done, and what the service will make of it.' },
  run: (context, call) => onVm(context, call, what),
});

export const serviceRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: '/v1/apply',
    summary: 'Makes services so, all of them or none.',
    who: changers,
    query: { dryRun: { type: 'boolean', description: 'Only says whether it could be done.' } },
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['services'],
      properties: { services: { type: 'array', minItems: 1, maxItems: 1000, items: anyBody } },
    },
    answers: {
      status: 202,
      what: 'One task a service.',
      schema: { type: 'object', properties: { tasks: { type: 'array', items: task } } },
    },
    run: async ({ services }, { actor, body, query }) => ({
      tasks: (await services.apply((body as { services: unknown[] }).services, actor.tenant, query['dryRun'] === true)).map(
        taskView,
      ),
    }),
  },
  {
    method: 'GET',
    path: '/v1/services',
    summary: 'Lists services.',
    who: readers,
    query: { ...pageQuery, tenant },
    answers: {
      status: 200,
      what: 'A page.',
      schema: { type: 'object', properties: { items: { type: 'array', items: service }, next: { type: 'string' } } },
    },
    run: ({ fleet }, { actor, query }) => {
      const only = actor.tenant ?? query['tenant'];
      const { items, next } = page(
        [...fleet.state.all('service')]
          .filter(([, { spec }]) => only === undefined || spec.tenant === only)
          .map(([id]) => ({ id })),
        query,
      );
      return { items: items.map(({ id }) => serviceView(fleet, id)), ...(next === undefined ? {} : { next }) };
    },
  },
  {
    method: 'GET',
    path: '/v1/services/:tenant/:name',
    summary: 'One service.',
    who: readers,
    params: key,
    answers: { status: 200, what: 'The service.', schema: service },
    run: ({ fleet, services }, call) => {
      const id = keyIn(call);
      services.need(id);
      return serviceView(fleet, id);
    },
  },
  {
    method: 'PUT',
    path: '/v1/services/:tenant/:name',
    summary: 'Makes one service so.',
    who: changers,
    params: key,
    body: { description: 'A ServiceSpec; its tenant and name may be left out.', type: 'object' },
    answers: { status: 202, what: 'The task.', schema: task },
    run: async ({ services }, call) => {
      keyIn(call);
      const { tenant: owner, name: label } = call.params;
      const given = call.body as Record<string, unknown>;
      for (const [field, value] of [
        ['tenant', owner],
        ['name', label],
      ] as const)
        if (given[field] !== undefined && given[field] !== value)
          throw new ShoalError('SPEC_INVALID', `${field} differs from the path.`, {
            data: { reasons: [{ path: field, message: 'differs from the path.', hint: 'Leave it out.' }] },
          });
      return taskView((await services.apply([{ ...given, tenant: owner, name: label }], call.actor.tenant))[0]!);
    },
  },
  {
    method: 'DELETE',
    path: '/v1/services/:tenant/:name',
    summary: 'Ends a service with all its copies.',
    who: owners,
    params: key,
    answers: { status: 202, what: 'The task.', schema: task },
    run: async ({ services }, call) => taskView(await services.remove(keyIn(call))),
  },
  {
    method: 'POST',
    path: '/v1/services/:tenant/:name/scale',
    summary: 'Changes the number of copies.',
    who: changers,
    params: key,
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['count'],
      properties: { count: serviceSchema.properties.count },
    },
    answers: { status: 202, what: 'The task.', schema: task },
    run: async ({ services }, call) => taskView(await services.scale(keyIn(call), (call.body as { count: number }).count)),
  },
  {
    method: 'POST',
    path: '/v1/services/:tenant/:name/restart',
    summary: 'Replaces all copies, as many at once as an update may.',
    who: changers,
    params: key,
    answers: { status: 202, what: 'The task.', schema: task },
    run: async ({ services }, call) => taskView(await services.restart(keyIn(call))),
  },
  {
    method: 'GET',
    path: '/v1/vms',
    summary: 'Lists VMs.',
    who: readers,
    query: {
      ...pageQuery,
      tenant,
      service: name,
      host: { type: 'string', maxLength: 64 },
      state: { enum: ['asked', 'busy', 'running', 'paused', 'halted', 'failed'] },
      foreign: { type: 'boolean', description: "Also those that are no service's." },
    },
    answers: {
      status: 200,
      what: 'A page.',
      schema: { type: 'object', properties: { items: { type: 'array', items: vm }, next: { type: 'string' } } },
    },
    run: ({ fleet }, { actor, query }) => {
      const only = actor.tenant ?? query['tenant'];
      const { service: label, host, state } = query;
      const found: { id: string; vm: Tracked | Foreign }[] = [];
      const from = host === undefined ? fleet.copies.all() : fleet.copies.on(host as string);
      for (const copy of from)
        if (
          (only === undefined || copy.id.tenant === only) &&
          (label === undefined || copy.id.service === label) &&
          (state === undefined || copy.state === state)
        )
          found.push({ id: copy.name, vm: copy });
      if (query['foreign'] === true && actor.tenant === undefined)
        for (const each of fleet.copies.foreign())
          if ((host === undefined || each.host === host) && (state === undefined || each.state === state))
            found.push({ id: each.uuid, vm: each });
      const { items, next } = page(found, query);
      return { items: items.map((item) => vmView(fleet, item.vm)), ...(next === undefined ? {} : { next }) };
    },
  },
  {
    method: 'GET',
    path: '/v1/vms/:id',
    summary: 'One VM, by its name or its uuid.',
    who: readers,
    params: { id: { type: 'string', maxLength: 64 } },
    answers: { status: 200, what: 'The VM.', schema: vm },
    run: (context, call) => vmView(context.fleet, vmIn(context, call)),
  },
  {
    method: 'GET',
    path: '/v1/vms/:id/console',
    summary: 'Console output beyond a cursor.',
    who: readers,
    params: { id: { type: 'string', maxLength: 64 } },
    query: { cursor: { type: 'integer', minimum: 0 } },
    answers: { status: 200, what: 'The text and the next cursor.' },
    run: (context, call) => {
      const found = vmIn(context, call);
      const unit = context.fleet.units.get(found.host);
      if (unit?.up !== true) throw new ShoalError('HOST_AWAY', `${found.host} is away.`);
      if (found.uuid === undefined) throw new ShoalError('CONFLICT', 'The VM is not there yet.', { hint: 'Wait until it runs.' });
      return unit.link.console(found.uuid, (call.query['cursor'] as number | undefined) ?? 0);
    },
  },
  {
    method: 'GET',
    path: '/v1/vms/:id/metrics',
    summary: 'What went through the vifs of a VM since its domain began, as its host counts it now.',
    who: readers,
    params: { id: { type: 'string', maxLength: 64 } },
    answers: { status: 200, what: 'The time, and the vifs; "counters" is left out of one that nobody counts, or that is not in use.' },
    run: (context, call) => metricsOf(context, vmIn(context, call)),
  },
  vmRoute('POST', '/v1/vms/:id/start', 'start', 'Starts a halted VM, lets a paused one go on.'),
  vmRoute('POST', '/v1/vms/:id/stop', 'stop', 'Ends a VM; its service starts it again.'),
  vmRoute('POST', '/v1/vms/:id/restart', 'restart', 'Gives a VM a fresh domain.'),
  vmRoute('DELETE', '/v1/vms/:id', 'destroy', 'Destroys a VM; its service makes another one.'),
  {
    method: 'GET',
    path: '/v1/tasks',
    summary: "Lists tasks of this controller's life.",
    who: readers,
    query: pageQuery,
    answers: { status: 200, what: 'A page.' },
    run: ({ tasks }, { actor, query }) =>
      page([...tasks.all()].filter((each) => actor.tenant === undefined || each.tenant === actor.tenant).map(taskView), query),
  },
  {
    method: 'GET',
    path: '/v1/tasks/:id',
    summary: 'One task.',
    who: readers,
    params: { id: { type: 'string', pattern: '^[0-9a-f]{16}$' } },
    answers: { status: 200, what: 'The task.', schema: task },
    run: (context, call) => taskView(needTask(context, call)),
  },
  {
    method: 'POST',
    path: '/v1/tasks/:id/cancel',
    summary: 'Stops a task: what was before is wanted again.',
    who: changers,
    params: { id: { type: 'string', pattern: '^[0-9a-f]{16}$' } },
    answers: { status: 200, what: 'The task.', schema: task },
    run: async (context, call) => {
      const found = needTask(context, call);
      await context.tasks.cancel(found);
      return taskView(found);
    },
  },
];

async function metricsOf({ fleet }: Context, found: Tracked | Foreign): Promise<unknown> {
  const { link, up } = fleet.units.get(found.host) ?? { up: false };
  if (link === undefined || !up) throw new ShoalError('HOST_AWAY', `${found.host} is away.`);
  const { uuid } = found;
  const addresses = 'id' in found ? found.record.addresses : found.addresses;
  const vifs = await Promise.all(
    addresses.map(async ({ network, ip }, handle) => {
      const counters = uuid === undefined || found.state !== 'running' ? undefined : await link.counters(uuid, handle);
      return { network, address: ip, ...(counters === undefined ? {} : { counters }) };
    }),
  );
  return { at: new Date(fleet.now()).toISOString(), memoryKib: found.memoryKib, vifs };
}

function needTask({ tasks }: Context, { actor, params }: Call) {
  const found = tasks.get(params['id']!);
  if (found === undefined)
    throw new ShoalError('NOT_FOUND', `There is no task ${params['id']}.`, {
      hint: 'Tasks end with the controller; look at the service itself.',
    });
  mustSee(actor, found.tenant, `task ${found.id}`);
  return found;
}
