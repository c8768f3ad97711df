/** How a release's rollout ended, as a pipeline wants to know it. */
import { ShoalError } from '../../model/errors.ts';
import type { ReleaseManifest } from '../../model/manifest.ts';
import type { Control } from '../control.ts';
import type { Terminal } from '../terminal.ts';

export interface Outcome {
  outcome: 'pushed' | 'done' | 'rolled-back' | 'failed' | 'superseded' | 'under-way';
  reason?: string;
}

/** Exit codes of `shoal ci publish`. */
export const exitCodes: Record<Outcome['outcome'], number> = { pushed: 0, done: 0, 'rolled-back': 3, failed: 4, superseded: 5, 'under-way': 6 };

interface View {
  release: { counter: number };
  rollout?: { release: number; state: string; reason?: string };
}

const pollMs = 250;

/** Throws what the controller says when it cannot be asked for longer than a minute. */
export async function awaitRollout(control: Control, terminal: Terminal, { tenant, service, counter }: ReleaseManifest, timeoutMs: number): Promise<Outcome> {
  const deadline = performance.now() + timeoutMs;
  let answered = performance.now();
  let last = 'not yet accepted';
  for (;;) {
    try {
      const { release, rollout } = await control.call<View>('GET', `/v1/deployment/services/${tenant}/${service}`);
      answered = performance.now();
      if (release.counter > counter || (rollout !== undefined && rollout.release > counter)) return { outcome: 'superseded', reason: `release ${Math.max(release.counter, rollout?.release ?? 0)} came after it` };
      if (rollout?.release === counter) {
        const { state, reason } = rollout;
        if (state === 'done' || state === 'rolled-back' || state === 'failed') return { outcome: state, ...(reason === undefined ? {} : { reason }) };
        last = reason === undefined ? state : `${state}: ${reason}`;
      }
    } catch (error) {
      // A service is there once its first commit is accepted; a controller may be starting.
      const { code } = error as ShoalError;
      if (code === 'NOT_FOUND') answered = performance.now();
      else if (!['CONNECTION_FAILED', 'TIMEOUT', 'REPOSITORY_FAILED'].includes(code) || performance.now() - answered > 60_000) throw error;
    } finally {
      terminal.status(`release ${counter} of ${tenant}/${service}: ${last}`);
    }
    if (performance.now() > deadline) {
      terminal.status('');
      return { outcome: 'under-way', reason: last };
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
