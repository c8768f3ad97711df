/**
 * The address plan of a lab: who has which subnet, address and name. Pure, so that host, router, agent configuration and tests
 * cannot disagree.
 *
 * Host k has the subnet 10.(64+k).0.0/16: the router is .0.1, dom0 .0.2, VMs .1.0 to .250.255.
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
}

export function hostPlan(index: number): HostPlan {
  if (!Number.isInteger(index) || index < 0 || index >= maxHosts) {
    throw new ShoalError('USAGE', `there is no host ${index}: a lab has hosts 0 to ${maxHosts - 1}`);
  }
  const net = `10.${64 + index}`;
  return {
    index,
    name: `host${index}`,
    address: `${net}.0.2`,
    prefixLength: 16,
    cidr: `${net}.0.0/16`,
    gateway: `${net}.0.1`,
    first: `${net}.1.0`,
    last: `${net}.250.255`,
    mac: `52:54:00:00:01:${index.toString(16).padStart(2, '0')}`,
  };
}

/** "host3" or "3" as an index. */
export function parseHostName(text: string): number {
  const match = /^(?:host)?(\d{1,2})$/.exec(text);
  if (match === null)
    throw new ShoalError('USAGE', `"${text}" is not the name of a host`, { hint: 'Hosts are called host0, host1, …' });
  return hostPlan(Number(match[1])).index;
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
