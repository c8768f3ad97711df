/**
 * Child processes: run one to its end with a time limit, and name one that lives on so that it can be found again. A process is
 * named by pid and start time together, because the pid alone may belong to another one by the time it is killed.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';

export interface RunOptions {
  cwd?: string;
  env?: Record<string, string>;
  input?: string | Uint8Array;
  /** Default 120,000. After it the child is killed and code is 124, as timeout(1) has it. */
  timeoutMs?: number;
  /** Called with each piece of standard error, for progress. */
  onStderr?: (text: string) => void;
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. Never throws for a bad exit code; 127 when the program does not exist. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd: options.cwd,
      env: options.env === undefined ? process.env : { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, options.timeoutMs ?? 120_000);
    child.stdout.on('data', (piece: Buffer) => out.push(piece));
    child.stderr.on('data', (piece: Buffer) => {
      err.push(piece);
      options.onStderr?.(piece.toString());
    });
    const end = (code: number, note = '') => {
      clearTimeout(timer);
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() + note });
    };
    child.on('error', (error) => end(127, error.message));
    child.on('close', (code) => (timedOut ? end(124, `stopped after ${options.timeoutMs ?? 120_000} ms`) : end(code ?? 128)));
    child.stdin.on('error', () => undefined); // the child may end before it has read everything
    child.stdin.end(options.input ?? '');
  });
}

/** Last lines of a text, for an error message. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}

/** Runs a program that has to succeed; its standard output. */
export async function must(
  argv: readonly string[],
  options: RunOptions & { code?: 'LAB_FAILED' | 'SETUP_FAILED' } = {},
): Promise<string> {
  const result = await run(argv, options);
  if (result.code !== 0) {
    const said = lastLines(result.stderr || result.stdout, 8);
    throw new ShoalError(
      options.code ?? 'LAB_FAILED',
      `${argv.slice(0, 6).join(' ')}: exit code ${result.code}${said ? `: ${said}` : ''}`,
    );
  }
  return result.stdout;
}

/** A process that outlives the one that started it. */
export interface ProcessName {
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks from the start of the machine to the start of the process. */
  startTicks: number;
}

function startTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // the second field, the name, is in parentheses and may contain anything: count from the last one
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

export function nameProcess(pid: number): ProcessName | undefined {
  const ticks = startTicks(pid);
  return ticks === undefined ? undefined : { pid, startTicks: ticks };
}

/** Words of a process's command line; none when it is gone. */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

export function isAlive(name: ProcessName): boolean {
  return startTicks(name.pid) === name.startTicks;
}

/** Ends a process: SIGTERM, then SIGKILL after `graceMs`. Resolves when it is gone. A process that is gone already is fine. */
export async function endProcess(name: ProcessName, graceMs = 2_000): Promise<void> {
  const signal = (what: NodeJS.Signals) => {
    try {
      if (isAlive(name)) process.kill(name.pid, what);
    } catch {
      // gone between the look and the signal
    }
  };
  signal(graceMs > 0 ? 'SIGTERM' : 'SIGKILL');
  const start = Date.now();
  for (let killed = graceMs <= 0; isAlive(name); await sleep(10)) {
    if (!killed && Date.now() - start > graceMs) {
      signal('SIGKILL');
      killed = true;
    }
    if (Date.now() - start > graceMs + 10_000) throw new ShoalError('LAB_FAILED', `process ${name.pid} does not end`);
  }
}
