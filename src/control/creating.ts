/** New copies: placed, given their addresses, written down, and only then asked for. */
import { chooseAddresses } from './choose.ts';
import { keyOf, ownerOfSerial, type Tracked } from './copies.ts';
import type { Fleet } from './fleet.ts';
import type { Change } from './port.ts';
import type { CopyRecord } from './state.ts';
import { place, type Request } from '../place/place.ts';

/** `beside`: the copy whose addresses the new one is to take. */
export interface Wish extends Request {
  beside: Tracked | undefined;
}

/** `unplaced` hears of each request that found no host or no address. */
export async function createCopies(
  fleet: Fleet,
  requests: readonly Wish[],
  unplaced: (key: string, slot: number, why: string) => void,
): Promise<void> {
  const began = performance.now();
  const hosts = [...fleet.units.values()].map((unit) => unit.view(fleet.copies.load(unit.record.name)));
  const placements = place(requests, { hosts, copies: (key, host) => fleet.copies.countOn(key, host) });
  fleet.stats.placeMs = performance.now() - began;
  const made: Tracked[] = [];
  const changes: Change[] = [];
  for (const [i, placement] of placements.entries()) {
    const { key, spec, slot } = placement.request;
    const { beside } = requests[i]!;
    const at = fleet.versionAt(key, slot);
    if (at === undefined) continue;
    if (placement.host === undefined) {
      if (beside === undefined) unplaced(key, slot, placement.why);
      else fleet.refuseBeside(key, slot, placement.why);
      continue;
    }
    const { serial, change } = fleet.state.nextSerial();
    const chosen = chooseAddresses(
      spec,
      slot,
      ownerOfSerial(serial),
      fleet.units.get(placement.host)!.seen?.networks ?? [],
      (name) => fleet.state.get('pool', name),
      fleet.copies.addresses,
      beside !== undefined,
    );
    if (change !== undefined) changes.push(change);
    if ('why' in chosen) {
      if (beside === undefined) unplaced(key, slot, chosen.why);
      else fleet.refuseBeside(key, slot, chosen.why);
      continue;
    }
    const addresses = chosen.vifs.filter((vif): vif is { network: string; ip: string } => vif.ip !== undefined);
    const taken = beside?.record.addresses.filter(({ ip }) => beside.record.own?.includes(ip) !== true) ?? [];
    const record: CopyRecord = {
      id: {
        fleet: fleet.state.fleet,
        tenant: spec.tenant,
        service: spec.name,
        slot,
        serial,
        revision: at.revision,
      },
      host: placement.host,
      memoryKib: spec.memoryKib,
      addresses,
      image: at.image,
      ...(at.release === undefined ? {} : { release: at.release }),
      ...(beside?.uuid === undefined || taken.length === 0
        ? {}
        : {
            own: addresses.map(({ ip }) => ip),
            takes: { from: beside.record.id.serial, uuid: beside.uuid, addresses: taken, sent: false },
          }),
    };
    changes.push(fleet.state.set('copy', String(serial), record));
    const copy = fleet.copies.add(record);
    copy.sent = false;
    made.push(copy);
  }
  // Written down before any host is asked: after a crash every VM that may exist is known.
  try {
    await fleet.state.write(changes);
  } catch (error) {
    // What is not written down is not asked for.
    for (const copy of made) {
      fleet.copies.remove(copy);
      fleet.state.set('copy', String(copy.id.serial), undefined);
      unplaced(keyOf(copy.id), copy.id.slot, (error as Error).message);
    }
    return;
  }
  fleet.stats.created += made.length;
  for (const copy of made) {
    fleet.tellVm(copy);
    fleet.doing.launch(copy);
  }
}
