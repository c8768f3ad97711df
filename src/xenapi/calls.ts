/** The calls of the data model that are not the same for every class, and the setters of the fields that can be set. */
import { checkLockingMode, checkOtherConfig } from '../host/vm.ts';
import { refOf, nullRef, vbdUuid, vifUuid } from '../host/refs.ts';
import type { VmDefinition } from '../host/definitions.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { eventFrom, eventInject } from './event-calls.ts';
import type { ClassModel } from './model/grammar.ts';
import { methodNames } from './model/methods.ts';
import { classes, recordOf } from './model/model.ts';
import { callPlugin } from './plugin.ts';
import { ticketOf } from './plugin-migration.ts';
import { handleInvalid, needVif, needVm } from './records.ts';
import { diskSpecOf, needDisk, needVbd, placeOf } from './storage.ts';
import type { Task } from './tasks.ts';
import { checked } from './values.ts';
import { WireTime } from './wire.ts';

/** `args` are complete and of the types the model names. */
type Handler = (api: Api, caller: Caller, args: unknown[]) => unknown;

const shutdownTimeoutMs = 60_000;
const shutdownPatienceMs = 10_000;

/** A call on a VM whose only other parameters are simple. */
const onVm =
  (work: (api: Api, vm: ReturnType<typeof needVm>, caller: Caller, args: unknown[]) => unknown): Handler =>
  async (api, caller, [ref, ...args]) => {
    await work(api, needVm(api, ref as string), caller, args);
  };

