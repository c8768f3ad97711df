/** Which addresses VMs of one host would keep on another, from what both hosts tell. */
import { planAddresses, type AddressForecast, type PlannedNetwork, type PlannedVif } from '../migrate/address-plan.ts';
import type { Client } from './client.ts';
import { listVms, type VmName } from './vms.ts';

type HostNetwork = PlannedNetwork & { ref: string };

async function networksOf(client: Client): Promise<HostNetwork[]> {
  return Object.entries(await client.records('network')).map(([ref, record]) => {
    const { cidr = '', gateway = '' } = record['other_config'] as Record<string, string>;
    return { ref, name: String(record['name_label']), cidr, gateway };
  });
}

async function vifsOf(client: Client, ref: string, networks: readonly HostNetwork[]): Promise<PlannedVif[]> {
  const refs = await client.call<string[]>('VM.get_VIFs', [ref]);
  const vifs = await Promise.all(refs.map((vif) => client.call<Record<string, unknown>>('VIF.get_record', [vif])));
  return vifs
    .sort((a, b) => Number(a['device']) - Number(b['device']))
    .map((vif) => ({ network: networks.find((each) => each.ref === vif['network'])?.name ?? '', addresses: vif['ipv4_allowed'] as string[] }));
}

/** A forecast for each VM asked about; both hosts are asked once for what all have in common. `given`: the address that it is to have there. */
export async function addressPlanner(client: Client, target: Client, given: string | undefined): Promise<(vm: VmName) => Promise<AddressForecast[]>> {
  const [here, there, listed] = await Promise.all([networksOf(client), networksOf(target), listVms(target, ['uuid', 'addresses'])]);
  return async ({ ref, uuid }) => {
    const taken = new Set(listed.flatMap((vm) => (vm.uuid === uuid ? [] : vm.addresses)));
    return planAddresses(await vifsOf(client, ref, here), here, there, given, taken);
  };
}
