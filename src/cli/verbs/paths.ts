/**
 * `shoal paths move|resume|list`: a VM that connections run over goes to another host under another address, and they go along. This process is the
 * coordinator; where it is killed, the next one finds the move in the journal and ends it.
 */
import { randomUUID, createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join, resolve } from 'node:path';
import { locked } from '../../lab/lock.ts';
import { JournalledMoves, type MoveRecord } from '../../migrate/paths-journal.ts';
import { planPaths } from '../../migrate/paths-plan.ts';
import type { MoveKind } from '../../migrate/paths-table.ts';
import { PathCoordinator, type MoveOutcome } from '../../migrate/paths.ts';
import { VmWaypoints } from '../../migrate/waypoints.ts';
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { PathClient } from '../../mptcp/client.ts';
import type { Verb, Words } from '../arguments.ts';
import { Client } from '../client.ts';
import { ms, plural, table } from '../format.ts';
import { otherHostOptions, otherTarget, readTarget, targetOf, type Target } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { AgentHost } from '../waypoint-host.ts';

const mostSubflows = 8;
const state = { state: { value: 'FOLDER', help: 'where moves under way are kept; default /var/lib/shoal/moves' } };

interface AgentEntry {
  url: string;
  certFile: string;
  tokenFile: string;
}

/** By what the ends of a move are found again. */
interface About {
  uuid: string;
  name: string;
  source: Target;
  target: Target;
  agents: AgentEntry[];
}

const aboutOf = ({ about, id }: MoveRecord): About => {
  const { source, target, agents } = (about ?? {}) as Partial<About>;
  if (source !== undefined && target !== undefined && Array.isArray(agents)) return about as unknown as About;
  throw new ShoalError('STATE_UNREADABLE', `The move ${id} does not say which hosts it is between.`);
};

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new ShoalError('USAGE', `${file} cannot be read: ${(error as Error).message}.`, { hint: 'Check the path and its permissions.', cause: error });
  }
}

/** [{"url", "certFile", "tokenFile"}]: files are looked for beside the list. */
function agentsOf(words: Words): AgentEntry[] {
  const file = words.text('agents');
  if (file === undefined) throw new ShoalError('USAGE', 'Which path agents?', { hint: 'Give --agents FILE: a JSON list of {"url", "certFile", "tokenFile"}.' });
  const wrong = (): ShoalError => new ShoalError('CONFIG_INVALID', `${file} is no JSON list of {"url", "certFile", "tokenFile"}.`, { hint: 'See docs/walkthroughs/mptcp.md.' });
  let list: unknown;
  try {
    list = JSON.parse(textOf(file));
  } catch (error) {
    throw error instanceof ShoalError ? error : wrong();
  }
  if (!Array.isArray(list) || list.length === 0 || list.length > 64) throw wrong();
  return list.map((entry: unknown) => {
    const { url, certFile, tokenFile } = (entry ?? {}) as Partial<AgentEntry>;
    if (typeof url !== 'string' || typeof certFile !== 'string' || typeof tokenFile !== 'string') throw wrong();
    return { url, certFile: resolve(file, '..', certFile), tokenFile: resolve(file, '..', tokenFile) };
  });
}

/** Both hosts and all path agents of a move; `close` ends what it opened. */
class Ends {
  readonly #clients: [Client, Client];
  readonly waypoints: VmWaypoints;
  readonly sides: PathClient[];

