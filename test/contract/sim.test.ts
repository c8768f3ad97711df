/** The port's contract over the simulator. */
import { SimHypervisor } from '../../src/hypervisor/sim/sim.ts';
import { imageBytes, parseFake } from '../unit/host/rig.ts';
import { contract } from './port.ts';

contract('sim', async () => {
  const hypervisor = new SimHypervisor();
  return {
    hypervisor,
    image: parseFake(imageBytes),
    greeting: 'ping',
    network: 'default',
    address: '10.64.200.200',
    memoryKib: 4096,
    lose: async (domid) => hypervisor.lose(domid),
    boots: (domid) => hypervisor.print(domid, 'ping is up\n'),
  };
});
