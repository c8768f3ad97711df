/** What clients are shown of a rollout: plain JSON. */
import type { Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { Version } from '../model/rollout.ts';
import { serviceKey } from '../model/service.ts';
import { slotsOnTarget, type Rollout } from '../rollout/state.ts';
import { waveSizes } from '../rollout/waves.ts';

const time = (ms: number): string => new Date(ms).toISOString();
const entriesShown = 20;

/** `revision`: as its copies bear it. */
function releaseView(fleet: Fleet, key: string, version: Version) {
  const { counter, image, source } = version;
  const record = fleet.state.get('service', key);
  return { counter, image, source, revision: record === undefined ? '' : fleet.versions.revisionOfVersion(record, version) };
}

/** Copies of each wave, and how many of them are ready on the target. */
function waves(fleet: Fleet, rollout: Rollout, passed: (copy: Tracked) => boolean) {
  const key = serviceKey(rollout.tenant, rollout.service);
  const record = fleet.state.get('service', key);
  const target = record === undefined ? '' : fleet.versions.revisionOfVersion(record, rollout.target);
  const there = new Set<number>();
  for (const copy of fleet.copies.of(key))
    if (copy.id.revision === target && copy.state === 'running' && copy.ready && copy.retired === undefined && passed(copy)) there.add(copy.id.slot);
  const on = slotsOnTarget(rollout);
  let from = 0;
  return waveSizes(rollout.policy, rollout.count).map((size) => {
    let ready = 0;
    for (let slot = from; slot < size; slot++) if (there.has(slot)) ready++;
    const wave = { copies: Math.max(0, size - from), ready, begun: from < on };
    from = size;
    return wave;
  });
}

export function rolloutView(fleet: Fleet, rollout: Rollout, passed: (copy: Tracked) => boolean) {
  const key = serviceKey(rollout.tenant, rollout.service);
  const { tenant, service, number, phase, wave, target, good, policy, failures, reason, resumes, leftMs } = rollout;
  return {
    id: key,
    tenant,
    service,
    number,
    phase: phase as string,
    ...(resumes === undefined ? {} : { resumes }),
    commit: rollout.asked.commit,
    release: releaseView(fleet, key, target),
    ...(good === undefined ? {} : { good: releaseView(fleet, key, good) }),
    passed: rollout.goods.map(({ counter }) => counter),
    mode: policy.mode,
    wave,
    waves: waves(fleet, rollout, passed),
    failures,
    failuresAllowed: policy.failuresAllowed,
    gates: policy.gates.map(({ kind }) => kind),
    reason,
    leftMs: Math.max(0, Math.round(leftMs)),
    began: time(rollout.beganMs),
    changed: time(rollout.changedMs),
    entries: rollout.entries.slice(-entriesShown),
  };
}
