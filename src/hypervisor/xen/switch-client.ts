/**
 * The agent's side of the switch's control socket (src/hypervisor/xen/switch): lines of words, one answer to each, in order, any number under
 * way. All requests of one turn of the event loop leave in one write.
 *
 * The switch may be started again at any time and keeps what it was told, so the client connects again by itself. Requests under way when
 * the connection is lost fail with SWITCH_UNAVAILABLE (whether they were carried out is not known); new ones wait for the next connection,
 * but not for long.
 */
import { connect, type Socket } from 'node:net';
import { ShoalError } from '../../model/errors.ts';
import type { SwitchTotals } from '../port.ts';
import type { AddressTraffic } from '../../model/traffic.ts';

export interface SwitchAttachment {
  network: string;
  /** The guest's event channel. */
  port: number;
  /** Machine frames of the ring pages. */
  txMfn: number | bigint;
  rxMfn: number | bigint;
}

export interface SwitchIdentity {
  mac: string;
  ipv4?: readonly string[] | undefined;
  /** What the guest may send, in kilobits a second; none or 0: unlimited. */
  rateKbit?: number | undefined;
  /** Whether it gets broadcasts and multicasts. */
  flood?: boolean | undefined;
  /** Whether it may send IPv4 from any address. */
  unlocked?: boolean | undefined;
}

export interface VifName {
  domid: number;
  handle: number;
}

export interface SwitchVif {
  domid: number;
  handle: number;
  network: string;
  port: number;
  /** None yet for a vif without identity. */
  mac: string | undefined;
  ipv4: string[];
  rateKbit: number;
  flood: boolean;
  unlocked: boolean;
  /** Broken: its guest did not keep to the protocol, and nothing flows until it is attached anew. */
  state: 'up' | 'broken';
}

/** Of one vif; rx is what the guest received. */
export interface SwitchStats {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  rxDropped: number;
  txDropped: number;
}

export interface SwitchClientOptions {
  /** How long a request waits for a connection. */
  patienceMs?: number;
  /** How long the switch may leave a request without an answer. */
  answerMs?: number;
}

interface Pending {
  line: string;
  /** Lines that follow the first, or "unknown" until that one says how many. */
  more: number | 'unknown';
  lines: string[];
  resolve: (lines: string[]) => void;
  reject: (error: Error) => void;
}

const firstPauseMs = 20;
const longestPauseMs = 2000;
const longestLineBytes = 1024;

const unavailable = (message: string, cause?: unknown): ShoalError =>
  new ShoalError('SWITCH_UNAVAILABLE', `switch: ${message}`, cause === undefined ? {} : { cause });
const refused = (line: string, errno: string, text: string): ShoalError =>
  new ShoalError('SWITCH_REFUSED', `switch: ${line.slice(0, 120)}: ${text} (${errno})`, { data: { errno } });

export class SwitchClient {
  private readonly path: string;
  private readonly patienceMs: number;
  private readonly answerMs: number;
  private socket: Socket | undefined;
  private ready = false;
  private closed = false;
  private pauseMs = firstPauseMs;
  private lastFailure: unknown;
  private unread = '';
  private unsent: string[] = [];
  private pending: Pending[] = [];
  private waiting = new Set<(error?: Error) => void>();
  private answerTimer: NodeJS.Timeout | undefined;
  private reconnectTimer: NodeJS.Timeout | undefined;

  private constructor(path: string, options: SwitchClientOptions) {
    this.path = path;
    this.patienceMs = options.patienceMs ?? 3000;
    this.answerMs = options.answerMs ?? 30_000;
  }

  /** Returns at once; whether a switch is there shows with the first request. */
  static connect(path: string, options: SwitchClientOptions = {}): SwitchClient {
    const client = new SwitchClient(path, options);
    client.open();
    return client;
  }

  /** The name and version that the switch gives itself. */
  async hello(): Promise<string> {
    return (await this.ask('hello')).join(' ');
  }

  /** Makes the network's uplink, or finds it again; gives its interface's name. */
  async network(name: string, bridge: string): Promise<string> {
    return text(fields(await this.ask('network', name, `bridge=${bridge}`)), 'interface');
  }

  async attach(domid: number, handle: number, { network, port, txMfn, rxMfn }: SwitchAttachment): Promise<void> {
    await this.ask('attach', `${domid}.${handle}`, `network=${network}`, `tx=${txMfn}`, `rx=${rxMfn}`, `port=${port}`);
  }

