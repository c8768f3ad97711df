/**
 * The command's client of the controller: JSON over HTTPS with a token out of a file, and its events as they come. A problem the
 * controller answers with becomes the error it was, with all its reasons.
 */
import { readFileSync } from 'node:fs';
import { request as httpsRequest, type Agent } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { isErrorCode, ShoalError } from '../model/errors.ts';
import type { Words } from './arguments.ts';
import { connectionError, verifyingAgent } from './client.ts';

export interface Event {
  id: string;
  kind: string;
  data: { op: 'put' | 'del'; key: string; data?: Record<string, unknown> };
}

interface Problem {
  code: string;
  detail: string;
  hint: string;
  reasons?: { path: string; message: string; hint: string }[];
  data?: Record<string, unknown>;
}

export class Control {
  readonly url: URL;
  readonly #token: string;
  readonly #agent: Agent;

  constructor(url: string, ca: string, token: string) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (parsed?.protocol !== 'https:')
      throw new ShoalError('USAGE', `"${url}" is no address of a controller.`, { hint: 'Give it as https://HOST:PORT.' });
    this.url = parsed;
    this.#token = token;
    this.#agent = verifyingAgent(ca);
  }

  /** Throws what the controller answered, or CONNECTION_FAILED, CERTIFICATE_MISMATCH, TIMEOUT. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const bytes = body === undefined ? undefined : body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
    const type = body instanceof Uint8Array ? 'application/octet-stream' : 'application/json';
    const response = await this.#send(
      method,
      path,
      bytes === undefined ? {} : { 'content-type': type, 'content-length': bytes.byteLength },
      bytes,
      120_000,
    );
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part as string;
    if ((response.statusCode ?? 500) < 300) return (text === '' ? undefined : JSON.parse(text)) as T;
    throw problemOf(response.statusCode ?? 0, text, this.url.origin);
  }

  /** All pages of a list. */
  async list<T>(path: string): Promise<T[]> {
    const items: T[] = [];
    let after = '';
    for (;;) {
      const page = await this.call<{ items: T[]; next?: string }>(
        'GET',
        `${path}${path.includes('?') ? '&' : '?'}limit=5000${after}`,
      );
      items.push(...page.items);
      if (page.next === undefined) return items;
      after = `&after=${encodeURIComponent(page.next)}`;
    }
  }

  /** Events until the signal; goes on after the last one seen when the connection breaks once it stood. */
  async events(kinds: readonly string[], signal: AbortSignal, on: (event: Event) => void): Promise<void> {
    const query = kinds.length === 0 ? '' : `?kinds=${kinds.join(',')}`;
    let last: string | undefined;
    while (!signal.aborted) {
      try {
        const response = await this.#send(
          'GET',
          `/v1/events${query}`,
          last === undefined ? {} : { 'last-event-id': last },
          undefined,
          30_000,
        );
        if (response.statusCode !== 200) {
          let text = '';
          for await (const part of response.setEncoding('utf8')) text += part as string;
          throw problemOf(response.statusCode ?? 0, text, this.url.origin);
        }
        const end = (): void => void response.destroy();
        signal.addEventListener('abort', end, { once: true });
        let rest = '';
        for await (const part of response.setEncoding('utf8')) {
          rest += part as string;
          for (let at = rest.indexOf('\n\n'); at >= 0; at = rest.indexOf('\n\n')) {
            const event = parseEvent(rest.slice(0, at));
            rest = rest.slice(at + 2);
            if (event === undefined) continue;
            last = event.id;
            on(event);
          }
        }
      } catch (error) {
        if (signal.aborted) return;
        if (last === undefined || (error instanceof ShoalError && error.code !== 'CONNECTION_FAILED' && error.code !== 'TIMEOUT'))
          throw error;
      }
      if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(
    method: string,
    path: string,
    headers: Record<string, string | number>,
    body: Uint8Array | undefined,
    timeoutMs: number,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        new URL(path, this.url),
        { method, agent: this.#agent, headers: { authorization: `Bearer ${this.#token}`, ...headers } },
        (response) => {
          clearTimeout(timer);
          resolve(response);
        },
      );
      const timer = setTimeout(
        () => request.destroy(new ShoalError('TIMEOUT', `${this.url.origin} gave no answer within ${timeoutMs} ms.`)),
        timeoutMs,
      );
      request.once('error', (error) => {
        clearTimeout(timer);
        reject(connectionError(error, this.url));
      });
      request.end(body);
    });
  }
}

function parseEvent(text: string): Event | undefined {
  const fields = new Map(
    text.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
  );
  const [id, kind, data] = ['id', 'event', 'data'].map((name) => fields.get(name));
  return id === undefined || kind === undefined || data === undefined
    ? undefined
    : { id, kind, data: JSON.parse(data) as Event['data'] };
}

function problemOf(status: number, text: string, origin: string): ShoalError {
  let problem: Problem;
  try {
    problem = JSON.parse(text) as Problem;
  } catch {
    return new ShoalError('CONNECTION_FAILED', `${origin} answered ${status} and no JSON: it is no controller.`);
  }
  const { code, detail, hint, reasons = [], data = {} } = problem;
  const list = reasons.map((reason) => `${reason.path === '' ? '' : `${reason.path}: `}${reason.message} ${reason.hint}`);
  const message = list.length > 0 ? list.join('\n') : detail;
  return new ShoalError(isErrorCode(code) ? code : 'INTERNAL_ERROR', message, {
    hint,
    data: { ...data, ...(reasons.length > 0 ? { reasons } : {}) },
  });
}

/** Runs `work` with a client of the controller that the words name. Throws USAGE when a part is missing. */
export async function withController<T>(words: Pick<Words, 'env' | 'text'>, work: (control: Control) => Promise<T>): Promise<T> {
  const { env } = words;
  const file = (option: string, variable: string, what: string): string => {
    const path = words.text(option) ?? env[variable];
    if (path === undefined || path === '')
      throw new ShoalError('USAGE', `The ${what} is not known.`, { hint: `Give --${option} FILE, or set ${variable}.` });
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      throw new ShoalError('USAGE', `The ${what} cannot be read: ${(error as Error).message}.`, {
        hint: 'Check the path and its permissions.',
        cause: error,
      });
    }
  };
  const url = words.text('controller') ?? env['SHOAL_CONTROLLER'] ?? 'https://127.0.0.1:7443';
  const control = new Control(
    url,
    file('controller-ca', 'SHOAL_CONTROLLER_CA', "controller's certificate"),
    file('token-file', 'SHOAL_TOKEN_FILE', 'token').trim(),
  );
  try {
    return await work(control);
  } finally {
    control.close();
  }
}
