/**
 * VMs whose memory is in a file: suspended ones, which stop to take memory and go on later; checkpoints, which are new VMs in that state while
 * their original runs on; and saved ones, whose file leaves the host or comes to it.
 *
 * A file is `<stateDir>/suspended/<uuid>.svm`. The journal's "suspended" says that it counts: it is written after the file is whole on disk,
 * and taken back after the VM's new domain is. So a kill at any instant leaves either the domain or the file, and the next agent sees which.
 */
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hypervisor, MemoryReader } from '../hypervisor/port.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { admit, checkFeatures, recordOf, type ArrivalChoices } from './arrival.ts';
import type { Fleet } from './fleet.ts';
import { throwIfAborted } from './lanes.ts';
import { expectUnburied } from './tombstones.ts';
import type { Fill, Launched } from './launch.ts';
import type { Runner } from './runner.ts';
import { readAhead, readNow } from './reading.ts';
import { encodeSaved, SavedSource, type SavedRecord } from './saved.ts';
import { checkName, type Vm } from './vm.ts';

export interface SuspenderOptions {
  hypervisor: Hypervisor;
  fleet: Fleet;
  runner: Runner;
  hasImage: (digest: string) => boolean;
  folder: string;
  log: (line: string) => void;
}

/** What is taken off a domain before a breath is taken. */
const burstBytes = 1024 * 1024;
/** Of VMs that are no larger, what is to be written is held in memory, so that they need not wait for the disk; of so many at once. */
const atOnceKib = 16 * 1024;
const mostHeld = 4;

/** All of it, so that its domain may run again; closing it closes the reader, which takes longer than reading. */
function heldMemory(reader: MemoryReader): MemoryReader {
  const pieces: Uint8Array[] = [];
  for (let piece = reader.piece(false); piece !== undefined; piece = reader.piece(false)) pieces.push(piece);
  const state = reader.state();
  let next = 0;
  const close = (): void => {
    pieces.length = 0;
    reader.close();
  };
  return { piece: () => pieces[next++], again: () => void (next = 0), state: () => state, close };
}

export class Suspender {
  readonly #o: SuspenderOptions;
  #count = 0;
  #held = 0;

