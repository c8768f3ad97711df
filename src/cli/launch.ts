/** The one call that makes VMs and starts them, as its clients here see it. */
import type { ShoalError } from '../model/errors.ts';
import type { LaunchedVm, LaunchResult, LaunchSpec } from '../xenapi/plugin-types.ts';
import type { CallOptions, Client } from './client.ts';
import { errorOf } from './failure.ts';

export type { LaunchedVm };

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
  const answer = await client.plugin<LaunchResult>('launch', { spec: JSON.stringify(spec) }, { timeoutMs, ...options });
  return { vms: answer.vms, error: answer.error === undefined ? undefined : errorOf(answer.error) };
}
