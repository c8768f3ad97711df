/**
 * One lane a VM: what is done to a VM is done in order, one thing at a time. An operation of a user does not queue behind another
 * user's (he gets OTHER_OPERATION_IN_PROGRESS at once, as XenAPI has it), unless it is one that ends a VM: that one stops what is
 * under way first. The agent's own looking-again always waits its turn. A lane exists only while it is in use.
 */
import { setMaxListeners } from 'node:events';
import { ShoalError } from '../model/errors.ts';
import type { Uuid } from '../model/ids.ts';
import { refOf } from './refs.ts';

export interface Operation {
  /** XenAPI's name of it, for example "start". */
  name: string;
  /** Number of the operation since the agent began: tells two of the same name apart. */
  id: number;
}

/** refuse: throws when another operation is under way; preempt: aborts the others, then runs; wait: runs after the others. */
export type Manner = 'refuse' | 'preempt' | 'wait';

interface Turn extends Operation {
  manner: Manner;
  abort: AbortController;
}

interface Lane {
  turns: Turn[];
  tail: Promise<unknown>;
}

export class Lanes {
  readonly #lanes = new Map<Uuid, Lane>();
  #count = 0;
  readonly #onChange: (vm: Uuid) => void;

  /** `onChange` is called when a user's operation begins or ends. */
  constructor(onChange: (vm: Uuid) => void) {
    this.#onChange = onChange;
  }

  /** The user's operation under way on a VM. */
  current(vm: Uuid): Operation | undefined {
    const turn = this.#lanes.get(vm)?.turns[0];
    return turn === undefined || turn.manner === 'wait' ? undefined : turn;
  }

  get busy(): number {
    return this.#lanes.size;
  }

  run<T>(
    vm: Uuid,
    name: string,
    manner: Manner,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const lane = this.#lanes.get(vm) ?? { turns: [], tail: Promise.resolve() };
    const others = lane.turns.filter((turn) => turn.manner !== 'wait');
    if (manner === 'refuse' && others.length > 0) {
      return Promise.reject(
        new ShoalError('OTHER_OPERATION_IN_PROGRESS', `The VM is busy: ${others[0]!.name} is under way.`, {
          params: ['VM', refOf(vm), others[0]!.name],
          data: { vm, operation: others[0]!.name },
        }),
      );
    }
    if (manner === 'preempt') for (const turn of others) turn.abort.abort();
    const turn: Turn = { name, id: ++this.#count, manner, abort: new AbortController() };
    lane.turns.push(turn);
    this.#lanes.set(vm, lane);
    const result = lane.tail.then(async () => {
      const onAbort = () => turn.abort.abort();
      if (signal?.aborted === true) onAbort();
      if (signal !== undefined) {
        // One signal may stand for any number of operations at once; Node takes more than ten listeners for a leak.
        setMaxListeners(0, signal);
        signal.addEventListener('abort', onAbort, { once: true });
      }
      try {
        if (manner !== 'wait') this.#onChange(vm);
        throwIfAborted(turn.abort.signal);
        return await work(turn.abort.signal);
      } finally {
        signal?.removeEventListener('abort', onAbort);
        lane.turns.shift();
        if (lane.turns.length === 0) this.#lanes.delete(vm);
        if (manner !== 'wait') this.#onChange(vm);
      }
    });
    lane.tail = result.catch(() => {});
    return result;
  }

  /** Resolves when no lane is in use. */
  async idle(): Promise<void> {
    while (this.#lanes.size > 0) await Promise.all([...this.#lanes.values()].map((lane) => lane.tail));
  }
}

export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The operation was cancelled.');
}

/** A bounded number of places; whoever finds none waits in order, and leaves the queue when cancelled. */
export class Places {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves with the function that gives the place back. Throws TASK_CANCELLED. */
  async take(signal: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    if (this.#free > 0) this.#free--;
    else {
      await new Promise<void>((resolve, reject) => {
        const enter = () => {
          signal.removeEventListener('abort', leave);
          resolve();
        };
        const leave = () => {
          this.#waiting.splice(this.#waiting.indexOf(enter), 1);
          reject(new ShoalError('TASK_CANCELLED', 'The operation was cancelled while it waited.'));
        };
        this.#waiting.push(enter);
        signal.addEventListener('abort', leave, { once: true });
      });
    }
    let given = false;
    return () => {
      if (given) return;
      given = true;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    };
  }
}
