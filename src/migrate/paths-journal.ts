/** Moves that are under way, on disk: what a coordinator was doing when it was killed. One entry a change, in the project's journal. */
import { Journal } from '../journal/journal.ts';
import { ShoalError } from '../model/errors.ts';
import { isEnd, states, type MoveKind, type MoveState } from './paths-table.ts';

export interface MoveRecord {
  id: string;
  kind: MoveKind;
  /** The addresses of the waypoint that is left and of the one that is moved to. */
  from: string;
  to: string;
  state: MoveState;
  /** Connections that are knowingly left behind. */
  leave: boolean;
  /** Why it went back. */
  why?: string;
  /** By what waypoints and sides are found again; the coordinator only carries it. */
  about?: Readonly<Record<string, unknown>>;
}

export interface MoveStore {
  /** Resolves when it is on disk. */
  save(record: MoveRecord): Promise<void>;
  /** Those that have not ended. */
  open(): MoveRecord[];
}

const isRecord = (entry: Record<string, unknown>): boolean =>
  ['id', 'from', 'to', 'kind', 'state'].every((name) => typeof entry[name] === 'string') && (states as readonly string[]).includes(entry['state'] as string);

export class JournalledMoves implements MoveStore {
  readonly #moves = new Map<string, MoveRecord>();
  #journal!: Journal;

  /** Throws STATE_UNREADABLE. */
  static async open(path: string, log: (line: string) => void = () => {}): Promise<JournalledMoves> {
    const moves = new JournalledMoves();
    moves.#journal = await Journal.open(
      path,
      (entry) => {
        if (!isRecord(entry)) throw new ShoalError('STATE_UNREADABLE', `${path} has an entry that is no move.`, { hint: 'Move the file away; moves it had under way have to be ended by hand.' });
        moves.#take(entry as unknown as MoveRecord);
      },
      () => [...moves.#moves.values()].map((record) => ({ ...record })),
      log,
    );
    return moves;
  }

  #take(record: MoveRecord): void {
    if (isEnd(record.state)) this.#moves.delete(record.id);
    else this.#moves.set(record.id, record);
  }

  async save(record: MoveRecord): Promise<void> {
    const copy = { ...record };
    this.#take(copy);
    await this.#journal.append({ ...copy });
  }

  open(): MoveRecord[] {
    return [...this.#moves.values()].map((record) => ({ ...record }));
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}
