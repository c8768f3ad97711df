/**
 * The lab: real Xen hosts inside an emulator, networked. This file is its whole interface for programs (tests, demo,
 * benchmarks) and the order of things; each thing has a file of its own.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { chooseAccelerator } from './accelerator.ts';
import { labController } from './controller.ts';
import { agentState, baseState, startHost } from './hosts.ts';
import { bootInitramfs, hostIdentity, identity, type BootFile } from './identity.ts';
import { dom0Image } from './image.ts';
import { setLink } from './links.ts';
import { locked } from './lock.ts';
import { enter, makeNetwork, removeNetwork } from './network.ts';
import { checkLabName, labFolder } from './paths.ts';
import { openPinger, type Pinger } from './pinger.ts';
import { checkMemory, checkOneSubnet, defaultMemoryMib, hostPlan, processorsOf, routerNamespace } from './plan.ts';
import { endProcess, isAlive, run, type RunOptions, type RunResult } from './processes.ts';
import { stores, type Accelerator, type MachineSeat, type MachineShape, type Store } from './qemu.ts';
import {
  labExists,
  makeFolder,
  processesOf,
  readRecord,
  removeFolder,
  writeRecord,
  type HostRecord,
  type LabRecord,
  type LinkRecord,
  type LinkShape,
} from './record.ts';
import { connect, exec, put, type SshTarget } from './ssh.ts';
import type { SavedState } from './state.ts';
import { buildAgent, buildStored, buildTools } from './build.ts';

export type { Pinger } from './pinger.ts';
export type { LinkShape } from './record.ts';

export interface LabOptions {
  /** Default "lab". */
  name?: string;
  /** Number of Xen hosts; default 1. */
  hosts?: number;
  /** Memory of each host in MiB; default 8,192. */
  memoryMib?: number;
  /** Told what is being done, one short phrase a stage. */
  onProgress?: (text: string) => void;
  /** Store daemon of dom0; default Shoal's own (docs/design/0003-store-daemon.md). */
  store?: Store;
  /** False leaves the host agent out even where it is built: plain Xen. */
  agent?: boolean;
  /** All hosts in one subnet, where an address may go from one to another; otherwise each has its own. One that is up stays as it is when left out. */
  oneSubnet?: boolean;
}

export interface LabHost {
  index: number;
  name: string;
  /** Of the host agent, from the machine's loopback. */
  url: string;
  /** dom0's address, as seen from the router's namespace. */
  address: string;
  cidr: string;
  gateway: string;
  /** The agent's password, one line. */
  passwordFile: string;
  /** The agent's certificate, which is its own authority. */
  caFile: string;
  /** Serial log of Xen and dom0. */
  consoleFile: string;
  /** False when the lab was started without a host agent. */
  agent: boolean;
  ssh: SshTarget;
  /** Runs a shell command in dom0; never throws for an exit code. */
  exec(command: string, options?: { input?: string | Uint8Array; timeoutMs?: number }): Promise<RunResult>;
  put(localPath: string, remotePath: string): Promise<void>;
}

export interface Lab {
  name: string;
  accelerator: Accelerator;
  oneSubnet: boolean;
  hosts: LabHost[];
  pinger(hostIndex: number): Promise<Pinger>;
  /** Runs a program inside the router's namespace: outside of the Xen hosts, one hop from every guest. */
  inside(argv: string[], options?: RunOptions): Promise<RunResult>;
  /** Shapes what passes between two hosts' subnets, each direction alike; an empty shape routes directly again. USAGE where hosts share a subnet. */
  link(from: number, to: number, shape: LinkShape): Promise<void>;
  down(): Promise<void>;
}

export interface LabStatus {
  name: string;
  up: boolean;
  accelerator: Accelerator | undefined;
  memoryMib: number | undefined;
  store: Store | undefined;
  oneSubnet: boolean;
  versions: { xen: string; kernel: string } | undefined;
  hosts: {
    name: string;
    pid: number;
    alive: boolean;
    address: string;
    cidr: string;
    url: string;
    sshPort: number;
    agent: boolean;
    consoleFile: string;
  }[];
  links: LinkRecord[];
  /** Of the controller that was started last over these hosts. */
  controller: { url: string; pid: number; alive: boolean } | undefined;
}

