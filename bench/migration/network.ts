/**
 * A network of namespaces to move connections in: client — router — waypoints A and B — server, each waypoint a NAT in a subnet of its own with an address of its own
 * (192.0.2.1, 198.51.100.1) which the server has on its loopback, and no direct path. Between client and router is a line with a delay. Needs root and nftables.
 *
 * A waypoint here is what a middlebox VM is elsewhere: it is opened (resumed), closed (suspended: drops all), and buried (a tombstone at the router that answers with RST).
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const build = join(root, 'build');
const trafficProgram = join(build, 'traffic');
const relayProgram = join(build, 'lab/relay');

/** The two programs, and the addon of the path agent. */
export function buildPrograms(): void {
  mkdirSync(build, { recursive: true });
  const make = (...words: string[]): void => void execFileSync('make', ['-s', ...words], { stdio: 'inherit', timeout: 300_000 });
  make('-C', join(root, 'src/mptcp/native'), `OUT=${build}`, join(build, 'shoal_mptcp.node'));
  make('-C', join(root, 'src/lab/native'), `OUT=${dirname(relayProgram)}`, relayProgram);
  make('-C', join(root, 'bench/migration'), `OUT=${build}`);
}

export type Side = 'a' | 'b';
export const other = (side: Side): Side => (side === 'a' ? 'b' : 'a');
/** Where connections begin, and where B is. */
export const outside: Record<Side, string> = { a: '192.0.2.1', b: '198.51.100.1' };
/** A's address from its second time on: the server names a connection's first address 0, whatever it was announced as, and a client's kernel takes only eight such. */
export const outsideAgain = '192.0.2.2';
const homes: Record<Side, readonly string[]> = { a: [outside.a, outsideAgain], b: [outside.b] };
/** From where the server sees what comes through a waypoint. */
export const inside: Record<Side, string> = { a: '10.3.1.1', b: '10.3.2.1' };

/** `kernel`: its own path manager, accepting eight addresses; `refusing`: the kernel's default, none; `userspace`: an agent's. */
export type Manager = 'kernel' | 'refusing' | 'userspace';

export interface NetworkOptions {
  /** One way. */
  delayMs: number;
  rateKbit?: number;
  client?: Manager;
  server?: Manager;
}

export interface Report {
  gapMs: number;
  sent: number;
  received: number;
  bad: number;
  connections: number;
  broken: number;
}

/** One traffic program: `ask` takes the gap since the last question. */
export class Traffic {
  readonly child: ChildProcess;
  readonly port: Promise<number>;
  readonly #waiting: ((line: string | undefined) => void)[] = [];
  #complaint = '';

  constructor(namespace: string, words: readonly string[]) {
    this.child = spawn('ip', ['netns', 'exec', namespace, trafficProgram, ...words], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr!.on('data', (data: Buffer) => (this.#complaint = (this.#complaint + data.toString()).slice(-2000)));
    this.child.stdin!.on('error', () => {});
    const lines = createInterface({ input: this.child.stdout! });
    lines.on('line', (line) => this.#waiting.shift()?.(line));
    lines.on('close', () => {
      for (const tell of this.#waiting.splice(0)) tell(undefined);
    });
    this.port = this.#line().then((line) => Number(line.split(' ')[1]));
    this.port.catch(() => {});
  }

  async #line(): Promise<string> {
    const line = await new Promise<string | undefined>((done) => {
      const late = setTimeout(() => done(undefined), 60_000);
      this.#waiting.push((got) => {
        clearTimeout(late);
        done(got);
      });
    });
    if (line === undefined) throw new Error(`traffic says nothing. ${this.#complaint}`);
    return line;
  }

  async #say(word: string): Promise<Report> {
    const answer = this.#line();
    this.child.stdin!.write(`${word}\n`);
    return JSON.parse(await answer) as Report;
  }

  ask(): Promise<Report> {
    return this.#say('gap');
  }

  /** Both ends are to be told; each answers when the other has ended too. */
  end(): Promise<Report> {
    return this.#say('end');
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

/** Namespaces with programs in them, all ended together. */
export abstract class Namespaces {
  protected readonly children: ChildProcess[] = [];

  /** Of the client, of the server, and of what is between them. */
  abstract namespace(who: string): string;

  in(who: string, script: string): string {
    return execFileSync('ip', ['netns', 'exec', this.namespace(who), 'sh', '-ec', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 30_000 });
  }

  protected join(left: string, leftName: string, leftAddress: string, right: string, rightName: string, rightAddress: string): void {
    const [l, r] = [this.namespace(left), this.namespace(right)];
    const ip = (...words: string[]): void => void execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] });
    ip('-n', l, 'link', 'add', 'name', leftName, 'type', 'veth', 'peer', 'name', rightName, 'netns', r);
    for (const [namespace, name, address] of [[l, leftName, leftAddress], [r, rightName, rightAddress]] as const) {
      ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', name);
      ip('-n', namespace, 'link', 'set', name, 'up');
    }
  }

