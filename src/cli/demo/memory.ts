/**
 * What a fleet takes of its host: Xen's own count of free memory, and what dom0 grew by (its kernel and daemons; nothing in it is
 * charged to a guest). Differences between two readings; caches that Linux would give back count as free.
 */
import { readFileSync } from 'node:fs';
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

/** Several hosts as one: sums, and the largest of the agents. */
export function together(readings: readonly MemoryReading[]): MemoryReading {
  const sum = (of: (reading: MemoryReading) => number): number => readings.reduce((total, each) => total + of(each), 0);
  return {
    xenFreeKib: sum((each) => each.xenFreeKib),
    dom0AvailableKib: sum((each) => each.dom0AvailableKib),
    agentRssKib: Math.max(...readings.map((each) => each.agentRssKib)),
  };
}

/** KiB of a process of this machine, now and at most; NaN when it is gone. */
export function residentKib(pid: number): { now: number; most: number } {
  let text = '';
  try {
    text = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    // it has ended
  }
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? NaN);
  return { now: field('VmRSS'), most: field('VmHWM') };
}
