/**
 * Takes a VM from its record to a running domain: checks, a place among the launches at once, memory, a shell where there is one, then the
 * launch itself (launch.ts). What goes wrong leaves the VM halted and the host as it was.
 */
import type { DomainConfig, DomainShape, Hypervisor } from '../hypervisor/port.ts';
import type { KernelImage } from '../model/kernel.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Digest, Domid } from '../model/ids.ts';
import type { Fleet } from './fleet.ts';
import { Places } from './lanes.ts';
import { launch, MemoryGate, RollbackFailed, type Fill, type Launched, type LaunchOptions, type StepHook } from './launch.ts';
import { Shells } from './shells.ts';
import { cmdlineOf, sealOf, vifsOf, type Vm } from './vm.ts';

export interface StarterOptions {
  hypervisor: Hypervisor;
  fleet: Fleet;
  kernel: (digest: Digest) => Promise<KernelImage>;
  /** Launches at once. */
  launches: number;
  memoryReserveKib: number;
  /** Shells at most. */
  shells: number;
  /** See ShellsOptions.windowMs. */
  shellWindowMs?: number | undefined;
  hook: StepHook | undefined;
  log: (line: string) => void;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** What must be known of a VM to have a shell ready for it. */
export interface ShellDefinition {
  image: Digest;
  memoryKib: number;
  /** Of its one vif; "" for none. */
  network: string;
}

/** A start that is more than a boot. */
export interface SpecialStart {
  /** In place of the image's first moment: what the memory is to be. */
  fill?: Fill;
  /** It was running before, elsewhere or earlier. */
  goesOn?: boolean;
  /** Waited for between the seal and the last step. Once it came back the domain stays, whatever happens. */
  gate?: () => Promise<void>;
  /** As sealOf's. */
  incoming?: string;
}

export class Starter {
  readonly shells: Shells;
  readonly #o: StarterOptions;
  readonly #places: Places;
  readonly #gate: MemoryGate;
  readonly #condemn: (domid: Domid) => void;
  #starting = 0;

  /** `remove` ends a domain, and tries again until it is gone; `condemn` leaves it to those further tries. */
  constructor(options: StarterOptions, remove: (domid: Domid) => Promise<void>, condemn: (domid: Domid) => void) {
    this.#o = options;
    this.#condemn = condemn;
    this.#places = new Places(options.launches);
    this.#gate = new MemoryGate(options.hypervisor, options.memoryReserveKib);
    this.shells = new Shells({
      hypervisor: options.hypervisor,
      most: options.shells,
      fits: (memoryKib) => this.#gate.fits(memoryKib),
      remove,
      log: options.log,
      ...(options.shellWindowMs === undefined ? {} : { windowMs: options.shellWindowMs }),
    });
  }

  /** VMs that are on their way, or wait for their turn. */
  get starting(): number {
    return this.#starting;
  }

