/**
 * Many VMs in one call: launched, stopped, destroyed. A bulk launch checks everything that can be known before it takes anything;
 * what it started stays when a later one fails, and the error names those that were not started.
 */
import type { Snapshot, VifBackend } from '../hypervisor/port.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Domid, Uuid } from '../model/ids.ts';
import { expectShareable, type Definitions, type DiskDefinition, type VmDefinition } from './definitions.ts';
import type { Fleet } from './fleet.ts';
import { throwIfAborted } from './lanes.ts';
import type { Launched } from './launch.ts';
import type { Runner } from './runner.ts';
import { checkName } from './vm.ts';

export interface LaunchSpec {
  /** One VM of this name, or … */
  name?: string;
  /** … `count` of them, named prefix-first, prefix-(first+1), … */
  prefix?: string;
  count?: number;
  /** 1 when left out. */
  first?: number;
  /** Uuid of a running VM: they are copies of it, as it is when the call begins; image, memory and args are its own. */
  clone?: string;
  /** Needed, as memoryKib is, where nothing is cloned. */
  image?: string;
  memoryKib?: number;
  /** By default the host's first network, of copies the original's; "" for none. */
  network?: string;
  /** With `name` only: the address it is to have. */
  ip?: string;
  /** With `prefix` only: the addresses they are to have, one each, in their order. */
  ips?: readonly string[];
  args?: string;
  /** What carries the frames of its vif; by default what the network prefers and the image can. */
  backend?: VifBackend;
  /** What it may send, in kbit/s; needs the switch. */
  rateKbit?: number;
  /** Of all its vifs: it forwards for others. */
  lockingMode?: 'unlocked';
  /** In place of `network` and `ip`: several vifs, numbered in this order. An address with `name` only. */
  vifs?: readonly { network: string; ip?: string }[];
  /** By name or uuid; more than one VM can have them read-only. */
  disks?: readonly DiskDefinition[];
  /** Launches of this call at once; by default and at most what the host allows. */
  concurrency?: number;
}

export interface LaunchedVm extends Launched {
  uuid: Uuid;
  name: string;
  domid: Domid;
  ip: string;
  mac: string;
  /** When its launch began, in milliseconds after the call began. */
  startMs: number;
}

export interface BulkLaunch {
  vms: LaunchedVm[];
  error?: ShoalError;
}

/** One VM of `launchEach`. */
export interface EachSpec {
  name: string;
  image: string;
  memoryKib: number;
  args?: string;
  vifs?: { network: string; ip?: string; also?: string[]; lockingMode?: 'unlocked' }[];
  otherConfig?: Record<string, string>;
}

export interface EachResult {
  name: string;
  vm?: LaunchedVm;
  error?: ShoalError;
}

export interface BulkResult {
  done: number;
  failed: { uuid: string; error: ShoalError }[];
}

export const bulkMax = 10_000;
/** VMs ended at once: what they ask of switch, store and journal leaves in one write. */
const atOnce = 64;

export class Bulk {
  readonly #fleet: Fleet;
  readonly #definitions: Definitions;
  readonly #runner: Runner;
  readonly #launches: number;

  constructor(fleet: Fleet, definitions: Definitions, runner: Runner, launches: number) {
    this.#fleet = fleet;
    this.#definitions = definitions;
    this.#runner = runner;
    this.#launches = launches;
  }