  constructor(options: SuspenderOptions) {
    this.#o = options;
    options.fleet.onChange((change) => {
      if (change.of !== 'vm') return;
      const vm = options.fleet.get(change.vm);
      if (change.kind === 'del' || (vm?.power === 'Halted' && vm.wanted === 'halted' && this.#files.has(change.vm))) this.#forget(change.vm);
    });
  }

  readonly #files = new Set<string>();

  /** Before anything else: VMs whose file is there are suspended, files that nobody refers to go. */
  async open(): Promise<void> {
    const { folder, fleet } = this.#o;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(folder)) {
      const vm = name.endsWith('.svm') ? fleet.get(name.slice(0, -4)) : undefined;
      if (vm?.wanted === 'suspended') {
        this.#files.add(vm.uuid);
        vm.power = 'Suspended';
      } else await rm(join(folder, name), { force: true });
    }
  }

  /** The VM's memory goes into a file and its domain ends. Throws VM_BAD_POWER_STATE, TIMEOUT, HOST_LIMIT (no room on disk). */
  suspend(vm: Vm, signal?: AbortSignal): Promise<void> {
    const { runner, fleet } = this.#o;
    return runner.lanes.run(vm.uuid, 'suspend', 'refuse', signal, async (s) => {
      runner.expect(vm, ['Running']);
      const domid = vm.domid!;
      await this.#out(vm, this.#record(vm), this.#path(vm.uuid), s, async () => {
        this.#files.add(vm.uuid);
        vm.wanted = 'suspended';
        await fleet.keep(vm).catch((error: unknown) => {
          this.#files.delete(vm.uuid);
          vm.wanted = 'running';
          throw error;
        });
        fleet.place(vm, undefined);
        runner.become(vm, 'Suspended');
      });
      await runner.removeDomain(domid);
    });
  }

  /** A suspended VM goes on. Throws SAVED_VM_INVALID and what a start throws; the VM then stays suspended. */
  resume(vm: Vm, paused: boolean, signal?: AbortSignal): Promise<Launched> {
    const { runner } = this.#o;
    return runner.lanes.run(vm.uuid, 'resume', 'refuse', signal, async (s) => {
      runner.expect(vm, ['Suspended']);
      expectFile(vm);
      expectUnburied(vm, this.#o.fleet);
      const source = new SavedSource(createReadStream(this.#path(vm.uuid), { highWaterMark: 1 << 18 }));
      try {
        checkFeatures(await source.record(), await this.#o.hypervisor.cpuFeatures());
        const launched = await runner.launch(vm, paused, s, { fill: this.#filling(source), goesOn: true });
        this.#forget(vm.uuid);
        return launched;
      } finally {
        await source.close();
      }
    });
  }

  /** A new, suspended VM with the running one's memory, and a name and addresses of its own. The original goes on. */
  checkpoint(vm: Vm, name: string, signal?: AbortSignal): Promise<Vm> {
    const { runner, fleet } = this.#o;
    checkName(name);
    return runner.lanes.run(vm.uuid, 'checkpoint', 'refuse', signal, async (s) => {
      runner.expect(vm, ['Running']);
      const record = await this.#record(vm);
      const made = admit(record, fleet, this.#o.hasImage, { name, copy: true });
      try {
        await this.#copy(vm, record, this.#path(made.uuid), s, async () => {
          this.#files.add(made.uuid);
          made.wanted = 'suspended';
          await fleet.keep(made);
          runner.become(made, 'Suspended');
        });
      } catch (error) {
        await fleet.drop(made);
        throw error;
      }
      return made;
    });
  }

  /**
   * The bytes of a saved VM: of a suspended one its file; of a running one a checkpoint, after which it goes on. Whoever reads slowly holds up
   * nobody: nothing is sent before all of it is on disk.
   */
  async save(vm: Vm, signal?: AbortSignal): Promise<{ bytes: number; chunks: AsyncIterable<Uint8Array> }> {
    const { runner } = this.#o;
    return runner.lanes.run(vm.uuid, 'save', 'refuse', signal, async (s) => {
      runner.expect(vm, ['Running', 'Suspended']);
      if (vm.power === 'Suspended') {
        expectFile(vm);
        return contentOf(this.#path(vm.uuid));
      }
      const path = join(this.#o.folder, `saving-${++this.#count}`);
      try {
        await this.#copy(vm, await this.#record(vm), path, s, async () => {});
        return await contentOf(path);
      } finally {
        // Who has it open goes on reading.
        await rm(path, { force: true });
      }
    });
  }

  /** A VM out of the bytes of a saved one; what goes wrong leaves nothing. Throws SAVED_VM_INVALID and as `admit` and a start. */
  async restore(chunks: AsyncIterable<Uint8Array>, choices: ArrivalChoices & { paused?: boolean }, signal?: AbortSignal): Promise<{ vm: Vm; launched: Launched }> {
    const { runner, fleet, hypervisor } = this.#o;
    const source = new SavedSource(chunks);
    const record = await source.record();
    checkFeatures(record, await hypervisor.cpuFeatures());
    const vm = admit(record, fleet, this.#o.hasImage, choices);
    try {
      const launched = await runner.lanes.run(vm.uuid, 'restore', 'refuse', signal, (s) =>
        runner.launch(vm, choices.paused === true, s, { fill: this.#filling(source), goesOn: true }));
      return { vm, launched };
    } catch (error) {
      await fleet.drop(vm);
      throw error;
    }
  }

  #filling(source: SavedSource): Fill {
    return async (domid, shape) => {
      const writer = this.#o.hypervisor.writeMemory(domid, shape);
      try {
        await source.fill(writer);
      } finally {
        writer.close();
      }
    };
  }

  async #record(vm: Vm): Promise<SavedRecord> {
    const { hypervisor, fleet } = this.#o;
    return recordOf(vm, fleet, await hypervisor.cpuFeatures(), (await hypervisor.facts()).version);
  }

  /**
   * Suspends the VM, writes it to a file, and has `kept` done once that is on disk under its name. The VM is suspended after it. What fails leaves no file and
   * the VM running.
   */
  async #out(vm: Vm, record: Promise<SavedRecord>, path: string, signal: AbortSignal, kept: () => Promise<void>): Promise<void> {
    const { hypervisor, runner } = this.#o;
    const domid = vm.domid!;
    const about = await record;
    const shape = await runner.starter.shapeOf(vm);
    const part = `${path}.part`;
    const ahead = readAhead(hypervisor, domid, shape, false);
    await hypervisor.suspend(domid).catch((error: unknown) => {
      ahead?.close();
      throw error;
    });
    try {
      await this.#writeFrom(readNow(hypervisor, domid, shape, false, ahead), about, part, signal);
      await rename(part, path);
      await syncFolder(this.#o.folder);
      await kept();
    } catch (error) {
      await rm(part, { force: true });
      if (vm.wanted !== 'suspended') await rm(path, { force: true });
      await this.#goOn(vm);
      throw fullDisk(error);
    }
  }

  /**
   * What the running VM is goes into a file, of which `kept` is told as in #out; the VM goes on. A small one stands still only until its memory is
   * read: digest and disk come after it goes on.
   */
  async #copy(vm: Vm, record: SavedRecord, path: string, signal: AbortSignal, kept: () => Promise<void>): Promise<void> {
    if (vm.memoryKib > atOnceKib || this.#held >= mostHeld) {
      await this.#out(vm, Promise.resolve(record), path, signal, kept);
      return this.#goOn(vm);
    }
    const { hypervisor, runner } = this.#o;
    const domid = vm.domid!;
    const shape = await runner.starter.shapeOf(vm);
    const part = `${path}.part`;
    let reader = readAhead(hypervisor, domid, shape, false);
    this.#held++;
    try {
      let held: MemoryReader;
      await hypervisor.suspend(domid);
      try {
        reader = readNow(hypervisor, domid, shape, false, reader);
        held = heldMemory(reader);
      } finally {
        await this.#goOn(vm);
      }
      await this.#writeFrom(held, record, part, signal);
      await rename(part, path);
      await syncFolder(this.#o.folder);
      await kept();
    } catch (error) {
      for (const each of [part, path]) await rm(each, { force: true });
      throw fullDisk(error);
    } finally {
      reader?.close();
      this.#held--;
    }
  }

  async #writeFrom(reader: MemoryReader, record: SavedRecord, path: string, signal: AbortSignal): Promise<void> {
    try {
      const file = await open(path, 'w', 0o600);
      try {
        let waiting: Buffer[] = [];
        let bytes = 0;
        const flush = async (): Promise<void> => {
          throwIfAborted(signal);
          await writeAll(file, waiting);
          waiting = [];
          bytes = 0;
        };
        for (const each of encodeSaved(record, reader)) {
          waiting.push(each);
          bytes += each.length;
          if (bytes >= burstBytes) await flush();
        }
        await flush();
        await file.datasync();
      } finally {
        await file.close();
      }
    } finally {
      reader.close();
    }
  }

  /** A VM that suspended itself and is to run. That it cannot is for the runner to find out. */
  async #goOn(vm: Vm): Promise<void> {
    if (vm.domid === undefined) return;
    await this.#o.hypervisor.resume(vm.domid).catch((error: unknown) => {
      this.#o.log(`vm ${vm.name}: does not go on: ${asShoalError(error).message}`);
      this.#o.runner.look(vm);
    });
  }

  #path(uuid: string): string {
    return join(this.#o.folder, `${uuid}.svm`);
  }

  #forget(uuid: string): void {
    if (this.#files.delete(uuid)) void rm(this.#path(uuid), { force: true }).catch(() => {});
  }
}

/** In one call, most often: each is a way to another thread and back. */
async function writeAll(file: FileHandle, buffers: Buffer[]): Promise<void> {
  if (buffers.length === 0) return;
  const { bytesWritten } = await file.writev(buffers);
  const bytes = buffers.reduce((sum, { length }) => sum + length, 0);
  if (bytesWritten < bytes) await file.writeFile(Buffer.concat(buffers).subarray(bytesWritten));
}

async function contentOf(path: string): Promise<{ bytes: number; chunks: AsyncIterable<Uint8Array> }> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return { bytes: size, chunks: file.createReadStream({ highWaterMark: 1 << 18 }) };
}

/** A VM may be "Suspended" because it migrates. */
function expectFile(vm: Vm): void {
  if (vm.leaving === undefined) return;
  throw new ShoalError('MIGRATION_IN_DOUBT', `VM "${vm.name}" may have migrated to ${vm.leaving.url}.`, { data: { vm: vm.uuid, target: vm.leaving.url } });
}

function fullDisk(error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') return error;
  return new ShoalError('HOST_LIMIT', 'The disk of the host has no room for the memory of the VM.', { hint: 'Make room in the folder of its state.', cause: error });
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
