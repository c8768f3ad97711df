/** What is measured beside a fleet that runs: a start from shells, the list of all VMs, news of a change, destroying many. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../src/cli/client.ts';
import { launch } from '../../src/cli/launch.ts';
import { bootEach, type Boot } from '../../src/cli/demo/measure.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import type { HostFacts } from '../../src/cli/verbs/host-show.ts';
import { destroyVms } from '../../src/cli/verbs/vm-power.ts';
import { findVms, listVms } from '../../src/cli/vms.ts';
import type { LabHost, Pinger } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { lastLines, run } from '../../src/lab/processes.ts';
import { asShoalError, ShoalError } from '../../src/model/errors.ts';
import type { BulkOutcome, LaunchSpec, Listing, ShellsLimited, ShellsPrepared, ShellSpec } from '../../src/xenapi/plugin-types.ts';

/** What a host with a fleet is measured through. */
export interface Bench {
  terminal: Terminal;
  client: Client;
  host: LabHost;
  pinger: Pinger;
  image: string;
  memoryKib: number;
  signal: AbortSignal;
}

/** VMs started from shells beside a number of others. */
export interface ShellSample {
  /** The others. */
  running: number;
  boots: Boot[];
  /** Of the store, for each. */
  changesPerVm: number;
}

const answerMs = 60_000;
const longMs = 900_000;

/** Sets how many shells the host may have; resolves with how many it might have had before. */
export async function limitShells(client: Client, most: number): Promise<number> {
  return (await client.plugin<ShellsLimited>('shells', { most: String(most) }, { timeoutMs: longMs })).before;
}

/** NaN where the host has no store. */
export async function storeChanges(client: Client): Promise<number> {
  return (await client.plugin<HostFacts>('facts')).store?.changes ?? NaN;
}

/**
 * Has a shell made for each of the VMs, starts them in the closed loop, and takes them away again; the pool is off after it, as
 * it was before.
 */
export async function bootFromShells(
  { terminal, client, pinger, image, memoryKib, signal }: Bench,
  vms: readonly { name: string; address: string }[],
  running: number,
): Promise<ShellSample> {
  const boots: Boot[] = [];
  const before = await storeChanges(client);
  let after: number;
  let error: ShoalError | undefined;
  try {
    await limitShells(client, vms.length);
    const prepare: ShellSpec = { image, memoryKib, count: vms.length };
    const { ready } = await client.plugin<ShellsPrepared>('shells', { prepare }, { timeoutMs: longMs });
    if (ready < vms.length)
      throw new ShoalError('LAB_FAILED', `Only ${ready} of ${vms.length} shells could be made beside ${running} VMs.`, {
        hint: 'See the log of the agent on the host.',
      });
    error = await bootEach(vms, running, boots, { client, pinger, image, memoryKib, answerMs, signal });
    after = await storeChanges(client);
  } finally {
    await limitShells(client, 0);
  }
  if (boots.length > 0) {
    const made = await findVms(
      client,
      boots.map(({ name }) => name),
    );
    const { failed } = await destroyVms(terminal, client, made);
    error ??= failed[0]?.error;
  }
  if (error !== undefined) throw error;
  // One that found its shell bad was built for itself.
  return { running, boots: boots.filter(({ steps }) => !('create' in steps)), changesPerVm: (after - before) / boots.length };
}

/** Seconds of `shoal vm list` as it is typed, the median of `runs`. */
export async function timeList({ host }: Bench, least: number, runs = 3): Promise<number> {
  const seconds: number[] = [];
  for (let i = 0; i < runs; i++) {
    const began = performance.now();
    const { code, stdout, stderr } = await run([join(repositoryRoot, 'shoal'), 'vm', 'list'], {
      env: { SHOAL_HOST: host.url, SHOAL_CA: host.caFile, SHOAL_PASSWORD_FILE: host.passwordFile },
    });
    seconds.push((performance.now() - began) / 1000);
    const lines = stdout.trimEnd().split('\n').length - 1;
    if (code !== 0 || lines < least)
      throw new ShoalError('LAB_FAILED', `shoal vm list: exit code ${code}, ${lines} lines: ${lastLines(stderr, 2)}`);
  }
  return p50(seconds);
}

/** By then a call that waits has arrived at the host. */
const settleMs = 100;

