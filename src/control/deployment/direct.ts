/**
 * Does what the repository asks for at once, with each service's own update policy: no canary, no gates, no way back. It stands in where
 * there is no rollout engine.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Desired } from '../../model/desired.ts';
import { serviceKey } from '../../model/service.ts';
import type { Services } from '../services.ts';
import type { Fleet } from '../fleet.ts';
import type { RolloutControl, RolloutStatus } from './port.ts';

/** Keys of the services that came from the repository, so that those it no longer has are ended and others are left alone. */
const ownKey = 'deployment/services';

export class DirectRollouts implements RolloutControl {
  readonly #fleet: Fleet;
  readonly #services: Services;
  #releases = new Map<string, number>();

  constructor(fleet: Fleet, services: Services) {
    this.#fleet = fleet;
    this.#services = services;
  }

  async begin({ services }: Desired): Promise<void> {
    const { state } = this.#fleet;
    const keyOf = ({ spec }: Desired['services'][number]): string => serviceKey(spec.tenant, spec.name);
    const changed = services.filter((service) => {
      const record = state.get('service', keyOf(service));
      return record === undefined || record.deleting || !isDeepStrictEqual(record.spec, service.spec);
    });
    if (changed.length > 0) await this.#services.apply(changed.map(({ spec }) => spec), undefined);
    const before = (state.store.entries.get(ownKey) as string[] | undefined) ?? [];
    const now = services.map(keyOf);
    for (const key of before) if (!now.includes(key) && state.get('service', key)?.deleting === false) await this.#services.remove(key);
    if (!isDeepStrictEqual(before, now)) await state.write([{ key: ownKey, value: now }]);
    this.#releases = new Map(services.map((service) => [keyOf(service), service.release.counter]));
  }

  status(tenant: string, service: string): RolloutStatus | undefined {
    const key = serviceKey(tenant, service);
    const release = this.#releases.get(key);
    if (release === undefined) return undefined;
    const counts = this.#fleet.counts.get(key);
    const wanted = this.#fleet.state.get('service', key)?.spec.count ?? 0;
    const done = counts !== undefined && counts.wanted === wanted && counts.ready === wanted && this.#fleet.copies.of(key).size === wanted;
    return { release, state: done ? 'done' : 'rolling' };
  }
}
