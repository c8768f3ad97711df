/**
 * Keeps the model as the fleet is: listens first, then lists, then takes in what was told meanwhile, so that nothing is missed. A
 * stream that breaks, or says nothing for too long, is opened again after the last event that was seen; when the controller no
 * longer knows what was missed, everything is listed anew.
 */
import type { Api } from './api.ts';
import type { FleetModel } from './model.ts';
import { problemOf, type Problem } from './problem.ts';
import { EventParser, type ServerEvent } from './sse.ts';
import type { Change, Who } from './types.ts';

export type LinkState = { state: 'connecting' | 'live' } | { state: 'lost'; problem: Problem; retryAtMs: number };

/** The controller gives a sign of life every 15 s. */
const silenceMs = 40_000;
const waits = [250, 500, 1000, 2000, 5000, 10_000];
/** Changes that may wait for the lists; beyond that they are listed anew. */
const maxWaiting = 50_000;

export class Live {
  readonly #api: Api;
  readonly #model: FleetModel;
  readonly #who: Who;
  readonly #onChange: (link: LinkState) => void;
  readonly #end = new AbortController();
  #lastId: string | undefined;
  #wake: () => void = () => {};

  constructor(api: Api, model: FleetModel, who: Who, onChange: (link: LinkState) => void) {
    this.#api = api;
    this.#model = model;
    this.#who = who;
    this.#onChange = onChange;
    globalThis.addEventListener('online', () => this.retry(), { signal: this.#end.signal });
    void this.#run();
  }

  close(): void {
    this.#end.abort();
    this.#wake();
  }

  /** Does not wait any longer. */
  retry(): void {
    this.#wake();
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#end.signal.aborted) {
      try {
        await this.#follow(() => (failures = 0));
      } catch (error) {
        if (this.#end.signal.aborted) return;
        const problem = problemOf(error);
        if (problem.status === 401) return;
        const waitMs = waits[Math.min(failures++, waits.length - 1)]!;
        this.#onChange({ state: 'lost', problem, retryAtMs: Date.now() + waitMs });
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, waitMs);
          this.#wake = () => (clearTimeout(timer), resolve());
        });
      }
    }
  }

  /** One stream, until it breaks: then it throws. */
  async #follow(onLive: () => void): Promise<void> {
    const broken = new AbortController();
    const signal = AbortSignal.any([this.#end.signal, broken.signal]);
    let silence = setTimeout(() => broken.abort(), silenceMs);
    /** Told while the lists are on their way. */
    let waiting: Change[] | undefined;
    const list = async (): Promise<void> => {
      const own: Change[] = (waiting = []);
      const lists = await this.#api.lists(this.#who, signal);
      if (waiting !== own) return;
      this.#model.replace(lists);
      for (const change of own) this.#model.apply(change, Date.now());
      waiting = undefined;
      onLive();
      this.#onChange({ state: 'live' });
    };
    let failure: unknown;
    const listAnew = (): void =>
      void list().catch((error: unknown) => {
        failure = error;
        broken.abort();
      });
    const take = ({ id, event, data }: ServerEvent): void => {
      if (id !== '') this.#lastId = id;
      if (event === 'hello' || event === 'reset') return listAnew();
      const change = { kind: event, ...(JSON.parse(data) as Omit<Change, 'kind'>) };
      if (waiting === undefined) this.#model.apply(change, Date.now());
      else if (waiting.push(change) > maxWaiting) listAnew();
    };
    try {
      if (!this.#model.loaded) {
        this.#lastId = undefined;
        this.#onChange({ state: 'connecting' });
      }
      const reader = (await this.#api.stream(this.#lastId, signal)).getReader();
      const parser = new EventParser();
      const decoder = new TextDecoder();
      if (this.#lastId !== undefined) {
        onLive();
        this.#onChange({ state: 'live' });
      }
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw problemOf(undefined);
        clearTimeout(silence);
        silence = setTimeout(() => broken.abort(), silenceMs);
        const before = this.#model.version;
        for (const event of parser.push(decoder.decode(value, { stream: true }))) take(event);
        if (this.#model.version !== before) this.#onChange({ state: 'live' });
      }
    } catch (error) {
      throw failure ?? error;
    } finally {
      clearTimeout(silence);
      // Lists that were not whole yet are asked for again with the next stream.
      if (waiting !== undefined) this.#lastId = undefined;
      broken.abort();
    }
  }
}