/** Milliseconds from the request that changes a VM to the moment another client, which waits for news, has it. */
export async function timeEvents(changer: Client, watcher: Client, ref: string, changes: number): Promise<number[]> {
  let { token } = await watcher.plugin<Listing>('list', { columns: ['uuid'], names: [] });
  /** Resolves when the watcher has news of the VM, and with when that was. */
  const news = async (): Promise<number> => {
    for (;;) {
      const answer = await watcher.call<{ events: { ref: string }[]; token: string }>('event.from', [['VM'], token, 30]);
      const at = performance.now();
      token = answer.token;
      if (answer.events.some((event) => event.ref === ref)) return at;
      if (answer.events.length === 0) throw new ShoalError('TIMEOUT', 'A change to a VM was not told within 30 s.');
    }
  };
  const times: number[] = [];
  for (let i = 1; i <= changes; i++) {
    const told = news();
    told.catch(() => undefined);
    await sleep(settleMs);
    let written = NaN;
    await changer.call('VM.set_name_description', [ref, `changed ${i} times`], { onWrite: () => (written = performance.now()) });
    times.push((await told) - written);
  }
  return times;
}

/** Milliseconds for each of the VMs of those names, destroyed in one call. */
export async function timeDestroy({ client }: Bench, names: readonly string[]): Promise<number> {
  const vms = (await findVms(client, names)).map(({ uuid }) => uuid);
  const began = performance.now();
  const { done, failed } = await client.plugin<BulkOutcome>('destroy', { vms }, { timeoutMs: longMs });
  const tookMs = performance.now() - began;
  if (failed[0] !== undefined)
    throw new ShoalError('LAB_FAILED', `${failed.length} of ${vms.length} VMs were not destroyed: ${failed[0].message}`);
  return tookMs / done;
}

/** A service that is slow to start: so many thousand rounds of arithmetic in the guest before it answers. */
export const warmThousands = 100_000;

/** VMs that a service grows by. */
export const growth = 20;
const rounds = 3;
/** Addresses that it all takes: each VM has one that nobody had before it. */
export const cloneAddresses = 2 * (1 + rounds * 2 * growth);

export interface CloneSample {
  /** p50s of a growth by so many VMs, in milliseconds a VM: starts of VMs that do the work, copies of one that has done it. */
  started: number;
  cloned: number;
  /** The same of `ping` without such work. */
  plainStarted: number;
  plainCloned: number;
}

/** Copies against starts, so many of them in one request, until all of them answer; all of them are destroyed again. */
export async function timeClones(
  { terminal, client, pinger, image, memoryKib }: Bench,
  addresses: readonly string[],
  prefix: string,
): Promise<CloneSample> {
  const left = [...addresses];
  const all = new RegExp(`^${prefix}`);
  const clear = async (keep?: string): Promise<void> => {
    const made = (await listVms(client, ['name'])).map(({ name }) => name).filter((name) => all.test(name) && name !== keep);
    await destroyVms(terminal, client, await findVms(client, made));
  };
  const grow = async (spec: LaunchSpec): Promise<number> => {
    const ips = left.splice(0, growth);
    const echoes = ips.map((ip) => pinger.firstReply(ip, answerMs).then((at) => at, (failure: unknown) => asShoalError(failure)));
    const began = process.hrtime.bigint();
    const { error } = await launch(client, { ...spec, count: growth, ips });
    let last = began;
    for (const at of await Promise.all(echoes)) {
      if (typeof at !== 'bigint') throw error ?? at;
      if (at > last) last = at;
    }
    return Number(last - began) / 1e6 / growth;
  };
  const pair = async (kind: string, args: string): Promise<[number, number]> => {
    const original = `${prefix}${kind}`;
    const ip = left.shift()!;
    await Promise.all([pinger.firstReply(ip, answerMs), launch(client, { name: original, ip, image, memoryKib, args })]);
    const clone = (await findVms(client, [original]))[0]!.uuid;
    const started: number[] = [];
    const cloned: number[] = [];
    for (let round = 0; round < rounds; round++) {
      started.push(await grow({ prefix: `${original}start`, image, memoryKib, args }));
      await clear(original);
      cloned.push(await grow({ prefix: `${original}copy`, clone }));
      await clear(original);
    }
    return [p50(started), p50(cloned)];
  };
  try {
    await clear();
    const [started, cloned] = await pair('warm', `warm=${warmThousands}`);
    const [plainStarted, plainCloned] = await pair('plain', '');
    return { started, cloned, plainStarted, plainCloned };
  } finally {
    await clear();
  }
}
