/**
 * The XenAPI server: JSON-RPC at /jsonrpc, XML-RPC at /, /RPC2 and /xmlrpc, images and consoles as resources, all over TLS. A
 * failed call is HTTP 200 with the failure in the body, as XenAPI's clients expect. Node's own https and nothing else: in dom0
 * the start counts.
 */
import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Api, Caller } from './api.ts';
import { answerUnread, Bodies } from './body.ts';
import { dispatch } from './dispatch.ts';
import { toFailure } from './errors.ts';
import { formatJsonFailure, formatJsonResult, isBad, parseJsonRequests, type JsonRequest } from './json-rpc.ts';
import { serveResource } from './resources.ts';
import { gathered, nextTurn, turnsOf } from './sliced.ts';
import { formatXmlFailure, formatXmlResult, parseXmlCall } from './xml-rpc.ts';

export interface ServerOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  /** PEM texts; without them the server speaks plain HTTP, for a socket that others protect. */
  tls: { cert: string; key: string } | undefined;
  /** The API, once the agent is ready; calls that come before wait for it. */
  api: Promise<Api>;
  maxBodyBytes?: number;
  log?: (line: string) => void;
}

export interface XenApiServer {
  port: number;
  close(): Promise<void>;
}

const maxConnections = 1100;
const keepAliveMs = 75_000;
const never = new AbortController().signal;

interface Protocol {
  /** Exactly this: a charset behind it makes clients take it for another protocol. */
  type: string;
  /** The answer in pieces; undefined for none. */
  answer: (text: string, api: Api, caller: Caller) => Promise<Iterable<string> | undefined>;
  failure: (thrown: unknown) => string;
}

/**
 * Listens, so that a second agent on this host fails before it touches anything. Throws HOST_LIMIT when the address is in use.
 */
export async function listen(options: ServerOptions): Promise<XenApiServer> {
  const log = options.log ?? (() => {});
  const bodies = new Bodies(options.maxBodyBytes);
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    serve(options.api, bodies, log, request, response).catch((error: unknown) => {
      log(`request: ${asShoalError(error).message}`);
      response.destroy();
    });
  };
  /** The server forgets connections that became something else. */
  const migrations = new Set<Duplex>();
  const settings = { keepAliveTimeout: keepAliveMs, headersTimeout: 20_000, requestTimeout: 300_000 };
  const server: Server =
    options.tls === undefined ? createPlainServer(settings, onRequest) : createServer({ ...settings, ...options.tls, ...agentsCertificates }, onRequest);
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    migrations.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => migrations.delete(socket));
    void takeMigration(options.api, request, socket, head).catch(() => socket.destroy());
  });
  server.maxConnections = maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new ShoalError('HOST_LIMIT', `Cannot listen on ${options.host}:${options.port}: ${error.message}`, {
          hint: 'Another agent may be running; or choose another address in the configuration.',
          cause: error,
        }),
      );
    });
    server.listen({ host: options.host, port: options.port, exclusive: true }, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
        for (const socket of migrations) socket.destroy();
      }),
  };
}

/** Asked of every client, had by other agents only; whose it may be a migration's ticket says, not an authority. */
const agentsCertificates = { requestCert: true, rejectUnauthorized: false };

