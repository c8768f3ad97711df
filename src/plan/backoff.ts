/** How long a slot that failed waits, and when it has made good. */
import type { SlotMemory } from '../model/fleet.ts';
import type { RestartPolicy } from '../model/service.ts';

/** The first failure waits `firstMs`, each further one twice as long, up to `maxMs`. */
export function backoffMs(policy: RestartPolicy, failures: number): number {
  if (failures <= 0) return 0;
  return Math.min(policy.maxMs, policy.firstMs * 2 ** Math.min(failures - 1, 40));
}

/** The moment from which on the slot may be tried again; 0 when at once. */
export const mayTryAtMs = (policy: RestartPolicy, memory: SlotMemory | undefined): number =>
  memory === undefined ? 0 : memory.lastFailureMs + backoffMs(policy, memory.failures);

/** The memory after one more failure. One that ran for `resetAfterMs` before it begins anew. */
export function afterFailure(
  policy: RestartPolicy,
  memory: SlotMemory | undefined,
  nowMs: number,
  ranForMs: number,
  host: SlotMemory['host'],
): SlotMemory {
  const before = memory === undefined || ranForMs >= policy.resetAfterMs ? 0 : memory.failures;
  return { failures: before + 1, lastFailureMs: nowMs, host };
}
