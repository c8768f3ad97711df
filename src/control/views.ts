/** What clients are shown of services, VMs and hosts: plain JSON, made when it is asked for. */
import { keyOf, type Foreign, type Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { HostUnit } from './host-unit.ts';
import { settledVersion, type Rollout } from '../rollout/state.ts';
import { waveSizes } from '../rollout/waves.ts';

const time = (ms: number): string => new Date(ms).toISOString();

export function vmView(fleet: Fleet, vm: Tracked | Foreign) {
  if (!('id' in vm)) {
    const { uuid, host, name, state, memoryKib, addresses } = vm;
    return {
      id: uuid as string,
      name,
      uuid: uuid as string,
      host,
      state: state as string,
      ready: false,
      memoryKib,
      addresses: addresses.map(({ ip }) => ip),
      foreign: true,
    };
  }
  return {
    id: vm.name,
    name: vm.name,
    ...(vm.uuid === undefined ? {} : { uuid: vm.uuid as string }),
    host: vm.host,
    state: vm.state as string,
    ready: vm.ready,
    memoryKib: vm.memoryKib,
    addresses: vm.record.addresses.map(({ ip }) => ip),
    foreign: false,
    tenant: vm.id.tenant,
    service: vm.id.service,
    slot: vm.id.slot,
    revision: vm.id.revision,
    current: fleet.versionAt(keyOf(vm.id), vm.id.slot)?.revision === vm.id.revision,
    ...(vm.record.image === undefined ? {} : { image: vm.record.image }),
    ...(vm.record.release === undefined ? {} : { release: vm.record.release }),
    ...(vm.takesFrom === undefined ? {} : { takesFrom: vm.takesFrom }),
    ...(vm.retired === undefined ? {} : { retired: true }),
    since: time(vm.sinceMs),
    ...(vm.drift === undefined ? {} : { drift: vm.drift }),
    ...(fleet.units.get(vm.host)?.up === true ? {} : { hostAway: true }),
  };
}

export function serviceView(fleet: Fleet, key: string) {
  const record = fleet.state.get('service', key)!;
  const counts = fleet.counts.get(key) ?? { wanted: record.spec.count, ready: 0, serving: 0, starting: 0, waiting: 0 };
  return {
    id: key,
    spec: record.spec,
    image: fleet.digestOf(record.spec.image) ?? '',
    revision: fleet.versions.revisionOf(record),
    deleting: record.deleting,
    created: time(record.createdMs),
    changed: time(record.changedMs),
    ...rolling(fleet.state.get('rollout', key)),
    copies: { ...counts, total: fleet.copies.of(key).size },
    notes: [...(fleet.notes.get(key) ?? [])].slice(0, 20).map(([slot, text]) => ({ slot, text })),
  };
}

const rolling = (rollout: Rollout | undefined) =>
  rollout === undefined
    ? {}
    : {
        release: settledVersion(rollout)?.counter ?? 0,
        rollout: { phase: rollout.phase, release: rollout.target.counter, wave: rollout.wave, waves: waveSizes(rollout.policy, rollout.count).length },
      };

export function hostView(fleet: Fleet, unit: HostUnit) {
  const { record, seen } = unit;
  const load = fleet.copies.load(record.name);
  return {
    id: record.name,
    url: record.url,
    state: record.dead ? 'dead' : unit.up ? 'up' : 'away',
    ...(unit.up ? {} : { awaySince: time(unit.awaySinceMs) }),
    ...(unit.error === undefined || unit.up
      ? {}
      : { error: { code: unit.error.code, message: unit.error.message, hint: unit.error.hint } }),
    drained: record.drained,
    labels: record.labels,
    version: seen?.version ?? '',
    cpuCount: seen?.cpuCount ?? 0,
    totalKib: seen?.totalKib ?? 0,
    freeKib: seen?.freeKib ?? 0,
    vms: load.vms,
    vifs: load.vifs,
    maxVifs: record.maxVifs,
    queued: unit.queued,
    networks: (seen?.networks ?? []).map(({ name }) => name),
    shortfalls: seen?.shortfalls ?? [],
  };
}