  async identity(domid: number, handle: number, { mac, ipv4 = [], rateKbit = 0, flood = false, unlocked = false }: SwitchIdentity): Promise<void> {
    const words = [`mac=${mac}`];
    if (ipv4.length > 0) words.push(`ip=${ipv4.join(',')}`);
    if (rateKbit > 0) words.push(`rate=${rateKbit}`);
    if (flood) words.push('flood=1');
    if (unlocked) words.push('unlocked=1');
    await this.ask('identity', `${domid}.${handle}`, ...words);
  }

  /** All vifs of a domain; gives how many there were. */
  async detach(domid: number): Promise<number> {
    return Number((await this.ask('detach', String(domid)))[0]);
  }

  async list(): Promise<SwitchVif[]> {
    const [, ...lines] = await this.request(['list'], 'unknown');
    return lines.map(parseVif);
  }

  async stats(domid: number, handle: number): Promise<SwitchStats> {
    const of = fields(await this.ask('stats', `${domid}.${handle}`));
    return {
      rxFrames: number(of, 'rx_frames'), rxBytes: number(of, 'rx_bytes'), txFrames: number(of, 'tx_frames'), txBytes: number(of, 'tx_bytes'),
      rxDropped: number(of, 'rx_dropped'), txDropped: number(of, 'tx_dropped'),
    };
  }

  async totals(): Promise<SwitchTotals> {
    const of = fields(await this.ask('totals'));
    return {
      vifs: number(of, 'vifs'), frames: number(of, 'frames'), bytes: number(of, 'bytes'), turns: number(of, 'turns'), copies: number(of, 'copies'),
      dropped: number(of, 'dropped'), memoryKib: number(of, 'memory_kib'),
    };
  }

  /** As place_move of the switch: the address leaves `from`, which keeps its connections for `drainMs`, and goes to `to`. Done before is well. */
  async move(network: string, ip: string, from: VifName | undefined, to: VifName | undefined, drainMs: number): Promise<void> {
    const words = [network, ip];
    if (from !== undefined) words.push(`from=${from.domid}.${from.handle}`);
    if (to !== undefined) words.push(`to=${to.domid}.${to.handle}`);
    await this.ask('move', ...words, `drain=${drainMs}`);
  }

  /** For so long ARP is answered for an address that nobody has yet, and frames for it are kept for who gets it; 0 ends that. `mac`: of who it is that comes. */
  async hold(network: string, ip: string, ms: number, mac?: string): Promise<void> {
    await this.ask('hold', network, ip, `ms=${ms}`, ...(mac === undefined ? [] : [`mac=${mac}`]));
  }

  /** Tells everybody outside who has the address here, and gives that guest what was kept for it. */
  async announce(network: string, ip: string): Promise<void> {
    await this.ask('announce', network, ip);
  }

  async traffic(network: string, ip: string): Promise<AddressTraffic> {
    const of = fields(await this.ask('traffic', network, ip));
    return {
      frames: number(of, 'frames'), bytes: number(of, 'bytes'), idleMs: number(of, 'idle_ms'), drains: number(of, 'drains'),
      held: number(of, 'held') === 1, waiting: number(of, 'waiting'),
    };
  }

