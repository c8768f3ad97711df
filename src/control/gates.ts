/**
 * What a release has to pass, asked from the controller: of each copy, and of a wave as a whole. A gate says why it failed, or nothing.
 * Every question is bounded in time, and so is how many are asked at once.
 */
import { execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { request } from 'node:http';
import { join } from 'node:path';
import type { Gate } from '../model/rollout.ts';

/** The network and the operator's programs, as far as gates need them. Never throw. */
export interface Probes {
  icmp(address: string, timeoutMs: number): Promise<boolean>;
  /** The status of the answer; undefined: none in time. */
  http(address: string, port: number, path: string, timeoutMs: number): Promise<number | undefined>;
  udp(address: string, port: number, send: Uint8Array, expect: Uint8Array, timeoutMs: number): Promise<boolean>;
  /** Undefined when it ended with 0; else why not. */
  command(name: string, input: string, timeoutMs: number): Promise<string | undefined>;
}

type CopyGate = Extract<Gate, { kind: 'icmp' | 'http' | 'udp' }>;
type Compare = Extract<Gate, { kind: 'compare' }>;

export const isCopyGate = (gate: Gate): gate is CopyGate => gate.kind === 'icmp' || gate.kind === 'http' || gate.kind === 'udp';

/** So many failed answers are one too many: a copy that has just begun may miss the first. */
const triesPerGate = 3;
const pauseMs = 200;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function ask(gate: CopyGate, address: string, probes: Probes): Promise<string | undefined> {
  switch (gate.kind) {
    case 'icmp':
      return (await probes.icmp(address, gate.timeoutMs)) ? undefined : `icmp: ${address} does not answer`;
    case 'http': {
      const status = await probes.http(address, gate.port, gate.path, gate.timeoutMs);
      const url = `http://${address}:${gate.port}${gate.path}`;
      if (status === gate.status) return undefined;
      return status === undefined ? `http: no answer from ${url}` : `http: ${url} answers ${status}, not ${gate.status}`;
    }
    case 'udp':
      return (await probes.udp(address, gate.port, bytes(gate.send), bytes(gate.expect), gate.timeoutMs))
        ? undefined
        : `udp: no such answer from ${address}:${gate.port}`;
  }
}

const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex');

/** All of a copy's gates, one after the other: why the first one failed, or undefined. `still`: whether the answer still matters. */
export async function askCopy(
  gates: readonly Gate[],
  address: string | undefined,
  probes: Probes,
  still: () => boolean,
): Promise<string | undefined> {
  for (const gate of gates.filter(isCopyGate)) {
    if (address === undefined) return `${gate.kind}: the copy has no address that is known here`;
    const inRow = gate.kind === 'udp' ? 1 : Math.max(1, gate.timesInRow);
    let row = 0;
    for (let failures = 0; row < inRow && still(); ) {
      const why = await ask(gate, address, probes);
      if (why === undefined) row++;
      else if (++failures >= triesPerGate) return why;
      else {
        row = 0;
        await pause(pauseMs);
      }
    }
  }
  return undefined;
}

/** Samples of a group: which probes were answered, and after how many milliseconds. */
interface Group {
  addresses: readonly string[];
  asked: number;
  failed: number;
  tookMs: number[];
}

const compared = 8;
/** Below this, latencies differ by chance. */
const floorMs = 5;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
const rateOf = ({ asked, failed }: Group): number => (asked === 0 ? 0 : failed / asked);

/** Old and new copies are probed side by side for the gate's window. Without old ones only the rate of failures counts. */
export async function askCompare(
  gate: Compare,
  probe: (address: string) => Promise<boolean>,
  fresh: readonly string[],
  old: readonly string[],
  still: () => boolean,
): Promise<string | undefined> {
  const groupOf = (addresses: readonly string[]): Group => ({ addresses: addresses.slice(0, compared), asked: 0, failed: 0, tookMs: [] });
  const [now, before] = [groupOf(fresh), groupOf(old)];
  const endsMs = performance.now() + gate.windowMs;
  const restMs = Math.max(50, Math.floor(gate.windowMs / 50));
  for (let round = 0; still() && (round < 3 || performance.now() < endsMs); round++) {
    await Promise.all(
      [now, before].flatMap((group) =>
        group.addresses.map(async (address) => {
          const began = performance.now();
          const answered = await probe(address);
          group.asked++;
          if (answered) group.tookMs.push(performance.now() - began);
          else group.failed++;
        }),
      ),
    );
    await pause(restMs);
  }
  const allowed = Math.max(gate.maxErrorRate, rateOf(before));
  if (rateOf(now) > allowed)
    return `compare: ${now.failed} of ${now.asked} probes of the new copies failed, of the old ones ${before.failed} of ${before.asked}`;
  const [nowMs, beforeMs] = [median(now.tookMs), Math.max(floorMs, median(before.tookMs))];
  if (before.tookMs.length > 0 && now.tookMs.length > 0 && nowMs > beforeMs * gate.maxLatencyRatio)
    return `compare: the new copies answer in ${nowMs.toFixed(1)} ms, the old ones in ${median(before.tookMs).toFixed(1)} ms`;
  return undefined;
}

const commandPattern = /^[a-z0-9][a-z0-9-]{0,62}$/;
const wordsKept = 300;

/** Over the network of this machine. `folder`: where the operator's programs are; undefined: there are none. */
export const networkProbes = (folder: string | undefined): Probes => ({
  icmp: (address, timeoutMs) =>
    new Promise((done) => {
      const words = ['-n', '-q', '-c', '1', '-W', (timeoutMs / 1000).toFixed(3), address];
      execFile('ping', words, { timeout: timeoutMs + 500 }, (error) => done(error === null));
    }),
  http: (host, port, path, timeoutMs) =>
    new Promise((done) => {
      const outgoing = request({ host, port, path, agent: false }, (response) => {
        clearTimeout(timer);
        done(response.statusCode);
        response.destroy();
      });
      const timer = setTimeout(() => outgoing.destroy(new Error('late')), timeoutMs);
      outgoing.on('error', () => (clearTimeout(timer), done(undefined)));
      outgoing.end();
    }),
  udp: (address, port, send, expect, timeoutMs) =>
    new Promise((done) => {
      const socket = createSocket('udp4');
      let ended = false;
      const end = (answer: boolean): void => {
        clearTimeout(timer);
        if (ended) return;
        ended = true;
        socket.removeAllListeners('message');
        socket.close();
        done(answer);
      };
      const timer = setTimeout(() => end(false), timeoutMs);
      socket.once('error', () => end(false));
      socket.on('message', (message, from) => {
        if (from.address === address && message.subarray(0, expect.byteLength).equals(expect)) end(true);
      });
      socket.send(send, port, address, (error) => void (error === null || end(false)));
    }),
  command: (name, input, timeoutMs) => {
    if (folder === undefined) return Promise.resolve(`command: this controller has no folder of programs for "${name}"`);
    if (!commandPattern.test(name)) return Promise.resolve(`command: "${name}" is no name of a program`);
    return runCommand(join(folder, name), name, input, timeoutMs);
  },
});

function runCommand(path: string, name: string, input: string, timeoutMs: number): Promise<string | undefined> {
  return new Promise((done) => {
    let words = '';
    // A process group of its own: what it started ends with it.
    const child = spawn(path, [], { stdio: ['pipe', 'ignore', 'pipe'], detached: true, cwd: '/' });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      end();
    }, timeoutMs);
    const end = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    child.stderr.setEncoding('utf8').on('data', (text: string) => (words = (words + text).slice(-wordsKept)));
    child.stdin.on('error', () => {});
    child.once('error', (error) => (clearTimeout(timer), done(`command: "${name}" cannot be run: ${error.message}`)));
    child.once('exit', (code) => {
      clearTimeout(timer);
      end();
      const said = words.trim() === '' ? '' : `: ${words.trim()}`;
      done(late ? `command: "${name}" did not end within ${timeoutMs} ms` : code === 0 ? undefined : `command: "${name}" ended with ${code}${said}`);
    });
    child.stdin.end(input);
  });
}
