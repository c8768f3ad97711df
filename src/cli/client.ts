/**
 * The command's XenAPI client: JSON-RPC over one kept connection, TLS always verified against the certificate it is given.
 *
 * It is not the package xen-api, for a command lives for one call. That package takes 170 to 500 ms to load where all of Node
 * takes 60, reads the pool, the hosts and the list of calls before the first call of ours, and takes a certificate authority only
 * from the environment of the process, or verifies nothing. Long-lived clients, which want its cache of objects and its events,
 * use it unmodified against the same server.
 */
import { X509Certificate } from 'node:crypto';
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { checkServerIdentity } from 'node:tls';
import { ShoalError } from '../model/errors.ts';
import { toShoalError } from '../xenapi/errors.ts';
import type { WireError } from '../xenapi/plugin-types.ts';
import { errorOf } from './failure.ts';

export interface ClientOptions {
  /** https://host:port */
  url: string;
  /** PEM text: an authority's certificate, or the host's own. */
  ca: string;
  password: string;
  user?: string;
  /** Of a call, unless it says otherwise; 60,000 by default. */
  timeoutMs?: number;
}

export interface CallOptions {
  timeoutMs?: number;
  /** Called as the request is handed to the socket of an open connection: the moment a measurement begins. */
  onWrite?: () => void;
  /** Ends the call from this side. */
  signal?: AbortSignal;
}

interface Answer {
  status: number;
  body: string;
  headers: IncomingMessage['headers'];
}

interface RpcAnswer {
  result?: unknown;
  error?: { code: number; message: string; data?: unknown };
}

export class Client {
  readonly url: URL;
  readonly #options: ClientOptions;
  readonly #agent: Agent;
  #session: Promise<string> | undefined;
  #id = 0;

  constructor(options: ClientOptions) {
    this.url = urlOf(options.url);
    this.#options = options;
    this.#agent = verifyingAgent(options.ca);
  }

  /** Logs in on the first use. */
  session(): Promise<string> {
    this.#session ??= this.#rpc(
      'session.login_with_password',
      [this.#options.user ?? 'root', this.#options.password, '1.0', 'shoal'],
      {},
    ) as Promise<string>;
    return this.#session;
  }

