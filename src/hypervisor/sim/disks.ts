/** The simulator's disks: paths that one guest writes to, or any number read. */
import { ShoalError } from '../../model/errors.ts';
import type { VbdConfig } from '../port.ts';

/** Throws DISK_IN_USE. */
export function expectFree(wanted: readonly VbdConfig[], others: readonly { vbds: readonly VbdConfig[] }[]): void {
  const had = others.flatMap(({ vbds }) => vbds);
  const taken = wanted.find(({ path, readonly }) => had.some((other) => other.path === path && !(other.readonly && readonly)));
  if (taken !== undefined) throw new ShoalError('DISK_IN_USE', `Another guest has ${taken.path}.`);
}
