/**
 * One start of one domain: the port's fixed steps, timed, each of which may be the last; from a shell only the later of them.
 * Whatever ends it early (an error, a cancel) takes the domain away again, so that a launch is whole or was never there. A crash of the agent is handled by the next
 * agent: see verdict.ts.
 */
import type { DomainConfig, DomainShape, HostFacts, Hypervisor } from '../hypervisor/port.ts';
import { ShoalError } from '../model/errors.ts';
import type { Domid } from '../model/ids.ts';
import { throwIfAborted } from './lanes.ts';

export const launchSteps = ['create', 'build', 'register', 'attachVif', 'seal', 'unpause'] as const;
export type LaunchStep = (typeof launchSteps)[number];

export interface Launched {
  domid: Domid;
  /** Milliseconds of each step; attachVif is the sum over the vifs; a start from a shell has no create and build, one that stays paused no unpause. */
  steps: Partial<Record<LaunchStep, number>>;
  ms: number;
}

/** Called with "create" right before a step and "after:create" right after it; what it returns is waited for. */
export type StepHook = (moment: string) => void | Promise<void>;

/** In place of `build`: makes a shell of an empty domain. */
export type Fill = (domid: Domid, shape: DomainShape) => Promise<void>;

export interface LaunchOptions {
  /** A domain of the right shape that is built already. */
  shell: Domid | undefined;
  /** What fills its memory, in place of the image. */
  fill: Fill | undefined;
  /** Waited for before the last step; once it came back the domain is no longer taken away. */
  gate: (() => Promise<void>) | undefined;
  /** What `seal` is given, asked for right before that step. */
  record: () => string;
  /** Leave the domain paused. */
  paused: boolean;
  signal: AbortSignal;
  hook: StepHook | undefined;
  /** Called as soon as the domain has a number. */
  onDomid: (domid: Domid) => void;
  /** Called once the domain's memory is taken (build is done) or given up. */
  onMemory: () => void;
  /** Called between seal and unpause: the domain is whole. What it returns is waited for at the end. */
  onSealed: () => Promise<void>;
}

export async function launch(hypervisor: Hypervisor, config: DomainConfig, options: LaunchOptions): Promise<Launched> {
  const { signal, hook } = options;
  const began = performance.now();
  const steps: Launched['steps'] = {};
  let domid = options.shell;
  let committed = false;
  const step = async (name: LaunchStep, work: () => Promise<unknown>): Promise<void> => {
    throwIfAborted(signal);
    if (hook !== undefined) await hook(name);
    const from = performance.now();
    await work();
    steps[name] = round((steps[name] ?? 0) + performance.now() - from);
    if (hook !== undefined) await hook(`after:${name}`);
  };
  try {
    if (domid === undefined) {
      await step('create', async () => {
        domid = await hypervisor.create(config);
        options.onDomid(domid);
      });
      await step('build', async () => {
        if (options.fill === undefined) return hypervisor.build(domid!, config);
        // What waits for another host's word says so in its record: whole or not, it is nobody's until then. Done later it would be standstill.
        if (options.gate !== undefined) await hypervisor.sealEarly(domid!, config, options.record());
        return options.fill(domid!, config);
      });
    } else {
      options.onDomid(domid);
    }
    const made = domid!;
    options.onMemory();
    await step('register', () => hypervisor.register(made, config));
    for (const vif of config.vifs) await step('attachVif', () => hypervisor.attachVif(made, vif));
    await step('seal', () => hypervisor.seal(made, options.record()));
    const kept = options.onSealed();
    // Watched before the next await, so that a failure meanwhile is not an unhandled one.
    kept.catch(() => {});
    if (options.gate !== undefined) {
      await options.gate();
      committed = true;
    }
    // Of what is committed, a last step that fails is left to whoever looks at the VM next.
    if (!options.paused) await step('unpause', () => hypervisor.unpause(made)).catch((error: unknown) => (committed ? undefined : Promise.reject(error)));
    await kept;
    return { domid: made, steps, ms: round(performance.now() - began) };
  } catch (error) {
    options.onMemory();
    if (domid !== undefined && !committed) {
      await hypervisor.destroy(domid).catch((cause: unknown) => {
        throw new RollbackFailed(domid!, error, cause);
      });
    }
    throw error;
  }
}

/** The launch failed with `reason`, and the domain could not be taken away again either. */
export class RollbackFailed extends Error {
  readonly domid: Domid;
  readonly reason: unknown;

  constructor(domid: Domid, reason: unknown, cause: unknown) {
    super(`domain ${domid} could not be destroyed after its launch failed`, { cause });
    this.domid = domid;
    this.reason = reason;
  }
}

const round = (ms: number): number => Math.round(ms * 1000) / 1000;

/**
 * Memory that was promised to launches under way but not taken from Xen yet: two launches at once must not both count on the last
 * MiB.
 */
export class MemoryGate {
  readonly #hypervisor: Hypervisor;
  /** Left free for Xen itself and for dom0's next grant or page table. */
  readonly #reserveKib: number;
  #promisedKib = 0;

  constructor(hypervisor: Hypervisor, reserveKib: number) {
    this.#hypervisor = hypervisor;
    this.#reserveKib = reserveKib;
  }

  /** Whether there is memory for one more domain now. */
  async fits(memoryKib: number): Promise<boolean> {
    return memoryKib + domainOverheadKib <= this.#availableKib(await this.#hypervisor.facts());
  }

  /** Promises memory for one domain; the result ends the promise. Throws HOST_NOT_ENOUGH_FREE_MEMORY. */
  async admit(memoryKib: number): Promise<() => void> {
    const needKib = memoryKib + domainOverheadKib;
    const facts = await this.#hypervisor.facts();
    // Nothing is waited for between this look and the promise, or two launches could both count on the same memory.
    const availableKib = this.#availableKib(facts);
    if (needKib > availableKib) {
      throw new ShoalError(
        'HOST_NOT_ENOUGH_FREE_MEMORY',
        `The VM needs ${needKib} KiB, the host has ${availableKib} KiB to give.`,
        {
          params: [String(needKib * 1024), String(availableKib * 1024)],
          data: { needKib, availableKib },
        },
      );
    }
    this.#promisedKib += needKib;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#promisedKib -= needKib;
    };
  }

  #availableKib({ freeKib }: HostFacts): number {
    return Math.max(0, freeKib - this.#reserveKib - this.#promisedKib);
  }
}

/**
 * What Xen takes for a small domain beside its memory (struct, vCPU, shared info, page-table and grant pages): 70 KiB measured.
 */
export const domainOverheadKib = 72;