const defaultName = 'lab';
const hostFolder = (name: string, index: number) => join(labFolder(name), `host${index}`);

/** Brings a lab up, or attaches to it when it is up already. */
export async function labUp(options: LabOptions = {}): Promise<Lab> {
  const name = checkLabName(options.name ?? defaultName);
  const progress = options.onProgress ?? (() => undefined);
  const memoryMib = checkMemory(options.memoryMib ?? readRecord(name)?.memoryMib ?? defaultMemoryMib);
  return locked(
    `lab-${name}`,
    900_000,
    () => progress(`waiting for another process that works on lab ${name}`),
    async () => {
      const record = readRecord(name);
      if (record !== undefined && record.hosts.length > 0 && record.hosts.every((host) => isAlive(host.process))) {
        const hosts = options.hosts ?? record.hosts.length;
        const oneSubnet = record.oneSubnet === true;
        if (hosts <= record.hosts.length && memoryMib === record.memoryMib && (options.store ?? record.store) === record.store && (options.oneSubnet ?? oneSubnet) === oneSubnet)
          return attach(record);
        throw new ShoalError(
          'LAB_FAILED',
          `lab ${name} is up with ${record.hosts.length} host(s) of ${record.memoryMib} MiB and ${record.store}, ${oneSubnet ? 'all in one subnet' : 'each in its own subnet'}`,
          {
            hint: `Take it down first (shoal lab down${name === defaultName ? '' : ` --lab ${name}`}), or name another lab.`,
          },
        );
      }
      const hosts = options.hosts ?? 1;
      hostPlan(hosts - 1);
      const oneSubnet = options.oneSubnet ?? false;
      if (oneSubnet) checkOneSubnet(hosts);
      const store = options.store ?? 'shoal';
      if (!stores.includes(store))
        throw new ShoalError('USAGE', `"${store}" is no store daemon`, { hint: `Use one of: ${stores.join(', ')}.` });
      await clear(name);
      try {
        return await bringUp({ name, hosts, memoryMib, store, oneSubnet, withAgent: options.agent !== false }, progress);
      } catch (error) {
        await clear(name);
        throw error;
      }
    },
  );
}

interface Wanted {
  name: string;
  hosts: number;
  memoryMib: number;
  store: Store;
  oneSubnet: boolean;
  withAgent: boolean;
}

async function bringUp({ name, hosts, memoryMib, store, oneSubnet, ...wanted }: Wanted, progress: (text: string) => void): Promise<Lab> {
  const tools = await buildTools();
  const withAgent = wanted.withAgent && (await buildAgent());
  const image = await dom0Image(tools, progress);
  const who = await identity();
  const files: BootFile[] = store === 'shoal' ? [{ from: await buildStored(), to: 'usr/lib/shoal/shoal-stored' }] : [];
  const boot = await bootInitramfs(image, who, files);
  const accelerator = await chooseAccelerator(image, boot.file, progress);
  const shape: MachineShape = { accelerator, processors: processorsOf(hosts, availableParallelism()), memoryMib, store, xen: image.xen, kernel: image.kernel, initramfs: boot.file };

  makeFolder(name);
  await makeNetwork(name, hosts, oneSubnet);
  const seats = Array.from({ length: hosts }, (_, index): MachineSeat => ({
    folder: hostFolder(name, index),
    lab: name,
    index,
    oneSubnet,
    tools,
  }));
  const base = await baseState(shape, seats[0]!, who, boot.key, progress);
  const states: SavedState[] = [];
  for (const seat of seats) states.push(withAgent ? await agentState(base, shape, seat, who, progress) : base);

  progress(hosts === 1 ? 'starting host0 from its snapshot' : `starting ${hosts} hosts from their snapshots`);
  const record: LabRecord = {
    name,
    accelerator,
    memoryMib,
    store,
    oneSubnet,
    versions: image.versions,
    keyFile: who.keyFile,
    knownHostsFile: who.knownHostsFile,
    hosts: [],
    links: [],
  };
  record.hosts = await Promise.all(seats.map((seat, index) => startHost(shape, seat, states[index]!, who, withAgent)));
  writeRecord(record);
  return attach(record);
}

