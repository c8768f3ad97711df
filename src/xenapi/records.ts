/**
 * XenAPI's records, made from what the host knows when they are asked for. Each class has two functions: the record of a
 * reference, and the references there are.
 */
import { partUuid, refOf, uuidOfRef, vbdUuid, vifUuid, vmOfPart, vmOfVif, nullRef, type Part } from '../host/refs.ts';
import { formatIpv4 } from '../host/networks.ts';
import { domainOverheadKib } from '../host/launch.ts';
import type { Vif, Vm } from '../host/vm.ts';
import { ShoalError } from '../model/errors.ts';
import type { Api } from './api.ts';
import { recordOf, type ListedClass, type RecordOf } from './model/model.ts';
import { srRecord, vbdRecord, vbdRefs, vdiRecord, vdiRefs } from './storage.ts';
import { hasEnded } from './tasks.ts';
import { WireDouble, WireTime } from './wire.ts';

interface Source<C extends ListedClass> {
  record: (api: Api, ref: string) => RecordOf<C> | undefined;
  refs: (api: Api) => Iterable<string>;
}

const sources: { [C in ListedClass]: Source<C> } = {
  pool: {
    record: (api, ref) =>
      ref !== api.refs.pool
        ? undefined
        : recordOf('pool', {
            uuid: uuidOfRef(ref)!,
            name_label: api.agent.hostname,
            master: api.refs.host,
            default_SR: api.refs.sr,
            other_config: api.poolOtherConfig,
          }),
    refs: (api) => [api.refs.pool],
  },
  host: {
    record: (api, ref) =>
      ref !== api.refs.host
        ? undefined
        : recordOf('host', {
            uuid: api.agent.uuid,
            name_label: api.agent.hostname,
            hostname: api.agent.hostname,
            address: api.address,
            software_version: {
              product_brand: 'Shoal',
              product_version: api.version,
              product_version_text: api.version,
              build: api.build,
              xen: api.agent.lastFacts.version,
            },
            cpu_info: { cpu_count: String(api.agent.lastFacts.cpuCount) },
            metrics: api.refs.hostMetrics,
          }),
    refs: (api) => [api.refs.host],
  },
  host_metrics: {
    record: (api, ref) =>
      ref !== api.refs.hostMetrics
        ? undefined
        : recordOf('host_metrics', {
            uuid: uuidOfRef(ref)!,
            memory_total: api.agent.lastFacts.totalKib * 1024,
            memory_free: api.agent.lastFacts.freeKib * 1024,
            last_updated: new WireTime(Date.now()),
          }),
    refs: (api) => [api.refs.hostMetrics],
  },
  network: {
    record: (api, ref) => {
      const name = api.networkName(ref);
      const network = name === undefined ? undefined : api.agent.fleet.network(name);
      if (network === undefined) return undefined;
      const { subnet } = network;
      return recordOf('network', {
        uuid: uuidOfRef(ref)!,
        name_label: network.name,
        bridge: network.bridge,
        other_config:
          subnet === undefined
            ? {}
            : {
                cidr: `${formatIpv4((subnet.gateway & -(2 ** (32 - subnet.prefix))) >>> 0)}/${subnet.prefix}`,
                gateway: formatIpv4(subnet.gateway),
                first: formatIpv4(subnet.first),
                last: formatIpv4(subnet.last),
              },
      });
    },
    refs: (api) => api.networkRefs(),
  },
  VM: {
    record: (api, ref) => mapVm(vmOf(api, ref), (vm) => vmRecord(api, vm)),
    refs: (api) => refsOfVms(api, (vm) => refOf(vm.uuid)),
  },
  VM_metrics: {
    record: (api, ref) =>
      mapVm(vmOfPartRef(api, ref, 'VM_metrics'), (vm) => {
        const runs = isUp(vm);
        return recordOf('VM_metrics', {
          uuid: partUuid(vm.uuid, 'VM_metrics'),
          memory_actual: runs ? vm.memoryKib * 1024 : 0,
          VCPUs_number: runs ? 1 : 0,
          state: runs ? [vm.power.toLowerCase()] : [],
          start_time: new WireTime(vm.startedMs),
          install_time: new WireTime(vm.startedMs),
          last_updated: new WireTime(vm.startedMs),
          current_domain_type: runs ? 'pv' : 'unspecified',
        });
      }),
    refs: (api) => refsOfVms(api, (vm) => refOf(partUuid(vm.uuid, 'VM_metrics'))),
  },
  VM_guest_metrics: {
    record: (api, ref) =>
      mapVm(vmOfPartRef(api, ref, 'VM_guest_metrics'), (vm) =>
        recordOf('VM_guest_metrics', {
          uuid: partUuid(vm.uuid, 'VM_guest_metrics'),
          networks:
            !isUp(vm)
              ? {}
              : Object.fromEntries(
                  vm.vifs.flatMap(({ handle, ipv4 }) =>
                    ipv4[0] === undefined
                      ? []
                      : [
                          [`${handle}/ip`, ipv4[0]],
                          [`${handle}/ipv4/0`, ipv4[0]],
                        ],
                  ),
                ),
          last_updated: new WireTime(vm.startedMs),
          live: isUp(vm),
        }),
      ),
    refs: (api) => refsOfVms(api, (vm) => refOf(partUuid(vm.uuid, 'VM_guest_metrics'))),
  },
  VIF: {
    record: (api, ref) => {
      const found = vifOf(api, ref);
      return found === undefined ? undefined : vifRecord(api, found.vm, found.vif);
    },
    refs: function* (api) {
      for (const vm of api.agent.fleet.all()) for (const { handle } of vm.vifs) yield refOf(vifUuid(vm.uuid, handle));
    },
  },
  SR: { record: srRecord, refs: (api) => [api.refs.sr] },
  VDI: { record: vdiRecord, refs: vdiRefs },
  VBD: { record: vbdRecord, refs: vbdRefs },
  console: {
    record: (api, ref) =>
      mapVm(vmOfPartRef(api, ref, 'console'), (vm) =>
        recordOf('console', {
          uuid: partUuid(vm.uuid, 'console'),
          location: `https://${api.address}/console?uuid=${partUuid(vm.uuid, 'console')}`,
          VM: refOf(vm.uuid),
        }),
      ),
    refs: (api) => refsOfVms(api, (vm) => refOf(partUuid(vm.uuid, 'console'))),
  },
  task: {
    record: (api, ref) => {
      const task = api.tasks.get(ref);
      return task === undefined
        ? undefined
        : recordOf('task', {
            uuid: task.uuid,
            name_label: task.label,
            name_description: task.description,
            allowed_operations: hasEnded(task) ? ['destroy'] : ['cancel'],
            created: new WireTime(task.createdMs),
            finished: new WireTime(task.finishedMs),
            status: task.status,
            resident_on: api.refs.host,
            progress: new WireDouble(task.progress),
            result: task.result,
            error_info: task.errorInfo,
            other_config: task.otherConfig,
          });
    },
    refs: function* (api) {
      for (const task of api.tasks.all()) yield task.ref;
    },
  },
};

