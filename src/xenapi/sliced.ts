/**
 * Results that grow with the fleet. The records of 10,000 VMs are tens of megabytes: made and written in one go they would hold
 * up every other client of the agent, and the launches of VMs. So such a result is a recipe, not a value: its parts are made when
 * their turn comes, written, and forgotten; between turns the agent does its other work. What a part says is the truth of that
 * moment. Iterators over JavaScript's maps stand changes meanwhile: each object that stays is visited once.
 */

/** A list. */
export class SlicedList {
  readonly items: Iterable<unknown>;

  constructor(items: Iterable<unknown>) {
    this.items = items;
  }
}

/** A map from strings. */
export class SlicedMap {
  readonly entries: Iterable<readonly [string, unknown]>;

  constructor(entries: Iterable<readonly [string, unknown]>) {
    this.entries = entries;
  }
}

/** A string. */
export class SlicedText {
  readonly pieces: Iterable<string>;

  constructor(pieces: Iterable<string>) {
    this.pieces = pieces;
  }
}

const isSliced = (value: unknown): boolean =>
  value instanceof SlicedList || value instanceof SlicedMap || value instanceof SlicedText;

/** Whether a value is sliced, or is an object with a sliced member: no deeper. */
export const holdsSliced = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && Object.values(value).some(isSliced);

/** Milliseconds of work after which others have their turn, and characters after which what there is goes out. */
const turnMs = 4;
const turnCharacters = 64 * 1024;

export interface Turn {
  text: string;
  /** Whether it is the end; whoever goes on after another one must let a turn of the event loop pass before: `nextTurn`. */
  last: boolean;
}

/** Puts pieces together into texts that take a turn of the event loop each to make. */
export function* turnsOf(pieces: Iterable<string>): Generator<Turn> {
  let parts: string[] = [];
  let characters = 0;
  let began = performance.now();
  for (const piece of pieces) {
    parts.push(piece);
    characters += piece.length;
    if (characters < turnCharacters && performance.now() - began < turnMs) continue;
    yield { text: parts.join(''), last: false };
    parts = [];
    characters = 0;
    began = performance.now();
  }
  yield { text: parts.join(''), last: true };
}

export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** All of it in one text, for those who cannot do without; it still takes many turns to make. */
export async function gathered(pieces: Iterable<string>): Promise<string> {
  const texts: string[] = [];
  for (const { text, last } of turnsOf(pieces)) {
    texts.push(text);
    if (!last) await nextTurn();
  }
  return texts.join('');
}
