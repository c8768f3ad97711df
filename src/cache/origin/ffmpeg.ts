/**
 * ffmpeg as a child process: what a source is (ffprobe), and one process that decodes it once and writes every rendition as
 * fragmented MP4 to a pipe of its own. Progress comes by `-progress`; what went wrong is one line of a typed error.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { ShoalError } from '../../model/errors.ts';
import type { Rendition, Source } from './ladder.ts';

/** Of what ffmpeg says, so much is kept. */
const keptBytes = 8 * 1024;

/** The line of ffmpeg's words that names the cause: the last one that is no echo of another's failure. */
export function reasonOf(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => line.replace(/^\[[^\]]*\]\s*/, '').trim())
    .filter((line) => line !== '' && !/^(Conversion failed|Error while (decoding|processing)|Exiting normally|Last message repeated)/.test(line));
  return (lines.at(-1) ?? 'it said nothing').replace(/\.$/, '').slice(0, 300);
}

/** `input` without what a URL may carry of secrets. */
export function shown(input: string): string {
  if (!/^[a-z]+:\/\//.test(input) || !URL.canParse(input)) return input;
  const url = new URL(input);
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/**
 * How ffmpeg is told to open a source: words in front of `-i`, and what stands behind it. Silence at the opening is bounded; `rtmp://…?listen` waits for an
 * encoder to connect; datagrams that come faster than they are decoded are lost, and do not end the stream.
 */
export function opening(input: string): { words: readonly string[]; name: string } {
  const protocol = /^([a-z]+):\/\//.exec(input)?.[1];
  switch (protocol) {
    case 'udp':
      return { words: ['-overrun_nonfatal', '1'], name: input };
    case 'rtmp':
    case 'rtmps': {
      const [url, query] = [input.split('?', 1)[0]!, new URLSearchParams(input.split('?')[1] ?? '')];
      const listens = query.has('listen');
      query.delete('listen');
      const rest = query.toString();
      // Its own option of that name is in seconds, and has it listen.
      return { words: listens ? ['-timeout', String(silentOpeningS)] : ['-rw_timeout', String(silentOpeningS * 1e6)], name: rest === '' ? url : `${url}?${rest}` };
    }
    case 'rtsp':
    case 'http':
    case 'https':
      return { words: ['-rw_timeout', String(silentOpeningS * 1e6)], name: input };
    default:
      return { words: [], name: input };
  }
}

/** How long a network source may be silent at its opening. */
const silentOpeningS = 15;

export class Gathered {
  #text = '';
  constructor(stream: Readable) {
    stream.setEncoding('utf8').on('data', (part: string) => (this.#text = (this.#text + part).slice(-keptBytes)));
  }
  get text(): string {
    return this.#text;
  }
}

function missing(error: NodeJS.ErrnoException, program: string): ShoalError {
  return error.code === 'ENOENT'
    ? new ShoalError('SETUP_FAILED', `${program} is not installed.`, { hint: 'apt-get install ffmpeg' })
    : new ShoalError('MEDIA_FAILED', `${program} could not be started: ${error.message}`, { cause: error });
}

interface Probed {
  streams?: { codec_type?: string; width?: number; height?: number; avg_frame_rate?: string; r_frame_rate?: string }[];
  format?: { duration?: string };
}

const rate = (text: string | undefined): number => {
  const [over, under = '1'] = (text ?? '').split('/');
  const value = Number(over) / Number(under);
  return Number.isFinite(value) && value > 0 && value <= 240 ? value : 0;
};

/** Throws MEDIA_UNREADABLE with ffprobe's reason, TIMEOUT, SETUP_FAILED. */
export async function probe(input: string, timeoutMs = 15_000): Promise<Source> {
  const { words, name } = opening(input);
  const child = spawn('ffprobe', ['-v', 'error', '-of', 'json', '-show_streams', '-show_format', ...words, '-i', name], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    if (out.length < 1024 * 1024) out += part;
  });
  const said = new Gathered(child.stderr);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (error) => reject(missing(error, 'ffprobe')));
    child.once('close', resolve);
  }).finally(() => clearTimeout(timer));
  if (late) throw new ShoalError('TIMEOUT', `${shown(input)} gave no media within ${timeoutMs} ms.`, { hint: 'Check that the source sends.' });
  if (code !== 0) throw new ShoalError('MEDIA_UNREADABLE', `${shown(input)}: ${reasonOf(said.text.replaceAll(`${name}: `, ''))}`);
  const { streams = [], format = {} } = JSON.parse(out) as Probed;
  const picture = streams.find((s) => s.codec_type === 'video' && (s.width ?? 0) > 0 && (s.height ?? 0) > 0);
  const audio = streams.some((s) => s.codec_type === 'audio');
  if (picture === undefined && !audio) throw new ShoalError('MEDIA_UNREADABLE', `${shown(input)}: it has neither video nor audio`);
  const durationS = Number(format.duration);
  return {
    video:
      picture === undefined
        ? undefined
        : { width: picture.width!, height: picture.height!, framesPerSecond: rate(picture.avg_frame_rate) || rate(picture.r_frame_rate) || 25 },
    audio,
    durationS: Number.isFinite(durationS) && durationS > 0 ? durationS : undefined,
  };
}

