/**
 * Names in the zone: SERVICE.TENANT and COMMIT.SERVICE.TENANT. A summoned version runs as a service of its own, whose name follows from what it is, so
 * that nothing must be remembered to find it again.
 */
import { createHash } from 'node:crypto';

export type Target = { tenant: string; service: string; commit: string | undefined };

const tenantForm = /^[a-z0-9][a-z0-9-]{0,15}$/;
const serviceForm = /^[a-z0-9][a-z0-9-]{0,27}$/;
/** Four digits at least: fewer name too much. */
const commitForm = /^[0-9a-f]{4,64}$/;

/** Labels below the zone, first in front; undefined for what can be no name. */
export function targetOf(labels: readonly string[]): Target | undefined {
  const [tenant, service, commit, ...more] = [...labels].reverse();
  if (tenant === undefined || service === undefined || more.length > 0) return undefined;
  if (!tenantForm.test(tenant) || !serviceForm.test(service) || (commit !== undefined && !commitForm.test(commit))) return undefined;
  return { tenant, service, commit };
}

export const summonedPrefix = 'summoned-';

/** Within the 28 letters of a service's name: the commit's first eight for people, a hash of the whole for programs. */
export function summonedName(service: string, source: string): string {
  const hash = createHash('sha256').update(`${service}\n${source}`).digest('hex').slice(0, 10);
  return `${summonedPrefix}${source.slice(0, 8)}-${hash}`;
}