  /** Which addresses MPTCP in a namespace takes, and who says so. */
  protected manage(who: string, manager: Manager): void {
    const script = {
      kernel: 'echo kernel >/proc/sys/net/mptcp/path_manager; ip mptcp limits set subflow 8 add_addr_accepted 8',
      refusing: 'echo kernel >/proc/sys/net/mptcp/path_manager; ip mptcp limits set subflow 8 add_addr_accepted 0',
      userspace: 'echo userspace >/proc/sys/net/mptcp/path_manager',
    }[manager];
    this.in(who, script);
  }

  /** A line with a delay each way between what comes in by `client` and what comes for it by `others`. */
  protected async slow(label: string, client: string, others: readonly string[], delayMs: number, rateKbit: number): Promise<void> {
    const rules = [['there', `iif ${client}`], ...others.map((other) => ['back', `to 10.1.0.0/24 iif ${other}`])] as [string, string][];
    for (const [name, rule] of rules) {
      const table = name === 'there' ? '101' : '102';
      if (!this.children.some((child) => child.spawnargs.includes(name))) {
        const child = spawn(relayProgram, [label, `/run/netns/${this.namespace('r')}`, name, String(delayMs * 1000), '0', String(rateKbit)], { stdio: ['ignore', 'pipe', 'inherit'] });
        this.children.push(child);
        await new Promise<void>((done, fail) => {
          child.stdout!.once('data', () => done());
          child.once('exit', () => fail(new Error('the line of the network ended')));
        });
        this.in('r', `ip link set ${name} up; echo 0 >/proc/sys/net/ipv4/conf/${name}/rp_filter; ip route add default dev ${name} table ${table}`);
      }
      this.in('r', `ip rule add ${rule} lookup ${table}`);
    }
  }

  traffic(who: 'c' | 's', ...words: string[]): Traffic {
    const traffic = new Traffic(this.namespace(who), words);
    this.children.push(traffic.child);
    return traffic;
  }

  /** Runs beside the rest, is ended with it. */
  run(who: 'c' | 's', command: string, words: readonly string[], stdio: 'inherit' | 'pipe' = 'inherit'): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.namespace(who), command, ...words], { stdio: ['ignore', stdio, 'inherit'] });
    this.children.push(child);
    return child;
  }

  /** Ends the programs, takes away namespaces that may have been made. */
  protected end(namespaces: readonly string[]): void {
    for (const child of this.children) child.kill('SIGKILL');
    for (const namespace of namespaces)
      try {
        execFileSync('ip', ['netns', 'delete', namespace], { stdio: 'ignore' });
      } catch {
        // It was never made.
      }
  }
}

/** Lines of a process that was killed run on in namespaces that are not its own, and would keep the devices that a new line needs. */
function endLines(): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
    try {
      const [program, label] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      const owner = /^s[hl](\d+)n\d+$/.exec(label ?? '')?.[1];
      if (program?.endsWith('/relay') === true && owner !== undefined && !existsSync(`/proc/${owner}`)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended.
    }
}

