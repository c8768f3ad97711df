/**
 * Git's smart HTTP, by git's own CGI program: the body goes in as it comes, the answer comes out as it is made, neither is ever whole in
 * memory. A client that goes away ends the program; git itself clears the quarantine.
 */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { IncomingMessage } from 'node:http';
import { PassThrough, type Readable } from 'node:stream';
import { gitEnv } from '../../desired/git.ts';
import { ShoalError } from '../../model/errors.ts';

export interface Request {
  raw: IncomingMessage;
  /** Below the repository: "/info/refs", "/git-receive-pack". */
  path: string;
  query: string;
  /** For the audit and the hook. */
  pusher: { id: string; role: string; tenant?: string | undefined };
  from: string;
}

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Readable;
}

const mostHeaderBytes = 16 * 1024;
const longestMs = 600_000;
/** For git to end by itself when the client has gone. */
const patienceMs = 10_000;

/** So many at once; the next wait, and when too many wait they are turned away. */
export class Turns {
  readonly #most: number;
  readonly #mostWaiting: number;
  #busy = 0;
  #waiting: (() => void)[] = [];

  constructor(most: number, mostWaiting: number) {
    this.#most = most;
    this.#mostWaiting = mostWaiting;
  }

  async take(): Promise<() => void> {
    if (this.#busy >= this.#most) {
      if (this.#waiting.length >= this.#mostWaiting) throw new ShoalError('HOST_LIMIT', 'Too many fetches and pushes wait already.', { hint: 'Try again in a few seconds.' });
      await new Promise<void>((go) => this.#waiting.push(go));
    } else this.#busy++;
    let given = false;
    return () => {
      if (given) return;
      given = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#busy--;
      else next();
    };
  }
}

export class Backend {
  readonly #repository: string;
  readonly #running = new Set<() => void>();

  constructor(repository: string) {
    this.#repository = resolve(repository);
  }

  /** Ends what runs. */
  close(): void {
    for (const end of [...this.#running]) end();
  }

  /** `onEnd` is called once, when the program is gone. Throws REPOSITORY_FAILED when it gives no answer. */
  run({ raw, path, query, pusher, from }: Request, onEnd: () => void): Promise<Answer> {
    const { headers, method } = raw;
    const one = (name: string): string | undefined => headers[name] as string | undefined;
    const env: Record<string, string> = {
      ...gitEnv(),
      GIT_PROJECT_ROOT: this.#repository,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: path,
      QUERY_STRING: query,
      REQUEST_METHOD: method ?? 'GET',
      REMOTE_USER: pusher.id,
      REMOTE_ADDR: from,
      SHOAL_PUSHER: JSON.stringify({ role: pusher.role, ...(pusher.tenant === undefined ? {} : { tenant: pusher.tenant }) }),
      GIT_COMMITTER_NAME: `token ${pusher.id}`,
      GIT_COMMITTER_EMAIL: `${pusher.id}@shoal`,
    };
    const pass: [string, string][] = [['CONTENT_TYPE', 'content-type'], ['HTTP_CONTENT_ENCODING', 'content-encoding'], ['GIT_PROTOCOL', 'git-protocol']];
    // No CONTENT_LENGTH: git 2.39 waits for the whole length without noticing that its input has ended, and turns round and round.
    for (const [name, header] of pass) if (one(header) !== undefined) env[name] = one(header)!;
    const child = spawn('git', ['http-backend'], { env, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    let stderr = '';
    child.stderr.on('data', (part: Buffer) => (stderr = (stderr + part.toString()).slice(-1000)));
    // Its own group: what it started goes with it. The last resort: it leaves its quarantine, which is swept later.
    const end = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM');
      } catch {
        // It is gone.
      }
    };
    this.#running.add(end);
    let timer = setTimeout(end, longestMs);
    child.stdin.on('error', () => {});
    raw.pipe(child.stdin);
    const onClose = (): void => {
      if (raw.complete) return;
      // At the end of its input git gives up by itself and takes its quarantine away.
      child.stdin.destroy();
      clearTimeout(timer);
      timer = setTimeout(end, patienceMs);
    };
    // Who waited for his turn may have gone already.
    if (raw.destroyed) onClose();
    else raw.once('close', onClose);
    return new Promise((done, fail) => {
      let over = false;
      const ended = (error?: Error): void => {
        if (over) return;
        over = true;
        clearTimeout(timer);
        this.#running.delete(end);
        raw.unpipe(child.stdin);
        fail(new ShoalError('REPOSITORY_FAILED', `git http-backend gave no answer: ${error?.message ?? stderr.trim()}`));
        onEnd();
      };
      child.once('error', ended);
      child.once('close', () => ended());
      let head = Buffer.alloc(0);
      const onData = (part: Buffer): void => {
        head = Buffer.concat([head, part]);
        const at = head.indexOf('\r\n\r\n');
        if (at < 0) {
          if (head.length > mostHeaderBytes) end();
          return;
        }
        child.stdout.off('data', onData);
        // A stream of its own: what a child's output still has when it exits is thrown away where nobody reads yet.
        const body = new PassThrough();
        const answer: Answer = { status: 200, headers: {}, body };
        for (const line of head.toString('latin1', 0, at).split('\r\n')) {
          const colon = line.indexOf(':');
          const [name, value] = [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
          if (name === 'status') answer.status = Number(value.slice(0, 3));
          else answer.headers[name] = value;
        }
        if (head.length > at + 4) body.write(head.subarray(at + 4));
        child.stdout.pipe(body);
        // Read to its end for nobody: git that cannot write is ended by a signal, and then leaves its quarantine.
        body.once('close', () => child.stdout.resume());
        done(answer);
      };
      child.stdout.on('data', onData);
    });
  }
}
