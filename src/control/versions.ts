/**
 * What copies are made from: a service's spec, and the versions of it that a rollout has on their way. A service without a rollout, or
 * with one that has ended, is its spec alone.
 */
import { createHash } from 'node:crypto';
import { driftedRevision } from './copies.ts';
import type { ServiceRecord, State } from './state.ts';
import { isDigest } from '../model/ids.ts';
import type { Version } from '../model/rollout.ts';
import { revisionText, type ServiceNetwork, type ServiceSpec } from '../model/service.ts';
import type { Rolling, Wanted } from '../plan/plan.ts';
import { budgetOf, isEnded, settledVersion, slotsOnTarget, slotsThatMatter, versionOf, type Rollout } from '../rollout/state.ts';

/** Connections of a copy that is left because it is bad need not last long. */
const badDrainMs = 2000;

const sameNetwork = (a: ServiceNetwork, b: ServiceNetwork): boolean => a.name === b.name && a.addresses.from === b.addresses.from;

/** A version of a service; `known` is its spec as kept. Lists of addresses that are kept there are the service's, not each version's. */
export function versionFrom(spec: ServiceSpec, image: string, release: { counter: number; source: string }, known: ServiceSpec | undefined): Version {
  const networks = spec.networks.map((network): ServiceNetwork =>
    network.addresses.from === 'list' && known?.networks.some((each) => sameNetwork(each, network)) === true
      ? { name: network.name, addresses: { from: 'list', list: [] } }
      : network,
  );
  const { memoryKib, args } = spec;
  return { ...release, image, memoryKib, args, networks, revision: revisionHash(spec, image, 0) };
}

/** The service as this version has it: number of copies, health, placement and addresses are the service's own. */
export function specOf(version: Version, spec: ServiceSpec): ServiceSpec {
  const networks = version.networks.map(({ name, addresses }): ServiceNetwork => {
    const own = spec.networks.find((network) => sameNetwork(network, { name, addresses }));
    return addresses.from === 'list' && own !== undefined ? own : { name, addresses };
  });
  return { ...spec, image: version.image, memoryKib: version.memoryKib, args: version.args, networks };
}

/** Whether copies of one service are to be of different versions, or none, on account of its rollout. */
export const isRolling = (state: Rollout): boolean => !isEnded(state) || (state.phase === 'failed' && state.good === undefined);

/**
 * What a rollout asks of the planner; undefined when the service's spec says it all. After its end its copies hand their addresses on all
 * the same: those of a host that was away, and those that are restarted. `revision`, `spec`: of the service at rest.
 */
export function rollingOf(state: Rollout, spec: ServiceSpec, revision: string, revisionOf: (version: Version) => string): Rolling | undefined {
  const { policy, target, good } = state;
  if (!isRolling(state)) {
    const { address, drainMs } = policy.replace;
    if (address === 'new' || settledVersion(state)?.counter === 0) return undefined;
    return { revisionOf: () => revision, budget: spec.update.maxAtOnce, slots: spec.count, moveMs: drainMs };
  }
  const onTarget = slotsOnTarget(state);
  const [atTarget, atGood] = [revisionOf(target), good === undefined ? undefined : revisionOf(good)];
  return {
    revisionOf: (slot) => (slot < onTarget ? atTarget : atGood),
    budget: budgetOf(state),
    slots: slotsThatMatter(state),
    moveMs:
      policy.replace.address === 'new'
        ? undefined
        : state.phase === 'rolling-back'
          ? Math.min(badDrainMs, policy.replace.drainMs)
          : policy.replace.drainMs,
  };
}

/** Undefined for what was applied by hand. */
export const releaseOf = ({ counter }: Version): number | undefined => (counter === 0 ? undefined : counter);

/** What the copy of one slot is to be made from. */
export interface At {
  spec: ServiceSpec;
  /** Digest; "" when no release has the name. */
  image: string;
  revision: string;
  /** Its number, when it came by a push. */
  release: number | undefined;
}

/** Eight hex digits; never that of a copy that drifted. */
export function revisionHash(spec: ServiceSpec, image: string, nonce: number): string {
  const hash = createHash('sha256').update(revisionText(spec, image, nonce)).digest('hex').slice(0, 8);
  return hash === driftedRevision ? '00000001' : hash;
}

export class Versions {
  readonly #state: State;
  readonly #revisions = new WeakMap<ServiceRecord, [digest: string, revision: string]>();
  readonly #ofVersions = new WeakMap<ServiceRecord, Map<string, string>>();

  constructor(state: State) {
    this.#state = state;
  }

  /** The digest behind an image's name; undefined when no release has it. */
  digestOf(image: string): string | undefined {
    return isDigest(image) ? image : this.#state.get('release', image)?.digest;
  }

  wanted(key: string): Wanted | undefined {
    const record = this.#state.get('service', key);
    if (record === undefined || record.deleting) return undefined;
    const rollout = this.#state.get('rollout', key);
    const revision = this.revisionOf(record);
    const rolling = rollout === undefined ? undefined : rollingOf(rollout, record.spec, revision, (version) => this.revisionOfVersion(record, version));
    return { spec: record.spec, revision, rolling };
  }

  /** Undefined: there is to be no copy of this slot. */
  at(key: string, slot: number): At | undefined {
    const record = this.#state.get('service', key);
    if (record === undefined || record.deleting || slot >= record.spec.count) return undefined;
    const rollout = this.#state.get('rollout', key);
    if (rollout === undefined || !isRolling(rollout)) {
      const settled = rollout === undefined ? undefined : settledVersion(rollout);
      const revision = this.revisionOf(record);
      const release = settled !== undefined && this.revisionOfVersion(record, settled) === revision ? releaseOf(settled) : undefined;
      return { spec: record.spec, image: this.digestOf(record.spec.image) ?? '', revision, release };
    }
    const version = versionOf(rollout, slot);
    if (version === undefined) return undefined;
    const { image } = version;
    return { spec: specOf(version, record.spec), image, revision: this.revisionOfVersion(record, version), release: releaseOf(version) };
  }

  revisionOf(record: ServiceRecord): string {
    const digest = this.digestOf(record.spec.image) ?? '';
    const known = this.#revisions.get(record);
    if (known !== undefined && known[0] === digest) return known[1];
    const revision = revisionHash(record.spec, digest, record.nonce);
    this.#revisions.set(record, [digest, revision]);
    return revision;
  }

  /** As copies of this service bear it: a restart asked for changes it. */
  revisionOfVersion(record: ServiceRecord, version: Version): string {
    let known = this.#ofVersions.get(record);
    if (known === undefined) this.#ofVersions.set(record, (known = new Map<string, string>()));
    let revision = known.get(version.revision);
    if (revision === undefined) known.set(version.revision, (revision = revisionHash(specOf(version, record.spec), version.image, record.nonce)));
    return revision;
  }
}
