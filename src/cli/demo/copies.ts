/**
 * How long until a copy of a service answers? Asked of the controller, one more copy at a time: the clock starts just before the
 * request that raises the service's count is sent, and stops when the first echo reply of the new copy reaches a process outside
 * of the Xen hosts. Both are CLOCK_MONOTONIC of one machine. Closed loop, as in measure.ts: the next copy is asked for when the
 * controller has said that the one before runs.
 *
 * The controller chooses host and address, and tells them before it asks the host; the pinger is set on the address then. A guest
 * that announced itself earlier still is known to the pinger, which listens to all, so a late word costs no more than its own delay.
 */
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Control, Event } from '../control.ts';
import { msBetween, type Boot } from './measure.ts';

/** A copy as the controller's events show it. */
export interface ShownCopy {
  name: string;
  slot: number;
  host: string;
  address: string;
  state: string;
  ready: boolean;
}

const longMs = 60_000;

/** What the controller tells of one service, as it comes. */
export class CopyWatch {
  readonly #service: string;
  readonly #slots = new Map<number, Map<string, ShownCopy>>();
  readonly #notes = new Map<number, string>();
  readonly #looks = new Set<() => void>();
  readonly #end = new AbortController();
  #failure: ShoalError | undefined;
  #open = false;

  /** `service`: TENANT/NAME. */
  constructor(service: string) {
    this.#service = service;
  }

