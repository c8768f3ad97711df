/**
 * The memory of guests that suspended themselves: read in pieces (native/memory_read.h), for a file, another host or a copy here; written into
 * an empty domain, in place of a build (native/memory_write.h).
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { Domid } from '../../model/ids.ts';
import { ShoalError } from '../../model/errors.ts';
import { calling, domainFlags, shutdownReasons, type Built, type Native, type NativeReader, type NativeWriter } from './native.ts';
import { wiredMacs } from './wired.ts';
import type { DomainConfig, DomainShape, MemoryReader, MemoryWriter, Snapshot } from '../port.ts';
import type { Templates } from './templates.ts';

/** A guest that is not hung needs a millisecond; one whose devices are in the store some round trips. */
const suspendWaitMs = 5_000;
/** So long it is looked for without a pause, for all of it is standstill; a timer of a millisecond takes two or three of a busy dom0. */
const eagerMs = 10;
/** At a stretch; what else the agent has to do comes in between. */
const stretchUs = 1000;
const lookMs = 1;
/** A copy is kept in the agent's memory. */
const mostCopyKib = 256 * 1024;
/** Its pages are mapped all at once. */
const mostMemoryKib = 4 * 1024 * 1024;
const kibPerPage = 4;

export class XenSnapshot implements Snapshot {
  readonly shape: DomainShape;
  readonly pieces: readonly Uint8Array[];
  readonly state: Uint8Array;

  constructor(shape: DomainShape, pieces: readonly Uint8Array[], state: Uint8Array) {
    this.shape = shape;
    this.pieces = pieces;
    this.state = state;
  }
}

export class Memory {
  private readonly native: Native;
  private readonly templates: Templates;
  private readonly ask: (domid: Domid) => Promise<void>;

  /** `ask` tells a guest to suspend itself. */
  constructor(native: Native, templates: Templates, ask: (domid: Domid) => Promise<void>) {
    this.native = native;
    this.templates = templates;
    this.ask = ask;
  }

  async suspend(domid: Domid): Promise<void> {
    await this.ask(domid);
    for (const begun = performance.now(); performance.now() - begun < suspendWaitMs; await (performance.now() - begun < eagerMs ? turn() : sleep(lookMs))) {
      const domain = calling(`looking at domain ${domid}`, () => this.native.awaitShutdown(domid, stretchUs));
      if (domain && domain.flags & domainFlags.shutdown) {
        if (shutdownReasons[domain.shutdownReason] === 'suspend') return;
        break;
      }
    }
    throw new ShoalError('TIMEOUT', `domain ${domid} did not suspend itself within ${suspendWaitMs} ms`, {
      hint: 'Look at the console of the VM; its kernel may be too old for this.',
      data: { domid, timeoutMs: suspendWaitMs },
    });
  }

  /** For copies: the guest goes on at once. */
  async snapshot(domid: Domid, shape: DomainShape): Promise<Snapshot> {
    if (shape.memoryKib > mostCopyKib) throw impossible(`a VM of more than ${mostCopyKib} KiB cannot be cloned while it runs`);
    let reader = this.readAhead(domid, shape);
    try {
      await this.suspend(domid);
      try {
        if (reader === undefined) reader = this.read(domid, shape, false);
        else reader.again();
        const pieces: Uint8Array[] = [];
        for (let piece = reader.piece(false); piece !== undefined; piece = reader.piece(false)) pieces.push(piece);
        return new XenSnapshot(shape, pieces, reader.state());
      } finally {
        calling(`resuming domain ${domid}`, () => this.native.resume(domid));
      }
    } finally {
      reader?.close();
    }
  }

  /** Undefined for a kernel that does not show where its memory lies. */
  private readAhead(domid: Domid, shape: DomainShape): MemoryReader | undefined {
    try {
      return this.read(domid, shape, false);
    } catch {
      return undefined;
    }
  }

  read(domid: Domid, shape: DomainShape, passes: boolean): MemoryReader {
    checkSize(shape);
    const native = calling(`reading the memory of domain ${domid}`, () =>
      this.native.readMemory(domid, shape.image.virtBase, this.templates.of(shape.image), passes));
    return new XenReader(this.native, native, domid);
  }

  /** `named`: who it will be, where that is known. `made` is called with what was built, once. */
  write(domid: Domid, shape: DomainShape, wired: boolean, named: DomainConfig | undefined, made: (built: Built) => Promise<void>): MemoryWriter {
    checkSize(shape);
    const native = calling(`taking the memory of domain ${domid}`, () =>
      this.native.writeMemory(domid, shape.memoryKib / kibPerPage, this.templates.of(shape.image)));
    return new XenWriter(this.native, native, domid, wired ? shape.vifs.length : 0, named, made);
  }
}

class XenReader implements MemoryReader {
  private readonly native: Native;
  private readonly reader: NativeReader;
  private readonly domid: Domid;

  constructor(native: Native, reader: NativeReader, domid: Domid) {
    this.native = native;
    this.reader = reader;
    this.domid = domid;
  }

  piece(): Uint8Array | undefined {
    const bytes = this.native.readPiece(this.reader);
    return bytes.length === 0 ? undefined : bytes;
  }

  again(): void {
    calling(`reading the memory of domain ${this.domid} again`, () => this.native.readAgain(this.reader));
  }

  state(): Uint8Array {
    return calling(`reading the state of domain ${this.domid}`, () => this.native.readState(this.reader));
  }

  close(): void {
    this.native.closeMemory(this.reader);
  }
}

class XenWriter implements MemoryWriter {
  private readonly native: Native;
  private readonly writer: NativeWriter;
  private readonly domid: Domid;
  private readonly vifs: number;
  private readonly named: DomainConfig | undefined;
  private readonly made: (built: Built) => Promise<void>;

  constructor(native: Native, writer: NativeWriter, domid: Domid, vifs: number, named: DomainConfig | undefined, made: (built: Built) => Promise<void>) {
    this.native = native;
    this.writer = writer;
    this.domid = domid;
    this.vifs = vifs;
    this.named = named;
    this.made = made;
  }

  piece(bytes: Uint8Array): void {
    writing(this.domid, () => this.native.writePiece(this.writer, bytes));
  }

  async end(state: Uint8Array, whole = (): void => {}): Promise<void> {
    const { named } = this;
    const built = writing(this.domid, () => this.native.writeEnd(this.writer, state, this.vifs, named?.cmdline, named && wiredMacs(named)));
    whole();
    await this.made(built);
  }

  close(): void {
    this.native.closeMemory(this.writer);
  }
}

/** Makes the writer's domain a copy, and closes it. */
export async function copyInto(writer: MemoryWriter, from: XenSnapshot): Promise<void> {
  try {
    for (const piece of from.pieces) writer.piece(piece);
    await writer.end(from.state);
  } finally {
    writer.close();
  }
}

/** What was read elsewhere may be anything: that it is malformed is no failure of ours. */
function writing<T>(domid: Domid, work: () => T): T {
  try {
    return calling(`writing the memory of domain ${domid}`, work);
  } catch (error) {
    if (!(error instanceof ShoalError && error.data['call'] === 'memory')) throw error;
    throw new ShoalError('SAVED_VM_INVALID', 'What was saved is not the memory of such a guest.', { cause: error });
  }
}

function checkSize({ memoryKib }: DomainShape): void {
  if (memoryKib > mostMemoryKib) throw impossible(`a VM of more than ${mostMemoryKib} KiB cannot be saved`);
}

const impossible = (why: string): ShoalError =>
  new ShoalError('VALUE_NOT_SUPPORTED', why, { hint: 'Start new VMs of the same image instead.', params: ['VM', '', why] });
