/** How a rollout stands, in words. Pure. */
import type { Rollout } from './types.ts';

export const waveName = (wave: number, of: number): string => (wave === 0 ? 'canary' : `wave ${wave} of ${Math.max(wave, of - 1)}`);

export function rolloutWords({ phase, release, good, wave, waves, reason }: Rollout): string {
  const at = waveName(wave, waves.length);
  const why = reason === '' ? '' : `: ${reason}`;
  switch (phase) {
    case 'replacing':
      return `release ${release.counter}, ${at} is being replaced`;
    case 'gating':
      return `release ${release.counter}, ${at} is asked its gates`;
    case 'observing':
      return `release ${release.counter}, ${at} is watched`;
    case 'promoting':
      return `release ${release.counter} goes everywhere`;
    case 'paused':
      return `release ${release.counter}, ${at}, is paused${why}`;
    case 'rolling-back':
      return `back to release ${good?.counter ?? '?'}${why}`;
    case 'rolled-back':
      return `is back on release ${good?.counter ?? '?'}${why}`;
    case 'failed':
      return `release ${release.counter} failed${why}`;
    default:
      return `runs release ${release.counter}`;
  }
}

export const isBad = ({ phase, reason }: Rollout): boolean =>
  phase === 'failed' || phase === 'rolling-back' || phase === 'rolled-back' || (phase === 'paused' && reason !== 'paused by someone');