/** Namespaces of a process that was killed, and what runs in them. */
export function clearAway(): void {
  endLines();
  if (!existsSync('/run/netns')) return;
  for (const name of readdirSync('/run/netns').filter((each) => /^s[hl]\d+n\d+[a-z]$/.test(each))) {
    if (existsSync(`/proc/${/\d+/.exec(name)![0]}`)) continue;
    for (const pid of execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).split('\n').filter((line) => line !== ''))
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended.
      }
    execFileSync('ip', ['netns', 'delete', name]);
  }
}

let made = 0;

export class Network extends Namespaces {
  readonly #name = `sh${process.pid}n${++made}`;
  readonly #o: Required<NetworkOptions>;

  private constructor(options: NetworkOptions) {
    super();
    this.#o = { rateKbit: 0, client: 'kernel', server: 'userspace', ...options };
  }

  static async make(options: NetworkOptions): Promise<Network> {
    const network = new Network(options);
    try {
      network.#build();
      if (options.delayMs > 0) await network.slow(network.#name, 'client', ['toa', 'tob'], options.delayMs, network.#o.rateKbit);
      return network;
    } catch (error) {
      network.remove();
      throw error;
    }
  }

  namespace(who: 'c' | 'r' | 's' | Side): string {
    return this.#name + who;
  }

  #build(): void {
    for (const who of ['c', 'r', 'a', 'b', 's'] as const) {
      execFileSync('ip', ['netns', 'add', this.namespace(who)]);
      this.in(who, 'ip link set lo up; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done; echo 1 >/proc/sys/net/ipv4/ip_forward');
    }
    this.join('c', 'net', '10.1.0.2', 'r', 'client', '10.1.0.1');
    this.join('r', 'toa', '10.2.1.1', 'a', 'out', '10.2.1.2');
    this.join('r', 'tob', '10.2.2.1', 'b', 'out', '10.2.2.2');
    this.join('a', 'in', '10.3.1.1', 's', 'toa', '10.3.1.2');
    this.join('b', 'in', '10.3.2.1', 's', 'tob', '10.3.2.2');
    this.in('c', 'ip route add default via 10.1.0.1');
    this.in('r', (['a', 'b'] as const).flatMap((side) => homes[side].map((address) => `ip route add ${address} via ${side === 'a' ? '10.2.1.2' : '10.2.2.2'}`)).join('; '));
    this.in('s', [...homes.a, ...homes.b].map((address) => `ip addr add ${address}/32 dev lo`).join('; '));
    for (const side of ['a', 'b'] as const) {
      const [to, home] = side === 'a' ? ['10.3.1.2', '10.2.1.1'] : ['10.3.2.2', '10.2.2.1'];
      // A NAT that does not know a flow drops it: what a copy of a middlebox in its first moment must do, too.
      this.in(side, `${homes[side].map((address) => `ip route add ${address} via ${to}`).join('; ')}; ip route add default via ${home}
        nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "in" masquerade; }; }
             table ip known { chain forward { type filter hook forward priority 0; ct state invalid drop; }; }
             table ip gate { chain forward { type filter hook forward priority -10; }; }'
        echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose`);
    }
    this.in('r', `nft 'table ip tombs { chain forward { type filter hook forward priority 0; }; }'`);
    this.manage('c', this.#o.client);
    this.manage('s', this.#o.server);
  }

  /** It forgets every flow: a copy at another place knows none that began elsewhere. */
  open(side: Side): void {
    this.in(side, 'nft flush chain ip gate forward');
  }

  close(side: Side): void {
    this.in(side, `nft flush chain ip gate forward; nft add rule ip gate forward drop`);
  }

  bury(address: string): void {
    this.in('r', `nft add rule ip tombs forward ip daddr ${address} reject with tcp reset`);
  }

  unbury(address: string): void {
    const rules = this.in('r', 'nft -a list chain ip tombs forward').split('\n').filter((line) => line.includes(`${address} `));
    for (const rule of rules) this.in('r', `nft delete rule ip tombs forward handle ${/handle (\d+)/.exec(rule)![1]}`);
  }

  remove(): void {
    this.end((['c', 'r', 'a', 'b', 's'] as const).map((who) => this.namespace(who)));
  }
}
