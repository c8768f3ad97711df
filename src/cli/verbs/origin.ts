/** `shoal origin FILE-OR-FOLDER...`: what viewers watch, served for caches. */
import { resolve, join } from 'node:path';
import { repositoryRoot } from '../../lab/paths.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { runNode } from './scripts.ts';

/** "HOST:PORT", or a port alone. */
function listenIn(text: string | undefined): { host: string; port: number } {
  if (text === undefined) return { host: '127.0.0.1', port: 8080 };
  const m = /^(?:(.+):)?(\d{1,5})$/.exec(text);
  if (m === null || Number(m[2]) > 65_535) throw new ShoalError('USAGE', `--listen is ${text}.`, { hint: 'Give it as HOST:PORT.' });
  return { host: m[1] ?? '127.0.0.1', port: Number(m[2]) };
}

const isUrl = (text: string): boolean => /^[a-z]+:\/\//.test(text);

export const origin: Verb = {
  name: 'origin',
  summary: 'serve folders, package files, take live video',
  operands: 'FILE-OR-FOLDER-OR-URL...',
  operandCount: [1, 1000],
  options: {
    listen: { value: 'HOST:PORT', help: '127.0.0.1:8080 by default' },
    live: { help: 'play files as live streams, again and again' },
    state: { value: 'DIR', help: 'what is packaged is kept there; .cache/origin of the checkout by default' },
    segment: { value: 'MS', help: 'length of a segment; 4,000 by default' },
    part: { value: 'MS', help: 'length of a part of a live segment; 250 by default' },
    window: { value: 'N', help: 'segments in a live playlist; 10 by default' },
    renditions: { value: 'N', help: 'of video, at most; 4 by default' },
    'no-ts': { help: 'fMP4 only, no MPEG transport streams beside it' },
    'keep-going': { help: 'serve the others when an input is broken' },
  },
  notes:
    'A folder is served as it is, under its name. A file is packaged once: HLS (index.m3u8, ts.m3u8) and DASH (manifest.mpd). rtmp://, srt://, udp:// and\n' +
    'files with --live are live: HLS with parts, DASH. Needs ffmpeg. Ctrl-C ends it.',
  examples: ['shoal origin film.mp4', 'shoal origin --live --listen 0.0.0.0:8080 match.mp4', 'shoal origin srt://10.0.0.2:9000'],
  async run(_terminal, words) {
    const options = {
      inputs: words.operands.map((input) => (isUrl(input) ? input : resolve(input))),
      listen: listenIn(words.text('listen')),
      stateFolder: resolve(words.text('state') ?? join(repositoryRoot, '.cache/origin')),
      live: words.flag('live'),
      segmentMs: words.number('segment', 4_000, 1_000, 20_000),
      partMs: words.number('part', 250, 100, 5_000),
      window: words.number('window', 10, 3, 1_000),
      renditions: words.number('renditions', 4, 1, 8),
      ts: !words.flag('no-ts'),
      keepGoing: words.flag('keep-going'),
      json: words.flag('json'),
    };
    return runNode(['--enable-source-maps', '--import', 'tsx', join(repositoryRoot, 'src/main/origin.ts'), JSON.stringify(options)], repositoryRoot);
  },
};
