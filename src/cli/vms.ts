/** VMs as the verbs see them: XenAPI's records of a VM and its parts made into one flat thing, and names made into VMs. */
import { ShoalError } from '../model/errors.ts';
import { isUuid } from '../model/ids.ts';
import type { Client } from './client.ts';
import { nearest } from './format.ts';

export interface VmView {
  ref: string;
  uuid: string;
  name: string;
  state: string;
  /** undefined while halted. */
  domid: number | undefined;
  memoryKib: number;
  addresses: string[];
  image: string;
  args: string;
}

type Records = Record<string, Record<string, unknown>>;

/** Pure: VM records with the VIF records of the same host. */
export function viewsOf(vms: Records, vifs: Records): VmView[] {
  const addresses = new Map<string, string[]>();
  for (const vif of Object.values(vifs)) {
    const vm = String(vif['VM']);
    addresses.set(vm, [...(addresses.get(vm) ?? []), ...((vif['ipv4_allowed'] as string[] | undefined) ?? [])]);
  }
  return Object.entries(vms)
    .map(([ref, vm]) => viewOf(ref, vm, addresses.get(ref) ?? []))
    .sort((a, b) => byName.compare(a.name, b.name));
}

/** vm-2 before vm-10. */
const byName = new Intl.Collator('en', { numeric: true });

export function viewOf(ref: string, vm: Record<string, unknown>, addresses: string[]): VmView {
  const domid = Number(vm['domid'] ?? -1);
  return {
    ref,
    uuid: String(vm['uuid']),
    name: String(vm['name_label']),
    state: String(vm['power_state']).toLowerCase(),
    domid: domid > 0 ? domid : undefined,
    memoryKib: Number(vm['memory_static_max'] ?? 0) / 1024,
    addresses,
    image: String(vm['PV_kernel'] ?? ''),
    args: String(vm['PV_args'] ?? ''),
  };
}

export async function listVms(client: Client): Promise<VmView[]> {
  const vms = await client.records('VM');
  return viewsOf(vms, Object.keys(vms).length === 0 ? {} : await client.records('VIF'));
}

export interface VmName {
  ref: string;
  uuid: string;
  name: string;
}

/** One look-up a name costs a round trip; from so many names on, one list of all is the cheaper way. */
const lookupMax = 8;

/** The VMs that names or uuids mean. Throws HANDLE_INVALID for the first that means none. */
export async function findVms(client: Client, names: readonly string[]): Promise<VmName[]> {
  if (names.length <= lookupMax) {
    const found: VmName[] = [];
    for (const name of names) found.push(await findVm(client, name));
    return found;
  }
  const vms = await allVms(client);
  return names.map((name) => {
    const vm = vms.find((one) => one.name === name || one.uuid === name);
    if (vm === undefined)
      throw unknownVm(
        name,
        vms.map((one) => one.name),
      );
    return vm;
  });
}

export async function findVm(client: Client, name: string): Promise<VmName> {
  const refs = await client.call<string[]>('VM.get_by_name_label', [name]);
  if (refs[0] !== undefined) return { ref: refs[0], uuid: await client.call<string>('VM.get_uuid', [refs[0]]), name };
  if (isUuid(name)) {
    const ref = await client.call<string>('VM.get_by_uuid', [name]);
    return { ref, uuid: name, name: await client.call<string>('VM.get_name_label', [ref]) };
  }
  throw unknownVm(
    name,
    (await allVms(client)).map((vm) => vm.name),
  );
}

export async function allVms(client: Client): Promise<VmName[]> {
  return Object.entries(await client.records('VM')).map(([ref, vm]) => ({
    ref,
    uuid: String(vm['uuid']),
    name: String(vm['name_label']),
  }));
}

function unknownVm(name: string, names: readonly string[]): ShoalError {
  const meant = nearest(name, names);
  return new ShoalError('HANDLE_INVALID', `There is no VM "${name}".`, {
    hint: meant === undefined ? 'See `shoal vm list`.' : `Did you mean ${meant}? See \`shoal vm list\`.`,
  });
}
