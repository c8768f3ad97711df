/**
 * The controller's API with a token, and nothing else: always the page's own origin. A token that is not taken any more is told to
 * `onRefused` once, whatever call it was that heard of it.
 */
import { problemOf } from './problem.ts';
import type { Lists, Who } from './types.ts';

const callTimeoutMs = 60_000;
const pageSize = 10_000;
/** So many pages of one list at most: above all a fleet can have. */
const maxPages = 100;

export class Api {
  readonly #token: string;
  readonly #onRefused: () => void;

  constructor(token: string, onRefused: () => void) {
    this.#token = token;
    this.#onRefused = onRefused;
  }

  /** Rejects with a Problem. */
  async call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const late = AbortSignal.timeout(callTimeoutMs);
    const response = await this.#fetch(path, {
      method,
      signal: signal === undefined ? late : AbortSignal.any([late, signal]),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    if (response.status === 204) return undefined as T;
    return (await response.json().catch((error: unknown) => {
      throw problemOf(error);
    })) as T;
  }

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.call<T>('GET', path, undefined, signal);
  }

  /** All that there is and that whoever looks may see. */
  async lists(who: Who, signal: AbortSignal): Promise<Lists> {
    const all = who.tenant === undefined;
    const [vms, services, hosts, tasks, rollouts] = await Promise.all([
      this.#list<Lists['vms'][0]>(`/v1/vms?foreign=${all}`, signal),
      this.#list<Lists['services'][0]>('/v1/services?', signal),
      all ? this.#list<Lists['hosts'][0]>('/v1/hosts?', signal) : [],
      this.#list<Lists['tasks'][0]>('/v1/tasks?', signal),
      this.#list<Lists['rollouts'][0]>('/v1/rollouts?', signal),
    ]);
    return { vms, services, hosts, tasks, rollouts };
  }

  /** The stream of changes, open. Rejects with a Problem. */
  async stream(lastId: string | undefined, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#fetch('/v1/events', {
      signal,
      headers: lastId === undefined ? {} : { 'last-event-id': lastId },
    });
    return response.body!;
  }

  async #list<T>(path: string, signal: AbortSignal): Promise<T[]> {
    const items: T[] = [];
    let after = '';
    for (let i = 0; i < maxPages; i++) {
      const page = await this.get<{ items: T[]; next?: string }>(`${path}&limit=${pageSize}${after}`.replace('?&', '?'), signal);
      items.push(...page.items);
      if (page.next === undefined) return items;
      after = `&after=${encodeURIComponent(page.next)}`;
    }
    return items;
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(path, {
        ...init,
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        headers: { ...(init.headers as Record<string, string> | undefined), authorization: `Bearer ${this.#token}` },
      });
    } catch (error) {
      throw problemOf(error);
    }
    if (response.ok) return response;
    const problem = problemOf(await response.json().catch(() => undefined), response.status);
    if (problem.status === 401) this.#onRefused();
    throw problem;
  }
}
