/**
 * The emulated machine: its command line, its start, and the two ways its memory is used.
 *
 * Guest memory is a file. While a state is being made the file is mapped shared, so that it is the state's memory by the time the
 * machine stops; afterwards every lab maps it privately: pages are shared in the page cache until written, and a restore reads
 * nothing but the devices' few hundred KiB. (Measured on two cores without KVM: 20 ms to a running machine, where reading a
 * 450 MiB stream took 650 ms, and both saved in under a second.)
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { bridgesNamespace, dom0MemoryMib } from './plan.ts';
import { isAlive, lastLines, nameProcess, run, type ProcessName } from './processes.ts';
import { Qmp } from './qmp.ts';

export type Accelerator = 'kvm' | 'tcg';

/** What makes two machines the same machine: part of the name of a saved state. */
export interface MachineShape {
  accelerator: Accelerator;
  /** Emulated ones. dom0 is on the first, guests are on the last. */
  processors: number;
  memoryMib: number;
  store: Store;
  xen: string;
  kernel: string;
  initramfs: string;
}

/** What differs from start to start. */
export interface MachineSeat {
  /** Folder for sockets and logs of this host, in the lab's run-time folder. */
  folder: string;
  lab: string;
  index: number;
  /** Its lab's hosts share one subnet. */
  oneSubnet: boolean;
  /** Folder of tap-launch. */
  tools: string;
}

export interface MachineMemory {
  file: string;
  /** True while a state is being made: what the guest writes is in the file. */
  shared: boolean;
  /** Device state to start from; undefined boots from power-on. */
  restoreFrom: string | undefined;
}

export interface Machine {
  process: ProcessName;
  qmp: Qmp;
  sshPort: number;
  agentPort: number;
}

/** Options of Xen itself. Frames of grant and maptrack tables are raised for thousands of guests with two rings each. */
export function xenOptions(memoryMib: number): string {
  const dom0 = dom0MemoryMib(memoryMib);
  return [
    'com1=115200,8n1 console=com1 noreboot loglvl=warning guest_loglvl=warning',
    // One vCPU: with two, each new network device makes dom0 wait for the other vCPU many times over (RCU, code patching), and
    // each such wait costs a turn of the emulator's threads: ten times the time of a vif when the machine is busy. Guests run
    // on the other processor, where there is one.
    `dom0_mem=${dom0}M,max:${dom0}M dom0_max_vcpus=1 dom0_vcpus_pin`,
    // memory of a fresh emulator is zero already, and touching all of it would make it resident
    'bootscrub=0',
    // Xen would else leave registers of the FPU where they are until CR0.TS traps; the emulator's XSAVE and XRSTOR do not trap,
    // and processes of dom0 got each other's registers when a guest started
    'spec-ctrl=eager-fpu sched=credit',
    'gnttab_max_frames=128 gnttab_max_maptrack_frames=4096',
  ].join(' ');
}

/** The store daemon that dom0 runs: Xen's two, or Shoal's own. */
export const stores = ['oxenstored', 'xenstored', 'shoal'] as const;
export type Store = (typeof stores)[number];

const linuxOptions = (store: Store) =>
  `console=hvc0 quiet net.ifnames=0 rdinit=/init xen_netback.max_queues=1 shoal.store=${store}`;

/** The emulator's arguments that a saved state depends on. Pure. */
export function machineArguments(shape: MachineShape): string[] {
  const processor =
    shape.accelerator === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi', '-cpu', 'max,-smap,-smep'];
  return [
    ...processor,
    '-machine',
    'q35,memory-backend=ram',
    '-smp',
    String(shape.processors),
    '-m',
    String(shape.memoryMib),
    '-display',
    'none',
    '-nodefaults',
    '-no-user-config',
    '-device',
    'virtio-net-pci,netdev=mgmt,mac=52:54:00:00:00:01,romfile=',
    '-device',
    'virtio-net-pci,netdev=lab,mac=52:54:00:00:00:02,romfile=',
    '-device',
    'virtio-rng-pci',
    '-kernel',
    shape.xen,
    '-append',
    xenOptions(shape.memoryMib),
    '-initrd',
    `${shape.kernel} ${linuxOptions(shape.store)},${shape.initramfs}`,
  ];
}

export const emulator = 'qemu-system-x86_64';

/** First line of `qemu-system-x86_64 --version`. */
export async function emulatorVersion(): Promise<string> {
  const result = await run([emulator, '--version'], { timeoutMs: 20_000 });
  if (result.code !== 0)
    throw new ShoalError('SETUP_FAILED', 'qemu-system-x86_64 is not installed', { hint: 'Run ./shoal, which installs it.' });
  return result.stdout.split('\n')[0]!;
}

