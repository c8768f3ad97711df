/**
 * The yardstick: `xl create` of the same image on the same host, with one vif on the same bridge, until its first echo reply. xl
 * runs in dom0, so each sample begins with a command over the lab's open ssh connection; what an empty command takes there
 * (measured in the same run, median) is subtracted, which counts the way back in xl's favour.
 */
import type { LabHost, Pinger } from '../../lab/lab.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { p50 } from './statistics.ts';

export interface XlSample {
  /** VMs that were running, those of Shoal. */
  running: number;
  ms: number;
}

const kernel = '/run/shoal-yardstick/kernel.elf';
const configuration = '/run/shoal-yardstick/vm.cfg';
const domainName = 'xl-yardstick';
const emptyCommands = 7;
/** xl itself: in the lab, `xl` in the path is a wrapper that starts the console daemon when it is first needed. */
const xl = '$(ls /usr/lib/xen-*/bin/xl 2>/dev/null || echo xl)';
/** xl needs 2 to 3 s without load where Xen is emulated, and more beside a thousand guests. */
const xlTimeoutMs = 180_000;

export interface XlOptions {
  host: LabHost;
  pinger: Pinger;
  memoryKib: number;
  /** Free on the host's bridge. */
  address: string;
}

/** Pure; exported for its test. */
export function xlConfiguration({
  memoryKib,
  address,
  gateway,
  prefixLength,
}: {
  memoryKib: number;
  address: string;
  gateway: string;
  prefixLength: number;
}): string {
  return [
    `name = "${domainName}"`,
    'type = "pv"',
    `kernel = "${kernel}"`,
    // xl counts memory in MiB and builds no PV guest under 4.
    `memory = ${Math.max(4, Math.ceil(memoryKib / 1024))}`,
    'vcpus = 1',
    `vif = ["bridge=xenbr0,mac=${macOf(address)}"]`,
    `extra = "name=${domainName} ip=${address}/${prefixLength} gw=${gateway}"`,
    'on_crash = "preserve"',
    '',
  ].join('\n');
}

/** A MAC address in Xen's range that goes with the address. */
const macOf = (address: string): string =>
  `00:16:3e:${address
    .split('.')
    .slice(1)
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join(':')}`;

export class Xl {
  readonly #options: XlOptions;
  #emptyMs = NaN;

  constructor(options: XlOptions) {
    this.#options = options;
  }

  /** Milliseconds of an empty command in dom0. */
  get emptyMs(): number {
    return this.#emptyMs;
  }

  /**
   * Puts image and configuration into dom0, makes one VM that does not count (daemons start, files are read), and measures the
   * empty command.
   */
  async prepare(imageFile: string): Promise<void> {
    const { host, memoryKib, address } = this.#options;
    await this.#must('mkdir -p /run/shoal-yardstick');
    await host.put(imageFile, kernel);
    const prefixLength = Number(host.cidr.split('/')[1]);
    await this.#must(`cat > ${configuration}`, xlConfiguration({ memoryKib, address, gateway: host.gateway, prefixLength }));
    const times: number[] = [];
    for (let i = 0; i < emptyCommands; i++) {
      const began = process.hrtime.bigint();
      await this.#must(':');
      times.push(Number(process.hrtime.bigint() - began) / 1e6);
    }
    this.#emptyMs = p50(times);
    await this.#must(`xl create -q ${configuration}`);
    await this.clear();
  }

  /** One VM made, answered, destroyed. Throws LAB_FAILED with xl's words. */
  async sample(running: number): Promise<XlSample> {
    const { host, pinger, address } = this.#options;
    const echo = pinger.firstReply(address, xlTimeoutMs).catch((error: unknown) => asShoalError(error));
    const began = process.hrtime.bigint();
    const made = await host.exec(`${xl} create -q ${configuration}`, { timeoutMs: xlTimeoutMs });
    try {
      if (made.code !== 0)
        throw new ShoalError('LAB_FAILED', `xl create: exit code ${made.code}: ${made.stderr.trim() || made.stdout.trim()}`);
      const at = await echo;
      if (typeof at !== 'bigint') throw at;
      return { running, ms: Number(at - began) / 1e6 - this.#emptyMs };
    } finally {
      await this.clear();
    }
  }

  /** Takes the VM away, if there is one. */
  async clear(): Promise<void> {
    await this.#options.host.exec(`${xl} destroy ${domainName} 2>/dev/null`, { timeoutMs: xlTimeoutMs });
  }

  async #must(command: string, input?: string): Promise<void> {
    const result = await this.#options.host.exec(command, { timeoutMs: xlTimeoutMs, ...(input === undefined ? {} : { input }) });
    if (result.code !== 0) throw new ShoalError('LAB_FAILED', `dom0: ${command}: ${result.stderr.trim()}`);
  }
}
