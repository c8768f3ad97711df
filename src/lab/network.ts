/**
 * The lab's network: one namespace with a bridge for each host, and one for the router that joins them. Nothing outside of
 * these two namespaces is touched but one bound that Linux has for all of them together; taking them away takes everything else with it.
 *
 *   namespace shoal-NAME:    host0 [bridge] -- tap0 (the NIC of host 0), r0 (veth) ... one set for each host
 *   namespace shoal-NAME-r:  leg0 (veth, 10.64.0.1/16) ... one for each host; forwards between them
 *
 * With one subnet there is one bridge, host0, with every tap, and one leg: frames between hosts never see the router.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { sysctls } from '../setup/dom0.ts';
import { bridgesNamespace, hostPlan, routerNamespace } from './plan.ts';
import { must, run } from './processes.ts';

export const namespacePath = (namespace: string): string => `/run/netns/${namespace}`;

/** The words in front of a command that has to run inside of a namespace. Only the network changes: no mount is made for it. */
export const enter = (namespace: string): string[] => ['nsenter', `--net=${namespacePath(namespace)}`, '--'];

const batch = (namespace: string, lines: string[]) =>
  must([...enter(namespace), 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n`, timeoutMs: 30_000 });

/** Settings of a fresh namespace; /proc/sys/net shows the one the reader is in. */
const settle = (namespace: string, settings: string[]) =>
  must(
    [...enter(namespace), 'sh', '-c', settings.map((setting) => `echo ${setting.replace('=', ' > /proc/sys/net/')}`).join('; ')],
    { timeoutMs: 30_000 },
  );

/** The router knows a neighbour for each VM, and Linux bounds them over all namespaces: beyond it nobody is found any more. Only ever raised. */
function roomForNeighbours(): void {
  for (const [name, least] of Object.entries(sysctls).filter(([each]) => each.includes('.neigh.'))) {
    const path = `/proc/sys/${name.replaceAll('.', '/')}`;
    try {
      if (Number(readFileSync(path, 'utf8')) < least) writeFileSync(path, String(least));
    } catch {
      // Not ours to set: then a lab ends at some hundred VMs that are spoken to.
    }
  }
}

/** Makes both namespaces with `hosts` bridges, or with one that all share. They must not exist. */
export async function makeNetwork(lab: string, hosts: number, oneSubnet = false): Promise<void> {
  const bridges = bridgesNamespace(lab);
  const router = routerNamespace(lab);
  roomForNeighbours();
  await must(['ip', 'netns', 'add', bridges], { timeoutMs: 30_000 });
  await must(['ip', 'netns', 'add', router], { timeoutMs: 30_000 });
  const quiet = ['1=ipv6/conf/all/disable_ipv6', '1=ipv6/conf/default/disable_ipv6'];
  await settle(bridges, quiet);
  await settle(router, [
    ...quiet,
    '0=ipv4/conf/all/rp_filter',
    '0=ipv4/conf/default/rp_filter',
    '0=ipv4/conf/all/send_redirects',
    '1=ipv4/ip_forward',
  ]);
  const inside: string[] = ['link set lo up'];
  const legs: string[] = ['link set lo up'];
  for (let k = 0; k < hosts; k += 1) {
    const { gateway, prefixLength, bridge, leg } = hostPlan(k, oneSubnet);
    if (k === 0 || !oneSubnet) {
      inside.push(
        `link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
        `link add r${k} type veth peer name ${leg} netns ${router}`,
        `link set r${k} master ${bridge} up`,
        `link set ${bridge} up`,
      );
      legs.push(`addr add ${gateway}/${prefixLength} dev ${leg}`, `link set ${leg} txqueuelen 10000 up`);
    }
    inside.push(`tuntap add dev tap${k} mode tap vnet_hdr`, `link set tap${k} master ${bridge} up`);
  }
  await batch(bridges, inside);
  await batch(router, legs);
}

/** Takes both namespaces away, with everything in them. Fine when there are none. */
export async function removeNetwork(lab: string): Promise<void> {
  for (const namespace of [routerNamespace(lab), bridgesNamespace(lab)]) {
    if (existsSync(namespacePath(namespace))) await run(['ip', 'netns', 'del', namespace], { timeoutMs: 30_000 });
  }
}

/** Process ids inside one of the lab's namespaces. */
export async function processesInside(lab: string): Promise<number[]> {
  const found: number[] = [];
  for (const namespace of [routerNamespace(lab), bridgesNamespace(lab)]) {
    if (!existsSync(namespacePath(namespace))) continue;
    const listed = await run(['ip', 'netns', 'pids', namespace], { timeoutMs: 30_000 });
    found.push(
      ...listed.stdout
        .split('\n')
        .filter((line) => line !== '')
        .map(Number),
    );
  }
  return found;
}
