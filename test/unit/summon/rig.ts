/** A fleet in memory for the summoner: services, releases, copies that boot when they are told to. */
import { ShoalError } from '../../../src/model/errors.ts';
import { completed, type ServiceSpec } from '../../../src/model/service.ts';
import type { Release, SummonCopy, SummonFleet, SummonTraffic } from '../../../src/summon/port.ts';
import { Summoner, type SummonerOptions } from '../../../src/summon/summoner.ts';

export const digestOf = (n: number): string => `sha256:${String(n).repeat(64).slice(0, 64)}`;
export const sourceOf = (n: number): string => `${n}${'abc0'.repeat(10)}`.slice(0, 40);

export class FakeFleet implements SummonFleet {
  readonly specs = new Map<string, ServiceSpec>();
  readonly all = new Map<string, Release[]>();
  readonly policies = new Map<string, { idleS: number }>();
  readonly copiesOf = new Map<string, SummonCopy[]>();
  readonly trafficOf = new Map<string, SummonTraffic[]>();
  /** What was asked for, in order. */
  readonly log: string[] = [];
  calls = 0;
  away = false;
  /** What becomes of a service that has copies to run. */
  boots: (key: string) => SummonCopy[] = (key) => [{ address: addressOf(key), ready: true, held: false, failed: false }];

  add(key: string, count = 1): void {
    const [tenant, name] = key.split('/');
    this.specs.set(key, completed({ tenant, name, image: digestOf(0), count, memoryKib: 4096 }));
    if (count > 0) this.copiesOf.set(key, this.boots(key));
  }

  async #reach(what: string): Promise<void> {
    this.calls++;
    if (what !== '') this.log.push(what);
    await Promise.resolve();
    if (this.away) throw new ShoalError('CONNECTION_FAILED', 'The controller is away.');
  }

  async services() {
    await this.#reach('');
    return [...this.specs].map(([id, spec]) => ({ id, spec, deleting: false }));
  }

  async policy(tenant: string, name: string) {
    await this.#reach('');
    return this.policies.get(`${tenant}/${name}`);
  }

  async releases(tenant: string, name: string) {
    await this.#reach('');
    return this.all.get(`${tenant}/${name}`) ?? [];
  }

  async ensureImage(_tenant: string, _name: string, { digest }: Release) {
    await this.#reach(`image ${digest.slice(7, 8)}`);
  }

  async apply(spec: ServiceSpec) {
    const key = `${spec.tenant}/${spec.name}`;
    await this.#reach(`apply ${key}`);
    this.specs.set(key, spec);
    this.copiesOf.set(key, this.boots(key));
  }

  async scale(tenant: string, name: string, count: number) {
    const key = `${tenant}/${name}`;
    await this.#reach(`scale ${key} ${count}`);
    const spec = this.specs.get(key);
    if (spec === undefined) throw new ShoalError('NOT_FOUND', key);
    this.specs.set(key, { ...spec, count });
    if (count === 0) this.copiesOf.delete(key);
    else this.copiesOf.set(key, this.boots(key));
  }

  async remove(tenant: string, name: string) {
    const key = `${tenant}/${name}`;
    await this.#reach(`remove ${key}`);
    this.specs.delete(key);
    this.copiesOf.delete(key);
  }

  async copies(tenant: string, name: string) {
    await this.#reach('');
    if (!this.specs.has(`${tenant}/${name}`)) throw new ShoalError('NOT_FOUND', name);
    return this.copiesOf.get(`${tenant}/${name}`) ?? [];
  }

  async traffic(tenant: string, name: string) {
    await this.#reach('');
    return this.trafficOf.get(`${tenant}/${name}`);
  }

  close(): void {}
}

export const addressOf = (key: string): string => `10.0.0.${(key.length % 200) + 1}`;

export interface Rig {
  fleet: FakeFleet;
  summoner: Summoner;
  clock: { ms: number };
  /** Another summoner over the same fleet, as after a kill. */
  again(): Promise<Summoner>;
}

export async function makeRig(more: Partial<SummonerOptions> = {}): Promise<Rig> {
  const fleet = new FakeFleet();
  const clock = { ms: 1_000_000 };
  fleet.add('acme/web');
  fleet.all.set('acme/web', [3, 2, 1].map((n) => ({ counter: n, source: sourceOf(n), digest: digestOf(n) })));
  const make = (): Summoner =>
    new Summoner({
      fleet, idleS: 60, answerMs: 2000, bootMs: 3000, graceMs: 6000, most: 8, backoffMs: 1000, lookMs: 3_600_000, now: () => clock.ms, log: () => {}, ...more,
    });
  const rig = { fleet, summoner: make(), clock } as Rig;
  rig.again = async () => {
    await rig.summoner.close();
    rig.summoner = make();
    await rig.summoner.open();
    return rig.summoner;
  };
  await rig.summoner.open();
  return rig;
}
