/**
 * The target's end of migrations. A ticket, given out by whoever may order a migration, admits one source by its certificate and a token,
 * once. What arrives is a launch like any other, but that its memory comes over the connection and that its last step waits for the
 * source's word; the domain is whole and paused by then. That word, in the journal, makes the VM this host's.
 */
import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Hypervisor } from '../hypervisor/port.ts';
import type { ImageStore } from '../image/store.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import { nextOfTarget, type TargetEvent, type TargetState } from '../migrate/table.ts';
import { FrameReader, jsonFrame, jsonOf, kinds, type Frame } from '../migrate/wire.ts';
import { admit, checkFeatures, type ArrivalChoices } from './arrival.ts';
import { ByteQueue } from './byte-queue.ts';
import type { Fleet } from './fleet.ts';
import type { Runner } from './runner.ts';
import { parseRecord, SavedSource, type SavedRecord } from './saved.ts';
import type { Takeover } from './takeover.ts';
import { sealOf, toJournal, type Vm } from './vm.ts';

export interface ArrivalsOptions {
  hypervisor: Hypervisor;
  fleet: Fleet;
  runner: Runner;
  images: ImageStore;
  takeover: Takeover;
  /** Of the agent's own certificate; undefined without TLS, and then there are no migrations. */
  fingerprint: string | undefined;
  /** By id, as the journal has them. */
  committed: Map<string, Arrived>;
  log: (line: string) => void;
  now: () => number;
  /** How long a source may be away; 30,000 by default. */
  patienceMs?: number | undefined;
  /** Tests kill the agent at these moments. */
  hook?: ((moment: string) => void | Promise<void>) | undefined;
}

/** A migration that ended here and whose source was not heard to know it. */
export interface Arrived {
  id: string;
  tokenHash: string;
  fingerprint: string;
}

interface GivenTicket extends Arrived {
  expiresMs: number;
}

const ticketMs = 600_000;
const mostTickets = 1024;
const mostArrivals = 64;
const defaultPatienceMs = 30_000;
/** More than the source's window: it never sends more. */
const mostWaitingBytes = 8 * 1024 * 1024;

const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');
const isSame = (a: string, b: string): boolean => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

export class Arrivals {
  readonly #o: ArrivalsOptions;
  readonly #tickets = new Map<string, GivenTicket>();
  readonly #underWay = new Map<string, Arrival>();

  constructor(options: ArrivalsOptions) {
    this.#o = options;
  }

  get committed(): Map<string, Arrived> {
    return this.#o.committed;
  }

  get fingerprint(): string | undefined {
    return this.#o.fingerprint;
  }

  get count(): number {
    return this.#underWay.size;
  }

