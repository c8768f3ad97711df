/**
 * A client and a server at the lab's router, and between them only VMs of its hosts: a waypoint VM has its outside address on its first device and an inside address
 * on its second, both in its host's subnet. What a host sends for a waypoint's address comes from inside, and goes to the server, which has all of these on its
 * loopback. Needs root.
 *
 *   client 10.1.0.2 -- router of the lab -- host k: 10.6(4+k).9.x [VM] 10.6(4+k).y.z -- router of the lab -- server 10.3.1.2
 */
import { execFileSync } from 'node:child_process';
import { locked } from '../../src/lab/lock.ts';
import { routerNamespace } from '../../src/lab/plan.ts';
import { Namespaces, type Manager } from './network.ts';

/** Addresses of waypoints on a host of the lab, each used once by a connection. */
export const waypointAddress = (host: number, number: number): string => `10.${64 + host}.9.${number}`;
const perHost = 120;
/** Moves of one connection: the first address is its own, and each move takes another one. */
export const mostInARow = perHost - 2;

/**
 * The links and rules at a lab's router have the same names in every run, and whoever begins takes away what is there: of a run that still lives too, whose moves are then all called
 * off, for nothing of its client arrives any more. So there is one at a time; one that was told to stop first ends the move under way. Throws TIMEOUT where another one goes on.
 */
export const aloneOn = <T>(lab: string, work: () => Promise<T>): Promise<T> =>
  locked(`moves-on-lab-${lab}`, 180_000, () => process.stderr.write(`another run is at work on lab ${lab}; it is waited for, three minutes at most\n`), work);

let made = 0;

export class LabNetwork extends Namespaces {
  readonly #name = `sl${process.pid}n${++made}`;
  readonly #router: string;
  readonly #hosts: number;

  private constructor(lab: string, hosts: number) {
    super();
    this.#router = routerNamespace(lab);
    this.#hosts = hosts;
  }

  static async make(lab: string, { hosts = 2, delayMs = 0, rateKbit = 0, client = 'kernel' }: { hosts?: number; delayMs?: number; rateKbit?: number; client?: Manager } = {}): Promise<LabNetwork> {
    const network = new LabNetwork(lab, hosts);
    try {
      network.#build(client);
      if (delayMs > 0) await network.slow(network.#name, 'client', network.#legs(), delayMs, rateKbit);
      return network;
    } catch (error) {
      network.remove();
      throw error;
    }
  }

  namespace(who: string): string {
    return who === 'r' ? this.#router : this.#name + who;
  }

  #legs(): string[] {
    return Array.from({ length: this.#hosts }, (_, host) => `leg${host}`);
  }

  #build(client: Manager): void {
    this.#clear();
    for (const who of ['c', 's']) {
      execFileSync('ip', ['netns', 'add', this.namespace(who)]);
      this.in(who, 'ip link set lo up; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done');
    }
    this.join('c', 'net', '10.1.0.2', 'r', 'client', '10.1.0.1');
    this.join('s', 'net', '10.3.1.2', 'r', 'server', '10.3.1.1');
    this.in('c', 'ip route add default via 10.1.0.1');
    this.in('s', 'ip route add default via 10.3.1.1; echo 0 >/proc/sys/net/ipv4/conf/net/rp_filter');
    this.in('r', 'for f in client server; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done; ip route add default via 10.3.1.2 table 103');
    for (const [host, leg] of this.#legs().entries()) {
      this.in('r', `ip rule add pref 900 iif ${leg} to ${waypointAddress(host, 0)}/24 lookup 103`);
      this.in('s', `ip -batch - <<end\n${Array.from({ length: perHost }, (_, i) => `addr add ${waypointAddress(host, i + 1)}/32 dev lo\n`).join('')}end`);
    }
    this.manage('c', client);
    this.manage('s', 'userspace');
  }

  /** What this, or one before it that was killed, left at the router. */
  #clear(): void {
    const rules = [...this.#legs().flatMap((leg) => [`pref 900 iif ${leg}`, `to 10.1.0.0/24 iif ${leg} lookup 102`]), 'iif client lookup 101'];
    for (const script of [...rules.map((rule) => `ip rule del ${rule}`), 'ip route flush table 103', 'ip link del client', 'ip link del server'])
      try {
        this.in('r', script);
      } catch {
        // The lab is gone, or this was never made.
      }
  }

  remove(): void {
    this.#clear();
    this.end(['c', 's'].map((who) => this.namespace(who)));
  }
}
