/**
 * VMs as the verbs see them: one flat thing of a VM and its parts, and names made into VMs. Whatever may be about thousands goes
 * through the host's `list`, which sends the columns asked for and nothing else.
 */
import { ShoalError } from '../model/errors.ts';
import { isUuid } from '../model/ids.ts';
import { refOf, type ListColumn, type Listing } from '../xenapi/plugin-types.ts';
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
  /** XenAPI's VIF.locking_mode, one a device. */
  lockingModes: string[];
  image: string;
  args: string;
}

/** vm-2 before vm-10. */
const byName = new Intl.Collator('en', { numeric: true });

export function viewOf(ref: string, vm: Record<string, unknown>, addresses: string[], lockingModes: string[]): VmView {
  const domid = Number(vm['domid'] ?? -1);
  return {
    ref,
    uuid: String(vm['uuid']),
    name: String(vm['name_label']),
    state: String(vm['power_state']).toLowerCase(),
    domid: domid > 0 ? domid : undefined,
    memoryKib: Number(vm['memory_static_max'] ?? 0) / 1024,
    addresses,
    lockingModes,
    image: String(vm['PV_kernel'] ?? ''),
    args: String(vm['PV_args'] ?? ''),
  };
}

/** Some columns of the host's VMs, or of those of them that the names or uuids mean; a text a cell, whatever it was. */
async function cells(
  client: Client,
  columns: readonly ListColumn[],
  names?: readonly string[],
): Promise<{ token: string; rows: string[][] }> {
  const { token, rows, texts } = await client.plugin<Listing>('list', { columns, ...(names === undefined ? {} : { names }) });
  const inTexts = columns.map((column) => column === 'state' || column === 'image' || column === 'args');
  return { token, rows: rows.map((row) => row.map((cell, i) => (inTexts[i] === true ? texts[cell as number]! : String(cell)))) };
}

/** All of them, in the order of their names, which is always among the columns. */
export async function listVms<C extends ListColumn>(
  client: Client,
  columns: readonly C[],
): Promise<Pick<VmView, C | 'name'>[]> {
  const asked: ListColumn[] = ['name', ...columns.filter((column) => (column as string) !== 'name')];
  const { rows } = await cells(client, asked);
  const vms = rows.map((row) => Object.fromEntries(row.map((cell, i) => [asked[i]!, valueOf(asked[i]!, cell)])));
  return (vms as unknown as VmView[]).sort((a, b) => byName.compare(a.name, b.name));
}

function valueOf(column: ListColumn, cell: string): string | number | string[] | undefined {
  if (column === 'memoryKib') return Number(cell);
  if (column === 'domid') return cell === '0' ? undefined : Number(cell);
  if (column === 'addresses' || column === 'lockingModes') return cell === '' ? [] : cell.split(' ');
  return cell;
}

export interface VmName {
  ref: string;
  uuid: string;
  name: string;
}

async function vmNames(client: Client, names?: readonly string[]): Promise<VmName[]> {
  const { rows } = await cells(client, ['uuid', 'name'], names);
  return rows.map(([uuid = '', name = '']) => ({ ref: refOf(uuid), uuid, name }));
}

export const allVms = (client: Client): Promise<VmName[]> => vmNames(client);

/** The name of every VM by its reference, and the token from which on event.from tells of changes to them. */
export async function namesOfVms(client: Client): Promise<{ token: string; names: Map<string, string> }> {
  const { token, rows } = await cells(client, ['uuid', 'name']);
  return { token, names: new Map(rows.map(([uuid = '', name = '']) => [refOf(uuid), name])) };
}

/** The VMs that names or uuids mean, each once. Throws HANDLE_INVALID for the first that means none. */
export async function findVms(client: Client, names: readonly string[]): Promise<VmName[]> {
  const vms = await vmNames(client, names);
  const known = new Set(vms.flatMap(({ name, uuid }) => [name, uuid]));
  const unknown = names.find((name) => !known.has(name));
  if (unknown !== undefined) throw await unknownVm(client, unknown);
  return vms;
}

export async function findVm(client: Client, name: string): Promise<VmName> {
  return (await findVms(client, [name]))[0]!;
}

/** Looks at all names for the one that was meant: only who asks for a VM that is not there pays for it. */
async function unknownVm(client: Client, name: string): Promise<ShoalError> {
  const meant = isUuid(name) ? undefined : nearest(name, (await allVms(client)).map((vm) => vm.name));
  return new ShoalError('HANDLE_INVALID', `There is no VM "${name}".`, {
    hint: meant === undefined ? 'See `shoal vm list`.' : `Did you mean ${meant}? See \`shoal vm list\`.`,
  });
}