/** Attaches to a lab that is up. */
export async function labAttach(name: string = defaultName): Promise<Lab> {
  const record = readRecord(checkLabName(name));
  if (record === undefined) throw new ShoalError('LAB_NOT_UP', `lab ${name} is not up`);
  const dead = record.hosts.find((host) => !isAlive(host.process));
  if (dead !== undefined)
    throw new ShoalError('LAB_NOT_UP', `host${dead.index} of lab ${name} has ended`, {
      hint: 'Run `shoal lab up`: it clears what is left and starts again.',
    });
  return attach(record);
}

async function attach(record: LabRecord): Promise<Lab> {
  const { name, oneSubnet = false } = record;
  const hosts = await Promise.all(record.hosts.map((host) => labHost(record, host)));
  return {
    name,
    accelerator: record.accelerator,
    oneSubnet,
    hosts,
    pinger: async (index) => openPinger(name, hostPlan(hosts[index]?.index ?? index, oneSubnet), await buildTools()),
    inside: (argv, options) => run([...enter(routerNamespace(name)), ...argv], options),
    link: (from, to, shape) =>
      locked(
        `lab-${name}`,
        60_000,
        () => undefined,
        async () => setLink(name, from, to, shape, await buildTools()),
      ),
    down: () => labDown(name),
  };
}

async function labHost(record: LabRecord, host: HostRecord): Promise<LabHost> {
  const plan = hostPlan(host.index, record.oneSubnet);
  const files = await hostIdentity(host.index);
  const folder = hostFolder(record.name, host.index);
  const ssh: SshTarget = { folder, port: host.sshPort, keyFile: record.keyFile, knownHostsFile: record.knownHostsFile };
  const open = () => (existsSync(join(folder, 'ssh')) ? Promise.resolve() : connect(ssh, 20_000));
  return {
    index: host.index,
    name: plan.name,
    url: `https://127.0.0.1:${host.agentPort}`,
    address: plan.address,
    cidr: plan.cidr,
    gateway: plan.gateway,
    passwordFile: files.passwordFile,
    caFile: files.certFile,
    consoleFile: join(folder, 'serial.log'),
    agent: host.agent,
    ssh,
    exec: async (command, options) => {
      await open();
      const result = await exec(ssh, command, options);
      if (result.code !== 255) return result;
      // 255 is ssh's own code: when the master is gone, open it and try once more
      const before = existsSync(join(folder, 'ssh'));
      await connect(ssh, 20_000);
      return before && result.stderr === '' ? result : exec(ssh, command, options);
    },
    put: async (local, remote) => {
      await open();
      await put(ssh, local, remote);
    },
  };
}

/** Takes a lab away, whatever is left of it. Fine when there is none. */
export async function labDown(name: string = defaultName): Promise<void> {
  checkLabName(name);
  await locked(
    `lab-${name}`,
    900_000,
    () => undefined,
    () => clear(name),
  );
}

async function clear(name: string): Promise<void> {
  // processes may start others while they end: look until none is left
  for (let round = 0; round < 10; round += 1) {
    const left = await processesOf(name);
    if (left.length === 0) break;
    await Promise.all(left.map((each) => endProcess(each, round === 0 ? 300 : 0)));
  }
  await removeNetwork(name);
  if (labExists(name)) removeFolder(name);
}

export async function labStatus(name: string = defaultName): Promise<LabStatus> {
  const record = readRecord(checkLabName(name));
  const hosts = (record?.hosts ?? []).map((host) => {
    const plan = hostPlan(host.index, record?.oneSubnet);
    return {
      name: plan.name,
      pid: host.process.pid,
      alive: isAlive(host.process),
      address: plan.address,
      cidr: plan.cidr,
      url: `https://127.0.0.1:${host.agentPort}`,
      sshPort: host.sshPort,
      agent: host.agent,
      consoleFile: join(hostFolder(name, host.index), 'serial.log'),
    };
  });
  return {
    name,
    up: hosts.length > 0 && hosts.every((host) => host.alive),
    accelerator: record?.accelerator,
    memoryMib: record?.memoryMib,
    store: record?.store,
    oneSubnet: record?.oneSubnet === true,
    versions: record?.versions,
    hosts,
    links: record?.links ?? [],
    controller: controllerStatus(name),
  };
}

function controllerStatus(name: string): LabStatus['controller'] {
  const controller = labController(name);
  return controller && { url: controller.url, pid: controller.process.pid, alive: isAlive(controller.process) };
}
