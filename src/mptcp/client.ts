/** A path agent over HTTPS, as a coordinator sees it: its certificate is the one that was given, whatever name is in it. */
import { Agent, request } from 'node:https';
import { isErrorCode, ShoalError } from '../model/errors.ts';
import type { Outcome, PathSide, PathStatus, StatusQuestion } from './paths.ts';

export interface PathClientOptions {
  /** https://HOST:PORT, or https://unix:/run/agent.sock for one on this machine. */
  url: string;
  /** PEM of the agent's own certificate. */
  certificate: string;
  token: string;
  timeoutMs?: number;
}

const answerMaxBytes = 256 << 20;
const usualTimeoutMs = 10_000;

export class PathClient implements PathSide {
  readonly #agent: Agent;
  readonly #o: PathClientOptions;
  readonly #where: { host: string; port: string } | { socketPath: string };
  readonly #timeoutMs: number;

  /** Throws CONFIG_INVALID. */
  constructor(options: PathClientOptions) {
    const socket = /^https:\/\/unix:(\/.+)$/.exec(options.url)?.[1];
    const url = socket === undefined && URL.canParse(options.url) ? new URL(options.url) : undefined;
    if (socket === undefined && url?.protocol !== 'https:') throw new ShoalError('CONFIG_INVALID', `"${options.url}" is no address of a path agent: it must be https://HOST:PORT.`);
    this.#where = socket === undefined ? { host: url!.hostname.replace(/^\[|\]$/g, ''), port: url!.port || '7445' } : { socketPath: socket };
    this.#o = options;
    this.#timeoutMs = options.timeoutMs ?? usualTimeoutMs;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 8, ca: options.certificate, checkServerIdentity: () => undefined, minVersion: 'TLSv1.3' });
  }

  close(): void {
    this.#agent.destroy();
  }

  #call<T>(method: string, path: string, body: object | undefined, timeoutMs: number): Promise<T> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise<T>((resolve, reject) => {
      const headers = { authorization: `Bearer ${this.#o.token}`, ...(bytes === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes.length }) };
      const asked = request({ ...this.#where, path, method, headers, agent: this.#agent, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
        const parts: Buffer[] = [];
        let length = 0;
        response.on('data', (part: Buffer) => {
          length += part.length;
          if (length > answerMaxBytes) response.destroy(new Error('the answer has no end'));
          else parts.push(part);
        });
        response.on('error', (error) => reject(this.#failure(error)));
        response.on('end', () => {
          const text = Buffer.concat(parts).toString();
          try {
            if (response.statusCode === 200) resolve(JSON.parse(text) as T);
            else reject(problemOf(text));
          } catch (error) {
            reject(this.#failure(error as Error));
          }
        });
      });
      asked.on('error', (error) => reject(this.#failure(error)));
      asked.end(bytes);
    });
  }

  #failure(error: Error): ShoalError {
    const { code = '', name } = error as NodeJS.ErrnoException;
    if (/^(ERR_TLS_CERT|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED)/.test(code))
      return new ShoalError('CERTIFICATE_MISMATCH', `The certificate of ${this.#o.url} is another one: ${error.message}.`, { hint: "Give the path agent's certificate.", cause: error });
    if (name === 'AbortError' || name === 'TimeoutError') return new ShoalError('TIMEOUT', `The path agent at ${this.#o.url} gave no answer in time.`, { cause: error });
    return new ShoalError('CONNECTION_FAILED', `Cannot reach the path agent at ${this.#o.url}: ${error.message}.`, { hint: 'Check that `shoal path-agent` runs there.', cause: error });
  }

  async status({ from, to, after, waitMs = 0 }: StatusQuestion): Promise<PathStatus> {
    const query = new URLSearchParams({ from, to, waitMs: String(waitMs), ...(after === undefined ? {} : { after }) });
    return this.#call('GET', `/v1/status?${query.toString()}`, undefined, this.#timeoutMs + waitMs);
  }

  async #act(name: string, body: object): Promise<Outcome[]> {
    return (await this.#call<{ outcomes: Outcome[] }>('POST', `/v1/${name}`, body, this.#timeoutMs)).outcomes;
  }

  announce(what: { address: string; from: string; anew?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    return this.#act('announce', what);
  }

  withdraw(what: { address: string; gently?: boolean | undefined; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    return this.#act('withdraw', what);
  }

  backup(what: { address: string; backup: boolean; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    return this.#act('backup', what);
  }

  destroy(what: { address: string; tokens?: readonly number[] | undefined }): Promise<Outcome[]> {
    return this.#act('destroy', what);
  }
}

function problemOf(text: string): ShoalError {
  const { code, message, hint, data } = JSON.parse(text) as { code?: string; message?: string; hint?: string; data?: Record<string, unknown> };
  if (code === undefined || !isErrorCode(code)) return new ShoalError('CONNECTION_FAILED', 'What answers there is no path agent.');
  return new ShoalError(code, message ?? code, { ...(hint === undefined ? {} : { hint }), data: data ?? {} });
}
