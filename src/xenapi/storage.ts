/** Disks in XenAPI's words: records of SR, VDI and VBD, and what their calls do. */
import type { Disk, Vbd } from '../host/disks.ts';
import type { DiskSpec } from '../host/disk-keeper.ts';
import { nullRef, refOf, uuidOfRef, vbdUuid, vmOfVbd } from '../host/refs.ts';
import type { Vm } from '../host/vm.ts';
import { ShoalError } from '../model/errors.ts';
import type { Api } from './api.ts';
import { recordOf, type RecordOf } from './model/model.ts';

export function srRecord(api: Api, ref: string): RecordOf<'SR'> | undefined {
  if (ref !== api.refs.sr) return undefined;
  const disks = [...api.agent.fleet.disks.all()];
  return recordOf('SR', {
    uuid: uuidOfRef(ref)!,
    VDIs: disks.map(({ uuid }) => refOf(uuid)),
    virtual_allocation: disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    physical_size: api.agent.disks.space().totalBytes,
    physical_utilisation: disks.reduce((sum, disk) => sum + api.agent.disks.usedBytes(disk), 0),
  });
}

export function vdiRecord(api: Api, ref: string): RecordOf<'VDI'> | undefined {
  const disk = diskOf(api, ref);
  if (disk === undefined) return undefined;
  const users = api.agent.fleet.disks.users(disk.uuid);
  return recordOf('VDI', {
    uuid: disk.uuid,
    name_label: disk.name,
    name_description: disk.description,
    allowed_operations: users.length === 0 ? ['destroy'] : [],
    SR: api.refs.sr,
    VBDs: users.map(({ vm, index }) => refOf(vbdUuid(vm, index))),
    virtual_size: disk.sizeBytes,
    physical_utilisation: api.agent.disks.usedBytes(disk),
    location: api.agent.fleet.disks.pathOf(disk),
    sm_config: disk.device === '' ? {} : { device: disk.device },
  });
}

export function vbdRecord(api: Api, ref: string): RecordOf<'VBD'> | undefined {
  const found = vbdOf(api, ref);
  if (found === undefined) return undefined;
  const { vm, vbd } = found;
  return recordOf('VBD', {
    uuid: vbdUuid(vm.uuid, vbd.index),
    allowed_operations: vm.power === 'Halted' ? ['destroy'] : [],
    VM: refOf(vm.uuid),
    VDI: refOf(vbd.disk),
    device: `xvd${String.fromCharCode(97 + vbd.index)}`,
    userdevice: String(vbd.index),
    mode: vbd.readonly ? 'RO' : 'RW',
    currently_attached: vm.power !== 'Halted',
  });
}

export const vdiRefs = function* (api: Api): Iterable<string> {
  for (const { uuid } of api.agent.fleet.disks.all()) yield refOf(uuid);
};

export const vbdRefs = function* (api: Api): Iterable<string> {
  for (const vm of api.agent.fleet.all()) for (const { index } of vm.vbds) yield refOf(vbdUuid(vm.uuid, index));
};

const invalid = (className: string, ref: string): ShoalError =>
  new ShoalError('HANDLE_INVALID', `There is no ${className} ${ref.slice(0, 80)}.`, { params: [className, ref.slice(0, 80)] });

function diskOf(api: Api, ref: string): Disk | undefined {
  const uuid = uuidOfRef(ref);
  return uuid === undefined ? undefined : api.agent.fleet.disks.get(uuid);
}

function vbdOf(api: Api, ref: string): { vm: Vm; vbd: Vbd } | undefined {
  const at = vmOfVbd(uuidOfRef(ref) ?? '');
  const vm = at === undefined ? undefined : api.agent.fleet.get(at.vm);
  const vbd = vm?.vbds.find(({ index }) => index === at!.index);
  return vm === undefined || vbd === undefined ? undefined : { vm, vbd };
}

/** Throws HANDLE_INVALID. */
export function needDisk(api: Api, ref: string): Disk {
  const disk = diskOf(api, ref);
  if (disk === undefined) throw invalid('VDI', ref);
  return disk;
}

/** Throws HANDLE_INVALID. */
export function needVbd(api: Api, ref: string): { vm: Vm; vbd: Vbd } {
  const found = vbdOf(api, ref);
  if (found === undefined) throw invalid('VBD', ref);
  return found;
}

const notSupported = (field: string, value: string, why: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', `${field}: ${why}`, { params: [field, value.slice(0, 80), why] });

/** What VDI.create is asked for; `given` are fields that a creator may give. */
export function diskSpecOf(api: Api, given: Record<string, unknown>): DiskSpec {
  const sr = (given['SR'] as string | undefined) ?? nullRef;
  if (sr !== nullRef && sr !== '' && sr !== api.refs.sr) throw invalid('SR', sr);
  const { format = 'blank', device = '', ...others } = (given['sm_config'] as Record<string, string> | undefined) ?? {};
  const [other] = Object.keys(others);
  if (other !== undefined) throw notSupported('sm_config', other, 'has format and device only');
  if (format !== 'blank' && format !== 'store') throw notSupported('sm_config.format', format, 'blank or store');
  const sizeBytes = given['virtual_size'] as number | undefined;
  return {
    name: (given['name_label'] as string | undefined) ?? '',
    description: (given['name_description'] as string | undefined) ?? '',
    device,
    format,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  };
}

/** `mode` and `userdevice` of VBD.create. */
export function placeOf(given: Record<string, unknown>): { index: number | undefined; readonly: boolean } {
  const mode = (given['mode'] as string | undefined) ?? 'RW';
  if (mode !== 'RW' && mode !== 'RO') throw notSupported('mode', mode, 'RW or RO');
  const device = (given['userdevice'] as string | undefined) ?? '';
  return { index: device === '' || device === 'autodetect' ? undefined : Number(device), readonly: mode === 'RO' };
}