/** The record behind a reference; undefined when there is no such object of this class. */
export function recordFor(api: Api, className: ListedClass, ref: string): Record<string, unknown> | undefined {
  return sources[className].record(api, ref);
}

export const refsFor = (api: Api, className: ListedClass): Iterable<string> => sources[className].refs(api);

/** Throws HANDLE_INVALID. */
export function needRecord(api: Api, className: ListedClass, ref: string): Record<string, unknown> {
  const record = recordFor(api, className, ref);
  if (record === undefined) throw handleInvalid(className, ref);
  return record;
}

export const handleInvalid = (className: string, ref: string): ShoalError =>
  new ShoalError('HANDLE_INVALID', `There is no ${className} ${ref.slice(0, 80)}.`, { params: [className, ref.slice(0, 80)] });

/** Throws HANDLE_INVALID. */
export function needVm(api: Api, ref: string): Vm {
  const vm = vmOf(api, ref);
  if (vm === undefined) throw handleInvalid('VM', ref);
  return vm;
}

/** Throws HANDLE_INVALID. */
export function needVif(api: Api, ref: string): { vm: Vm; vif: Vif } {
  const found = vifOf(api, ref);
  if (found === undefined) throw handleInvalid('VIF', ref);
  return found;
}

function vmOf(api: Api, ref: string): Vm | undefined {
  const uuid = uuidOfRef(ref);
  return uuid === undefined ? undefined : api.agent.fleet.get(uuid);
}

export function vmOfPartRef(api: Api, ref: string, part: Part): Vm | undefined {
  const vm = vmOfPart(uuidOfRef(ref) ?? '', part);
  return vm === undefined ? undefined : api.agent.fleet.get(vm);
}

function vifOf(api: Api, ref: string): { vm: Vm; vif: Vif } | undefined {
  const at = vmOfVif(uuidOfRef(ref) ?? '');
  const vm = at === undefined ? undefined : api.agent.fleet.get(at.vm);
  const vif = vm?.vifs.find(({ handle }) => handle === at!.handle);
  return vm === undefined || vif === undefined ? undefined : { vm, vif };
}