  /** Inside the VM's lane. The VM's domain, and what is wanted of it, are set on success and as before on failure. */
  async start(vm: Vm, paused: boolean, signal: AbortSignal, special: SpecialStart = {}): Promise<Launched> {
    const config = await this.#configOf(vm);
    const { fleet } = this.#o;
    const { startedMs: startedBefore, wanted: wantedBefore } = vm;
    if (special.goesOn !== true) vm.startedMs = this.#o.now();
    sealOf(vm, paused, special.incoming);
    this.#starting++;
    // What waits for another host keeps no place from those that do not.
    const leave = special.gate !== undefined ? () => {} : await this.#places.take(signal).catch((error: unknown) => {
      this.#starting--;
      throw error;
    });
    this.shells.startBegins();
    try {
      return await this.#launch(config, {
        record: () => sealOf(vm, paused, special.incoming),
        paused,
        signal,
        fill: special.fill,
        gate: special.gate,
        hook: this.#o.hook,
        onDomid: (domid) => fleet.place(vm, domid),
        onSealed: async () => {
          if (special.gate !== undefined) return;
          vm.wanted = paused ? 'paused' : 'running';
          return fleet.keep(vm);
        },
      });
    } catch (error) {
      fleet.place(vm, undefined);
      vm.startedMs = startedBefore;
      if (error instanceof RollbackFailed) this.#condemn(error.domid);
      const wanted = wantedBefore === 'suspended' ? 'suspended' : 'halted';
      if (vm.wanted !== wanted) {
        vm.wanted = wanted;
        if (fleet.isKept(vm)) await fleet.keep(vm).catch(() => {});
      }
      throw error instanceof RollbackFailed ? error.reason : error;
    } finally {
      this.#starting--;
      this.shells.startEnds();
      leave();
    }
  }

  shapeOf(vm: Vm): Promise<DomainShape> {
    return this.#configOf(vm);
  }

  /** Shells of what this VM would be started as. */
  async prepare(vm: Vm, count: number): Promise<number> {
    return this.shells.prepare(await this.#configOf(vm), count);
  }

  /** Shells for VMs that nobody has defined yet. Throws IMAGE_UNKNOWN, IMAGE_TOO_LARGE, NETWORK_UNKNOWN. */
  async prepareFor({ image, memoryKib, network }: ShellDefinition, count: number): Promise<number> {
    if (network !== '') this.#checkNetwork(network);
    const vifs = network === '' ? [] : [{ handle: 0, network }];
    return this.shells.prepare({ image: await this.#kernelOf(image, memoryKib), memoryKib, vifs }, count);
  }

  /** What all starts since the agent's own have asked of the store, where the hypervisor has one. */
  storeCounts(): { requests: number; changes: number } | undefined {
    return this.#o.hypervisor.storeCounts?.();
  }

  async #launch(config: DomainConfig, options: Omit<LaunchOptions, 'onMemory' | 'shell'>): Promise<Launched> {
    const { hypervisor, log } = this.#o;
    // A copy has pages of its own to lay in, and nothing of a shell's to use.
    // Shells are of the usual shapes; one with disks would wait in vain.
    const shell = options.fill === undefined && config.vbds === undefined ? this.shells.take(config) : undefined;
    if (shell !== undefined) {
      try {
        return await launch(hypervisor, config, { ...options, shell, onMemory: () => {} });
      } catch (error) {
        if (error instanceof RollbackFailed || options.signal.aborted) throw error;
        log(`vm ${config.name}: its shell (domain ${shell}) was no good: ${asShoalError(error).message}`);
      }
    }
    const release = await this.#admit(config.memoryKib);
    try {
      return await launch(hypervisor, config, { ...options, shell: undefined, onMemory: release });
    } finally {
      release();
    }
  }

  /** Memory for one domain; shells give way to it. */
  async #admit(memoryKib: number): Promise<() => void> {
    try {
      return await this.#gate.admit(memoryKib);
    } catch (error) {
      if (asShoalError(error).code !== 'HOST_NOT_ENOUGH_FREE_MEMORY') throw error;
      if (!(await this.shells.giveWay(() => this.#gate.fits(memoryKib)))) throw error;
      return this.#gate.admit(memoryKib);
    }
  }

  async #configOf(vm: Vm): Promise<DomainConfig> {
    const image = await this.#kernelOf(vm.image, vm.memoryKib);
    for (const vif of vm.vifs) this.#checkNetwork(vif.network);
    const cmdline = cmdlineOf(vm, (name) => this.#o.fleet.network(name));
    const { disks } = this.#o.fleet;
    const vbds = vm.vbds.map(({ index, disk, readonly }) => ({ index, readonly, path: disks.pathOf(disks.need(disk)) }));
    return { uuid: vm.uuid, name: vm.name, memoryKib: vm.memoryKib, image, cmdline, vifs: vifsOf(vm), ...(vbds.length === 0 ? {} : { vbds }) };
  }

  async #kernelOf(digest: Digest, memoryKib: number): Promise<KernelImage> {
    const image = await this.#o.kernel(digest);
    if (image.memoryBytes <= memoryKib * 1024) return image;
    throw new ShoalError('IMAGE_TOO_LARGE', `The image needs ${image.memoryBytes / 1024} KiB, the VM has ${memoryKib} KiB.`, {
      data: { imageKib: image.memoryBytes / 1024, memoryKib },
    });
  }

  #checkNetwork(name: string): void {
    this.#o.fleet.needNetwork(name);
    const known = this.#o.hypervisor.networks();
    if (known.includes(name)) return;
    throw new ShoalError('NETWORK_UNKNOWN', `The hypervisor cannot attach to network "${name}".`, {
      data: { network: name, known },
    });
  }
}