  /** What a source needs to send a VM here, as host.migrate_receive has it. Throws MIGRATION_REFUSED. */
  ticket(ownUrl: string, options: Record<string, string>): Record<string, string> {
    const { fingerprint } = this.#o;
    const source = options['fingerprint'] ?? '';
    const url = options['url'] ?? ownUrl;
    if (fingerprint === undefined) throw new ShoalError('MIGRATION_REFUSED', 'This host speaks without TLS.', { hint: 'Give its agent a certificate.' });
    if (!/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/.test(source))
      throw new ShoalError('VALUE_NOT_SUPPORTED', 'options: fingerprint must be the SHA-256 of the source\'s certificate, as XX:XX:…', { params: ['options', source, 'fingerprint'] });
    const now = this.#o.now();
    for (const [id, each] of this.#tickets) if (each.expiresMs < now || this.#tickets.size >= mostTickets) this.#tickets.delete(id);
    const [id, token] = [randomUUID(), randomBytes(32).toString('hex')];
    this.#tickets.set(id, { id, tokenHash: hashOf(token), fingerprint: source, expiresMs: now + ticketMs });
    return { id, token, url, fingerprint };
  }

  /** A connection of an agent that has shown a certificate. */
  connected(socket: Duplex, fingerprint: string): void {
    const reader = new FrameReader();
    let arrival: Arrival | undefined;
    let hello = false;
    const refuse = (thrown: unknown): void => {
      const { code, message, hint, data } = asShoalError(thrown);
      socket.end(jsonFrame({ say: 'refused', error: { code, message, hint, data } }));
    };
    socket.on('error', () => socket.destroy());
    socket.on('close', () => arrival?.cut(socket));
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const each of reader.take(chunk)) {
          if (hello) arrival?.take(each);
          else {
            hello = true;
            arrival = this.#hello(socket, fingerprint, each);
          }
        }
      } catch (error) {
        refuse(error);
      }
    });
    setTimeout(() => hello || socket.destroy(), 10_000).unref();
  }

  #hello(socket: Duplex, fingerprint: string, { kind, payload }: Frame): Arrival | undefined {
    const word = kind === kinds.json ? jsonOf(payload) : {};
    const [id, token] = [String(word['id'] ?? ''), String(word['token'] ?? '')];
    if ((this.#tickets.get(id)?.expiresMs ?? Infinity) < this.#o.now()) this.#tickets.delete(id);
    const known = this.#tickets.get(id) ?? this.#underWay.get(id)?.ticket ?? this.committed.get(id);
    const may = known !== undefined && isSame(known.tokenHash, hashOf(token)) && known.fingerprint === fingerprint;
    if (word['say'] === 'ask' || word['say'] === 'released') {
      // Of what nobody here remembers it is certain that it was not committed.
      if (known !== undefined && !may) throw new ShoalError('MIGRATION_REFUSED', 'The migration is not this host\'s.');
      void this.#answer(socket, id, word['say'] === 'released').catch(() => socket.destroy());
      return undefined;
    }
    if (word['say'] !== 'hello' || !may) throw new ShoalError('MIGRATION_REFUSED', 'There is no such order, or it was used or is too old.', { hint: 'Give the order again.' });
    let arrival = this.#underWay.get(id);
    if (arrival === undefined) {
      if (!this.#tickets.delete(id)) throw new ShoalError('MIGRATION_FAILED', 'The migration has ended.');
      if (this.#underWay.size >= mostArrivals) throw new ShoalError('HOST_LIMIT', `${mostArrivals} VMs are on their way to this host.`);
      const record = parseRecord(Buffer.from(JSON.stringify(word['record'] ?? null)));
      arrival = new Arrival(this.#o, known, record, choicesOf(word), this.committed);
      this.#underWay.set(id, arrival);
      const { ended } = arrival;
      void ended.finally(() => this.#underWay.delete(id));
    }
    arrival.connected(socket);
    return arrival;
  }

  async #answer(socket: Duplex, id: string, released: boolean): Promise<void> {
    const underWay = this.#underWay.get(id);
    if (underWay !== undefined && !this.committed.has(id)) {
      underWay.leave(released ? 'abort' : 'asked');
      await underWay.ended;
    }
    this.#tickets.delete(id);
    const committed = this.committed.has(id);
    if (committed && released) {
      this.committed.delete(id);
      await this.#o.fleet.journal?.append({ arrivalOver: id });
    }
    socket.end(jsonFrame({ say: committed ? 'committed' : 'unknown' }));
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    for (const each of this.#underWay.values()) each.leave('abort');
    await Promise.all([...this.#underWay.values()].map(({ ended }) => ended));
  }
}

function choicesOf(word: Record<string, unknown>): ArrivalChoices {
  const { networks, ip } = word;
  const map = typeof networks === 'object' && networks !== null ? (networks as Record<string, string>) : {};
  return { networks: map, ...(typeof ip === 'string' ? { ipv4: ip } : {}) };
}

class Arrival {
  readonly ticket: Arrived;
  /** Resolves, and never rejects, when nothing of it is under way any more. */
  readonly ended: Promise<void>;
  readonly #o: ArrivalsOptions;
  readonly #record: SavedRecord;
  readonly #choices: ArrivalChoices;
  readonly #committed: Map<string, Arrived>;
  readonly #abort = new AbortController();
  readonly #bytes = new ByteQueue(mostWaitingBytes);
  readonly #image = new ByteQueue(mostWaitingBytes * 16);
  #state: TargetState = 'reserved';
  #socket: Duplex | undefined;
  #patience: NodeJS.Timeout | undefined;
  #vm: Vm | undefined;
  #needImage = false;
  #deciding = false;
  #ready = false;
  #told: Promise<void> | undefined;
  readonly #phases: Record<string, number> = {};
  #commit: () => void = () => {};
  #failed: (error: ShoalError) => void = () => {};
  readonly #order: Promise<void>;

  constructor(options: ArrivalsOptions, { id, tokenHash, fingerprint }: Arrived, record: SavedRecord, choices: ArrivalChoices, committed: Map<string, Arrived>) {
    this.#o = options;
    this.ticket = { id, tokenHash, fingerprint };
    this.#record = record;
    this.#choices = choices;
    this.#committed = committed;
    this.#order = new Promise((resolve, reject) => {
      this.#commit = resolve;
      this.#failed = reject;
    });
    this.#order.catch(() => {});
    this.#bytes.onTaken = (offset) => this.#say({ say: 'ack', offset });
    this.ended = this.#run();
  }

  /** The source's connection, in place of one before. */
  connected(socket: Duplex): void {
    clearTimeout(this.#patience);
    const before = this.#socket;
    this.#socket = socket;
    before?.destroy();
    if (this.#ready || this.#needImage) this.#tellReserved();
    if (this.#state === 'filled') this.#say({ say: 'filled' });
  }

  cut(socket: Duplex): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    this.#patience = setTimeout(() => this.leave('expired'), this.#o.patienceMs ?? defaultPatienceMs);
  }

  take({ kind, payload }: Frame): void {
    if (kind === kinds.data) return this.#bytes.put(payload);
    if (kind === kinds.image) return this.#image.put(payload);
    const { say } = jsonOf(payload);
    if (say === 'image-end') this.#image.end();
    else if (say === 'abort') this.leave('abort');
    else if (say === 'still' && this.#vm !== undefined) void this.#o.takeover.hold(this.#vm, this.#record.vifs.flatMap(({ ipv4 }) => ipv4));
    else if (say === 'commit' && this.#state === 'filled') {
      // From here on nobody may call it off: the disk decides.
      this.#deciding = true;
      this.#commit();
    }
  }

  /** Not what is committed: that stays. */
  leave(event: TargetEvent): void {
    if (this.#state === 'committed' || this.#deciding) return;
    this.#step(event);
    const error = new ShoalError('MIGRATION_FAILED', event === 'expired' ? 'The source was away for too long.' : 'The source called it off.');
    this.#abort.abort();
    this.#failed(error);
    this.#bytes.fail(error);
    this.#image.fail(error);
  }

  async #run(): Promise<void> {
    // In a turn of its own: whoever made it has yet to say where it connects to.
    await Promise.resolve();
    const { runner, fleet, log, hypervisor } = this.#o;
    let vm: Vm | undefined;
    try {
      checkFeatures(this.#record, await hypervisor.cpuFeatures());
      await this.#takeImage();
      const { otherConfig } = this.#record;
      // Until it is here for good it belongs to nobody's fleet.
      vm = admit({ ...this.#record, otherConfig: {} }, fleet, (image) => this.#o.images.has(image as Digest), { ...this.#choices, moved: true });
      if (vm.uuid !== this.#record.uuid) throw new ShoalError('MIGRATION_REFUSED', 'A VM with this uuid is here already.');
      vm.arriving = true;
      this.#vm = vm;
      const arriving = vm;
      await runner.lanes.run(vm.uuid, 'migrate_receive', 'refuse', this.#abort.signal, async (signal) => {
        signal.addEventListener('abort', () => this.leave('abort'), { once: true });
        const { steps } = await runner.launch(arriving, false, signal, {
          goesOn: true,
          incoming: this.ticket.id,
          fill: (domid, shape) => this.#fill(domid, shape),
          gate: () => this.#gate(arriving, otherConfig),
        });
        this.#say({ say: 'committed', phases: { ...this.#phases, ...steps } });
      });
      log(`vm ${vm.name}: arrived from another host`);
      void this.#o.takeover.announce(vm);
      // From now on it needs no journal to be known.
      await hypervisor.seal(vm.domid!, sealOf(vm, false)).catch(() => {});
      runner.look(vm);
    } catch (thrown) {
      const { code, message, hint, data } = asShoalError(thrown);
      this.#step('failed');
      this.#say({ say: 'refused', error: { code, message, hint, data } });
      log(`vm ${this.#record.name}: did not arrive: ${message}`);
      if (vm !== undefined) {
        await this.#o.takeover.giveUp(vm);
        await fleet.drop(vm).catch(() => {});
      }
    } finally {
      clearTimeout(this.#patience);
      this.#bytes.fail(new ShoalError('MIGRATION_FAILED', 'The migration has ended.'));
    }
  }

  async #takeImage(): Promise<void> {
    const { images } = this.#o;
    const { image } = this.#record;
    if (!isDigest(image)) throw new ShoalError('IMAGE_UNKNOWN', 'The VM has no image.');
    if (images.has(image)) return;
    this.#needImage = true;
    this.#tellReserved();
    await images.put(image, this.#image);
    this.#needImage = false;
  }

  async #fill(...[domid, shape]: Parameters<Hypervisor['writeMemory']>): Promise<void> {
    const writer = this.#o.hypervisor.writeMemory(domid, shape);
    try {
      this.#ready = true;
      this.#tellReserved();
      const source = new SavedSource(this.#bytes, false);
      const sent = await source.record();
      if ((['uuid', 'image', 'memoryKib'] as const).some((key) => sent[key] !== this.#record[key]))
        throw new ShoalError('SAVED_VM_INVALID', 'Another VM was sent than was announced.');
      await source.fill({
        piece: (bytes) => writer.piece(bytes),
        end: async (state) => {
          const begun = performance.now();
          await writer.end(state, () => {
            this.#phases['end'] = performance.now() - begun;
            (this.#told = this.#filled()).catch(() => {});
          });
        },
        close: () => {},
      });
    } finally {
      writer.close();
    }
  }

  /** Its memory is whole. What else a launch does is done until the source's word comes; when that fails, it is told instead of an answer. */
  async #filled(): Promise<void> {
    this.#step('filled');
    await this.#o.hook?.('filled');
    this.#say({ say: 'filled' });
  }

  /** Between the seal and the last step: the source says whether. */
  async #gate(vm: Vm, otherConfig: Record<string, string>): Promise<void> {
    const { fleet, hook } = this.#o;
    await (this.#told ?? this.#filled());
    await this.#order;
    await hook?.('commit');
    vm.wanted = 'running';
    vm.otherConfig = otherConfig;
    vm.arrivedBy = this.ticket.id;
    const begun = performance.now();
    try {
      await fleet.journal?.append({ put: toJournal(vm), arrived: this.ticket });
    } catch (error) {
      await this.#takeBack();
      throw error;
    }
    this.#phases['journal'] = performance.now() - begun;
    this.#state = nextOfTarget(this.#state, 'commit');
    delete vm.arriving;
    fleet.markKept([vm.uuid]);
    this.#committed.set(this.ticket.id, this.ticket);
    await hook?.('committed');
  }

  /** An entry that failed may be on the disk all the same. Another one in its place says that it is not, and until that is there nobody is told anything. */
  async #takeBack(): Promise<void> {
    for (;;) {
      try {
        await this.#o.fleet.journal?.append({ arrivalOver: this.ticket.id });
        this.#deciding = false;
        return;
      } catch (error) {
        this.#o.log(`vm ${this.#record.name}: its arrival cannot be decided: ${asShoalError(error).message}`);
        await sleep(1000);
      }
    }
  }

  #tellReserved(): void {
    const addresses = (this.#vm?.vifs ?? []).flatMap(({ ipv4 }) => ipv4);
    this.#say({ say: 'reserved', offset: this.#bytes.received, needImage: this.#needImage, addresses });
  }

  #say(word: object): void {
    if (this.#socket?.writable === true) this.#socket.write(jsonFrame(word));
  }

  #step(event: TargetEvent): void {
    if (this.#state !== 'none') this.#state = nextOfTarget(this.#state, event);
  }
}
