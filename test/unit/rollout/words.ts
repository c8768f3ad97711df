/** Rollouts by short words, and numbers that look random and are not. */
import type { RolloutPolicy, Version } from '../../../src/model/rollout.ts';
import { begin, type Push } from '../../../src/rollout/machine.ts';
import type { Rollout } from '../../../src/rollout/state.ts';

export const policyOf = (more: Partial<RolloutPolicy> = {}): RolloutPolicy => ({
  mode: 'waves',
  canary: 1,
  waves: [25, 50, 100],
  observeMs: 1000,
  budget: 3,
  gates: [{ kind: 'ready', withinMs: 5000 }],
  failuresAllowed: 0,
  onFailure: 'rollback',
  replace: { address: 'new', drainMs: 0 },
  ...more,
});

/** Version 7 of "b": counter 7, revision "b". */
export const version = (counter: number, revision = String(counter).padStart(8, '0')): Version => ({
  counter,
  image: `sha256:${revision.padEnd(64, '0')}`,
  source: '',
  memoryKib: 4096,
  args: '',
  networks: [],
  revision,
});

export const pushOf = (counter: number, more: Partial<Push> & { revision?: string } = {}): Push => ({
  tenant: 't',
  service: 's',
  commit: `c${counter}`,
  version: version(counter, more.revision),
  policy: policyOf(),
  count: 10,
  spec: '',
  ...more,
});

/** One that is done with release 1. */
export const doneWith1 = (more: Partial<Push> = {}): Rollout => begin(undefined, version(1), pushOf(1, more), 0);

/** mulberry32: numbers from 0 to 1, the same for the same seed. */
export function numbers(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