/** TCP ports of the loopback that are free now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.on('error', reject);
          server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Last lines of the emulator's and the guest's output, for an error. */
export function serialTail(folder: string, count = 12): string {
  const read = (name: string) =>
    existsSync(join(folder, name)) ? lastLines(readFileSync(join(folder, name), 'utf8').replaceAll('\r', ''), count) : '';
  return [read('qemu.log'), read('serial.log')].filter((text) => text !== '').join('\n');
}

/** Starts the emulator; the guest runs when this resolves. The process outlives this one. */
export async function startMachine(shape: MachineShape, seat: MachineSeat, memory: MachineMemory): Promise<Machine> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startOnce(shape, seat, memory);
    } catch (error) {
      // between the choice of a port and its use another program may have taken it
      if (attempt < 3 && /host forwarding/.test(serialTail(seat.folder))) continue;
      const tail = serialTail(seat.folder);
      throw new ShoalError('LAB_FAILED', `${(error as Error).message}${tail ? `\n${tail}` : ''}`, { cause: error });
    }
  }
}

async function startOnce(shape: MachineShape, seat: MachineSeat, memory: MachineMemory): Promise<Machine> {
  mkdirSync(seat.folder, { recursive: true });
  const control = join(seat.folder, 'qmp');
  for (const stale of [control, join(seat.folder, 'qemu.log')]) rmSync(stale, { force: true });
  const [sshPort, agentPort] = (await freePorts(2)) as [number, number];
  const forward = (from: number, to: number) => `hostfwd=tcp:127.0.0.1:${from}-:${to}`;
  const argv = [
    join(seat.tools, 'tap-launch'),
    `/run/netns/${bridgesNamespace(seat.lab)}`,
    `tap${seat.index}`,
    '3',
    '--',
    emulator,
    '-name',
    `shoal-${seat.lab}-host${seat.index}`,
    ...machineArguments(shape),
    '-object',
    `memory-backend-file,id=ram,size=${shape.memoryMib}M,mem-path=${memory.file},share=${memory.shared ? 'on' : 'off'}`,
    '-netdev',
    `user,id=mgmt,restrict=on,ipv6=off,${forward(sshPort, 22)},${forward(agentPort, 443)}`,
    '-netdev',
    'tap,id=lab,fd=3',
    '-chardev',
    `file,id=serial,path=${join(seat.folder, 'serial.log')},append=on`,
    '-serial',
    'chardev:serial',
    '-qmp',
    `unix:${control},server=on,wait=off`,
    ...(memory.restoreFrom === undefined ? [] : ['-incoming', 'defer']),
  ];
  const log = openSync(join(seat.folder, 'qemu.log'), 'a');
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  const failed = new Promise<never>((_, reject) =>
    child.on('error', (error) => reject(new ShoalError('LAB_FAILED', error.message))),
  );
  failed.catch(() => undefined);
  child.unref();
  const name = child.pid === undefined ? undefined : nameProcess(child.pid);
  if (name === undefined) return failed;
  const qmp = await Promise.race([Qmp.connect(control, 20_000, () => isAlive(name)), failed]);
  if (memory.restoreFrom !== undefined) {
    await ignoreSharedMemory(qmp);
    await qmp.command('migrate-incoming', { uri: `exec:cat '${memory.restoreFrom}'` });
    await qmp.until('query-status', 60_000, (answer) => answer.status !== 'inmigrate');
    await qmp.command('cont');
  }
  return { process: name, qmp, sshPort, agentPort };
}

const ignoreSharedMemory = (qmp: Qmp) =>
  qmp.command('migrate-set-capabilities', { capabilities: [{ capability: 'x-ignore-shared', state: true }] });

/** Stops a machine whose memory is mapped shared, writes its device state to `file`, and ends it. */
export async function saveMachine(machine: Machine, file: string): Promise<void> {
  await machine.qmp.command('stop');
  await ignoreSharedMemory(machine.qmp);
  await machine.qmp.command('migrate', { uri: `exec:cat > '${file}'` });
  await machine.qmp.until('query-migrate', 120_000, (answer) => {
    if (answer.status === 'failed') throw new ShoalError('LAB_FAILED', 'the emulator could not save its state');
    return answer.status === 'completed';
  });
  await machine.qmp.command('quit').catch(() => undefined);
  machine.qmp.close();
}
