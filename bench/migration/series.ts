/**
 * Many moves, measured one by one: connections after each other, each moved so many times in a row and compared byte for byte at its end. Every move is a line of a file as
 * soon as it is measured, so that a run that was cut short still tells, and goes on where it was: connections that came to their end count, the one that was cut does not.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';

export interface SeriesKey {
  where: 'namespaces' | 'xen' | 'subnet';
  delayMs: number;
  mode: string;
  way: string;
}

export interface Move {
  /** The larger gap of both ends, in milliseconds. */
  gapMs: number;
  /** Of it, until the copy ran at the target, and from then on (make before break of VMs). */
  copyingMs?: number;
  restMs?: number;
  /** So long the VM stood still, where that is known. */
  standstillMs?: number;
  /** The whole move. */
  moveMs: number;
  /** Whether it ended as one. */
  moved: boolean;
}

export interface Ending {
  /** Bytes sent by either end that the other did not receive. */
  lost: number;
  /** Bytes that were not what they must be. */
  bad: number;
  /** Ends whose connection broke. */
  broken: number;
}

export interface Ranks {
  p50: number;
  p99: number;
  max: number;
}

const header = 'where,delay_ms,mode,way,connection,move,gap_ms,copying_ms,rest_ms,standstill_ms,move_ms,moved,lost,bad,broken';

/** Rounded to a tenth, or to one in `parts`. */
export const ranks = (values: readonly number[], parts = 10): Ranks => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => Math.round((sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0) * parts) / parts;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
};

const given = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;

const cell = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2));

export class Series {
  readonly key: SeriesKey;
  /** Of connections that came to their end. */
  readonly moves: Move[] = [];
  readonly endings: Ending[] = [];
  /** The most moves of one connection. */
  inARow = 0;
  /** Connections that were cut short. */
  cut = 0;
  readonly #file: string | undefined;
  readonly #line: string;
  #connection = 0;
  #current: Move[] = [];

  /** With a file that has lines of the same kind it goes on after them. */
  constructor(key: SeriesKey, file?: string) {
    const { where, delayMs, mode, way } = key;
    this.key = key;
    this.#line = [where, delayMs, mode, way].join();
    this.#file = file;
    if (file === undefined) return;
    if (existsSync(file)) this.#read(readFileSync(file, 'utf8'));
    else appendFileSync(file, `${header}\n`);
  }

  #read(text: string): void {
    const open = new Map<number, Move[]>();
    // A last line that was cut has no end.
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      if (!line.startsWith(`${this.#line},`)) continue;
      const [connection = 0, move = 0, gapMs = 0, copyingMs, restMs, standstillMs, moveMs = 0, moved = 0, lost = 0, bad = 0, broken = 0] = line
        .slice(this.#line.length + 1)
        .split(',')
        .map((each) => (each === '' ? undefined : Number(each)));
      this.#connection = Math.max(this.#connection, connection);
      const moves = open.get(connection) ?? [];
      if (move > 0) {
        moves.push({ gapMs, ...given({ copyingMs, restMs, standstillMs }), moveMs, moved: moved === 1 });
        open.set(connection, moves);
      } else {
        open.delete(connection);
        this.#close(moves, { lost, bad, broken });
      }
    }
    this.cut = open.size;
  }

  #close(moves: readonly Move[], ending: Ending): void {
    this.moves.push(...moves);
    this.endings.push(ending);
    if (ending.broken === 0) this.inARow = Math.max(this.inARow, moves.length);
  }

  #write(cells: readonly (string | number)[]): void {
    if (this.#file !== undefined) appendFileSync(this.#file, `${[this.#line, ...cells].join()}\n`);
  }

  begin(): void {
    this.cut += this.#current.length > 0 ? 1 : 0;
    this.#current = [];
    this.#connection++;
  }

  add(move: Move): void {
    this.#current.push(move);
    const { gapMs, copyingMs, restMs, standstillMs, moveMs, moved } = move;
    this.#write([this.#connection, this.#current.length, ...[gapMs, copyingMs, restMs, standstillMs, moveMs].map(cell), moved ? 1 : 0, '', '', '']);
  }

  end(ending: Ending): void {
    const { lost, bad, broken } = ending;
    this.#write([this.#connection, 0, '', '', '', '', '', '', lost, bad, broken]);
    this.#close(this.#current, ending);
    this.#current = [];
  }

  /** Bytes lost, doubled or out of place, and connections broken. */
  get wrong(): number {
    return this.endings.reduce((sum, { lost, bad, broken }) => sum + lost + bad + broken, 0);
  }

  summary() {
    const { moves, endings, cut, inARow, key } = this;
    const sum = (of: keyof Ending): number => endings.reduce((all, ending) => all + ending[of], 0);
    const known = (pick: (move: Move) => number | undefined): Ranks | undefined => {
      const values = moves.flatMap((move) => pick(move) ?? []);
      return values.length === 0 ? undefined : ranks(values);
    };
    const [copying, rest, standstill] = [known(({ copyingMs }) => copyingMs), known(({ restMs }) => restMs), known(({ standstillMs }) => standstillMs)];
    return {
      ...key, moves: moves.length, connections: endings.length, inARow, ...ranks(moves.map(({ gapMs }) => gapMs)), ...given({ copying, rest }),
      ...(standstill === undefined ? {} : { standstill, overStandstill: ranks(moves.filter(({ standstillMs }) => standstillMs !== undefined).map((move) => overStandstill(move, key.delayMs)), 100) }),
      moveMs: ranks(moves.map(({ moveMs }) => moveMs)).p50, lost: sum('lost'), bad: sum('bad'), broken: sum('broken'), failed: moves.filter(({ moved }) => !moved).length, cut,
    };
  }
}

export type Summary = ReturnType<Series['summary']>;

/** The gap over the standstill and two round trips, `delayMs` being one way. */
export const overStandstill = ({ gapMs, standstillMs = NaN }: Move, delayMs: number): number => gapMs / (standstillMs + 4 * delayMs);

const mostFailures = 3;

/** Connections of `inARow` moves each until there are `moves`; `one` moves one connection so often. What fails is tried again, three times on end at most. */
export async function fill(series: Series, { moves, inARow, signal, log }: { moves: number; inARow: number; signal?: AbortSignal | undefined; log?: (line: string) => void }, one: (count: number) => Promise<Ending>): Promise<void> {
  for (let failures = 0; series.moves.length < moves && signal?.aborted !== true; ) {
    series.begin();
    try {
      series.end(await one(Math.min(inARow, moves - series.moves.length)));
      failures = 0;
    } catch (error) {
      if (++failures === mostFailures) throw error;
      log?.(`a connection was cut short: ${(error as Error).message}`);
    }
  }
}