export interface EncodeOptions {
  input: string;
  source: Source;
  renditions: readonly Rendition[];
  segmentS: number;
  /** Seconds of a part as asked for; see `partSeconds`. */
  partS: number;
  /** In real time, again from the beginning at its end. */
  loop: boolean;
}

export const audioRate = 48_000;
const audioFrame = 1024;

/** What parts of a rendition really last: whole frames. Seconds. */
export function partSeconds(rendition: Rendition, { video }: Source, partS: number): number {
  const frames = rendition.kind === 'video' ? (video?.framesPerSecond ?? 25) : audioRate / audioFrame;
  return Math.max(1, Math.floor(partS * frames + 0.001)) / frames;
}

/** The words of the one process. Outputs are the descriptors 3, 4, … in the order of the renditions; progress is on 1. */
export function encodeWords(options: EncodeOptions): string[] {
  const { source, segmentS } = options;
  const words = ['-hide_banner', '-nostdin', '-loglevel', 'error', '-progress', 'pipe:1', '-stats_period', '0.5'];
  if (options.loop) words.push('-re', '-stream_loop', '-1');
  const { words: before, name } = opening(options.input);
  words.push(...before, '-i', name);
  options.renditions.forEach((rendition, i) => {
    const frame = rendition.kind === 'video' ? 1 / (source.video?.framesPerSecond ?? 25) : audioFrame / audioRate;
    const fragmentUs = Math.round(1e6 * (partSeconds(rendition, source, options.partS) - frame / 2));
    if (rendition.kind === 'video') {
      words.push('-map', '0:v:0', '-an', '-sn', '-vf', `scale=${rendition.width}:${rendition.height},format=yuv420p`);
      words.push('-r', String(source.video?.framesPerSecond ?? 25), '-c:v', 'libx264', '-preset', 'veryfast', '-bf', '0', '-sc_threshold', '0');
      words.push('-b:v', String(rendition.bitrateBps), '-maxrate', String(Math.round(rendition.bitrateBps * 1.2)), '-bufsize', String(rendition.bitrateBps * 2));
      words.push('-force_key_frames', `expr:gte(t,n_forced*${segmentS})`);
    } else {
      words.push('-map', '0:a:0', '-vn', '-sn', '-c:a', 'aac', '-ac', '2', '-ar', String(audioRate), '-b:a', String(rendition.bitrateBps));
    }
    words.push('-flush_packets', '1', '-movflags', 'empty_moov+default_base_moof+frag_keyframe', '-frag_duration', String(fragmentUs));
    words.push('-f', 'mp4', `pipe:${3 + i}`);
  });
  return words;
}

export interface Progress {
  /** Of the source, seconds. */
  doneS: number;
  /** Times real time; 0 when it is not known. */
  speed: number;
}

/** The facts of one block of `-progress`. */
export function parseProgress(text: string): Progress | undefined {
  const facts = new Map(text.split('\n').map((line) => line.split('=', 2).map((word) => word.trim()) as [string, string]));
  const us = Number(facts.get('out_time_us'));
  if (!Number.isFinite(us)) return undefined;
  const speed = Number.parseFloat(facts.get('speed') ?? '');
  return { doneS: us / 1e6, speed: Number.isFinite(speed) ? speed : 0 };
}

export interface Encoder {
  /** One for each rendition, in order. */
  pipes: Readable[];
  /** Resolves when ffmpeg ended well or was stopped; rejects with MEDIA_FAILED or MEDIA_UNREADABLE. */
  done: Promise<void>;
  stop(): void;
  pid: number | undefined;
}

/** ffmpeg is killed when it does not end by itself so long after it was asked to. */
const patienceMs = 3_000;

export function encode(options: EncodeOptions, onProgress: (progress: Progress) => void = () => {}): Encoder {
  const child: ChildProcess = spawn('ffmpeg', encodeWords(options), {
    stdio: ['ignore', 'pipe', 'pipe', ...options.renditions.map(() => 'pipe' as const)],
  });
  const said = new Gathered(child.stderr!);
  let block = '';
  child.stdout!.setEncoding('utf8').on('data', (part: string) => {
    block = (block + part).slice(-4096);
    for (let at = block.indexOf('progress='); at >= 0 && block.indexOf('\n', at) >= 0; at = block.indexOf('progress=')) {
      const progress = parseProgress(block.slice(0, at));
      block = block.slice(block.indexOf('\n', at) + 1);
      if (progress !== undefined) onProgress(progress);
    }
  });
  let stopped = false;
  const done = new Promise<void>((resolve, reject) => {
    child.once('error', (error) => reject(missing(error, 'ffmpeg')));
    child.once('close', (code, signal) => {
      if (code === 0 || stopped) resolve();
      else reject(new ShoalError('MEDIA_FAILED', `${shown(options.input)}: ${said.text === '' ? `ffmpeg ended by ${signal ?? code}` : reasonOf(said.text)}`));
    });
  });
  done.catch(() => {});
  return {
    pipes: options.renditions.map((_, i) => child.stdio[3 + i] as Readable),
    done,
    pid: child.pid,
    stop: () => {
      if (stopped || child.exitCode !== null) return;
      stopped = true;
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
      child.once('close', () => clearTimeout(timer));
    },
  };
}