  /** Resolves when nothing that happens from now on will be missed. Throws what the controller answered, or TIMEOUT. */
  async follow(control: Control, timeoutMs = longMs): Promise<void> {
    void control
      .events(['vm', 'note'], this.#end.signal, (event) => this.see(event))
      .then(
        () => this.#fail(new ShoalError('CONNECTION_FAILED', 'The controller tells no more.')),
        (error: unknown) => this.#fail(asShoalError(error)),
      );
    if ((await this.until(() => this.#open || undefined, timeoutMs)) === undefined)
      throw new ShoalError('TIMEOUT', 'The controller did not begin to tell what changes.');
  }

  close(): void {
    this.#end.abort();
  }

  see({ kind, data: { op, key, data = {} } }: Event): void {
    if (kind === 'hello') this.#open = true;
    if (kind === 'note' && data['service'] === this.#service) this.#notes.set(Number(data['slot']), String(data['text']));
    if (kind === 'vm' && op === 'del') for (const copies of this.#slots.values()) copies.delete(key);
    if (kind === 'vm' && op === 'put' && `${String(data['tenant'])}/${String(data['service'])}` === this.#service) {
      const copy = data as Omit<ShownCopy, 'address'> & { addresses: string[] };
      const copies = this.#slots.get(copy.slot) ?? new Map<string, ShownCopy>();
      this.#slots.set(copy.slot, copies.set(copy.name, { ...copy, address: copy.addresses[0] ?? '' }));
    }
    for (const look of this.#looks) look();
  }

  of(slot: number): ShownCopy[] {
    return [...(this.#slots.get(slot)?.values() ?? [])];
  }

  /** What was said last of what is not as it should be. */
  noteOf(slot: number): string | undefined {
    return this.#notes.get(slot);
  }

  /** The first thing `look` finds, asked now and after each event; undefined after `timeoutMs` or when `signal` ends it. */
  until<T>(look: () => T | undefined, timeoutMs: number, signal?: AbortSignal): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#looks.delete(again);
        signal?.removeEventListener('abort', none);
      };
      const none = (): void => (end(), resolve(undefined));
      const again = (): void => {
        if (this.#failure !== undefined) return (end(), reject(this.#failure));
        const found = look();
        if (found !== undefined) (end(), resolve(found));
      };
      const timer = setTimeout(none, timeoutMs);
      this.#looks.add(again);
      signal?.addEventListener('abort', none, { once: true });
      again();
    });
  }

  #fail(error: ShoalError): void {
    if (this.#end.signal.aborted) return;
    this.#failure = error;
    for (const look of this.#looks) look();
  }
}

export interface GrowOptions {
  control: Control;
  /** Follows the service already. */
  watch: CopyWatch;
  /** TENANT/NAME; it has `from` copies. */
  service: string;
  /** Resolves with the CLOCK_MONOTONIC nanoseconds of the first echo reply; rejects with TIMEOUT when there is none in time. */
  firstReply: (host: string, address: string) => Promise<bigint>;
  /** How long the controller may take until it says that a copy runs. */
  shownMs?: number;
  /** Told after each copy, and after each answer. */
  onChange?: () => void;
  signal: AbortSignal;
}

/**
 * Grows the service from `from` to `to` copies, one request each. `boots` grows as they run; resolves when all have answered or
 * not, with why it ended early. Then no more copies are wanted than are in `boots`.
 */
export async function growEach(from: number, to: number, boots: Boot[], options: GrowOptions): Promise<ShoalError | undefined> {
  const { control, service, signal, onChange } = options;
  const answers: Promise<void>[] = [];
  let failure: ShoalError | undefined;
  for (let slot = from; slot < to && !signal.aborted && failure === undefined; slot++) {
    const grown = await growOne(slot, options);
    if (grown instanceof ShoalError) {
      failure = grown;
      await control.call('POST', `/v1/services/${service}/scale`, { count: slot }).catch(() => undefined);
      break;
    }
    const { boot, requested, echo } = grown;
    boots.push(boot);
    answers.push(
      echo.then((at) => {
        if (typeof at === 'bigint') boot.ms = msBetween(requested, at);
        // A pinger that ended answers for no VM: that is no measurement at all.
        else if (at.code !== 'TIMEOUT') failure ??= at;
        onChange?.();
      }),
    );
    onChange?.();
  }
  await Promise.all(answers);
  return failure;
}

interface Grown {
  boot: Boot;
  requested: bigint;
  echo: Promise<bigint | ShoalError>;
}

async function growOne(
  slot: number,
  { control, watch, service, firstReply, shownMs = longMs }: GrowOptions,
): Promise<Grown | ShoalError> {
  /** By address: a copy that could not be started is followed by another one. */
  const echoes = new Map<string, Promise<bigint | ShoalError>>();
  const look = (): ShownCopy | string | undefined => {
    for (const { host, address } of watch.of(slot))
      if (!echoes.has(address)) echoes.set(address, firstReply(host, address).catch((error: unknown) => asShoalError(error)));
    const note = watch.noteOf(slot);
    return watch.of(slot).find(({ state, ready }) => state === 'running' && ready) ?? (note?.startsWith('no place') === true ? note : undefined);
  };
  const refused = new AbortController();
  const requested = process.hrtime.bigint();
  try {
    const call = control.call('POST', `/v1/services/${service}/scale`, { count: slot + 1 }).catch((error: unknown) => {
      refused.abort();
      throw error;
    });
    const [, shown] = await Promise.all([call, watch.until(look, shownMs, refused.signal)]);
    const replyMs = msBetween(requested, process.hrtime.bigint());
    if (typeof shown === 'string') return new ShoalError('UNPLACEABLE', `${service} ${slot}: ${shown}`);
    if (shown === undefined) {
      const note = watch.noteOf(slot);
      return new ShoalError(
        'TIMEOUT',
        `Copy ${slot} of ${service} does not run after ${shownMs / 1000} s${note === undefined ? '' : `: ${note}`}.`,
        { hint: `See \`shoal describe ${service}\`.` },
      );
    }
    const { name, address, host } = shown;
    const boot: Boot = { name, address, host, running: slot, ms: undefined, replyMs, hostMs: NaN, steps: {} };
    return { boot, requested, echo: echoes.get(address)! };
  } catch (error) {
    return asShoalError(error);
  }
}
