/**
 * What is written down about a running lab, in its folder below /run: enough for another process to attach to it. The folder is
 * made before anything else and removed last, and every process of the lab has a path inside of it among its arguments; so
 * whatever was interrupted, the folder's name alone finds what is left.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { labFolder, runFolder } from './paths.ts';
import { processesInside } from './network.ts';
import { nameProcess, type ProcessName } from './processes.ts';
import type { Accelerator, Store } from './qemu.ts';

export interface HostRecord {
  index: number;
  process: ProcessName;
  sshPort: number;
  agentPort: number;
  agent: boolean;
}

export interface LinkShape {
  delayMs?: number;
  lossPercent?: number;
  rateKbps?: number;
}

export interface LinkRecord {
  from: number;
  to: number;
  shape: LinkShape;
}

/** A controller over the lab's hosts, and the port of the machine's loopback that leads to it. */
export interface ControllerRecord {
  process: ProcessName;
  forwarder: ProcessName;
  port: number;
}

export interface LabRecord {
  name: string;
  accelerator: Accelerator;
  memoryMib: number;
  store: Store;
  /** Its hosts share one subnet. */
  oneSubnet?: boolean;
  versions: { xen: string; kernel: string };
  keyFile: string;
  knownHostsFile: string;
  hosts: HostRecord[];
  links: LinkRecord[];
  /** Of the last controller that was started; it may have ended. */
  controller?: ControllerRecord;
}

const recordFile = (name: string) => join(labFolder(name), 'lab.json');

export function readRecord(name: string): LabRecord | undefined {
  if (!existsSync(recordFile(name))) return undefined;
  return JSON.parse(readFileSync(recordFile(name), 'utf8')) as LabRecord;
}

export function writeRecord(record: LabRecord): void {
  const part = `${recordFile(record.name)}.part`;
  writeFileSync(part, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
  renameSync(part, recordFile(record.name));
}

export function makeFolder(name: string): void {
  mkdirSync(runFolder, { recursive: true, mode: 0o755 });
  mkdirSync(labFolder(name), { recursive: true, mode: 0o700 });
}

export function removeFolder(name: string): void {
  rmSync(labFolder(name), { recursive: true, force: true });
}

export const labExists = (name: string): boolean => existsSync(labFolder(name));

const programs = new Set(['qemu-system-x86_64', 'tap-launch', 'ssh', 'relay', 'pinger', 'forward', 'nsenter']);

/**
 * Every process that belongs to a lab, by looking: our programs with a path of the lab's folder among their arguments, and
 * those inside of its namespaces.
 */
export async function processesOf(name: string): Promise<ProcessName[]> {
  const folder = `${labFolder(name)}/`;
  const found = new Map<number, ProcessName>();
  const add = (pid: number) => {
    const named = pid === process.pid ? undefined : nameProcess(pid);
    if (named !== undefined) found.set(pid, named);
  };
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const program = basename(readlinkSync(`/proc/${entry}/exe`)).replace(/ \(deleted\)$/, '');
      if (programs.has(program) && readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(folder)) add(Number(entry));
    } catch {
      // it ended while we looked, or is a thread of the kernel
    }
  }
  for (const pid of await processesInside(name)) add(pid);
  return [...found.values()];
}
