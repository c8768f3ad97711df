/**
 * Changes as server-sent events: a client says which event it saw last (Last-Event-ID) and gets each thing that changed since,
 * once, as it is now. One that reads slowly gets fewer, later states, and costs no memory here. When what it missed is no longer
 * known it gets "reset", lists anew and goes on.
 */
import type { FastifyReply } from 'fastify';
import type { Changes, ChangeKind, Told } from '../changes.ts';
import type { Actor } from '../tokens.ts';

const heartbeatMs = 15_000;

export interface Watch {
  changes: Changes;
  actor: Actor;
  /** The event that was seen last; undefined: from now on. */
  lastId: string | undefined;
  /** Undefined: all. */
  kinds: ReadonlySet<ChangeKind> | undefined;
  /** Whether the token is still good: a stream outlives neither its end nor its expiry by more than a heartbeat. */
  isGood: () => boolean;
  reply: FastifyReply;
}

/** Bytes that may wait for one client. */
const maxWaitingBytes = 256 * 1024;
const batch = 500;

export class Streams {
  readonly #open = new Set<() => void>();
  readonly #heartbeatMs: number;

  constructor(beatMs = heartbeatMs) {
    this.#heartbeatMs = beatMs;
  }

  get count(): number {
    return this.#open.size;
  }

  closeAll(): void {
    for (const close of [...this.#open]) close();
  }

  serve({ changes, actor, lastId, kinds, isGood, reply }: Watch): void {
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' });
    const idOf = (number: number): string => `${changes.life}-${number}`;
    let at = lastId === undefined ? changes.number : (changes.parse(lastId) ?? -1);
    const reset = (): void => {
      at = changes.number;
      raw.write(`id: ${idOf(at)}\nevent: reset\ndata: {}\n\n`);
    };
    const sees = ({ kind, tenant }: Told): boolean =>
      (actor.tenant === undefined || tenant === actor.tenant) && (kinds === undefined || kinds.has(kind));
    const send = (): void => {
      while (raw.writableLength < maxWaitingBytes) {
        const told = changes.since(at);
        if (told === undefined) return reset();
        if (told.length === 0) return;
        const now = told.slice(0, batch);
        let text = '';
        for (const each of now) {
          if (!sees(each)) continue;
          const data = each.data?.();
          text += `id: ${idOf(each.number)}\nevent: ${each.kind}\ndata: ${JSON.stringify({ op: data === undefined ? 'del' : 'put', key: each.key, ...(data === undefined ? {} : { data }) })}\n\n`;
        }
        at = now.at(-1)!.number;
        if (text !== '') raw.write(text);
      }
    };
    if (lastId === undefined) raw.write(`id: ${idOf(at)}\nevent: hello\ndata: {}\n\n`);
    send();
    const unsubscribe = changes.onChange(send);
    raw.on('drain', send);
    const heartbeat = setInterval(() => (isGood() ? raw.write(`: ${idOf(at)}\n\n`) : close()), this.#heartbeatMs);
    const close = (): void => {
      clearInterval(heartbeat);
      unsubscribe();
      this.#open.delete(close);
      raw.end();
    };
    this.#open.add(close);
    raw.on('close', close);
    raw.on('error', close);
  }
}
