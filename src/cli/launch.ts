/** The one call that makes VMs and starts them, as its clients here see it. */
import type { LaunchedVm, LaunchResult, LaunchSpec } from '../xenapi/plugin-types.ts';
import type { CallOptions, Client } from './client.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import { errorOf } from './failure.ts';
import { Progress } from './progress.ts';
import { portionOf } from './format.ts';
import type { Terminal } from './terminal.ts';

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

/** As `launch`, with a bar and in portions where there are many. A name that is taken is found before any of them is started. */
export async function launchMany(terminal: Terminal, client: Client, spec: LaunchSpec): Promise<Launched> {
  const { prefix, count = 1, first = 1 } = spec;
  const portion = portionOf(count);
  if (prefix === undefined || count <= portion) return launch(client, spec);
  const names = Array.from({ length: count }, (_, i) => `${prefix}-${first + i}`);
  const { held } = await client.plugin<{ held: string[] }>('held', { names });
  if (held[0] !== undefined)
    throw new ShoalError('NAME_IN_USE', `There is a VM "${held[0]}" already; no VM was started.`, { params: [held[0]], data: { name: held[0] } });
  const progress = new Progress(terminal, { label: 'starting', total: count });
  const vms: LaunchedVm[] = [];
  try {
    for (let done = 0; done < count; done += portion) {
      const part = await launch(client, { ...spec, count: Math.min(portion, count - done), first: first + done });
      vms.push(...part.vms);
      if (part.error !== undefined) return { vms, error: part.error };
      progress.update(vms.length);
    }
    return { vms, error: undefined };
  } catch (error) {
    if (vms.length === 0) throw error;
    return { vms, error: asShoalError(error) };
  } finally {
    progress.end();
  }
}
