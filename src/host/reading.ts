/**
 * The memory of a VM that is about to stand still: what takes the time of reading it, mapping it above all, is done while it runs. A guest that cannot be
 * looked at before (its kernel does not show where its memory lies) is looked at when it stands still.
 */
import type { DomainShape, Hypervisor, MemoryReader } from '../hypervisor/port.ts';
import type { Domid } from '../model/ids.ts';

/** Undefined where the guest cannot be looked at while it runs. */
export function readAhead(hypervisor: Hypervisor, domid: Domid, shape: DomainShape, passes: boolean): MemoryReader | undefined {
  try {
    return hypervisor.readMemory(domid, shape, passes);
  } catch {
    // Whatever it was: once the guest stands still it is read again, and then a failure is one.
    return undefined;
  }
}

/** Of a guest that has suspended itself now. Throws as readMemory; `ahead` is closed then. */
export function readNow(hypervisor: Hypervisor, domid: Domid, shape: DomainShape, passes: boolean, ahead: MemoryReader | undefined): MemoryReader {
  if (ahead === undefined) return hypervisor.readMemory(domid, shape, passes);
  try {
    ahead.again();
    return ahead;
  } catch (error) {
    ahead.close();
    throw error;
  }
}
