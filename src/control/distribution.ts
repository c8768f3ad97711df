/**
 * Brings images to hosts before VMs of them are launched. A host is given an order and fetches by itself: a delta against an image it has,
 * inside the order when it is small; else the whole image from a neighbour that has it; else from this controller. Few hosts at a time take
 * a whole image from here, and those that wait find neighbours when their turn comes. A host that cannot fetch has the bytes pushed.
 *
 * What hosts have is asked when it matters and believed until a launch says otherwise.
 */
import type { Capabilities } from '../image/capability.ts';
import type { DeltaStore } from '../image/deltas.ts';
import { blobPath, deltaPath, type Served, type Shelf } from '../image/serving.ts';
import { orderLimits, type FetchOrder, type FetchReport, type ImageSource } from '../model/distribution.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';
import type { Images } from './http/route.ts';
import type { Bringer, HostUnit } from './host-unit.ts';

export interface DistributionOptions {
  images: Images;
  /** Without it images go whole. */
  deltas?: DeltaStore | undefined;
  capabilities: Capabilities;
  /** Where hosts reach this controller; undefined: they cannot, and small deltas, neighbours and pushes are what there is. */
  origin?: { url: string; fingerprint: string } | undefined;
  units: () => Iterable<HostUnit>;
  log: (line: string) => void;
  /** Deltas up to so many bytes go inside of the order; orderLimits.inlineDeltaBytes by default. */
  inlineBytes?: number | undefined;
}

export interface Brought extends Omit<FetchReport, 'how'> {
  how: FetchReport['how'] | 'pushed';
}

/** Whole images that leave this controller at once, fetched or pushed. */
const mostFromHere = 4;
/** Whole images that one host gives to neighbours at once. */
const mostFromHost = 4;
/** Images of a host that a delta is tried against. */
const mostBases = 3;
/** A delta of so small a part of the image is not compared with others. */
const goodPart = 0.1;
/** Of what a host has; it has some few. */
const mostKnown = 10_000;

/** A minute, and more for what is large: 256 KiB a second is expected of the slowest. */
const timeoutOf = (bytes: number): number => Math.min(orderLimits.timeoutMs - 60_000, 60_000 + Math.ceil(bytes / 256));

export class Distribution implements Bringer {
  readonly #o: DistributionOptions;
  /** By name of the host; 'any' for one that does not say. */
  readonly #known = new Map<string, Set<string> | 'any'>();
  readonly #underWay = new Map<string, Promise<Brought>>();
  readonly #giving = new Map<string, number>();
  #fromHere = 0;
  readonly #waiting: (() => void)[] = [];
  readonly totals = { had: 0, delta: 0, whole: 0, pushed: 0, failed: 0, bytes: 0 };

  constructor(options: DistributionOptions) {
    this.#o = options;
  }

  /** What the controller serves to hosts. */
  shelf(): Shelf {
    const { images, deltas, capabilities } = this.#o;
    return { capabilities, blob: (digest) => images.file?.(digest), ...(deltas === undefined ? {} : { delta: (from, to) => deltas.get(from, to) }) };
  }

  has(unit: HostUnit, image: string): boolean {
    const known = this.#known.get(unit.record.name);
    return known === 'any' || known?.has(image) === true;
  }

  /** A launch said that the image is not there. */
  forget(unit: HostUnit, image: string): void {
    const known = this.#known.get(unit.record.name);
    if (known === 'any') this.#known.delete(unit.record.name);
    else known?.delete(image);
  }

  /** Never rejects: a launch without its image says so itself. */
  async bring(unit: HostUnit, image: string): Promise<void> {
    try {
      await this.ensure(unit, image as Digest);
    } catch (thrown) {
      const { code, message } = asShoalError(thrown);
      this.#o.log(`${unit.record.name}: the image ${image} could not be brought: ${code}: ${message}`);
    }
  }

