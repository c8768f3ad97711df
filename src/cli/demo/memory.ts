/**
 * What a fleet takes of its host: Xen's own count of free memory, and what dom0 grew by (its kernel and daemons; nothing in it is
 * charged to a guest). Differences between two readings; caches that Linux would give back count as free.
 */
import type { LabHost } from '../../lab/lab.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Client } from '../client.ts';
import type { HostFacts } from '../verbs/host-show.ts';

export interface MemoryReading {
  xenFreeKib: number;
  /** Linux's MemAvailable in dom0. */
  dom0AvailableKib: number;
  agentRssKib: number;
}

export async function readMemory(client: Client, host: LabHost): Promise<MemoryReading> {
  const facts = await client.plugin<HostFacts>('facts');
  const { stdout } = await host.exec('cat /proc/meminfo', { timeoutMs: 30_000 });
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(stdout)?.[1];
  if (available === undefined) throw new ShoalError('LAB_FAILED', 'dom0 does not say how much memory it has.');
  return { xenFreeKib: facts.freeKib, dom0AvailableKib: Number(available), agentRssKib: facts.agent.rssKib };
}

export interface MemoryPerVm {
  /** KiB of Xen's memory. */
  xenKib: number;
  /** KiB of dom0's memory. */
  dom0Kib: number;
}

export function memoryPerVm(before: MemoryReading, after: MemoryReading, vms: number): MemoryPerVm {
  return {
    xenKib: (before.xenFreeKib - after.xenFreeKib) / vms,
    dom0Kib: (before.dom0AvailableKib - after.dom0AvailableKib) / vms,
  };
}
