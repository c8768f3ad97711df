/** Two agents over TLS, each over a simulator of its own, by a way that can be cut; either may be killed. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { X509Certificate } from 'node:crypto';
import { Api } from '../../../src/xenapi/api.ts';
import { listen, type XenApiServer } from '../../../src/xenapi/server.ts';
import type { AgentOptions } from '../../../src/host/agent.ts';
import type { Departed, DepartureChoices } from '../../../src/host/departure.ts';
import type { Ticket } from '../../../src/host/departure-link.ts';
import { parseIpv4, type Network } from '../../../src/host/networks.ts';
import type { Vm } from '../../../src/host/vm.ts';
import type { Hypervisor } from '../../../src/hypervisor/port.ts';
import type { SimHypervisor, SimOptions } from '../../../src/hypervisor/sim/sim.ts';
import { cert, key } from '../xenapi/certificate.ts';
import { image, makeRig, type Rig } from './rig.ts';

export const never = new AbortController().signal;
export const fingerprint = new X509Certificate(cert).fingerprint256;
export const credentials = { cert, key };
export const elsewhere: Network = {
  name: 'default',
  bridge: 'xenbr0',
  subnet: { prefix: 16, gateway: parseIpv4('10.65.0.1')!, first: parseIpv4('10.65.1.0')!, last: parseIpv4('10.65.250.255')! },
};

/** The range of host 0 or 1 in a subnet that both are in. */
export const shared = (host: 0 | 1): Network => ({
  name: 'default',
  bridge: 'xenbr0',
  subnet: { prefix: 10, gateway: parseIpv4('10.64.0.1')!, first: parseIpv4(`10.${64 + host}.1.0`)!, last: parseIpv4(`10.${64 + host}.1.9`)! },
});

/** Forwards to a port that may change; `cutAfter` bytes from the source it cuts the connection, once. */
class Way {
  port = 0;
  down = false;
  cutAfter = Infinity;
  /** The cut is for good. */
  staysCut = false;
  passed = 0;
  readonly #sockets = new Set<Socket>();
  #server!: Server;
  url = '';

  async open(port: number): Promise<this> {
    this.port = port;
    this.#server = createServer((near) => {
      if (this.down) return near.destroy();
      const far = connect(this.port, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => {}).on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.on('data', (chunk: Buffer) => {
        this.passed += chunk.length;
        if (this.passed >= this.cutAfter) {
          this.cutAfter = Infinity;
          this.down = this.staysCut;
          this.cut();
        } else far.write(chunk);
      });
      far.pipe(near);
      return undefined;
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.url = `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** An agent that others reach, by a way of its own. */
class Host {
  rig!: Rig;
  /** By which the others come here. */
  way!: Way;
  readonly #options: Partial<AgentOptions>;
  #server!: XenApiServer;

  constructor(options: Partial<AgentOptions>) {
    this.#options = options;
  }

  async open(sim: SimOptions, more: Partial<AgentOptions>, through?: (sim: SimHypervisor) => Hypervisor): Promise<this> {
    this.rig = await makeRig(sim, { ...this.#options, ...more }, through);
    await this.#serve();
    this.way = await new Way().open(this.#server.port);
    return this;
  }

  async #serve(): Promise<void> {
    const api = new Api({ agent: this.rig.agent, version: 'test', address: '127.0.0.1', password: 'x' });
    this.#server = await listen({ host: '127.0.0.1', port: 0, tls: credentials, api: Promise.resolve(api) });
  }

  /** As kill -9 and a new start. The next agent has no hook. */
  async kill(more: Partial<AgentOptions> = {}): Promise<void> {
    await this.#server.close();
    this.way.cut();
    await this.rig.crash({ ...this.#options, ...more });
    await this.#serve();
    this.way.port = this.#server.port;
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.way.close();
    await this.rig.close();
  }
}

export class World {
  near!: Host;
  far!: Host;
  hook: (moment: string) => void | Promise<void> = () => {};

  /** `through`: what the agents have in place of their simulators. */
  async open(targetSim: SimOptions = {}, targetAgent: Partial<AgentOptions> = {}, through?: (sim: SimHypervisor) => Hypervisor, sourceSim: SimOptions = {}, sourceAgent: Partial<AgentOptions> = {}): Promise<this> {
    const migrationHook = (moment: string): void | Promise<void> => this.hook(moment);
    const common = { credentials, migrationPatienceMs: 250 };
    this.near = await new Host({ ...common, ...sourceAgent }).open(sourceSim, { migrationHook }, through);
    this.far = await new Host({ ...common, ...targetAgent }).open(targetSim, { migrationHook }, through);
    return this;
  }

  get source(): Rig {
    return this.near.rig;
  }

  get target(): Rig {
    return this.far.rig;
  }

  get way(): Way {
    return this.far.way;
  }

  async killSource(): Promise<void> {
    this.way.cut();
    await this.near.kill();
  }

  killTarget(): Promise<void> {
    return this.far.kill();
  }

  async launch(name = 'a'): Promise<Vm> {
    const { uuid, domid } = (await this.source.agent.bulk.launch({ name, image, memoryKib: 4096 }, never)).vms[0]!;
    for (let frame = 0; frame < 40; frame++) this.source.sim.writePage(domid, frame * 3, `page ${frame} of ${name}`.padEnd(4096));
    return this.source.agent.fleet.need(uuid);
  }

  ticket(): Ticket {
    return this.target.agent.arrivals.ticket('', { fingerprint, url: this.way.url }) as unknown as Ticket;
  }

  send(vm: Vm, choices: DepartureChoices = {}, signal?: AbortSignal): Promise<Departed> {
    return this.source.agent.departures.send(vm, this.ticket(), choices, signal);
  }

  /** The other way round. */
  async back(uuid: string): Promise<Departed> {
    const ticket = this.source.agent.arrivals.ticket('', { fingerprint, url: this.near.way.url }) as unknown as Ticket;
    return this.target.agent.departures.send(this.target.agent.fleet.need(uuid), ticket, {});
  }

  /** How many domains of this VM run, and on how many hosts it is known at all. */
  async count(uuid: string): Promise<{ running: number; domains: number; known: number }> {
    const domains = (await Promise.all([this.source, this.target].map(({ sim }) => sim.list()))).flat();
    const known = [this.source, this.target].filter(({ agent }) => agent.fleet.get(uuid) !== undefined).length;
    return { running: domains.filter((each) => each.uuid === uuid && each.state === 'running').length, domains: domains.length, known };
  }

  /** In the end one runs, and never two on the way there. */
  async settled(uuid: string, what: string): Promise<void> {
    const begun = Date.now();
    for (;;) {
      const { running, domains, known } = await this.count(uuid);
      if (running === 1 && domains === 1 && known === 1) return;
      if (running > 1 || Date.now() - begun > 8000) throw new Error(`${what}: ${running} run, ${domains} domains, known on ${known}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async close(): Promise<void> {
    await this.near.close();
    await this.far.close();
  }
}
