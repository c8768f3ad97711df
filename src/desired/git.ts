/** C git as a child process: single commands, bounded in time and output, and one long-running reader of objects. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { broken, type Objects } from './objects.ts';

export interface GitOptions {
  /** Written to its standard input. */
  input?: string | Uint8Array;
  env?: Record<string, string>;
  timeoutMs?: number;
  /** Exit codes that are an answer. */
  codes?: readonly number[];
  signal?: AbortSignal;
  /** With the user's own environment and configuration: his credentials, his proxies. */
  asUser?: boolean;
}

const mostOutputBytes = 64 * 1024 * 1024;

/** Nothing of the machine's or a user's configuration counts, and nobody is asked for a password. */
export const gitEnv = (): Record<string, string> => {
  const env: Record<string, string> = {};
  for (const name of ['PATH', 'HOME', 'TMPDIR', 'LANG', 'GIT_QUARANTINE_PATH', 'GIT_OBJECT_DIRECTORY', 'GIT_ALTERNATE_OBJECT_DIRECTORIES', 'SSH_AUTH_SOCK'])
    if (process.env[name] !== undefined) env[name] = process.env[name]!;
  return { ...env, GIT_CONFIG_NOSYSTEM: '1', GIT_CONFIG_GLOBAL: '/dev/null', GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };
};

export interface GitAnswer {
  code: number;
  stdout: Buffer;
  stderr: string;
}

/** Throws REPOSITORY_FAILED with what git said, when its exit code is not among `codes` ([0]). */
export function git(repository: string, args: readonly string[], options: GitOptions = {}): Promise<GitAnswer> {
  const { input, env = {}, timeoutMs = 60_000, codes = [0], signal, asUser = false } = options;
  const usual = asUser ? { ...process.env, GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' } : gitEnv();
  return new Promise((resolve, reject) => {
    const child = spawn('git', ['-C', repository, ...args], { env: { ...usual, ...env }, stdio: 'pipe' });
    const parts: Buffer[] = [];
    let bytes = 0;
    let stderr = '';
    let late = false;
    const stop = (): void => void child.kill('SIGKILL');
    const timer = setTimeout(() => {
      late = true;
      stop();
    }, timeoutMs);
    signal?.addEventListener('abort', stop, { once: true });
    child.stdout.on('data', (part: Buffer) => {
      bytes += part.length;
      if (bytes > mostOutputBytes) stop();
      else parts.push(part);
    });
    child.stderr.on('data', (part: Buffer) => (stderr = (stderr + part.toString()).slice(-4000)));
    child.stdin.on('error', () => {});
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(broken(`git cannot be run: ${error.message}`));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      if (code !== null && codes.includes(code) && bytes <= mostOutputBytes) return resolve({ code, stdout: Buffer.concat(parts), stderr });
      const why = late ? `took longer than ${timeoutMs} ms` : stderr.trim().split('\n').slice(-4).join(' ') || `ended with ${code}`;
      reject(broken(`git ${args.find((word) => /^[a-z]/.test(word) && !word.includes('=')) ?? ''}: ${why}`));
    });
    child.stdin.end(input);
  });
}

/** Standard output as text, without the last line's end. */
export const gitText = async (repository: string, args: readonly string[], options?: GitOptions): Promise<string> =>
  (await git(repository, args, options)).stdout.toString().replace(/\n$/, '');

/** Objects through one `git cat-file`; one request at a time. `close` ends it. */
export class CatFile implements Objects {
  readonly #child: ChildProcessWithoutNullStreams;
  #parts: Buffer[] = [];
  #bytes = 0;
  #wake: (() => void) | undefined;
  #ended: Error | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(repository: string) {
    this.#child = spawn('git', ['-C', repository, 'cat-file', '--batch-command'], { env: gitEnv(), stdio: 'pipe' });
    this.#child.stdout.on('data', (part: Buffer) => {
      this.#parts.push(part);
      this.#bytes += part.length;
      this.#wake?.();
    });
    let stderr = '';
    this.#child.stderr.on('data', (part: Buffer) => (stderr = (stderr + part.toString()).slice(-1000)));
    const end = (error?: Error): void => {
      this.#ended ??= broken(`git cat-file ended: ${error?.message ?? stderr.trim()}`);
      this.#wake?.();
    };
    this.#child.stdin.on('error', () => {});
    this.#child.on('error', end);
    this.#child.on('close', () => end());
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  read(oid: string, type: 'commit' | 'tree' | 'blob', mostBytes: number): Promise<Buffer> {
    const mine = this.#turn.then(() => this.#read(oid, type, mostBytes));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Bytes of an object, without reading it. */
  size(oid: string): Promise<number> {
    const mine = this.#turn.then(async () => Number((await this.#ask(`info ${oid}`, oid))[2]));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #read(oid: string, type: string, mostBytes: number): Promise<Buffer> {
    const [, found, size] = await this.#ask(`info ${oid}`, oid);
    if (found !== type) throw broken(`${oid} is a ${found}, not a ${type}.`);
    if (Number(size) > mostBytes) throw broken(`The ${type} ${oid} has ${size} bytes; ${mostBytes} are the most.`);
    await this.#ask(`contents ${oid}`, oid);
    const bytes = await this.#take(Number(size) + 1);
    return bytes.subarray(0, -1);
  }

  async #ask(command: string, oid: string): Promise<string[]> {
    this.#child.stdin.write(`${command}\n`);
    const words = (await this.#line()).split(' ');
    if (words[0] !== oid || words.length !== 3) throw broken(`The object ${oid} is missing or damaged.`);
    return words;
  }

  async #line(): Promise<string> {
    for (;;) {
      const all = this.#joined();
      const end = all.indexOf(10);
      if (end >= 0) {
        this.#keep(all.subarray(end + 1));
        return all.toString('latin1', 0, end);
      }
      await this.#more();
    }
  }

  async #take(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) await this.#more();
    const all = this.#joined();
    this.#keep(all.subarray(bytes));
    return all.subarray(0, bytes);
  }

  #joined(): Buffer {
    if (this.#parts.length !== 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0]!;
  }

  #keep(rest: Buffer): void {
    this.#parts = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
  }

  async #more(): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
  }
}
