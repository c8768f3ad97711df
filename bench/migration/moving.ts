/** Path agents in the namespaces of a network, its waypoints as a coordinator knows them, and the moves between them. */
import { execFileSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PathCoordinator, type CoordinatorOptions, type MoveOutcome, type Waypoints } from '../../src/migrate/paths.ts';
import type { MoveRecord, MoveStore } from '../../src/migrate/paths-journal.ts';
import type { MoveKind } from '../../src/migrate/paths-table.ts';
import { PathClient } from '../../src/mptcp/client.ts';
import type { PathSide } from '../../src/mptcp/paths.ts';
import { outside, outsideAgain, root, type Namespaces, type Network, type Report, type Side, type Traffic } from './network.ts';
import type { Ending } from './series.ts';

export const wait = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

export function makeCertificate(folder: string): { certFile: string; keyFile: string } {
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile, '-out', certFile, '-days', '30', '-subj', '/CN=path-agent'], { stdio: 'ignore' });
  return { certFile, keyFile };
}

/** Both ends of one connection; what TCP and the programs do at first is over. */
export async function connected(network: Namespaces, address: string, mode: string): Promise<[Traffic, Traffic]> {
  const server = network.traffic('s', 'listen', '0.0.0.0', '0', mode);
  const client = network.traffic('c', 'connect', address, String(await server.port), mode, '1');
  await client.port;
  await wait(3_000);
  return [server, client];
}

/** Since the last time: the larger gap, and ends whose connection broke. */
export async function askBoth(ends: readonly Traffic[]): Promise<{ gapMs: number; broken: number }> {
  const reports = await Promise.all(ends.map((end) => end.ask()));
  return { gapMs: Math.max(...reports.map(({ gapMs }) => gapMs)), broken: reports.reduce((sum, { broken }) => sum + broken, 0) };
}

/** Both ends end it, and what one sent is compared with what the other received. */
export async function endingOf(ends: readonly Traffic[]): Promise<Ending> {
  const [server, client] = (await Promise.all(ends.map((end) => end.end()))) as [Report, Report];
  return { lost: Math.abs(server.sent - client.received) + Math.abs(client.sent - server.received), bad: server.bad + client.bad, broken: server.broken + client.broken };
}

/** `shoal path-agent` in a namespace; killed and started again under the same configuration. */
export class AgentProcess {
  readonly folder = mkdtempSync(join(tmpdir(), 'shoal-paths-'));
  readonly #network: Namespaces;
  readonly #who: 'c' | 's';
  #child: ChildProcess | undefined;
  client!: PathClient;

  constructor(network: Namespaces, who: 'c' | 's', more: object = {}) {
    this.#network = network;
    this.#who = who;
    const config = { listen: { socket: this.socket }, ...makeCertificate(this.folder), tokenFile: join(this.folder, 'token'), ...more };
    writeFileSync(join(this.folder, 'config.json'), JSON.stringify(config));
  }

  get socket(): string {
    return join(this.folder, 'agent.sock');
  }

  async start(): Promise<this> {
    rmSync(this.socket, { force: true });
    const child = (this.#child = this.#network.run(this.#who, process.execPath, ['--import', join(root, 'node_modules/tsx/dist/loader.mjs'), join(root, 'src/main/path-agent.ts'), join(this.folder, 'config.json')], 'inherit'));
    for (let tries = 0; !existsSync(this.socket); tries++) {
      if (tries > 600 || child.exitCode !== null) throw new Error('the path agent does not start');
      await wait(50);
    }
    const text = (name: string): string => readFileSync(join(this.folder, name), 'utf8');
    this.client?.close();
    this.client = new PathClient({ url: `https://unix:${this.socket}`, certificate: text('cert.pem'), token: text('token').trim() });
    return this;
  }

  /** kill -9, and its end. */
  async kill(): Promise<void> {
    const child = this.#child!;
    const ended = new Promise<void>((done) => child.once('exit', () => done()));
    child.kill('SIGKILL');
    await ended;
  }

  async remove(): Promise<void> {
    if (this.#child?.exitCode === null) await this.kill();
    this.client?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class MemoryMoves implements MoveStore {
  readonly #moves = new Map<string, MoveRecord>();
  /** Each state as it was saved. */
  readonly saved: MoveRecord['state'][] = [];

  async save(record: MoveRecord): Promise<void> {
    this.saved.push(record.state);
    if (record.state === 'moved' || record.state === 'stayed') this.#moves.delete(record.id);
    else this.#moves.set(record.id, { ...record });
  }

  open(): MoveRecord[] {
    return [...this.#moves.values()].map((record) => ({ ...record }));
  }
}

const sideOf = (address: string): Side => (address === outside.b ? 'b' : 'a');

/** A namespace instead of a VM: opened and closed in no time, except where `downMs` says how long a stopped waypoint takes to its start elsewhere. */
export function waypointsOf(network: Network, { downMs = 0 } = {}): Waypoints {
  const [open, close] = [(address: string) => network.open(sideOf(address)), (address: string) => network.close(sideOf(address))];
  return {
    async copy({ to }) {
      network.unbury(to);
      open(to);
    },
    async hold({ to }) {
      network.unbury(to);
      close(to);
    },
    async suspend({ from }) {
      close(from);
    },
    async start({ to }) {
      await wait(downMs);
      open(to);
    },
    async bury({ from }) {
      network.bury(from);
    },
    async revive({ from }) {
      network.unbury(from);
      open(from);
    },
    async discard({ to }) {
      close(to);
    },
    async release() {},
  };
}

/** The client of an agent changes when the agent does. */
export const sideOfAgent = (agent: AgentProcess): PathSide => ({
  status: (question) => agent.client.status(question),
  announce: (what) => agent.client.announce(what),
  withdraw: (what) => agent.client.withdraw(what),
  backup: (what) => agent.client.backup(what),
});

export interface Mover {
  /** The address of the waypoint that connections use now. */
  at: string;
  coordinator: PathCoordinator;
  store: MemoryMoves;
  move(kind?: MoveKind): Promise<MoveOutcome>;
}

export function moverOf(network: Network, agent: AgentProcess, more: Partial<CoordinatorOptions> & { downMs?: number } = {}): Mover {
  const { downMs, ...options } = more;
  const store = new MemoryMoves();
  const coordinator = new PathCoordinator({ sides: [sideOfAgent(agent)], waypoints: waypointsOf(network, downMs === undefined ? {} : { downMs }), store, log: () => {}, now: () => performance.now(), ...options });
  let count = 0;
  const mover: Mover = {
    at: outside.a,
    coordinator,
    store,
    async move(kind = 'make-before-break') {
      const to = mover.at === outside.b ? outsideAgain : outside.b;
      const outcome = await coordinator.move({ id: `move-${++count}`, kind, from: mover.at, to });
      if (outcome.record.state === 'moved') mover.at = to;
      return outcome;
    },
  };
  return mover;
}