export const calls: Record<string, Handler> = {
  'session.login_with_password': async (api, caller, [name, password, , originator]) =>
    (await api.sessions.login(name as string, password as string, originator as string, caller.address)).ref,
  'session.logout': (api, caller) => api.sessions.logout(caller.session!),
  'session.get_record': (api, caller, [ref]) => {
    const session = caller.session!;
    if (ref !== session.ref) throw handleInvalid('session', 'of another');
    return recordOf('session', {
      uuid: session.uuid,
      this_host: api.refs.host,
      last_active: new WireTime(session.lastActiveMs),
      pool: api.refs.pool,
      auth_user_name: session.userName,
      originator: session.originator,
    });
  },
  'system.listMethods': () => methodNames(),
  'event.from': eventFrom,
  'event.inject': eventInject,

  'task.create': (api, _, [label, description]) =>
    api.tasks.create((label as string).slice(0, 256), (description as string).slice(0, 1024)).ref,
  'task.cancel': (api, _, [ref]) => api.tasks.cancel(needTask(api, ref as string)),
  'task.destroy': (api, _, [ref]) => api.tasks.destroy(needTask(api, ref as string)),

  'host.call_plugin': (api, caller, [ref, plugin, fn, args]) => {
    needHost(api, ref as string);
    return callPlugin(api, caller, plugin as string, fn as string, args as Record<string, string>);
  },
  'host.get_servertime': (api, _, [ref]) => {
    needHost(api, ref as string);
    return new WireTime(Date.now());
  },
  'host.compute_free_memory': async (api, _, [ref]) => {
    needHost(api, ref as string);
    return (await api.agent.facts()).freeKib * 1024;
  },

  'VM.create': async (api, _, [args]) =>
    refOf((await api.agent.definitions.create(definitionOf(args as Record<string, unknown>))).uuid),
  'VM.clone': async (api, _, [ref, name]) =>
    refOf((await api.agent.definitions.clone(needVm(api, ref as string), name as string)).uuid),
  'VM.start': onVm((api, vm, caller, [paused]) => api.agent.runner.start(vm, paused as boolean, caller.signal)),
  'VM.start_on': onVm((api, vm, caller, [host, paused]) => {
    needHost(api, host as string);
    return api.agent.runner.start(vm, paused as boolean, caller.signal);
  }),
  'VM.pause': onVm((api, vm, caller) => api.agent.runner.pause(vm, caller.signal)),
  'VM.unpause': onVm((api, vm, caller) => api.agent.runner.unpause(vm, caller.signal)),
  'VM.clean_shutdown': onVm((api, vm, caller) => api.agent.runner.cleanShutdown(vm, shutdownTimeoutMs, caller.signal)),
  'VM.hard_shutdown': onVm((api, vm, caller) => api.agent.runner.hardShutdown(vm, caller.signal)),
  'VM.shutdown': onVm(async (api, vm, caller) => {
    try {
      await api.agent.runner.cleanShutdown(vm, shutdownPatienceMs, caller.signal);
    } catch (error) {
      if (asShoalError(error).code !== 'TIMEOUT') throw error;
      await api.agent.runner.hardShutdown(vm, caller.signal);
    }
  }),
  'VM.clean_reboot': onVm((api, vm, caller) => api.agent.runner.cleanReboot(vm, shutdownTimeoutMs, caller.signal)),
  'VM.hard_reboot': onVm((api, vm, caller) => api.agent.runner.hardReboot(vm, caller.signal)),
  'VM.suspend': onVm((api, vm, caller) => api.agent.suspender.suspend(vm, caller.signal)),
  'VM.resume': onVm((api, vm, caller, [paused]) => api.agent.suspender.resume(vm, paused as boolean, caller.signal)),
  'VM.checkpoint': async (api, caller, [ref, name]) =>
    refOf((await api.agent.suspender.checkpoint(needVm(api, ref as string), name as string, caller.signal)).uuid),
  'VM.migrate_send': onVm((api, vm, caller, [dest, live, , networks, options]) => {
    const { ip } = options as Record<string, string>;
    const choices = { live: live as boolean, networks: networks as Record<string, string>, ...(ip === undefined ? {} : { ip }) };
    return api.agent.departures.send(vm, ticketOf(dest as Record<string, string>), choices, caller.signal, caller.progress);
  }),
  'VM.pool_migrate': onVm((api, vm, _, [host]) => {
    needHost(api, host as string);
    api.agent.runner.expect(vm, ['Running']);
  }),
  'host.migrate_receive': (api, _, [ref, , options]) => {
    needHost(api, ref as string);
    return api.agent.arrivals.ticket(`https://${api.address}`, options as Record<string, string>);
  },
  'VM.destroy': onVm((api, vm, caller) => api.agent.runner.destroy(vm, false, caller.signal)),

  'VIF.create': async (api, _, [args]) => {
    const given = creation('VIF', args as Record<string, unknown>);
    const vm = needVm(api, (given['VM'] as string | undefined) ?? nullRef);
    const network = api.networkName((given['network'] as string | undefined) ?? nullRef);
    if (network === undefined) throw handleInvalid('network', String(given['network'] ?? nullRef));
    const device = (given['device'] as string | undefined) ?? '';
    const mac = given['MAC'] as string | undefined;
    const ipv4 = oneAddress((given['ipv4_allowed'] as string[] | undefined) ?? []);
    const vif = await api.agent.definitions.addVif(vm, device === '' ? undefined : Number(device), network, {
      ...(mac === undefined || mac === '' ? {} : { mac }),
      ...(ipv4 === undefined ? {} : { ipv4 }),
      lockingMode: checkLockingMode((given['locking_mode'] as string | undefined) ?? 'network_default'),
    });
    return refOf(vifUuid(vm.uuid, vif.handle));
  },
  'VIF.destroy': async (api, _, [ref]) => {
    const { vm, vif } = needVif(api, ref as string);
    await api.agent.definitions.removeVif(vm, vif);
  },

  'VDI.create': async (api, _, [args]) =>
    refOf((await api.agent.disks.create(diskSpecOf(api, creation('VDI', args as Record<string, unknown>)))).uuid),
  'VDI.destroy': (api, _, [ref]) => api.agent.disks.destroy(needDisk(api, ref as string)),
  'VBD.create': async (api, _, [args]) => {
    const given = creation('VBD', args as Record<string, unknown>);
    const vm = needVm(api, (given['VM'] as string | undefined) ?? nullRef);
    const { uuid } = needDisk(api, (given['VDI'] as string | undefined) ?? nullRef);
    const { index, readonly } = placeOf(given);
    return refOf(vbdUuid(vm.uuid, (await api.agent.definitions.addVbd(vm, index, uuid, readonly)).index));
  },
  'VBD.destroy': async (api, _, [ref]) => {
    const { vm, vbd } = needVbd(api, ref as string);
    await api.agent.definitions.removeVbd(vm, vbd);
  },
};

