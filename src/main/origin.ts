/**
 * The origin's composition root: `node --import tsx origin.ts OPTIONS`, OPTIONS being JSON as `shoal origin` makes it. Run from source, for piscina
 * needs its worker to be a file. SIGTERM and SIGINT end it and ffmpeg with it; after a kill -9 the next one packages anew what was not finished.
 */
import { resolve } from 'node:path';
import { openOrigin } from '../cache/origin/origin.ts';
import { ShoalError } from '../model/errors.ts';
import { runDaemon } from './daemon.ts';
import { Fields, fieldsOf, invalid } from './fields.ts';
import { lockFolder } from './lock.ts';

const note = (line: string): void => void process.stderr.write(`${line}\n`);
async function main(): Promise<void> {
  const text = process.argv[2];
  if (text === undefined) throw new ShoalError('USAGE', 'usage: origin OPTIONS', { hint: 'Use `shoal origin FILE-OR-FOLDER...`.' });
  const fields = fieldsOf(text);
  const listen = new Fields(fields.take('listen') ?? {}, 'listen');
  const inputs = fields.take('inputs');
  if (!Array.isArray(inputs) || inputs.length === 0 || inputs.some((input) => typeof input !== 'string')) throw invalid('inputs', 'must be a list of texts');
  const stateFolder = resolve(fields.need('stateFolder'));
  const json = fields.boolean('json') === true;
  const stop = new AbortController();
  const shown = new Map<string, number>();
  const options = {
    inputs: inputs as string[],
    host: listen.string('host') ?? '127.0.0.1',
    port: listen.integer('port', 0, 65_535) ?? 8080,
    live: fields.boolean('live') === true,
    segmentS: (fields.integer('segmentMs', 1_000, 20_000) ?? 4_000) / 1000,
    partS: (fields.integer('partMs', 100, 5_000) ?? 250) / 1000,
    window: fields.integer('window', 3, 1_000) ?? 10,
    renditions: fields.integer('renditions', 1, 8) ?? 4,
    ts: fields.boolean('ts') !== false,
    keepGoing: fields.boolean('keepGoing') === true,
  };
  listen.end();
  fields.end();
  lockFolder(stateFolder, 'origin.pid');
  const end = (): void => stop.abort();
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  const origin = await openOrigin({
    ...options,
    stateFolder,
    signal: stop.signal,
    log: note,
    onProgress: (name, part, { speed }) => {
      // A line at each tenth: packaging may take hours, and nobody reads thousands.
      const tenth = part === undefined ? -1 : Math.floor(part * 10);
      if (part === undefined || shown.get(name) === tenth) return;
      shown.set(name, tenth);
      note(`${name}: ${Math.round(part * 100)} %${speed > 0 ? `, ${speed.toFixed(1)} times real time` : ''}`);
    },
  });
  const base = `http://${options.host}:${origin.port}`;
  const published = origin.published.map(({ name, kind, input, path, error }) => ({
    name,
    kind,
    input,
    url: error === undefined ? base + path : undefined,
    error: error === undefined ? undefined : { code: error.code, message: error.message, hint: error.hint },
  }));
  if (json) process.stdout.write(`${JSON.stringify({ origin: base, published })}\n`);
  else for (const each of published) process.stdout.write(`${each.kind.padEnd(6)}  ${each.url ?? each.error?.message}\n`);
  note(`origin: ready on ${options.host}:${origin.port}`);
  if (!stop.signal.aborted) await new Promise((done) => stop.signal.addEventListener('abort', done, { once: true }));
  await origin.close();
  process.exit(0);
}

runDaemon(main, note);
