/**
 * How a VM stands, as one word that has a colour: its state joined with whether it answers and whether its host is reached. And who
 * may do what, as the API says it too: the console only hides what would be refused. Pure.
 */
import type { Vm, Who } from './types.ts';

export const standings = ['ready', 'probing', 'starting', 'failed', 'halted', 'paused', 'away', 'foreign'] as const;
export type Standing = (typeof standings)[number];

export const meaning: Record<Standing, string> = {
  ready: 'runs and answers',
  probing: 'runs, does not answer yet',
  starting: 'on its way',
  failed: 'does not answer its health check',
  halted: 'does not run',
  paused: 'paused',
  away: 'its host is not reached',
  foreign: "no service's",
};

/** `hostUp` undefined: whoever looks may not see hosts. */
export function standingOf(vm: Vm, hostUp: boolean | undefined): Standing {
  if (hostUp === false || (hostUp === undefined && vm.hostAway === true)) return 'away';
  if (vm.foreign) return 'foreign';
  switch (vm.state) {
    case 'running':
      return vm.ready ? 'ready' : 'probing';
    case 'asked':
    case 'busy':
      return 'starting';
    case 'failed':
      return 'failed';
    case 'paused':
      return 'paused';
    default:
      return 'halted';
  }
}

export type Doing = 'scale' | 'restart' | 'delete' | 'cancel' | 'drain' | 'vm' | 'seeHosts';

export function may(who: Who, doing: Doing): boolean {
  switch (doing) {
    case 'scale':
    case 'restart':
    case 'cancel':
      return who.role !== 'viewer';
    case 'delete':
    case 'vm':
      return who.role === 'operator' || who.role === 'tenant';
    case 'drain':
      return who.role === 'operator';
    case 'seeHosts':
      return who.tenant === undefined;
  }
}
