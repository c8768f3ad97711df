/**
 * What a route of the API is: one value from which the server's handler, its checks and the OpenAPI document are all made, so that
 * none of them can say something else than the others.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actor, Role, Tokens } from '../tokens.ts';
import type { AuditLog } from '../audit.ts';
import type { Distribution } from '../distribution.ts';
import type { Fleet } from '../fleet.ts';
import type { Rollouts } from '../rollouts.ts';
import type { Services } from '../services.ts';
import type { Tasks } from '../tasks.ts';
import { ShoalError } from '../../model/errors.ts';

export interface Context {
  fleet: Fleet;
  services: Services;
  rollouts: Rollouts;
  tasks: Tasks;
  tokens: Tokens;
  audit: AuditLog;
  version: string;
  /** Checks that a host can be reached with what was given; throws CONFIG_INVALID when its parts are missing or wrong. */
  checkHost: (record: import('../state.ts').HostRecord) => void;
  images: Images | undefined;
  distribution: Distribution | undefined;
  deployment: import('../deployment/service.ts').DeploymentService | undefined;
  requests: { count: number; failed: number };
}

/** Images as the controller keeps them, to bring them to hosts that miss them. */
export interface Images {
  list(): { digest: string; fileBytes: number; addedMs?: number }[];
  put(digest: string, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** Undefined when it is not kept here. */
  bytes(digest: string): Promise<Uint8Array | undefined>;
  /** The file on disk, for whoever serves it to hosts. */
  file?(digest: string): { path: string; bytes: number } | undefined;
}

export type Schema = Readonly<Record<string, unknown>>;

export interface Call {
  actor: Actor;
  params: Record<string, string>;
  query: Record<string, unknown>;
  body: unknown;
  /** The body as it came, of a route that keeps it. */
  bytes: Buffer | undefined;
  request: FastifyRequest;
  reply: FastifyReply;
}

export interface Route {
  method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  /** Fastify's form: /v1/services/:tenant/:name */
  path: string;
  summary: string;
  /** Who may call; "anyone" needs no token. A role with a tenant sees and touches only what is its tenant's. */
  who: readonly Role[] | 'anyone';
  params?: Record<string, Schema>;
  query?: Record<string, Schema>;
  body?: Schema;
  /** Of the answer, for the document: the status, and what it is. */
  answers: { status: number; what: string; schema?: Schema };
  /** Handles its own body and answer: no JSON. */
  raw?: boolean;
  /** Its body is JSON, and the bytes are wanted too: they are signed. At most 1 MiB. */
  keepsBytes?: boolean;
  run(context: Context, call: Call): unknown;
}

export const readers: readonly Role[] = ['operator', 'tenant', 'ci', 'viewer'];
export const changers: readonly Role[] = ['operator', 'tenant', 'ci'];
export const owners: readonly Role[] = ['operator', 'tenant'];
export const operators: readonly Role[] = ['operator'];

/** A thing of another tenant is not there: that it exists is none of the caller's business. */
export function mustSee(actor: Actor, tenant: string | undefined, what: string): void {
  if (actor.tenant !== undefined && tenant !== actor.tenant) throw new ShoalError('NOT_FOUND', `There is no ${what}.`);
}

/** Those who see all of the fleet: operators, and viewers without a tenant. */
export function mustSeeAll(actor: Actor): void {
  if (actor.tenant !== undefined) throw new ShoalError('FORBIDDEN', 'This shows more than one tenant may see.');
}

export const pageQuery: Record<string, Schema> = {
  limit: { type: 'integer', minimum: 1, maximum: 10_000, description: 'At most so many; 500 when left out.' },
  after: { type: 'string', maxLength: 128, description: 'The "next" of the page before.' },
};

/** One page in the order of ids, which stays the same while things come and go. */
export function page<T extends { id: string }>(
  items: Iterable<T>,
  query: Record<string, unknown>,
): { items: T[]; next?: string } {
  const limit = (query['limit'] as number | undefined) ?? 500;
  const after = query['after'] as string | undefined;
  const sorted: T[] = [];
  for (const item of items) if (after === undefined || item.id > after) sorted.push(item);
  sorted.sort((a, b) => (a.id < b.id ? -1 : 1));
  const shown = sorted.slice(0, limit);
  return { items: shown, ...(sorted.length > limit ? { next: shown.at(-1)!.id } : {}) };
}
