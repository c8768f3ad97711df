/**
 * Saved machines. A state is a folder named by the hash of everything that went into it: the memory of a stopped machine as a
 * sparse file, and its devices. A state never changes once it has its name; labs map its memory privately and share it in the
 * page cache.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './paths.ts';
import { locked } from './lock.ts';
import { endProcess, isAlive, must, nameProcess, type ProcessName } from './processes.ts';
import { saveMachine, serialTail, startMachine, type Machine, type MachineSeat, type MachineShape } from './qemu.ts';
import { ShoalError } from '../model/errors.ts';
import { setTimeout as sleep } from 'node:timers/promises';

/** States kept besides those in use: each takes half a GiB or so of the disk. */
const statesKept = 12;

export interface SavedState {
  key: string;
  memoryFile: string;
  deviceFile: string;
}

/** Name of a state: a hash of its ingredients. Pure. */
export function stateKey(ingredients: readonly (string | number)[]): string {
  return createHash('sha256').update(JSON.stringify(ingredients)).digest('hex').slice(0, 20);
}

function inFolder(folder: string, key: string): SavedState {
  return { key, memoryFile: join(folder, 'memory'), deviceFile: join(folder, 'devices') };
}

/** The state with this name, if it was made; marks it as used. */
export function findState(key: string): SavedState | undefined {
  const folder = join(cacheFolder('states'), key);
  const state = inFolder(folder, key);
  if (!existsSync(state.deviceFile)) return undefined;
  utimesSync(folder, new Date(), new Date());
  return state;
}

/** What a state that is being made is called: its own name, and whose work it is. */
const buildingForm = /^building-(\w+)-(\d+)-(\d+)$/;

/**
 * Folders to remove so that at most `kept` remain, the ones used last; and whatever a process that is no more was making. Pure.
 */
export function staleStates(
  found: readonly { name: string; usedMs: number }[],
  kept: number,
  alive: (process: ProcessName) => boolean,
): string[] {
  const whole = found.filter(({ name }) => !name.startsWith('building-')).sort((a, b) => b.usedMs - a.usedMs);
  const abandoned = found.filter(({ name }) => {
    const match = buildingForm.exec(name);
    return name.startsWith('building-') && !(match !== null && alive({ pid: Number(match[2]), startTicks: Number(match[3]) }));
  });
  return [...abandoned, ...whole.slice(kept)].map(({ name }) => name);
}

function prune(): void {
  const states = cacheFolder('states');
  const found = readdirSync(states).map((name) => ({
    name,
    usedMs: statSync(join(states, name), { throwIfNoEntry: false })?.mtimeMs ?? 0,
  }));
  for (const name of staleStates(found, statesKept, isAlive)) rmSync(join(states, name), { recursive: true, force: true });
}

/** The state with this name: found, or made while no other process makes it. */
export async function stateNamed(key: string, onWait: () => void, make: () => Promise<SavedState>): Promise<SavedState> {
  return findState(key) ?? locked(`state-${key}`, 900_000, onWait, async () => findState(key) ?? make());
}

/**
 * Makes a state: starts a machine (from power-on, or from another state), lets `work` bring it to where it should be, stops it
 * there. To be called by stateNamed.
 */
export async function makeState(
  key: string,
  from: SavedState | undefined,
  shape: MachineShape,
  seat: MachineSeat,
  work: (machine: Machine) => Promise<void>,
): Promise<SavedState> {
  prune();
  const own = nameProcess(process.pid)!;
  const building = join(cacheFolder('states'), `building-${key}-${own.pid}-${own.startTicks}`);
  rmSync(building, { recursive: true, force: true });
  mkdirSync(building, { mode: 0o700 });
  const made = inFolder(building, key);
  try {
    await fill(made, from, shape, seat, work);
    writeFileSync(join(building, 'serial.log'), serialTail(seat.folder, 400));
    renameSync(building, join(cacheFolder('states'), key));
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
  return inFolder(join(cacheFolder('states'), key), key);
}

async function fill(
  made: SavedState,
  from: SavedState | undefined,
  shape: MachineShape,
  seat: MachineSeat,
  work: (machine: Machine) => Promise<void>,
): Promise<void> {
  if (from === undefined) {
    const file = openSync(made.memoryFile, 'w', 0o600);
    ftruncateSync(file, shape.memoryMib * 1024 * 1024);
    closeSync(file);
  } else {
    await must(['cp', '--sparse=always', from.memoryFile, made.memoryFile], { timeoutMs: 300_000 });
  }
  const machine = await startMachine(shape, seat, { file: made.memoryFile, shared: true, restoreFrom: from?.deviceFile });
  try {
    await work(machine);
    await saveMachine(machine, made.deviceFile);
    for (const start = Date.now(); isAlive(machine.process) && Date.now() - start < 10_000;) await sleep(5);
  } finally {
    machine.qmp.close();
    await endProcess(machine.process, 0);
  }
  // pages that the machine wrote and zeroed again; and a state that has its name is whole even after a power cut
  await must(['fallocate', '--dig-holes', made.memoryFile], { timeoutMs: 300_000 });
  await must(['sync', made.memoryFile, made.deviceFile], { timeoutMs: 300_000 });
}

/** Waits until the guest's console has `text`. Ends early when the emulator ends or Xen gives up. */
export async function untilConsoleSays(machine: Machine, seat: MachineSeat, text: string, timeoutMs: number): Promise<void> {
  for (const start = Date.now(); ; await sleep(20)) {
    const tail = serialTail(seat.folder, 60);
    if (tail.includes(text)) return;
    const why = !isAlive(machine.process)
      ? 'the emulator ended'
      : /\(XEN\).*(Panic|Reboot disabled)|Kernel panic/.test(tail)
        ? 'the machine crashed while it booted'
        : Date.now() - start > timeoutMs
          ? `dom0 was not ready after ${Math.round(timeoutMs / 1000)} s`
          : undefined;
    if (why !== undefined)
      throw new ShoalError('LAB_FAILED', `${why}; the last lines of its console:\n${serialTail(seat.folder, 20)}`);
  }
}
