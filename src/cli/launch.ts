/** The one call that makes VMs and starts them, as its clients here see it. */
import type { ShoalError } from '../model/errors.ts';
import type { CallOptions, Client } from './client.ts';
import { errorOf, type WireError } from './failure.ts';

export interface LaunchSpec {
  name?: string;
  prefix?: string;
  count?: number;
  first?: number;
  image: string;
  memoryKib: number;
  network?: string;
  ip?: string;
  args?: string;
  concurrency?: number;
}

export interface LaunchedVm {
  ref: string;
  uuid: string;
  name: string;
  domid: number;
  ip: string;
  mac: string;
  /** Milliseconds on the host, step by step. */
  steps: Record<string, number>;
  /** All steps together. */
  ms: number;
}

export interface Launched {
  vms: LaunchedVm[];
  /** LAUNCH_INCOMPLETE when not all could be started. */
  error: ShoalError | undefined;
}

/** A second a VM is far more than any takes; the bound is there for a host that hangs. */
const timeoutMsOf = (count: number): number => 60_000 + 1_000 * count;

/** Throws when nothing could be started. */
export async function launch(client: Client, spec: LaunchSpec, options: CallOptions = {}): Promise<Launched> {
  const timeoutMs = timeoutMsOf(spec.count ?? 1);
  const answer = await client.plugin<{ vms: LaunchedVm[]; error?: WireError }>(
    'launch',
    { spec: JSON.stringify(spec) },
    { timeoutMs, ...options },
  );
  return { vms: answer.vms, error: answer.error === undefined ? undefined : errorOf(answer.error) };
}