async function takeMigration(ready: Promise<Api>, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  const certificate = socket instanceof TLSSocket ? socket.getPeerCertificate() : undefined;
  const known = request.url === '/migration' && request.headers.upgrade === 'shoal-migration';
  if (!known || certificate?.fingerprint256 === undefined) {
    socket.end(`HTTP/1.1 ${known ? 403 : 404} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    return;
  }
  const { agent } = await ready;
  (socket as TLSSocket).setTimeout(0);
  (socket as TLSSocket).setNoDelay(true);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: shoal-migration\r\n\r\n');
  if (head.length > 0) socket.unshift(head);
  agent.arrivals.connected(socket, certificate.fingerprint256);
}

async function serve(
  ready: Promise<Api>,
  bodies: Bodies,
  log: (line: string) => void,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://agent');
  const protocol = protocolAt(url.pathname, log);
  if (protocol === undefined) {
    if (!serveResource(await ready, request, response, url.pathname, url.searchParams)) {
      answerUnread(request, response, 404, 'text/plain', 'Nothing is here. XenAPI is at /jsonrpc and /xmlrpc.\n');
    }
    return;
  }
  if (request.method !== 'POST') {
    answerUnread(request, response, 405, 'text/plain', 'Calls are POSTed.\n');
    return;
  }
  let text: string;
  try {
    text = await bodies.read(request);
  } catch (error) {
    if (!request.destroyed) answerUnread(request, response, 200, protocol.type, protocol.failure(error));
    return;
  }
  const gone = new AbortController();
  // Every answer ends in a close; only one that was cut short leaves somebody waiting.
  response.once('close', () => response.writableFinished || gone.abort());
  const caller: Caller = {
    session: undefined,
    address: request.socket.remoteAddress ?? '',
    signal: never,
    gone: gone.signal,
    progress: () => {},
  };
  const pieces = await protocol.answer(text, await ready, caller);
  if (response.destroyed) return;
  if (pieces === undefined) response.writeHead(204).end();
  else await write(response, protocol.type, pieces);
}

/** What fits into one turn goes out with its length; more than that in chunks, as fast as the client takes them. */
async function write(response: ServerResponse, type: string, pieces: Iterable<string>): Promise<void> {
  for (const { text, last } of turnsOf(pieces)) {
    if (last) {
      // As a string, so that it leaves in one piece with the headers.
      if (!response.headersSent) response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
      response.end(text);
      return;
    }
    if (!response.headersSent) response.writeHead(200, { 'content-type': type });
    if (!response.write(text)) await drained(response);
    // What the system takes at once is drained within this very turn.
    await nextTurn();
    if (response.destroyed) return;
  }
}

/** Resolves when more can be written, or nothing any more. */
const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });

function protocolAt(path: string, log: (line: string) => void): Protocol | undefined {
  switch (path) {
    case '/jsonrpc':
      return {
        type: 'application/json',
        answer: (text, api, caller) => answerJson(text, api, caller, log),
        failure: (thrown) => formatJsonFailure(null, toFailure(thrown), -32600),
      };
    case '/':
    case '/RPC2':
    case '/xmlrpc':
      return {
        type: 'text/xml',
        answer: (text, api, caller) => answerXml(text, api, caller, log),
        failure: (thrown) => formatXmlFailure(toFailure(thrown)),
      };
    default:
      return undefined;
  }
}

/** What the operator should find in the log: faults of ours, with where they came from. */
function report(method: string, thrown: unknown, log: (line: string) => void): unknown {
  const error = asShoalError(thrown);
  if (error.code === 'INTERNAL_ERROR') log(`${method}: ${error.cause instanceof Error ? error.cause.stack : error.message}`);
  return error;
}

async function answerJson(
  text: string,
  api: Api,
  caller: Caller,
  log: (line: string) => void,
): Promise<Iterable<string> | undefined> {
  const { batch, requests } = parseJsonRequests(text);
  const one = async (request: JsonRequest): Promise<Iterable<string> | undefined> => {
    if (isBad(request)) return [formatJsonFailure(request.id, toFailure(request.error), request.code)];
    try {
      const result = await dispatch(api, request.method, request.params, caller);
      return request.answered ? formatJsonResult(request.id, result ?? '') : undefined;
    } catch (thrown) {
      return request.answered ? [formatJsonFailure(request.id, toFailure(report(request.method, thrown, log)))] : undefined;
    }
  };
  if (!batch) return one(requests[0]!);
  const answers: string[] = [];
  for (const request of requests) {
    const answered = await one(request);
    if (answered !== undefined) answers.push(await gathered(answered));
  }
  return answers.length === 0 ? undefined : [`[${answers.join(',')}]`];
}

async function answerXml(text: string, api: Api, caller: Caller, log: (line: string) => void): Promise<Iterable<string>> {
  let method = 'XML-RPC';
  try {
    const call = parseXmlCall(text);
    method = call.method;
    return formatXmlResult(await dispatch(api, call.method, call.params, caller));
  } catch (thrown) {
    return [formatXmlFailure(toFailure(report(method, thrown, log)))];
  }
}