  /**
   * Throws when nothing could be started, with the reason itself. Otherwise returns what was started, and LAUNCH_INCOMPLETE
   * beside it when that is not all. `progress` is called with 0..1.
   */
  async launch(spec: LaunchSpec, signal: AbortSignal, progress: (part: number) => void = () => {}): Promise<BulkLaunch> {
    const names = namesOf(spec);
    const original = spec.clone === undefined ? undefined : this.#fleet.need(spec.clone);
    if (original !== undefined) expectShareable(original);
    const network = spec.network ?? (original === undefined ? this.#fleet.networks()[0]?.name : original.vifs[0]?.network) ?? '';
    const { backend, rateKbit, lockingMode } = original === undefined ? spec : (original.vifs[0] ?? {});
    const definition = (name: string, ip: string | undefined): VmDefinition => ({
      name,
      image: original?.image ?? spec.image ?? '',
      memoryKib: original?.memoryKib ?? spec.memoryKib ?? 0,
      args: original?.args ?? spec.args ?? '',
      ...(network === '' ? {} : { network }),
      ...(ip === undefined ? {} : { ipv4: ip }),
      ...(spec.vifs === undefined ? {} : { vifs: spec.vifs.map((vif) => ({ network: vif.network, ipv4: vif.ip, backend, rateKbit, lockingMode })) }),
      backend,
      rateKbit,
      lockingMode,
      disks: original === undefined ? spec.disks : original.vbds,
    });
    if (names.length > 1 && spec.disks?.some(({ readonly }) => readonly !== true)) {
      throw new ShoalError('DISK_IN_USE', 'Several VMs cannot write to one disk.', { hint: 'Give it to them read-only, or launch them one by one with a disk each.' });
    }
    const ips = spec.ip === undefined ? (spec.ips ?? []) : [spec.ip];
    this.#definitions.check(definition(names[0]!, ips[0]));
    const from = original === undefined ? undefined : await this.#runner.snapshot(original, signal);
    const giveBack = this.#fleet.promiseNames(names);
    const vms: LaunchedVm[] = [];
    const notStarted: string[] = [];
    let failure: ShoalError | undefined;
    const began = performance.now();
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < names.length && failure === undefined) {
        const i = next++;
        const name = names[i]!;
        try {
          vms.push(await this.#one(definition(name, ips[i]), signal, performance.now() - began, from));
          progress(vms.length / names.length);
        } catch (error) {
          failure ??= asShoalError(error);
          notStarted.push(name);
        }
      }
    };
    try {
      const workers = Math.min(spec.concurrency ?? this.#launches, this.#launches, names.length);
      await Promise.all(Array.from({ length: workers }, worker));
    } finally {
      giveBack();
    }
    if (failure === undefined) return { vms };
    if (vms.length === 0) throw failure;
    notStarted.push(...names.slice(next));
    return {
      vms,
      error: new ShoalError('LAUNCH_INCOMPLETE', `${vms.length} of ${names.length} VMs were started, then: ${failure.message}`, {
        data: {
          started: vms.length,
          notStarted,
          reason: { code: failure.code, message: failure.message, hint: failure.hint, data: failure.data },
        },
      }),
    };
  }

  /**
   * Launches VMs that differ, each for itself: one that fails keeps none of the others from starting. Names are held for all from
   * the first moment on, so whoever asks again for one of them meanwhile is refused, whatever has become of this call.
   */
  async launchEach(
    specs: readonly EachSpec[],
    signal: AbortSignal,
    progress: (part: number) => void = () => {},
  ): Promise<EachResult[]> {
    const began = performance.now();
    const results: EachResult[] = specs.map(({ name }) => ({ name }));
    const promises = results.map((result) => {
      try {
        return this.#fleet.promiseNames([checkName(result.name)]);
      } catch (error) {
        result.error = asShoalError(error);
        return () => {};
      }
    });
    let next = 0;
    let done = 0;
    const worker = async (): Promise<void> => {
      while (next < specs.length) {
        const i = next++;
        const result = results[i]!;
        if (result.error === undefined) {
          try {
            result.vm = await this.#one(definitionOf(specs[i]!), signal, performance.now() - began, undefined);
          } catch (error) {
            result.error = asShoalError(error);
          }
          promises[i]!();
        }
        progress(++done / specs.length);
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#launches, specs.length) }, worker));
    return results;
  }

  async #one(definition: VmDefinition, signal: AbortSignal, startMs: number, from: Snapshot | undefined): Promise<LaunchedVm> {
    throwIfAborted(signal);
    const vm = this.#definitions.make(definition, true);
    try {
      const launched = await (from === undefined
        ? this.#runner.start(vm, false, signal)
        : this.#runner.startCopy(vm, from, signal));
      const vif = vm.vifs[0];
      return {
        ...launched,
        uuid: vm.uuid,
        name: vm.name,
        ip: vif?.ipv4[0] ?? '',
        mac: vif?.mac ?? '',
        startMs: Math.round(startMs),
      };
    } catch (error) {
      await this.#fleet.drop(vm);
      throw error;
    }
  }

  /** Powers VMs off: asks them and waits, or ends them at once with `force`. Halted ones count as done. */
  stop(uuids: readonly string[] | 'all', force: boolean, timeoutMs: number, signal: AbortSignal): Promise<BulkResult> {
    return this.#each(uuids, signal, async (uuid) => {
      const vm = this.#fleet.need(uuid);
      if (vm.power === 'Halted' && this.#runner.lanes.current(vm.uuid) === undefined) return;
      if (force || vm.power === 'Paused') await this.#runner.hardShutdown(vm, signal);
      else await this.#runner.cleanShutdown(vm, timeoutMs, signal);
    });
  }

  /** Ends VMs where they run, and takes them out for good. */
  destroy(uuids: readonly string[] | 'all', signal: AbortSignal): Promise<BulkResult> {
    return this.#each(uuids, signal, (uuid) => this.#runner.destroy(this.#fleet.need(uuid), true, signal));
  }

  async #each(uuids: readonly string[] | 'all', signal: AbortSignal, work: (uuid: string) => Promise<void>): Promise<BulkResult> {
    const domidOf = (uuid: string): number => this.#fleet.get(uuid)?.domid ?? 0;
    // The youngest domains have the least numbers, and Xen finds those first.
    const todo = (uuids === 'all' ? [...this.#fleet.all()].map((vm) => vm.uuid as string) : [...uuids]).sort((a, b) => domidOf(a) - domidOf(b));
    const result: BulkResult = { done: 0, failed: [] };
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < todo.length) {
        const uuid = todo[next++]!;
        try {
          throwIfAborted(signal);
          await work(uuid);
          result.done++;
        } catch (error) {
          result.failed.push({ uuid, error: asShoalError(error) });
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, todo.length) }, worker));
    return result;
  }
}

const definitionOf = ({ name, image, memoryKib, args, vifs, otherConfig }: EachSpec): VmDefinition => ({
  name,
  image,
  memoryKib,
  args: args ?? '',
  otherConfig: otherConfig ?? {},
  vifs: (vifs ?? []).map(({ network, ip, also, lockingMode }) => ({ network, ipv4: ip, also, lockingMode: lockingMode === 'unlocked' ? lockingMode : undefined })),
});

function namesOf(spec: LaunchSpec): string[] {
  if (spec.name !== undefined) return [checkName(spec.name)];
  const first = spec.first ?? 1;
  return Array.from({ length: spec.count ?? 1 }, (_, i) => checkName(`${spec.prefix}-${first + i}`));
}
