/**
 * A VM that comes from elsewhere, from a file or another host: its record as it leaves, and the VM made of it here. What it brings along
 * stays where it can: its uuid, name, MAC, and its addresses where the network here is the same; elsewhere it gets others.
 */
import { ShoalError } from '../model/errors.ts';
import { isDigest, isUuid, type Uuid } from '../model/ids.ts';
import { isVmUuid, newVmUuid } from '../model/uuid.ts';
import type { Fleet } from './fleet.ts';
import { formatIpv4, type Network } from './networks.ts';
import type { SavedRecord, SavedVif } from './saved.ts';
import { checkArgs, checkMemory, checkName, checkOtherConfig, checkText, cmdlineOf, limits, sealOf, type Vm } from './vm.ts';

export interface ArrivalChoices {
  /** Instead of the name it has. */
  name?: string | undefined;
  /** Network here in place of one there. */
  networks?: Readonly<Record<string, string>> | undefined;
  /** Address for its vif 0. */
  ipv4?: string | undefined;
  /** It left its host for good: an address that goes along may be of that host's range. */
  moved?: boolean | undefined;
  /** It is to be a copy: with a uuid and addresses of its own, whatever is free. */
  copy?: boolean | undefined;
}

const subnetText = ({ subnet }: Network): string =>
  subnet === undefined ? '' : `${formatIpv4((subnet.gateway & -(2 ** (32 - subnet.prefix))) >>> 0)}/${subnet.prefix} ${formatIpv4(subnet.gateway)}`;

/** Throws VALUE_NOT_SUPPORTED for a VM whose disks could not go along. */
export function recordOf(vm: Vm, fleet: Fleet, cpuFeatures: Uint8Array, hypervisor: string): SavedRecord {
  if (vm.vbds.length > 0) throw new ShoalError('VALUE_NOT_SUPPORTED', `VM "${vm.name}" has disks: it stays where they are.`, { params: ['VM', vm.uuid, 'has disks'] });
  const { uuid, name, description, image, memoryKib, args, otherConfig, startedMs } = vm;
  const vifs = vm.vifs.map((vif): SavedVif => ({ ...vif, subnet: subnetText(fleet.needNetwork(vif.network)) }));
  return { uuid, name, description, image, memoryKib, args, otherConfig, startedMs, vifs, cpuFeatures: Buffer.from(cpuFeatures).toString('hex'), hypervisor };
}

/** Throws MIGRATION_REFUSED when processors here lack what the guest may have seen where it ran. */
export function checkFeatures(record: SavedRecord, here: Uint8Array): void {
  const there = Buffer.from(record.cpuFeatures, 'hex');
  const lacking: number[] = [];
  for (const [i, bits] of there.entries()) {
    const missing = bits & ~(here[i] ?? 0);
    for (let bit = 0; bit < 8; bit++) if (missing & (1 << bit)) lacking.push(8 * i + bit);
  }
  if (lacking.length === 0) return;
  throw new ShoalError('MIGRATION_REFUSED', `The processors of this host lack ${lacking.length} features of those the VM ran on.`, {
    hint: 'Use a host whose processors have all that the VM may have seen.',
    data: { lacking: lacking.slice(0, 64) },
  });
}

/** The VM, in the fleet but not kept. Throws what a definition throws, NAME_IN_USE, ADDRESS_*, NETWORK_UNKNOWN, IMAGE_UNKNOWN. */
export function admit(record: SavedRecord, fleet: Fleet, hasImage: (image: string) => boolean, choices: ArrivalChoices): Vm {
  if (!isDigest(record.image) || !hasImage(record.image))
    throw new ShoalError('IMAGE_UNKNOWN', `This host has no image ${record.image.slice(0, 80)}.`, { data: { image: record.image.slice(0, 80) } });
  if (record.vifs.length > limits.vifs) throw new ShoalError('VALUE_NOT_SUPPORTED', `A VM has at most ${limits.vifs} vifs.`);
  const same = choices.copy !== true && isUuid(record.uuid) && isVmUuid(record.uuid) && fleet.get(record.uuid) === undefined;
  const vm: Vm = {
    uuid: same ? (record.uuid as Uuid) : newVmUuid(),
    name: checkName(choices.name ?? record.name),
    description: checkText('name_description', record.description, limits.descriptionBytes),
    image: record.image,
    memoryKib: checkMemory(record.memoryKib),
    args: checkArgs(record.args),
    vifs: [],
    vbds: [],
    otherConfig: { ...checkOtherConfig(record.otherConfig) },
    wanted: 'halted',
    power: 'Halted',
    domid: undefined,
    startedMs: record.startedMs,
  };
  fleet.add(vm);
  try {
    for (const vif of record.vifs) placeVif(vm, vif, fleet, same, choices);
    cmdlineOf(vm, (name) => fleet.network(name));
    sealOf(vm, true, 'x'.repeat(36));
    return vm;
  } catch (error) {
    void fleet.drop(vm);
    throw error;
  }
}

function placeVif(vm: Vm, vif: SavedVif, fleet: Fleet, same: boolean, choices: ArrivalChoices): void {
  const name = choices.networks !== undefined && Object.hasOwn(choices.networks, vif.network) ? choices.networks[vif.network]! : vif.network;
  const network = fleet.needNetwork(name);
  const { handle, backend, rateKbit, lockingMode } = vif;
  const given = handle === 0 ? choices.ipv4 : undefined;
  // In the same subnet an address goes along, or the VM stays where it is: whoever speaks with it would find another there.
  const goesAlong = same && network.subnet !== undefined && subnetText(network) === vif.subnet;
  const [kept, ...more] = goesAlong ? vif.ipv4 : [];
  const ipv4 = given ?? kept;
  const also = goesAlong && given === undefined ? vif.also : undefined;
  const mac = same && fleet.isMacFree(vif.mac) ? { mac: vif.mac } : {};
  const anywhere = goesAlong && choices.moved === true;
  const made = fleet.addVif(vm, handle, name, { ...mac, also, anywhere: anywhere && given === undefined, backend, rateKbit, lockingMode, ...(ipv4 === undefined ? {} : { ipv4 }) });
  if (given !== undefined) return;
  for (const address of more) fleet.transfer(name, address, undefined, { vm, vif: made }, anywhere);
  if (more.length > 0) made.ipv4 = [...vif.ipv4];
}
