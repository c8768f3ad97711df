/**
 * Moves of connections, as many as wanted: `node --import tsx bench/migration/moves.ts namespaces|xen|subnet [MOVES] [DELAY_MS...] [MODE...] [WAY...] [lab=NAME]
 * [each=N] [file=CSV]`. Of each delay, mode and way one line of JSON. Connections move `each` times, 100 by default. With a file every move is a line of it as soon as it is
 * measured, and the same words later go on where it ended. Modes: records, bulk; bulk-256k between namespaces; in one subnet plain-records, plain-bulk.
 */
import { pathToFileURL } from 'node:url';
import { ShoalError } from '../../src/model/errors.ts';
import { clearAway } from './network.ts';
import { measurePaths, ways } from './paths.ts';
import { measureXenPaths } from './paths-xen.ts';
import { measureSubnet } from './subnet-xen.ts';

export const kinds = {
  namespaces: { modes: ['records', 'bulk', 'bulk-256k'], ways: ways.map((way) => way.replaceAll(' ', '-')), delaysMs: [1, 10, 50] },
  xen: { modes: ['records', 'bulk'], ways: ['no-move', 'make-before-break', 'break-before-make'], delaysMs: [10] },
  subnet: { modes: ['plain-records', 'plain-bulk'], ways: ['no-move', 'migrate', 'migrate-live'], delaysMs: [10] },
} as const;

export interface Wanted {
  kind: keyof typeof kinds;
  moves: number;
  delaysMs: number[];
  /** Those named, or all ways and the first mode. */
  modes: string[];
  ways: string[];
  lab: string;
  inARow: number;
  file: string | undefined;
}

/** Pure. Throws USAGE. */
export function parseMoves([kind = '', ...words]: readonly string[]): Wanted {
  if (!Object.hasOwn(kinds, kind)) throw new ShoalError('USAGE', `"${kind}" is none of: ${Object.keys(kinds).join(', ')}.`);
  const known = kinds[kind as keyof typeof kinds];
  const wanted: Wanted = { kind: kind as keyof typeof kinds, moves: 20, delaysMs: [], modes: [], ways: [], lab: 'lab', inARow: 100, file: undefined };
  const numbers: number[] = [];
  for (const word of words) {
    const [name, value = ''] = word.split(/=(.*)/s);
    if (/^\d+$/.test(word)) numbers.push(Number(word));
    else if ((known.modes as readonly string[]).includes(word)) wanted.modes.push(word);
    else if ((known.ways as readonly string[]).includes(word)) wanted.ways.push(word);
    else if (name === 'lab' && value !== '') wanted.lab = value;
    else if (name === 'file' && value !== '') wanted.file = value;
    else if (name === 'each' && /^[1-9]\d*$/.test(value)) wanted.inARow = Number(value);
    else throw new ShoalError('USAGE', `"${word}" means nothing here.`, { hint: `Modes: ${known.modes.join(', ')}; ways: ${known.ways.join(', ')}; also lab=NAME, each=N, file=CSV.` });
  }
  [wanted.moves = 20, ...wanted.delaysMs] = numbers;
  if (wanted.delaysMs.length === 0) wanted.delaysMs = [...known.delaysMs];
  if (wanted.modes.length === 0) wanted.modes = [known.modes[0]];
  if (wanted.ways.length === 0) wanted.ways = [...known.ways];
  return wanted;
}

async function main({ kind, moves, delaysMs, modes, ways: some, lab, inARow, file }: Wanted): Promise<void> {
  const each = (summary: object): void => void process.stdout.write(`${JSON.stringify(summary)}\n`);
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  clearAway();
  const stopped = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopped.abort());
  const common = { moves, inARow, file, each, log, signal: stopped.signal };
  if (kind === 'namespaces') return void (await measurePaths({ ...common, delaysMs, modes: modes as never[], ways: some.map((way) => way.replaceAll('-', ' ')) as never[] }));
  for (const delayMs of delaysMs)
    for (const mode of modes) {
      const of = { ...common, lab, delayMs, mode: mode as never, ways: some as never[] };
      if (kind === 'xen') await measureXenPaths(of);
      else await measureSubnet(of);
    }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await main(parseMoves(process.argv.slice(2)));
