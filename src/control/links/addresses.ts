/** Addresses of a host over its XenAPI plugin: moved between VMs, held for one that is to come, and how much goes to and from them. */
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { AddressTraffic } from '../../model/traffic.ts';
import type { AddressMove } from '../port.ts';
import { errorOf, type ErrorShown } from './shown.ts';

/** A call of the plugin's, bounded by so many milliseconds. */
type Call = <T>(fn: string, args: Record<string, string>) => Promise<T>;

/** Throws VALUE_NOT_SUPPORTED where the host does not know how. */
export async function moveAddresses(call: Call, moves: readonly AddressMove[]): Promise<{ move: AddressMove; error: ShoalError }[]> {
  try {
    const { failed } = await call<{ failed: ({ index: number } & ErrorShown)[] }>('move-address', { moves: JSON.stringify(moves) });
    return failed.map((each) => ({ move: moves[each.index]!, error: errorOf(each) }));
  } catch (error) {
    // An agent that is older than this function.
    if (asShoalError(error).code === 'XENAPI_PLUGIN_FAILURE') throw new ShoalError('VALUE_NOT_SUPPORTED', 'This host moves no addresses.', { cause: error });
    throw error;
  }
}

/** In the order asked; undefined where nobody there has it. */
export async function trafficOf(call: Call, network: string, ips: readonly string[]): Promise<(AddressTraffic | undefined)[]> {
  const { traffic } = await call<{ traffic: (AddressTraffic | null)[] }>('address-traffic', { network, ips: JSON.stringify(ips) });
  return traffic.map((each) => each ?? undefined);
}