  /**
   * A XenAPI call; the session is put in front of its parameters. Throws what the host threw, or CONNECTION_FAILED,
   * CERTIFICATE_MISMATCH, TIMEOUT.
   */
  async call<T>(method: string, params: readonly unknown[] = [], options: CallOptions = {}): Promise<T> {
    return (await this.#rpc(method, [await this.session(), ...params], options)) as T;
  }

  /** Every object of a class: reference to record. */
  records(className: string): Promise<Record<string, Record<string, unknown>>> {
    return this.call(`${className}.get_all_records`);
  }

  /** A function of the plugin "shoal". Arguments that are not strings go as JSON. */
  async plugin<T>(fn: string, args: Record<string, unknown> = {}, options: CallOptions = {}): Promise<T> {
    const { ref: host } = await this.#host();
    const texts = Object.fromEntries(
      Object.entries(args).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]),
    );
    return JSON.parse(await this.call<string>('host.call_plugin', [host, 'shoal', fn, texts], options)) as T;
  }

  /** PUT, GET or DELETE of something that is no call. Throws like `call`. */
  async resource(
    method: string,
    path: string,
    query: Record<string, string> = {},
    body?: Uint8Array,
    options: CallOptions = {},
  ): Promise<Answer> {
    const words = new URLSearchParams({ ...query, session_id: await this.session() });
    const answer = await this.#send(method, `${path}?${words.toString()}`, body, 'application/octet-stream', options);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw resourceFailure(answer);
  }

  /** GET of something large: `take` gets its content and resolves when it has it. Throws like `call`, and CONNECTION_FAILED for one that was cut. */
  async download(path: string, query: Record<string, string>, take: (content: IncomingMessage) => Promise<void>, options: CallOptions = {}): Promise<void> {
    await this.#transfer('GET', path, query, undefined, options, take);
  }

  /** PUT of something large. Throws like `call`. */
  async upload<T>(path: string, query: Record<string, string>, body: Readable, length: number, options: CallOptions = {}): Promise<T> {
    return JSON.parse(await this.#transfer('PUT', path, query, { stream: body, length }, options)) as T;
  }

  async #transfer(
    method: string, path: string, query: Record<string, string>, body: { stream: Readable; length: number } | undefined, options: CallOptions,
    take?: (content: IncomingMessage) => Promise<void>,
  ): Promise<string> {
    const words = new URLSearchParams({ ...query, session_id: await this.session() });
    const signal = AbortSignal.timeout(options.timeoutMs ?? 60_000);
    try {
      return await new Promise<string>((resolve, reject) => {
        const request = httpsRequest(new URL(`${path}?${words.toString()}`, this.url), {
          method,
          agent: this.#agent,
          signal,
          headers: body === undefined ? {} : { 'content-type': 'application/octet-stream', 'content-length': body.length },
        });
        request.once('error', reject);
        request.once('response', (response) => {
          const status = response.statusCode ?? 0;
          if (status === 200 && take !== undefined) {
            take(response).then(() => resolve(''), reject);
            return;
          }
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.once('error', reject);
          response.once('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            if (status === 200) resolve(text);
            else reject(resourceFailure({ status, body: text, headers: response.headers }));
          });
        });
        if (body === undefined) request.end();
        // An answer may come before the end of what is sent: then that is what counts.
        else body.stream.once('error', reject).pipe(request);
      });
    } catch (error) {
      throw connectionError(error as Error, this.url);
    }
  }

  /** Ends the session and the connections. Never fails: the host forgets sessions by itself. */
  async close(): Promise<void> {
    const session = await this.#session?.catch(() => undefined);
    if (session !== undefined) await this.#rpc('session.logout', [session], { timeoutMs: 2_000 }).catch(() => undefined);
    this.#agent.destroy();
  }

  /** Which build of the agent the host runs; '' for one that does not say. */
  async hostBuild(): Promise<string> {
    const { record } = await this.#host();
    return (record['software_version'] as Record<string, string>)['build'] ?? '';
  }

  #hostRecord: Promise<{ ref: string; record: Record<string, unknown> }> | undefined;
  /** The one host of the pool, asked for once. */
  #host(): Promise<{ ref: string; record: Record<string, unknown> }> {
    this.#hostRecord ??= this.records('host').then((hosts) => {
      const [first] = Object.entries(hosts);
      if (first === undefined) throw new ShoalError('CONNECTION_FAILED', 'The server names no host.');
      return { ref: first[0], record: first[1] };
    });
    return this.#hostRecord;
  }

  async #rpc(method: string, params: readonly unknown[], options: CallOptions): Promise<unknown> {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: ++this.#id, method, params }));
    const answer = await this.#send('POST', '/jsonrpc', body, 'application/json', options);
    let value: RpcAnswer | undefined;
    try {
      value = JSON.parse(answer.body) as RpcAnswer;
    } catch {
      value = undefined;
    }
    if (answer.status !== 200 || typeof value !== 'object' || value === null) {
      throw new ShoalError(
        'CONNECTION_FAILED',
        `${this.url.origin} answered ${answer.status} and no JSON: it is not a host agent.`,
      );
    }
    if (value.error === undefined) return value.result;
    const { message, data } = value.error;
    throw toShoalError([message, ...(Array.isArray(data) ? data.map(String) : [])]);
  }

  #send(method: string, path: string, body: Uint8Array | undefined, type: string, options: CallOptions): Promise<Answer> {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? 60_000;
    return new Promise((resolve, reject) => {
      const request = httpsRequest(new URL(path, this.url), {
        method,
        agent: this.#agent,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        headers: body === undefined ? {} : { 'content-type': type, 'content-length': body.byteLength },
      });
      const timer = setTimeout(() => {
        request.destroy(new ShoalError('TIMEOUT', `${this.url.origin} gave no answer within ${timeoutMs} ms.`));
      }, timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(connectionError(error, this.url));
      };
      request.once('error', fail);
      request.once('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', fail);
        response.once('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8'), headers: response.headers });
        });
      });
      options.onWrite?.();
      request.end(body);
    });
  }
}

/** Connections to whoever has the certificate `ca`, or one that it signed. */
export function verifyingAgent(ca: string): Agent {
  const pinned = fingerprints(ca);
  return new Agent({
    keepAlive: true,
    maxSockets: 16,
    ca,
    minVersion: 'TLSv1.2',
    // The very certificate that was given is right whatever name the host is reached by; one signed by it must carry the name.
    checkServerIdentity: (name, certificate) =>
      pinned.has(certificate.fingerprint256) ? undefined : checkServerIdentity(name, certificate),
  });
}

function urlOf(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.protocol !== 'https:') {
    throw new ShoalError('USAGE', `"${text}" is no address of a host agent.`, {
      hint: 'Give it as https://HOST or https://HOST:PORT.',
    });
  }
  return url;
}

/** SHA-256 of each certificate of a PEM text, as node:tls prints them. */
function fingerprints(pem: string): Set<string> {
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
  return new Set(certificates.map((certificate) => new X509Certificate(certificate).fingerprint256));
}

/** OpenSSL's verification errors end up in `code`; so does Node's own check of the name. */
const certificateCodes =
  /^(ERR_TLS_CERT|CERT_|UNABLE_TO_(VERIFY|GET)|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

export function connectionError(error: Error, url: URL): ShoalError {
  if (error instanceof ShoalError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (error.name === 'AbortError')
    return new ShoalError('TASK_CANCELLED', 'The call was ended from this side.', { cause: error });
  if (code !== undefined && certificateCodes.test(code)) {
    return new ShoalError('CERTIFICATE_MISMATCH', `The certificate of ${url.origin} is not to be trusted: ${error.message}.`, {
      cause: error,
    });
  }
  const why = code === 'ECONNREFUSED' ? 'nothing listens there' : error.message;
  return new ShoalError('CONNECTION_FAILED', `Cannot reach ${url.origin}: ${why}.`, { cause: error });
}

function resourceFailure({ status, body }: Answer): ShoalError {
  try {
    return errorOf(JSON.parse(body) as WireError);
  } catch {
    return new ShoalError('CONNECTION_FAILED', `The host answered ${status}: ${body.slice(0, 200)}`);
  }
}