  /** Writes all frames of a vif to a capture file or FIFO on the switch's host (see the port's mirrorVif); without a path it ends. */
  async mirror(domid: number, handle: number, file?: string): Promise<void> {
    await this.ask('mirror', `${domid}.${handle}`, file === undefined ? 'off' : `file=${file}`);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.reconnectTimer);
    const error = unavailable('the client was closed');
    this.drop(error);
    for (const wake of [...this.waiting]) wake(error);
  }

  /** The words after ok. */
  private async ask(...words: string[]): Promise<string[]> {
    const [first] = await this.request(words, 0);
    return first!.split(' ').slice(1);
  }

  private async request(words: string[], more: Pending['more']): Promise<string[]> {
    const line = words.join(' ');
    // A word with a blank in it would be two, and one with the end of a line two requests.
    if (words.some((word) => !/^[\x21-\x7e]+$/.test(word)) || line.length >= longestLineBytes) throw refused(line, 'EINVAL', 'not a request');
    while (!this.ready) await this.connected();
    return this.send(line, more);
  }

  private send(line: string, more: Pending['more']): Promise<string[]> {
    return new Promise((resolve, reject) => {
      this.pending.push({ line, more, lines: [], resolve, reject });
      if (this.pending.length === 1) this.watch();
      if (this.unsent.push(`${line}\n`) === 1) process.nextTick(() => this.flush());
    });
  }

  private flush(): void {
    const lines = this.unsent;
    this.unsent = [];
    if (lines.length > 0) this.socket?.write(lines.join(''));
  }

  /** Waits until the switch has said who it is. */
  private connected(): Promise<void> {
    if (this.closed) throw unavailable('the client was closed');
    return new Promise((resolve, reject) => {
      const wake = (error?: Error): void => {
        clearTimeout(timer);
        this.waiting.delete(wake);
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => wake(unavailable(`nobody answers at ${this.path}`, this.lastFailure)), this.patienceMs);
      this.waiting.add(wake);
    });
  }

  private open(): void {
    const socket = connect({ path: this.path });
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => this.take(chunk));
    socket.on('error', (cause) => {
      this.lastFailure = cause;
    });
    socket.on('close', () => this.drop(unavailable('the connection was lost', this.lastFailure), socket));
    socket.on('connect', () => {
      this.send('hello', 0).then(
        ([answer]) => this.greet(answer!),
        (cause: unknown) => this.drop(unavailable('it does not answer', cause), socket),
      );
    });
  }

  private greet(answer: string): void {
    if (answer !== 'ok shoal-switch 1') {
      this.lastFailure = unavailable(`another protocol: ${answer.slice(0, 60)}`);
      this.drop(this.lastFailure as ShoalError);
      return;
    }
    this.ready = true;
    this.lastFailure = undefined;
    this.pauseMs = firstPauseMs;
    for (const wake of [...this.waiting]) wake();
  }

  private drop(error: ShoalError, only?: Socket): void {
    const socket = this.socket;
    if (!socket || (only && only !== socket)) return;
    this.socket = undefined;
    this.ready = false;
    this.unread = '';
    this.unsent = [];
    clearTimeout(this.answerTimer);
    socket.removeAllListeners();
    socket.on('error', () => {});
    socket.destroy();
    const lost = this.pending;
    this.pending = [];
    for (const request of lost) request.reject(error);
    if (this.closed) return;
    this.reconnectTimer = setTimeout(() => this.open(), this.pauseMs).unref();
    this.pauseMs = Math.min(this.pauseMs * 2, longestPauseMs);
  }

  /** A switch that leaves the oldest request without an answer is as good as none. */
  private watch(): void {
    clearTimeout(this.answerTimer);
    if (this.pending.length > 0) {
      this.answerTimer = setTimeout(() => this.drop(unavailable(`no answer within ${this.answerMs} ms`)), this.answerMs).unref();
    }
  }

  private take(chunk: string): void {
    const lines = (this.unread + chunk).split('\n');
    this.unread = lines.pop()!;
    for (const line of lines) {
      if (!this.answer(line)) {
        this.drop(unavailable(`it said what nobody asked: ${line.slice(0, 60)}`));
        return;
      }
    }
    this.watch();
  }

  private answer(line: string): boolean {
    const request = this.pending[0];
    if (!request) return false;
    request.lines.push(line);
    if (request.lines.length === 1) {
      const [verdict, errno = 'EIO', ...words] = line.split(' ');
      if (verdict === 'error') {
        this.pending.shift();
        request.reject(refused(request.line, errno, words.join(' ')));
        return true;
      }
      if (verdict !== 'ok') return false;
      if (request.more === 'unknown') request.more = Number(errno);
      if (!Number.isSafeInteger(request.more)) return false;
    }
    if (request.lines.length > (request.more as number)) {
      this.pending.shift();
      request.resolve(request.lines);
    }
    return true;
  }
}

function fields(words: readonly string[]): Map<string, string> {
  return new Map(words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
}

function text(of: Map<string, string>, key: string): string {
  const value = of.get(key);
  if (value === undefined) throw unavailable(`its answer lacks ${key}`);
  return value;
}

function number(of: Map<string, string>, key: string): number {
  const value = Number(text(of, key));
  if (Number.isNaN(value)) throw unavailable(`its answer has no number for ${key}`);
  return value;
}

function parseVif(line: string): SwitchVif {
  const [name, ...words] = line.split(' ');
  const [domid, handle] = name!.split('.').map(Number);
  const of = fields(words);
  return {
    domid: domid!, handle: handle!, network: text(of, 'network'), port: number(of, 'port'), mac: text(of, 'mac') || undefined,
    ipv4: text(of, 'ip').split(',').filter((address) => address !== ''), rateKbit: number(of, 'rate'), flood: text(of, 'flood') === '1',
    // A switch from before does not say it, and knows none.
    unlocked: of.get('unlocked') === '1',
    state: text(of, 'state') === 'up' ? 'up' : 'broken',
  };
}