  /**
   * Resolves when the host has the image. Asked twice at once it is done once. Throws IMAGE_UNKNOWN when it is kept neither here nor by a
   * host that can be reached, and what the last attempt failed with.
   */
  ensure(unit: HostUnit, digest: Digest): Promise<Brought> {
    if (this.has(unit, digest)) return Promise.resolve({ digest, how: 'had', source: -1, bytes: 0, failures: [] });
    const key = `${unit.record.name} ${digest}`;
    const under = this.#underWay.get(key);
    if (under !== undefined) return under;
    const work = this.#bring(unit, digest)
      .then(
        (brought) => {
          this.totals[brought.how]++;
          this.totals.bytes += brought.bytes;
          if (brought.how !== 'had') this.#o.log(`${unit.record.name}: has the image ${digest} now: ${brought.how}, ${brought.bytes} bytes`);
          return brought;
        },
        (error: unknown) => {
          this.totals.failed++;
          throw error;
        },
      )
      .finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, work);
    return work;
  }

  async #bring(unit: HostUnit, digest: Digest): Promise<Brought> {
    const { name } = unit.record;
    let known = this.#known.get(name);
    if (known === undefined || known === 'any') {
      const listed = await unit.link.images();
      known = listed === undefined ? 'any' : new Set(listed.slice(0, mostKnown));
      this.#known.set(name, known);
    }
    if (known === 'any' || known.has(digest)) return { digest, how: 'had', source: -1, bytes: 0, failures: [] };
    const brought = await this.#byDelta(unit, digest, known).then((done) => done ?? this.#whole(unit, digest));
    known.add(digest);
    return brought;
  }

  /** Undefined: there is none, or it was of no use. */
  async #byDelta(unit: HostUnit, digest: Digest, known: Set<string>): Promise<Brought | undefined> {
    const { deltas, origin } = this.#o;
    const size = this.#sizeOf(digest);
    if (deltas === undefined || size === undefined) return undefined;
    let best: { from: Digest; file: Served } | undefined;
    for (const from of this.#bases(digest, size, known)) {
      const file = await deltas.need(from, digest);
      if (file !== undefined && (best === undefined || file.bytes < best.file.bytes)) best = { from, file };
      if (best !== undefined && best.file.bytes <= size * goodPart) break;
    }
    if (best === undefined) return undefined;
    const { from, file } = best;
    const source = file.bytes <= (this.#o.inlineBytes ?? orderLimits.inlineDeltaBytes) ? { delta: await deltas.text(file), from } : this.#here(deltaPath(from, digest), from);
    if (source === undefined || (origin === undefined && 'url' in source)) return undefined;
    try {
      return await unit.link.fetchImage(orderOf(digest, size, [source]));
    } catch (thrown) {
      const error = asShoalError(thrown);
      if (error.code !== 'FETCH_FAILED' && error.code !== 'HOST_UNSUPPORTED') throw error;
      const failures = (error.data['failures'] ?? []) as FetchReport['failures'];
      if (failures.some(({ code }) => code === 'DELTA_INVALID')) await deltas.drop(from, digest);
      // The host passed it over: it lost the image that the delta is against.
      else if (error.code === 'FETCH_FAILED') known.delete(from);
      this.#o.log(`${unit.record.name}: the delta of ${from} to ${digest} was of no use: ${error.message}`);
      return undefined;
    }
  }

  /** Images of the host that are kept here too, those of nearly the same size first, then the newest: most like it is its own last version. */
  #bases(digest: Digest, size: number, known: ReadonlySet<string>): Digest[] {
    const apart = (bytes: number): number => Math.round((20 * Math.abs(bytes - size)) / size);
    return this.#o.images
      .list()
      .filter((image) => image.digest !== digest && known.has(image.digest))
      .sort((a, b) => apart(a.fileBytes) - apart(b.fileBytes) || (b.addedMs ?? 0) - (a.addedMs ?? 0))
      .slice(0, mostBases)
      .map((image) => image.digest as Digest);
  }

  async #whole(unit: HostUnit, digest: Digest): Promise<Brought> {
    const size = this.#sizeOf(digest);
    const giver = this.#neighbour(unit, digest);
    if (giver !== undefined && size !== undefined) {
      const { name } = giver.record;
      this.#giving.set(name, (this.#giving.get(name) ?? 0) + 1);
      try {
        const source = await giver.link.offerImage(digest);
        return await unit.link.fetchImage(orderOf(digest, size, [source]));
      } catch (thrown) {
        const error = asShoalError(thrown);
        this.#o.log(`${unit.record.name}: ${name} did not give ${digest}: ${error.code}: ${error.message}`);
        if (error.code === 'IMAGE_UNKNOWN') this.forget(giver, digest);
      } finally {
        const left = this.#giving.get(name)! - 1;
        if (left === 0) this.#giving.delete(name);
        else this.#giving.set(name, left);
      }
    }
    return this.#fromController(unit, digest, giver === undefined);
  }

  /** `wait`: a neighbour may have it when the turn comes, and is asked first then. */
  async #fromController(unit: HostUnit, digest: Digest, wait: boolean): Promise<Brought> {
    const size = this.#sizeOf(digest);
    if (size === undefined) throw new ShoalError('IMAGE_UNKNOWN', `The image ${digest} is not kept by this controller.`, { data: { image: digest } });
    if (this.#fromHere >= mostFromHere) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      if (wait && this.#neighbour(unit, digest) !== undefined) {
        // The turn goes to the next.
        this.#waiting.shift()?.();
        return this.#whole(unit, digest);
      }
    }
    this.#fromHere++;
    try {
      const source = this.#here(blobPath(digest));
      if (source !== undefined) {
        try {
          return await unit.link.fetchImage(orderOf(digest, size, [source]));
        } catch (thrown) {
          const error = asShoalError(thrown);
          if (error.code !== 'FETCH_FAILED' && error.code !== 'HOST_UNSUPPORTED') throw error;
          this.#o.log(`${unit.record.name}: cannot fetch ${digest} by itself: ${error.message}`);
        }
      }
      const bytes = await this.#o.images.bytes(digest);
      if (bytes === undefined) throw new ShoalError('IMAGE_UNKNOWN', `The image ${digest} is not kept by this controller.`, { data: { image: digest } });
      await unit.link.putImage(digest, bytes);
      return { digest, how: 'pushed', source: -1, bytes: bytes.length, failures: [] };
    } finally {
      this.#fromHere--;
      this.#waiting.shift()?.();
    }
  }

  /** A host that has it and gives it to few. */
  #neighbour(unit: HostUnit, digest: Digest): HostUnit | undefined {
    let best: HostUnit | undefined;
    let least: number = mostFromHost;
    for (const other of this.#o.units()) {
      const known = this.#known.get(other.record.name);
      if (other === unit || !other.up || other.record.dead || known === undefined || known === 'any' || !known.has(digest)) continue;
      const giving = this.#giving.get(other.record.name) ?? 0;
      if (giving < least) [best, least] = [other, giving];
    }
    return best;
  }

  #sizeOf(digest: Digest): number | undefined {
    return this.#o.images.list().find((image) => image.digest === digest)?.fileBytes;
  }

  #here(path: string, from?: Digest): ImageSource | undefined {
    const { origin, capabilities } = this.#o;
    if (origin === undefined) return undefined;
    return { url: new URL(capabilities.grant(path), origin.url).href, fingerprint: origin.fingerprint, ...(from === undefined ? {} : { from }) };
  }
}

const orderOf = (digest: Digest, sizeBytes: number, sources: ImageSource[]): FetchOrder => ({ digest, sizeBytes, sources, timeoutMs: timeoutOf(sizeBytes) });
