/**
 * "What makes this VM valid now?": one pure function, asked at adoption after a start of the agent, when Xen says that a domain
 * changed, and when an operation finds another world than it expected. It gets what was wanted and what Xen says, never what
 * happened.
 */
import type { DomainFacts } from '../hypervisor/port.ts';
import type { Vm } from './vm.ts';

export type Action =
  | 'nothing' // valid as it is, or not ours to touch
  | 'adopt' // a whole domain without a record: its sealed record becomes the VM
  | 'discard' // half built or left behind: destroy the domain
  | 'note' // running or paused, but the record says otherwise: correct the record
  | 'resume' // paused although nobody asked for that: the last step of a start is missing
  | 'hold' // suspended, and a migration of it may have ended elsewhere: whoever asks the target goes on with it
  | 'thaw' // suspended although nobody asked for that any more: a copy of it was being made
  | 'mark-halted' // the domain is gone
  | 'bury' // the guest powered off: destroy what is left, halted
  | 'bury-crashed' // the guest crashed: keep its last words, destroy what is left, halted
  | 'restart'; // the guest rebooted: a fresh domain takes its place

/**
 * The verdict of an agent that starts, which knows no more than the journal and Xen. `sealed`: what the domain's record says; undefined when it has none
 * that can be read. A domain on its way here from elsewhere is the VM only when the journal's record names that very migration: without it
 * nothing was committed, and its source has the VM still.
 */
export function verdictAtStart(
  vm: Pick<Vm, 'wanted' | 'power' | 'domid' | 'leaving' | 'arrivedBy'> | undefined,
  domain: Pick<DomainFacts, 'domid' | 'ours' | 'sealed' | 'state' | 'shutdownReason'>,
  sealed: { paused: boolean; incoming: string | undefined } | undefined,
): Action {
  if (!domain.ours) return 'nothing';
  if (domain.state === 'dying') return 'discard';
  if (sealed?.incoming !== undefined && sealed.incoming !== vm?.arrivedBy) return 'discard';
  return verdict(vm, domain, sealed?.paused);
}

/**
 * `vm` is the record with the domain's uuid, if there is one; `domain` what Xen has, if anything; `sealedPaused` whether the
 * sealed record says that the start was to stay paused. Not to be asked while a launch of this VM is under way.
 */
export function verdict(
  vm: Pick<Vm, 'wanted' | 'power' | 'domid' | 'leaving'> | undefined,
  domain: Pick<DomainFacts, 'domid' | 'ours' | 'sealed' | 'state' | 'shutdownReason'> | undefined,
  sealedPaused = false,
): Action {
  if (domain === undefined) return vm === undefined || vm.power === 'Halted' || (vm.power === 'Suspended' && vm.domid === undefined) ? 'nothing' : 'mark-halted';
  if (!domain.ours) return 'nothing';
  if (domain.state === 'dying') return vm?.domid === domain.domid ? 'mark-halted' : 'nothing';
  // The seal is the store's word for it; of a domain this agent already runs it is not asked again.
  if (!domain.sealed && (vm?.domid !== domain.domid || vm.power === 'Halted')) return 'discard';
  if (vm === undefined) return 'adopt';
  // The VM runs in another domain than this one: only one of them can be it.
  if (vm.domid !== undefined && vm.domid !== domain.domid) return 'discard';
  // Its memory is in a file: what is in the domain is older, or was not woken yet.
  if (vm.wanted === 'suspended' && vm.domid === undefined && domain.state !== 'running') return 'discard';
  switch (domain.state) {
    case 'crashed':
      return 'bury-crashed';
    case 'shutdown':
      if (domain.shutdownReason === 'suspend') return vm.leaving === undefined ? 'thaw' : 'hold';
      return vm.wanted === 'rebooting' || domain.shutdownReason === 'reboot' ? 'restart' : 'bury';
    case 'running':
      return vm.power === 'Running' && vm.domid === domain.domid ? 'nothing' : 'note';
    case 'paused':
      if (vm.wanted !== 'paused' && !(vm.wanted === 'halted' && sealedPaused)) return 'resume';
      return vm.power === 'Paused' && vm.domid === domain.domid ? 'nothing' : 'note';
  }
}
