/**
 * Two networks of the switch on a lab's host, in and out of a middlebox: bridges of their own, with dom0 as `gateway` on the first, and the
 * agent's configuration with them beside what it has. The agent starts anew over its VMs, which stay.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, LabHost } from '../../src/lab/lab.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { inDom0 } from '../cache/debian.ts';

/** As the ready-made configurations have them: the box is .254 on both. */
export const chainNetworks = [
  { name: 'in', bridge: 'chain-in', backend: 'switch', cidr: '10.0.0.0/24', gateway: '10.0.0.253', first: '10.0.0.1', last: '10.0.0.254' },
  { name: 'out', bridge: 'chain-out', backend: 'switch', cidr: '10.0.1.0/24', gateway: '10.0.1.253', first: '10.0.1.1', last: '10.0.1.254' },
] as const;
const file = '/etc/shoal/agent.json';
const timeoutMs = 120_000;

async function configure(host: LabHost, change: (networks: { name: string }[]) => unknown[]): Promise<void> {
  const config = JSON.parse(await inDom0(host, `cat ${file}`, timeoutMs)) as { networks: { name: string }[] };
  const text = JSON.stringify({ ...config, networks: change(config.networks) }, null, 2);
  const before = await inDom0(host, `cat > ${file}.part && mv ${file}.part ${file} && pid=$(cat /run/shoal-agent.pid) && kill -9 $pid && echo $pid`, timeoutMs, `${text}\n`);
  for (let tries = 0; tries < 120; tries++) {
    const { stdout } = await host.exec(`pid=$(cat /run/shoal-agent.pid 2>/dev/null) && [ "$pid" != ${before} ] && ss -tlnH 'sport = :443' | grep -c .`, { timeoutMs });
    if (Number(stdout) > 0) return;
    await sleep(500);
  }
  throw new ShoalError('LAB_FAILED', 'The agent does not come back with other networks.', { hint: 'See /var/log/shoal-agent.log in dom0.' });
}

/** VMs of them are reached from inside of the lab. */
export async function addChainNetworks(lab: Lab, host: LabHost): Promise<void> {
  const made = chainNetworks.map(({ bridge, gateway }) => `ip link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 && ip addr add ${gateway}/24 dev ${bridge} && ip link set ${bridge} up`);
  await inDom0(host, `${made.join(' && ')} && echo 1 > /proc/sys/net/ipv4/ip_forward`, timeoutMs);
  await configure(host, (networks) => [...networks, ...chainNetworks]);
  for (const { cidr } of chainNetworks) await lab.inside(['ip', 'route', 'replace', cidr, 'via', host.address], { timeoutMs });
}

/** The VMs on them are gone. */
export async function removeChainNetworks(lab: Lab, host: LabHost): Promise<void> {
  const names = chainNetworks.map(({ name }) => name as string);
  await configure(host, (networks) => networks.filter(({ name }) => !names.includes(name)));
  for (const { cidr } of chainNetworks) await lab.inside(['ip', 'route', 'del', cidr], { timeoutMs });
  await host.exec(chainNetworks.map(({ bridge }) => `ip link del ${bridge}`).join('; '), { timeoutMs });
}

/** A ready-made configuration with the Ethernet addresses that its guest has. */
export const withMacs = (configuration: string, macs: readonly string[]): string =>
  macs.reduce((text, mac, i) => text.replace(new RegExp(`\\$mac${i} [0-9a-f:]{17}`), `$mac${i} ${mac}`), configuration);
