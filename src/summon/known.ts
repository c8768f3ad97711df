/**
 * Which names there are, kept for a moment: ten thousand questions a second for names that do not exist are answered from here, and cost the
 * controller one look a second. What is known is used while it is looked up again, so that names go on to be answered while the controller is away.
 */
import type { Release, SummonFleet, SummonService } from './port.ts';

/** What was looked up is good for so long. */
const freshMs = 1_000;
const mostServices = 1_000;

class Cached<T> {
  #kept: { value: T; atMs: number } | undefined;
  #pending: Promise<T> | undefined;

  get last(): { readonly value: T } | undefined {
    return this.#kept;
  }

  /** What is known, when it is fresh, or is all that is needed; else what `ask` says, asked once at a time. */
  get(ask: () => Promise<T>, now: () => number, enough: (value: T) => boolean): Promise<T> {
    const kept = this.#kept;
    if (kept !== undefined && now() - kept.atMs < freshMs) return Promise.resolve(kept.value);
    this.#pending ??= ask()
      .then((value) => {
        this.#kept = { value, atMs: now() };
        return value;
      })
      .finally(() => (this.#pending = undefined));
    if (kept === undefined || !enough(kept.value)) return this.#pending;
    this.#pending.catch(() => {}); // asked again next time
    return Promise.resolve(kept.value);
  }
}

export class Known {
  readonly #fleet: SummonFleet;
  readonly #now: () => number;
  readonly #services = new Cached<Map<string, SummonService>>();
  readonly #releases = new Map<string, Cached<Release[]>>();
  readonly #policies = new Map<string, Cached<{ idleS: number } | undefined>>();

  constructor(fleet: SummonFleet, now: () => number) {
    this.#fleet = fleet;
    this.#now = now;
  }

  /** One that is being deleted is not there. */
  async service(id: string): Promise<SummonService | undefined> {
    return (await this.#services.get(() => this.#all(), this.#now, (all) => all.has(id))).get(id);
  }

  /** As it is now. */
  async serviceNow(id: string): Promise<SummonService | undefined> {
    return (await this.#all()).get(id);
  }

  policy(tenant: string, name: string): Promise<{ idleS: number } | undefined> {
    const known = cached(this.#policies, `${tenant}/${name}`);
    return known
      .get(() => this.#fleet.policy(tenant, name), this.#now, (policy) => policy !== undefined)
      .catch((error: unknown) => {
        const { last } = known;
        if (last === undefined) throw error;
        return last.value; // as far as anybody knows
      });
  }

  releases(tenant: string, name: string, enough: (all: readonly Release[]) => boolean = () => false): Promise<Release[]> {
    return cached(this.#releases, `${tenant}/${name}`).get(() => this.#fleet.releases(tenant, name), this.#now, enough);
  }

  /** The newest release of the one source commit that begins so; undefined when there is none, or more than one commit does. */
  async release(tenant: string, name: string, prefix: string): Promise<Release | undefined> {
    const begins = ({ source }: Release): boolean => source.startsWith(prefix);
    const found = (await this.releases(tenant, name, (all) => all.some(begins))).filter(begins);
    const [newest] = found;
    if (newest === undefined || found.some(({ source }) => source !== newest.source)) return undefined;
    return found.reduce((best, each) => (each.counter > best.counter ? each : best), newest);
  }

  async #all(): Promise<Map<string, SummonService>> {
    return new Map((await this.#fleet.services()).filter(({ deleting }) => !deleting).map((each) => [each.id, each]));
  }
}

function cached<T>(of: Map<string, Cached<T>>, key: string): Cached<T> {
  let found = of.get(key);
  if (found === undefined) {
    if (of.size >= mostServices) of.delete(of.keys().next().value!);
    found = new Cached<T>();
    of.set(key, found);
  }
  return found;
}