/** `value` is of the field's type, the reference is that of an object. */
export const setters: Record<string, (api: Api, ref: string, value: unknown, caller: Caller) => unknown> = {
  'VM.name_label': (api, ref, value) => api.agent.definitions.setName(needVm(api, ref), value as string),
  'VM.name_description': (api, ref, value) => api.agent.definitions.setDescription(needVm(api, ref), value as string),
  'VM.memory_static_max': (api, ref, value) => api.agent.definitions.setMemory(needVm(api, ref), (value as number) / 1024),
  'VM.PV_kernel': (api, ref, value) => api.agent.definitions.setImage(needVm(api, ref), value as string),
  'VM.PV_args': (api, ref, value) => api.agent.definitions.setArgs(needVm(api, ref), value as string),
  'VM.other_config': (api, ref, value) => api.agent.definitions.setOtherConfig(needVm(api, ref), value as Record<string, string>),
  'VIF.ipv4_allowed': (api, ref, value) => {
    const { vm, vif } = needVif(api, ref);
    const address = oneAddress(value as string[]);
    if (address === undefined) throw notSupported('ipv4_allowed', '', 'one address is needed');
    return api.agent.definitions.setVifAddress(vm, vif, address);
  },
  'VIF.locking_mode': (api, ref, value) => {
    const { vm, vif } = needVif(api, ref);
    return api.agent.definitions.setLockingMode(vm, vif, checkLockingMode(value as string));
  },
  'pool.other_config': (api, ref, value) => {
    api.poolOtherConfig = { ...checkOtherConfig(value as Record<string, string>) };
    api.note('pool', ref, 'mod');
  },
  'task.other_config': (api, ref, value) => {
    const task = needTask(api, ref);
    task.otherConfig = { ...checkOtherConfig(value as Record<string, string>) };
    api.tasks.changed(task);
  },
  'task.status': (api, ref, value) => api.tasks.steer(needTask(api, ref), { status: value as string }),
  'task.progress': (api, ref, value) => api.tasks.steer(needTask(api, ref), { progress: value as number }),
};

function needTask(api: Api, ref: string): Task {
  const task = api.tasks.get(ref);
  if (task === undefined) throw handleInvalid('task', ref);
  return task;
}

function needHost(api: Api, ref: string): void {
  if (ref !== api.refs.host) throw handleInvalid('host', ref);
}

const notSupported = (field: string, value: string, why: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', `${field}: ${why}`, { params: [field, value, why] });

function oneAddress(addresses: string[]): string | undefined {
  if (addresses.length > 1) throw notSupported('ipv4_allowed', addresses.join(','), 'a VIF has one address');
  return addresses[0];
}

/** What a record for X.create says of the fields that a creator may give; what the server itself writes is passed over. */
function creation(className: 'VM' | 'VIF' | 'VDI' | 'VBD', record: Record<string, unknown>): Record<string, unknown> {
  const fields = (classes[className] as ClassModel).fields;
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(record)) {
    if (!Object.hasOwn(fields, name)) throw notSupported(name, '', `a ${className} has no such field`);
    const field = fields[name]!;
    if (field.access === 'ro') continue;
    const plain = checked(field.type, value, name);
    if (field.access !== 'fixed') given[name] = plain;
    else if (!isNothing(plain) && JSON.stringify(plain) !== JSON.stringify(field.value)) {
      throw notSupported(name, String(value).slice(0, 80), `is always ${JSON.stringify(field.value)} here`);
    }
  }
  return given;
}

/** Clients that build whole records leave what they do not mean empty. */
const isNothing = (value: unknown): boolean =>
  value === '' ||
  value === nullRef ||
  value === 0 ||
  value === false ||
  (typeof value === 'object' && value !== null && Object.keys(value).length === 0);

function definitionOf(record: Record<string, unknown>): VmDefinition {
  const given = creation('VM', record);
  const need = (name: string): unknown => {
    if (given[name] === undefined) throw notSupported(name, '', 'is needed to create a VM');
    return given[name];
  };
  return {
    name: need('name_label') as string,
    description: (given['name_description'] as string | undefined) ?? '',
    image: need('PV_kernel') as string,
    memoryKib: (need('memory_static_max') as number) / 1024,
    args: (given['PV_args'] as string | undefined) ?? '',
    otherConfig: (given['other_config'] as Record<string, string> | undefined) ?? {},
  };
}
