/** Inside of the namespace: the cache as a child process, an origin that misbehaves on demand, and viewers that send what they like. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, createServer as createRawServer, type Server as RawServer, type Socket } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
export const cacheAddress = '10.0.0.2';
export const secret = 'a-secret-of-the-test';

export const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));

/** Waits until `so` holds; false after 10 seconds. */
export async function until(so: () => boolean): Promise<boolean> {
  for (let i = 0; i < 1000 && !so(); i++) await sleep(10);
  return so();
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** An origin whose answers the test sets by path; it counts what it is asked. */
export class Origin {
  readonly #server: Server;
  readonly #handlers = new Map<string, Handler>();
  readonly asked: { method: string; url: string; headers: IncomingMessage['headers']; body: Promise<string> }[] = [];

  constructor() {
    this.#server = createServer((request, response) => {
      const body = new Promise<string>((done) => {
        let text = '';
        request.on('data', (data: Buffer) => (text += data.toString('latin1')));
        request.on('end', () => done(text));
      });
      this.asked.push({ method: request.method!, url: request.url!, headers: request.headers, body });
      const handler = this.#handlers.get(new URL(request.url!, 'http://o').pathname);
      if (handler === undefined) response.writeHead(404, { 'Content-Length': 0 }).end();
      else handler(request, response);
    });
    this.#server.keepAliveTimeout = 5000;
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '10.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as { port: number }).port;
  }

  on(path: string, handler: Handler): void {
    this.#handlers.set(path, handler);
  }

  /** A plain answer. */
  give(path: string, body: string | Buffer, headers: Record<string, string | string[]> = { 'Cache-Control': 'max-age=1000' }, status = 200): void {
    this.on(path, (_request, response) => response.writeHead(status, { 'Content-Length': Buffer.byteLength(body), ...headers }).end(body));
  }

  count(path: string): number {
    return this.asked.filter(({ url }) => url === path).length;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** An origin that writes bytes, whatever HTTP says. */
export class RawOrigin {
  readonly #server: RawServer;
  readonly #sockets = new Set<Socket>();
  answer: (socket: Socket, request: string) => void = (socket) => socket.destroy();

  constructor() {
    this.#server = createRawServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      let text = '';
      socket.on('data', (data) => {
        text += data.toString('latin1');
        if (!text.endsWith('\r\n\r\n')) return;
        const request = text;
        text = '';
        this.answer(socket, request);
      });
    });
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '10.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as { port: number }).port;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** The cache's process. */
export class Cache {
  #child?: ChildProcess;
  output = '';

  async start(originPort: number, ...words: string[]): Promise<void> {
    const program = process.env.MINICACHE ?? join(root, 'build/unikernels/minicache-linux.san');
    const all = ['tap0', 'name=t', `ip=${cacheAddress}/24`, 'ip6=fd00::2', `origin=10.0.0.1:${originPort}`, `secret=${secret}`, ...words];
    this.output = '';
    const child = spawn(program, all, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stdout.on('data', (data: Buffer) => (this.output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (this.output += data.toString()));
    if (!(await until(() => this.output.includes('net 0: up')))) throw new Error(`the cache does not come up: ${this.output}`);
  }

  /** As a kill -9, or the power. */
  async kill(): Promise<void> {
    const child = this.#child!;
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  /** Ends it in order; what it said when it did not end well. */
  async stop(): Promise<string> {
    const child = this.#child!;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await Promise.race([once(child, 'exit'), sleep(10_000)]);
    }
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    return child.exitCode === 0 ? '' : `exit ${child.exitCode} ${child.signalCode}: ${this.output.slice(-3000)}`;
  }
}

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

/** Reads answers off a connection one by one. */
export class Viewer {
  readonly socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  ended = false;

  constructor(port = 80, host = cacheAddress) {
    this.socket = connect({ port, host, noDelay: true });
    this.socket.on('data', (data) => (this.#bytes = Buffer.concat([this.#bytes, data])));
    this.socket.on('error', () => (this.ended = true));
    this.socket.on('close', () => (this.ended = true));
    this.socket.on('end', () => (this.ended = true));
  }

  send(text: string | Buffer): void {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
  }

  get received(): number {
    return this.#bytes.length;
  }

  async #more(enough: () => boolean): Promise<boolean> {
    for (let i = 0; i < 4000 && !enough() && !this.ended; i++) await sleep(5);
    return enough();
  }

  /** The next answer, or undefined when the connection ended before it was whole. `bare`: it has no body whatever it says. */
  async answer(bare = false): Promise<Answer | undefined> {
    const end = () => this.#bytes.indexOf('\r\n\r\n');
    if (!(await this.#more(() => end() >= 0))) return undefined;
    const [first, ...lines] = this.#bytes.subarray(0, end()).toString('latin1').split('\r\n');
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const at = line.indexOf(':');
      headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
    }
    const status = Number(first!.split(' ')[1]);
    this.#bytes = this.#bytes.subarray(end() + 4);
    if (bare || status === 304 || status === 204 || status < 200) return { status, headers, body: Buffer.alloc(0) };
    if (headers['transfer-encoding'] === 'chunked') {
      const parts: Buffer[] = [];
      for (;;) {
        if (!(await this.#more(() => this.#bytes.includes('\r\n')))) return undefined;
        const at = this.#bytes.indexOf('\r\n');
        const size = parseInt(this.#bytes.subarray(0, at).toString(), 16);
        if (!(await this.#more(() => this.#bytes.length >= at + 4 + size))) return undefined;
        parts.push(this.#bytes.subarray(at + 2, at + 2 + size));
        this.#bytes = this.#bytes.subarray(at + 4 + size);
        if (size === 0) return { status, headers, body: Buffer.concat(parts) };
      }
    }
    const length = headers['content-length'] === undefined ? undefined : Number(headers['content-length']);
    if (length === undefined) {
      await this.#more(() => false);
      return { status, headers, body: this.#bytes };
    }
    if (!(await this.#more(() => this.#bytes.length >= length))) return undefined;
    const body = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return { status, headers, body };
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request on a connection of its own. */
export async function get(path: string, headers: Record<string, string> = {}, options: { method?: string; port?: number; body?: string; host?: string } = {}): Promise<Answer | undefined> {
  const viewer = new Viewer(options.port ?? 80, options.host);
  const method = options.method ?? 'GET';
  const fields = { Host: 'site', Connection: 'close', ...headers, ...(options.body === undefined ? {} : { 'Content-Length': String(options.body.length) }) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  viewer.send(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${options.body ?? ''}`);
  const answer = await viewer.answer(method === 'HEAD');
  viewer.close();
  return answer;
}

export const admin = (path: string, method = 'GET') => get(path, { Authorization: `Bearer ${secret}` }, { method, port: 8081 });
