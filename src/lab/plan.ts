/**
 * The address plan of a lab: who has which subnet, address and name. Pure, so that host, router, agent configuration and tests
 * cannot disagree.
 *
 * Host k has the subnet 10.(64+k).0.0/16: the router is .0.1, dom0 .0.2, VMs .1.0 to .250.255. Hosts in one subnet have the very same addresses, in 10.64.0.0/10 with
 * the router at 10.64.0.1: so no two of them, and no two of their VMs, can have the same one.
 */
import { ShoalError } from '../model/errors.ts';

/** 10.64 to 10.127 are the subnets of hosts. */
export const maxHosts = 64;

export interface HostPlan {
  index: number;
  /** "host0" */
  name: string;
  /** dom0's address on the guests' bridge. */
  address: string;
  prefixLength: number;
  cidr: string;
  /** The router's leg. */
  gateway: string;
  /** Range for VMs, both ends included. */
  first: string;
  last: string;
  /** Of dom0's bridge: differs per host, while the NIC below it is part of the snapshot that all hosts share. */
  mac: string;
  /** The bridge that its NIC is on, and the router's interface there. */
  bridge: string;
  leg: string;
}

/** `oneSubnet`: of a lab whose hosts share a subnet. */
export function hostPlan(index: number, oneSubnet = false): HostPlan {
  if (!Number.isInteger(index) || index < 0 || index >= maxHosts) {
    throw new ShoalError('USAGE', `there is no host ${index}: a lab has hosts 0 to ${maxHosts - 1}`);
  }
  const net = `10.${64 + index}`;
  const shared = oneSubnet ? 0 : index;
  return {
    index,
    name: `host${index}`,
    address: `${net}.0.2`,
    prefixLength: oneSubnet ? 10 : 16,
    cidr: oneSubnet ? '10.64.0.0/10' : `${net}.0.0/16`,
    gateway: `10.${64 + shared}.0.1`,
    first: `${net}.1.0`,
    last: `${net}.250.255`,
    mac: `52:54:00:00:01:${index.toString(16).padStart(2, '0')}`,
    bridge: `host${shared}`,
    leg: `leg${shared}`,
  };
}

/** "host3" or "3" as an index. */
export function parseHostName(text: string): number {
  const match = /^(?:host)?(\d{1,2})$/.exec(text);
  if (match === null)
    throw new ShoalError('USAGE', `"${text}" is not the name of a host`, { hint: 'Hosts are called host0, host1, …' });
  return hostPlan(Number(match[1])).index;
}

/** Two or more: one host alone is in a subnet of its own either way. Throws USAGE. */
export function checkOneSubnet(hosts: number): void {
  if (hosts < 2)
    throw new ShoalError('USAGE', 'one subnet takes two hosts or more', { hint: 'Add --hosts 2, or leave --one-subnet out.' });
}

/** Network namespaces of a lab: where the hosts' bridges are, and the router that joins them. */
export const bridgesNamespace = (lab: string): string => `shoal-${lab}`;
export const routerNamespace = (lab: string): string => `shoal-${lab}-r`;

/** Least memory of a lab host in MiB: dom0 and room for some guests. */
export const leastMemoryMib = 1024;
export const defaultMemoryMib = 8192;

/**
 * dom0's share of a host's memory in MiB: a quarter, at least what its root and node need, at most 4 GiB.
 * At 8 GiB that is 2 GiB, which holds the 0.25 to 0.3 MiB that dom0 grows by for each of 1,000 guests with room to spare.
 */
export function dom0MemoryMib(hostMemoryMib: number): number {
  return Math.min(4096, Math.max(640, Math.floor(hostMemoryMib / 4)));
}

/**
 * Of each host: two, or one where the machine has not as many cores. An emulated processor that holds one of Xen's locks and is not running lets all
 * others spin. Measured with two hosts on two cores: a third of all time went there, and 1,000 VMs took 58 s in place of 25.
 */
export const processorsOf = (hosts: number, cores: number): number => (2 * hosts <= cores ? 2 : 1);

export function checkMemory(memoryMib: number): number {
  if (!Number.isInteger(memoryMib) || memoryMib < leastMemoryMib || memoryMib > 1024 * 1024) {
    throw new ShoalError('USAGE', `a host cannot have ${memoryMib} MiB of memory`, {
      hint: `Give whole MiB, at least ${leastMemoryMib}.`,
    });
  }
  return memoryMib;
}