  constructor({ source, target, agents }: Pick<About, 'source' | 'target' | 'agents'>, log: (line: string) => void) {
    this.sides = agents.map(({ url, certFile, tokenFile }) => new PathClient({ url, certificate: textOf(certFile), token: textOf(tokenFile).trim() }));
    this.#clients = [new Client(readTarget(source)), new Client(readTarget(target))];
    this.waypoints = new VmWaypoints(new AgentHost(this.#clients[0]), new AgentHost(this.#clients[1]), log);
  }

  async close(): Promise<void> {
    for (const side of this.sides) side.close();
    await Promise.all(this.#clients.map((client) => client.close()));
  }
}

/** One process at a time has a folder's journal. */
async function withMoves<T>(words: Words, work: (moves: JournalledMoves) => Promise<T>): Promise<T> {
  const folder = resolve(words.text('state') ?? '/var/lib/shoal/moves');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return locked(`moves-${createHash('sha256').update(folder).digest('hex').slice(0, 24)}`, 0, () => {}, async () => {
    const moves = await JournalledMoves.open(join(folder, 'moves.journal'));
    try {
      return await work(moves);
    } finally {
      await moves.close();
    }
  });
}

function tell(terminal: Terminal, { record, took, left }: MoveOutcome): number {
  const about = aboutOf(record);
  const moved = record.state === 'moved';
  terminal.printJson({ id: record.id, name: about.name, from: record.from, to: record.to, state: record.state, ...(record.why === undefined ? {} : { why: record.why }), left, took });
  terminal.print(moved ? `${about.name} is at ${record.to}; a tombstone answers for ${record.from}` : `${about.name} stays at ${record.from}: ${record.why ?? 'the move went back'}`);
  for (const { state: step, ms: took1 } of took) terminal.note(`${step} ${ms(took1)} ms`);
  return moved ? 0 : 1;
}

async function end(terminal: Terminal, moves: JournalledMoves, record: MoveRecord): Promise<MoveOutcome[]> {
  const log = (line: string): void => terminal.note(line);
  const ends = new Ends(aboutOf(record), log);
  try {
    return await new PathCoordinator({ sides: ends.sides, waypoints: ends.waypoints, store: moves, log, now: () => performance.now() }).resume(record.id);
  } finally {
    await ends.close();
  }
}

/** Ctrl-C has the move go back, as long as it can. */
async function abortable(coordinator: PathCoordinator, id: string, terminal: Terminal, work: () => Promise<MoveOutcome>): Promise<MoveOutcome> {
  const stop = (): void => {
    try {
      coordinator.abort(id);
      terminal.note('going back');
    } catch (error) {
      terminal.note(asShoalError(error).message);
    }
  };
  process.on('SIGINT', stop);
  try {
    return await work();
  } finally {
    process.off('SIGINT', stop);
  }
}

async function forecast(terminal: Terminal, sides: readonly PathClient[], from: string, to: string, kind: MoveKind): Promise<void> {
  const plans = await Promise.all(
    sides.map(async (side) => planPaths({ status: await side.status({ from, to }), kind, addressMoves: false, stateMoves: true, maxSubflows: mostSubflows, refused: new Set() })),
  );
  const forecasts = plans.flatMap((plan) => plan.forecasts);
  const counts = { survives: 0, unsure: 0, lost: 0 };
  for (const { verdict } of forecasts) counts[verdict]++;
  terminal.printJson({ from, to, kind, counts, forecasts });
  if (terminal.json) return;
  terminal.print(table([{ title: 'PEER' }, { title: 'VERDICT' }, { title: 'WHY' }], forecasts.map(({ remote, verdict, why }) => [remote, verdict, why]), terminal.style));
  terminal.note(`${plural(forecasts.length, 'connection')}: ${counts.survives} survive, ${counts.unsure} if their peers join, ${counts.lost} are lost`);
}

export const pathsMove: Verb = {
  name: 'paths move',
  summary: 'move a VM to another host and subnet, its MPTCP connections with it',
  operands: 'VM',
  operandCount: [1, 1],
  options: {
    ...otherHostOptions,
    ip: { value: 'ADDRESS', help: 'the address of its first device there' },
    agents: { value: 'FILE', help: 'the path agents beside the ends of its connections: a JSON list of {"url", "certFile", "tokenFile"}' },
    break: { help: 'suspend it first, then start it there: it never runs twice, and connections wait' },
    leave: { help: 'go on without connections whose peers do not join' },
    plan: { help: 'say which connections would survive; nothing moves' },
    ...state,
  },
  speaksToHost: true,
  notes:
    'It runs at both places until every connection has its path at the new one. What fails before the old one is released goes back; Ctrl-C does too. Killed in the middle, the next ' +
    '`paths move` or `paths resume` with the same folder ends the move. The old address answers with RST from then on: a VM named tombstone-ADDRESS; destroy it when nobody needs that any more.',
  examples: ['shoal paths move nat --to lab/host1 --ip 10.65.9.1 --agents agents.json --plan', 'shoal paths move nat --to lab/host1 --ip 10.65.9.1 --agents agents.json'],
  async run(terminal, words) {
    const target = await otherTarget(words);
    const to = words.text('ip') ?? '';
    if (!isIPv4(to)) throw new ShoalError('USAGE', 'Under which address?', { hint: 'Give --ip ADDRESS: a free one of the network there. Peers are told of it before the VM stops here.' });
    const kind: MoveKind = words.flag('break') ? 'break-before-make' : 'make-before-break';
    const known = { source: await targetOf(words), target, agents: agentsOf(words) };
    return withMoves(words, async (moves) => {
      for (const record of words.flag('plan') ? [] : moves.open()) {
        terminal.note(`the move ${record.id} was left ${record.state}`);
        await end(terminal, moves, record);
      }
      const log = (line: string): void => terminal.note(line);
      const ends = new Ends(known, log);
      try {
        const { uuid, name, from } = await ends.waypoints.check(words.operands[0]!, to);
        if (words.flag('plan')) return await forecast(terminal, ends.sides, from, to, kind);
        const coordinator = new PathCoordinator({ sides: ends.sides, waypoints: ends.waypoints, store: moves, log, now: () => performance.now() });
        const id = randomUUID();
        const about = { uuid, name, ...known } satisfies About;
        return tell(terminal, await abortable(coordinator, id, terminal, () => coordinator.move({ id, kind, from, to, leave: words.flag('leave'), about: { ...about } })));
      } finally {
        await ends.close();
      }
    });
  },
};

export const pathsResume: Verb = {
  name: 'paths resume',
  summary: 'end the moves that a killed command left',
  options: state,
  notes: 'Back while the VM ran untouched; on once it may have been suspended.',
  async run(terminal, words) {
    return withMoves(words, async (moves) => {
      let code = 0;
      for (const record of moves.open()) for (const outcome of await end(terminal, moves, record)) code = Math.max(code, tell(terminal, outcome));
      return code;
    });
  },
};

export const pathsList: Verb = {
  name: 'paths list',
  summary: 'list the moves that are not ended',
  options: state,
  async run(terminal, words) {
    return withMoves(words, async (moves) => {
      const open = moves.open().map((record) => ({ id: record.id, name: aboutOf(record).name, kind: record.kind, from: record.from, to: record.to, state: record.state }));
      terminal.printJson(open);
      if (!terminal.json) terminal.print(table([{ title: 'VM' }, { title: 'FROM' }, { title: 'TO' }, { title: 'KIND' }, { title: 'STATE' }], open.map((one) => [one.name, one.from, one.to, one.kind, one.state]), terminal.style));
    });
  },
};
