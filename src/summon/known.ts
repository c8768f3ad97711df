/**
 * Which names there are, kept for a moment: ten thousand questions a second for names that do not exist are answered from here, and cost the
 * controller one look a second.
 */
import type { Release, SummonFleet, SummonService } from './port.ts';

/** What was looked up is good for so long; what was not found is looked up again at most so often. */
const freshMs = 1_000;
const mostServices = 1_000;

interface Kept<T> {
  value: Promise<T>;
  atMs: number;
}

export class Known {
  readonly #fleet: SummonFleet;
  readonly #now: () => number;
  #services: Kept<Map<string, SummonService>> | undefined;
  readonly #releases = new Map<string, Kept<Release[]>>();
  readonly #policies = new Map<string, Kept<{ idleS: number } | undefined>>();

  constructor(fleet: SummonFleet, now: () => number) {
    this.#fleet = fleet;
    this.#now = now;
  }

  /** One that is being deleted is not there. `fresh`: as it is now. */
  async service(id: string, fresh = false): Promise<SummonService | undefined> {
    if (fresh || this.#services === undefined || this.#now() - this.#services.atMs >= freshMs) {
      const value = this.#fleet.services().then((all) => new Map(all.filter(({ deleting }) => !deleting).map((each) => [each.id, each])));
      const kept = { value, atMs: this.#now() };
      this.#services = kept;
      value.catch(() => {
        if (this.#services === kept) this.#services = undefined;
      });
    }
    return (await this.#services.value).get(id);
  }

  policy(tenant: string, name: string): Promise<{ idleS: number } | undefined> {
    return this.#keep(this.#policies, `${tenant}/${name}`, () => this.#fleet.policy(tenant, name));
  }

  releases(tenant: string, name: string): Promise<Release[]> {
    return this.#keep(this.#releases, `${tenant}/${name}`, () => this.#fleet.releases(tenant, name));
  }

  /** The newest release of the one source commit that begins so; undefined when there is none, or more than one commit does. */
  async release(tenant: string, name: string, prefix: string): Promise<Release | undefined> {
    const found = (await this.releases(tenant, name)).filter(({ source }) => source.startsWith(prefix));
    const [newest] = found;
    if (newest === undefined || found.some(({ source }) => source !== newest.source)) return undefined;
    return found.reduce((best, each) => (each.counter > best.counter ? each : best), newest);
  }

  #keep<T>(kept: Map<string, Kept<T>>, key: string, ask: () => Promise<T>): Promise<T> {
    const before = kept.get(key);
    if (before !== undefined && this.#now() - before.atMs < freshMs) return before.value;
    kept.delete(key);
    if (kept.size >= mostServices) kept.delete(kept.keys().next().value!);
    const fresh = { value: ask(), atMs: this.#now() };
    kept.set(key, fresh);
    fresh.value.catch(() => {
      if (kept.get(key) === fresh) kept.delete(key);
    });
    return fresh.value;
  }
}
