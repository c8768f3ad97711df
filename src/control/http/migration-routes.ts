/** Moving VMs between hosts: an order to both agents, which do it between themselves. */
import { ShoalError } from '../../model/errors.ts';
import { operators, type Route } from './route.ts';

export const migrationRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: '/v1/vms/:id/migrate',
    summary: "Moves a running VM that is no service's to another host. A service's copy is moved by draining its host.",
    who: operators,
    params: { id: { type: 'string', maxLength: 64 } },
    body: {
      type: 'object',
      additionalProperties: false,
      required: ['to'],
      properties: { to: { type: 'string', maxLength: 64, description: 'Name of the host.' }, live: { type: 'boolean' } },
    },
    answers: { status: 200, what: 'The addresses it has there, bytes that were shipped, and how long it took and stood still, in milliseconds.' },
    run: async ({ fleet }, { params, body }) => {
      const { to, live = false } = body as { to: string; live?: boolean };
      const id = params['id']!;
      const vm = fleet.copies.foreignWithUuid(id);
      if (vm === undefined && fleet.copies.withUuid(id) !== undefined)
        throw new ShoalError('CONFLICT', `VM ${id} is a service's copy, and its addresses are bound to its host.`, { hint: 'Drain the host: a new copy is made elsewhere first.' });
      if (vm === undefined) throw new ShoalError('NOT_FOUND', `There is no VM ${id}.`, { hint: 'Give its uuid.' });
      if (to === vm.host) throw new ShoalError('CONFLICT', `VM ${vm.name} is on ${to} already.`);
      const [source, target] = [fleet.units.get(vm.host), fleet.units.get(to)];
      if (target === undefined) throw new ShoalError('NOT_FOUND', `There is no host ${to}.`);
      for (const [name, unit] of [[vm.host, source], [to, target]] as const) if (unit?.up !== true) throw new ShoalError('HOST_AWAY', `${name} is away.`);
      return { id, name: vm.name, from: vm.host, to, ...(await source!.link.migrate(vm.uuid, target.link, live)) };
    },
  },
];
