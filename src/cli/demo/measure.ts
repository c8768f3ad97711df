/**
 * How long until a VM answers? The clock starts just before the request for it is handed to an open connection, and stops when
 * the first echo reply reaches a process outside of the Xen host. Both are CLOCK_MONOTONIC of one machine. Requests are made in a
 * closed loop: the next one goes out when the call before has returned, while replies to pings are awaited beside it.
 */
import type { Pinger } from '../../lab/lab.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { Client } from '../client.ts';
import type { WireError } from '../../xenapi/plugin-types.ts';
import { errorOf } from '../failure.ts';
import { launch, type LaunchedVm } from '../launch.ts';

export interface Boot {
  name: string;
  address: string;
  /** Where the controller placed it; undefined when one host was asked straight. */
  host?: string;
  /** VMs that were running when it was asked for. */
  running: number;
  /** Asked for in one request with others: its time is that of the request until its own reply. */
  together?: true;
  /** Milliseconds from the request to the first echo reply; undefined when none came in time. */
  ms: number | undefined;
  /** Milliseconds from the request to the end of the call; of a controller: until it says that the VM runs. */
  replyMs: number;
  /** Milliseconds the host itself spent on it; NaN when a controller was asked, which does not tell. */
  hostMs: number;
  /** The host's milliseconds, step by step; empty when a controller was asked. */
  steps: Record<string, number>;
}

export interface BootOptions {
  client: Client;
  pinger: Pinger;
  image: string;
  memoryKib: number;
  args?: string;
  /** Uuid of a running VM that they are to be copies of. */
  clone?: string;
  /** How long a VM may take to answer. */
  answerMs: number;
  /** Told after each call, and after each answer. */
  onChange?: () => void;
  signal: AbortSignal;
}

interface EachOutcome {
  vm?: LaunchedVm;
  error?: WireError;
}

export const msBetween = (from: bigint, to: bigint): number => Number(to - from) / 1e6;

/**
 * Boots the named VMs, one request each. `boots` grows as they start, so that a caller can watch it; it resolves when all have
 * answered or not.
 */
export async function bootEach(
  vms: readonly { name: string; address: string }[],
  runningBefore: number,
  boots: Boot[],
  options: BootOptions,
): Promise<ShoalError | undefined> {
  const answers: Promise<void>[] = [];
  let failure: ShoalError | undefined;
  let running = runningBefore;
  for (const { name, address } of vms) {
    if (options.signal.aborted) break;
    let requested = 0n;
    const echo = options.pinger.firstReply(address, options.answerMs).then(
      (at) => at,
      (error: unknown) => asShoalError(error),
    );
    let vm: LaunchedVm;
    try {
      vm = await launchOne(options, name, address, () => (requested = process.hrtime.bigint()));
    } catch (error) {
      failure = asShoalError(error);
      break;
    }
    const boot: Boot = {
      name,
      address,
      running,
      ms: undefined,
      replyMs: msBetween(requested, process.hrtime.bigint()),
      hostMs: vm.ms,
      steps: vm.steps,
    };
    running++;
    boots.push(boot);
    answers.push(
      echo.then((at) => {
        if (typeof at === 'bigint') boot.ms = msBetween(requested, at);
        // A pinger that ended answers for no VM: that is no measurement at all.
        else if (at.code !== 'TIMEOUT') failure ??= at;
        options.onChange?.();
      }),
    );
    options.onChange?.();
    if (failure !== undefined) break;
  }
  await Promise.all(answers);
  return failure;
}

/** VMs of one request: what dom0 can carry beside the questions whether they answer. */
const requestMost = 16;

/** As bootEach, many in a request; the next request goes out when the call before has returned. */
export async function bootTogether(
  vms: readonly { name: string; address: string }[],
  runningBefore: number,
  boots: Boot[],
  options: BootOptions & { network: string },
): Promise<ShoalError | undefined> {
  const { client, pinger, image, memoryKib, answerMs, network, onChange, signal } = options;
  const answers: Promise<void>[] = [];
  let failure: ShoalError | undefined;
  for (let from = 0; from < vms.length && failure === undefined && !signal.aborted; from += requestMost) {
    const part = vms.slice(from, from + requestMost);
    let requested = 0n;
    const echoes = part.map(({ address }) => pinger.firstReply(address, answerMs).then((at) => at, (error: unknown) => asShoalError(error)));
    try {
      const specs = part.map(({ name, address }) => ({ name, image, memoryKib, vifs: [{ network, ip: address }] }));
      const { results } = await client.plugin<{ results: EachOutcome[] }>('launch-each', { specs }, {
        timeoutMs: 60_000 + 1000 * part.length,
        onWrite: () => (requested = process.hrtime.bigint()),
      });
      for (const [i, { vm, error }] of results.entries()) {
        if (vm === undefined) {
          failure ??= error === undefined ? new ShoalError('INTERNAL_ERROR', 'The host started nothing and gave no reason.') : errorOf(error);
          continue;
        }
        const boot: Boot = {
          ...part[i]!,
          running: runningBefore + from + i,
          together: true,
          ms: undefined,
          replyMs: msBetween(requested, process.hrtime.bigint()),
          hostMs: vm.ms,
          steps: vm.steps,
        };
        boots.push(boot);
        answers.push(
          echoes[i]!.then((at) => {
            if (typeof at === 'bigint') boot.ms = msBetween(requested, at);
            else if (at.code !== 'TIMEOUT') failure ??= at;
            onChange?.();
          }),
        );
      }
    } catch (error) {
      failure = asShoalError(error);
    }
    onChange?.();
  }
  await Promise.all(answers);
  return failure;
}

async function launchOne(
  { client, image, memoryKib, args, clone }: BootOptions,
  name: string,
  ip: string,
  onWrite: () => void,
): Promise<LaunchedVm> {
  const { vms, error } = await launch(
    client,
    clone === undefined ? { name, ip, image, memoryKib, ...(args === undefined ? {} : { args }) } : { name, ip, clone },
    { onWrite },
  );
  if (vms[0] === undefined) throw error ?? new ShoalError('INTERNAL_ERROR', 'The host started nothing and gave no reason.');
  return vms[0];
}

/** Asked at once: what dom0 can carry beside the answers. */
const askedAtOnce = 8;

/** How many of the addresses answer a ping now. */
export async function countAnswering(pinger: Pinger, addresses: readonly string[], answerMs: number): Promise<number> {
  let answering = 0;
  for (let from = 0; from < addresses.length; from += askedAtOnce) {
    const asked = addresses.slice(from, from + askedAtOnce).map((address) =>
      pinger.firstReply(address, answerMs).then(
        () => answering++,
        () => undefined,
      ),
    );
    await Promise.all(asked);
  }
  return answering;
}