const mapVm = <T>(vm: Vm | undefined, map: (vm: Vm) => T): T | undefined => (vm === undefined ? undefined : map(vm));

function* refsOfVms(api: Api, refOfVm: (vm: Vm) => string): Iterable<string> {
  for (const vm of api.agent.fleet.all()) yield refOfVm(vm);
}

/** Has a domain that lives. */
const isUp = (vm: Vm): boolean => vm.power === 'Running' || vm.power === 'Paused';

const allowed = {
  Halted: ['start', 'start_on', 'clone', 'destroy'],
  Suspended: ['resume', 'hard_shutdown'],
  Running: ['pause', 'suspend', 'checkpoint', 'migrate_send', 'clean_shutdown', 'hard_shutdown', 'clean_reboot', 'hard_reboot'],
  Paused: ['unpause', 'hard_shutdown', 'hard_reboot'],
};

/** As recordFor, but of VMs and VIFs only what says what and where they are: a record of a VM has some 70 fields. */
export function leanRecordFor(api: Api, className: ListedClass, ref: string): unknown {
  if (className === 'VM') return mapVm(vmOf(api, ref), (vm) => leanVm(api, vm));
  if (className !== 'VIF') return recordFor(api, className, ref);
  const found = vifOf(api, ref);
  return found === undefined ? undefined : leanVif(api, found.vm, found.vif);
}

const leanVm = (api: Api, vm: Vm) => {
  const operation = api.agent.runner.lanes.current(vm.uuid);
  return {
    uuid: vm.uuid,
    name_label: vm.name,
    power_state: vm.power,
    current_operations: operation === undefined ? {} : { [String(operation.id)]: operation.name },
    memory_static_max: vm.memoryKib * 1024,
    PV_kernel: vm.image,
    PV_args: vm.args,
    other_config: vm.otherConfig,
  };
};

const leanVif = (api: Api, vm: Vm, vif: Vif) => ({
  VM: refOf(vm.uuid),
  device: String(vif.handle),
  network: api.networkRef(vif.network),
  ipv4_allowed: vif.ipv4,
});

function vmRecord(api: Api, vm: Vm): RecordOf<'VM'> {
  const bytes = vm.memoryKib * 1024;
  const operation = api.agent.runner.lanes.current(vm.uuid);
  const runs = isUp(vm);
  return recordOf('VM', {
    uuid: vm.uuid,
    allowed_operations: operation === undefined ? allowed[vm.power] : runs ? ['hard_shutdown'] : [],
    current_operations: operation === undefined ? {} : { [String(operation.id)]: operation.name },
    name_label: vm.name,
    name_description: vm.description,
    power_state: vm.power,
    resident_on: runs ? api.refs.host : nullRef,
    memory_overhead: domainOverheadKib * 1024,
    memory_target: bytes,
    memory_static_max: bytes,
    memory_dynamic_max: bytes,
    memory_dynamic_min: bytes,
    memory_static_min: bytes,
    consoles: [refOf(partUuid(vm.uuid, 'console'))],
    VIFs: vm.vifs.map(({ handle }) => refOf(vifUuid(vm.uuid, handle))),
    VBDs: vm.vbds.map(({ index }) => refOf(vbdUuid(vm.uuid, index))),
    PV_kernel: vm.image,
    PV_args: vm.args,
    other_config: vm.otherConfig,
    domid: runs ? (vm.domid ?? -1) : -1,
    metrics: refOf(partUuid(vm.uuid, 'VM_metrics')),
    guest_metrics: refOf(partUuid(vm.uuid, 'VM_guest_metrics')),
  });
}

function vifRecord(api: Api, vm: Vm, vif: Vif): RecordOf<'VIF'> {
  const subnet = api.agent.fleet.network(vif.network)?.subnet;
  return recordOf('VIF', {
    uuid: vifUuid(vm.uuid, vif.handle),
    allowed_operations: vm.power === 'Halted' ? ['destroy'] : [],
    device: String(vif.handle),
    network: api.networkRef(vif.network),
    VM: refOf(vm.uuid),
    MAC: vif.mac,
    currently_attached: isUp(vm),
    MAC_autogenerated: vif.mac.startsWith('00:16:3e'),
    locking_mode: vif.lockingMode ?? 'network_default',
    ipv4_allowed: vif.ipv4,
    ipv4_configuration_mode: vif.ipv4.length > 0 ? 'Static' : 'None',
    ipv4_addresses: subnet === undefined ? vif.ipv4 : vif.ipv4.map((address) => `${address}/${subnet.prefix}`),
    ipv4_gateway: subnet === undefined || vif.ipv4.length === 0 ? '' : formatIpv4(subnet.gateway),
  });
}
