/** Which copies are on the new release in which wave: always the lowest slots, so that a number says it all. */
import type { RolloutPolicy } from '../model/rollout.ts';

/** Copies on the target in each wave, the canary first: rising, and the last is all of them. */
export function waveSizes(policy: RolloutPolicy, count: number): number[] {
  const sizes = [Math.min(Math.max(1, policy.canary), Math.max(1, count))];
  const shares = policy.mode === 'hot-fix' ? [100] : [...policy.waves, 100];
  for (const share of shares) {
    const size = Math.min(count, Math.ceil((count * share) / 100));
    if (size > sizes.at(-1)!) sizes.push(size);
  }
  return sizes;
}

/** The number of the last wave. */
export const lastWave = (policy: RolloutPolicy, count: number): number => waveSizes(policy, count).length - 1;

/** Slots below this are in the wave or one before it. The last wave has all, also those that come while it runs. */
export function slotsIn(policy: RolloutPolicy, count: number, wave: number): number {
  const sizes = waveSizes(policy, count);
  return sizes[Math.min(wave, sizes.length - 1)]!;
}
