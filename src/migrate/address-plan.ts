/** Before a migration: which addresses go along with a VM, and so which connections it keeps. As src/host/arrival.ts does it; pure. */

export interface PlannedVif {
  network: string;
  addresses: readonly string[];
}

/** As `network.other_config` of a host tells it; empty for a network with DHCP. */
export interface PlannedNetwork {
  name: string;
  cidr: string;
  gateway: string;
}

export interface AddressForecast {
  address: string;
  network: string;
  /** The VM has it there too: plain TCP survives. */
  kept: boolean;
  why: string;
}

/** Where a network of the same name has the same subnet and gateway, its addresses go along, unless another VM there has one (`taken`) and refuses the whole VM. */
export function planAddresses(vifs: readonly PlannedVif[], here: readonly PlannedNetwork[], there: readonly PlannedNetwork[], given: string | undefined, taken: ReadonlySet<string>): AddressForecast[] {
  return vifs.flatMap(({ network, addresses }, i) => {
    const [from, to] = [here, there].map((networks) => networks.find(({ name }) => name === network));
    const same = from !== undefined && to !== undefined && from.cidr !== '' && from.cidr === to.cidr && from.gateway === to.gateway;
    return addresses.map((address): AddressForecast => {
      const said = (kept: boolean, why: string): AddressForecast => ({ address, network, kept, why });
      if (to === undefined) return said(false, `the target has no network "${network}": it refuses the VM`);
      if (i === 0 && given !== undefined && given !== address) return said(false, `it is to have ${given} there`);
      if (!same) return said(false, `the target is in another subnet (${to.cidr === '' ? 'addresses by DHCP' : to.cidr})`);
      if (taken.has(address)) return said(false, 'another VM there has it: the target refuses the VM');
      return said(true, 'the target is in the same subnet');
    });
  });
}
