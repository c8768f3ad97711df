/** The seam between the deployment repository and whoever rolls out what it asks for. */
import type { Desired } from '../../model/desired.ts';

export interface RolloutStatus {
  /** Counter of the release that it is about. */
  release: number;
  state: 'idle' | 'rolling' | 'paused' | 'rolling-back' | 'done' | 'rolled-back' | 'failed';
  reason?: string | undefined;
}

export interface RolloutControl {
  /** Idempotent: the same commit may come again, after each start of the controller. Resolves when it is kept durably. */
  begin(desired: Desired): Promise<void>;
  /** Undefined when nothing is known of the service. */
  status(tenant: string, service: string): RolloutStatus | undefined;
}
