/**
 * A host agent over the simulator in a folder of its own; `crash` drops the agent as a kill would and opens the next over the
 * same simulator.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAgent, type AgentOptions, type HostAgent } from '../../../src/host/agent.ts';
import { parseIpv4, type Network } from '../../../src/host/networks.ts';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import { SimHypervisor, type SimOptions } from '../../../src/hypervisor/sim/sim.ts';
import { ImageStore } from '../../../src/image/store.ts';
import { ShoalError, type ErrorCode } from '../../../src/model/errors.ts';
import type { Digest } from '../../../src/model/ids.ts';
import type { KernelImage } from '../../../src/model/kernel.ts';

export const network: Network = {
  name: 'default',
  bridge: 'xenbr0',
  subnet: { prefix: 16, gateway: parseIpv4('10.64.0.1')!, first: parseIpv4('10.64.1.0')!, last: parseIpv4('10.64.250.255')! },
};

export const imageBytes = Buffer.from('\x7fELF: not really, but the store is told what to take for one');
export const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
export const image = digestOf(imageBytes);

export function parseFake(bytes: Uint8Array): KernelImage {
  if (bytes[0] !== 0x7f) throw new ShoalError('IMAGE_NOT_ELF', 'not an ELF file');
  return {
    digest: digestOf(bytes),
    fileBytes: bytes.length,
    pages: bytes,
    memoryBytes: 512 * 1024,
    virtBase: 0x400000n,
    entry: 0x400000n,
    hypercallPage: undefined,
    sharedBytes: 0,
    wired: true,
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
export const chunks = once;

export interface Rig {
  sim: SimHypervisor;
  agent: HostAgent;
  stateDir: string;
  log: string[];
  /** As kill -9 and a new start. The old agent must be idle, or stopped for good in a launch step. */
  crash(options?: Partial<AgentOptions>): Promise<HostAgent>;
  close(): Promise<void>;
}

/** `through`: what each agent gets in place of the simulator itself. */
export async function makeRig(simOptions: SimOptions = {}, options: Partial<AgentOptions> = {}, through: (sim: SimHypervisor) => Hypervisor = (sim) => sim): Promise<Rig> {
  const stateDir = await mkdtemp(join(tmpdir(), 'shoal-agent-'));
  const sim = new SimHypervisor(simOptions);
  const log: string[] = [];
  const open = async (more: Partial<AgentOptions>): Promise<HostAgent> => {
    const images = await ImageStore.open(join(stateDir, 'images'), { parse: parseFake });
    if (!images.has(image)) await images.put(image, once(imageBytes));
    return openAgent({ hypervisor: through(sim), images, stateDir, networks: [network], shells: 0, log: (line) => log.push(line), ...more });
  };
  const rig: Rig = {
    sim,
    agent: await open(options),
    stateDir,
    log,
    crash: async (more = {}) => {
      rig.agent.runner.close();
      await rig.agent.fleet.journal!.close();
      rig.agent = await open(more);
      return rig.agent;
    },
    close: async () => {
      await rig.agent.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
  return rig;
}

/** The code of the ShoalError that a promise ends in; 'none' when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'none' | string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return error instanceof ShoalError ? error.code : String(error);
  }
}

/** Waits until a condition holds; fails after `timeoutMs`. */
export async function until(condition: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const began = performance.now();
    if (condition()) return;
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    // Looking takes a quarter of the time at most.
    await new Promise((resolve) => setTimeout(resolve, Math.max(5, 3 * (performance.now() - began))));
  }
}
