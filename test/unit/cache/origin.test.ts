/** The origin: files become streams that an independent reader reads, live parts are there when they are said to be, and what is broken is not published. */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Parser, type Manifest } from 'm3u8-parser';
import test from 'tape';
import { BoxCutter, readFragment, readTrack } from '../../../src/cache/origin/boxes.ts';
import { reasonOf } from '../../../src/cache/origin/ffmpeg.ts';
import { ladderOf } from '../../../src/cache/origin/ladder.ts';
import { cacheControl } from '../../../src/cache/origin/lifetimes.ts';
import { openOrigin, type OriginOptions } from '../../../src/cache/origin/origin.ts';
import { mediaPlaylist } from '../../../src/cache/origin/playlists.ts';
import { maxWaiting, Waiting } from '../../../src/cache/origin/waiting.ts';
import { ShoalError } from '../../../src/model/errors.ts';
import { film, folder, gone, root, silent, transport } from './media.ts';

const read = (text: string): Manifest => {
  const parser = new Parser();
  parser.push(text);
  parser.end();
  return parser.manifest;
};
const options = (inputs: string[], stateFolder: string, more: Partial<OriginOptions> = {}): OriginOptions => ({
  inputs, live: false, host: '127.0.0.1', port: 0, stateFolder, segmentS: 2, partS: 0.25, window: 4, renditions: 2, ts: true, keepGoing: false, log: () => {}, ...more,
});
const text = async (url: string): Promise<string> => (await fetch(url)).text();
/** fetch asks past caches as soon as it has a condition of its own. */
const statusOf = (url: string, headers: Record<string, string>): Promise<number> =>
  new Promise((done, fail) => get(url, { headers }, (response) => done(response.resume().statusCode ?? 0)).on('error', fail));
const run = promisify(execFile);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'none', (e: unknown) => (e as ShoalError).code);

test('the ladder: never above the source, even numbers, sound apart', (t) => {
  const of = (width: number, height: number, audio = true) => ladderOf({ video: { width, height, framesPerSecond: 25 }, audio, durationS: 1 }).map((r) => r.name);
  t.deepEqual(of(1920, 1080), ['v1080', 'v720', 'v480', 'v360', 'audio']);
  t.deepEqual(of(641, 361, false), ['v360', 'v240', 'v144']);
  t.deepEqual(of(100, 75, false), ['v76'], 'one that is below every step is as it is');
  t.deepEqual(ladderOf({ video: undefined, audio: true, durationS: 1 }).map((r) => r.kind), ['audio']);
  t.ok(ladderOf({ video: { width: 853, height: 480, framesPerSecond: 30 }, audio: false, durationS: 1 }).every((r) => r.width % 2 === 0 && r.height % 2 === 0));
  t.deepEqual([cacheControl('a/x-1.m4s'), cacheControl('init-1.mp4')].map((c) => /max-age=1209600, immutable/.test(c)), [true, true]);
  t.ok(/max-age=3,/.test(cacheControl('index.m3u8', 6)), 'half a segment');
  t.equal(reasonOf('[mov @ 0x55] moov atom not found\nError while decoding stream #0:0\n'), 'moov atom not found');
  t.end();
});

test('boxes at any split, and damaged ones: a typed error or the same answer, never another throw', (t) => {
  const bytes = readFileSync(film());
  const whole = new BoxCutter().push(bytes).map((b) => [b.type, b.bytes.length]);
  const cutter = new BoxCutter();
  const split: unknown[] = [];
  for (let i = 0; i < bytes.length; i += 7) split.push(...cutter.push(bytes.subarray(i, i + 7)).map((b) => [b.type, b.bytes.length]));
  t.deepEqual(split, whole, 'in pieces of seven bytes');
  t.equal(cutter.leftBytes, 0);
  const fragmented = execFileSync('ffmpeg', ['-v', 'error', '-i', silent(), '-c', 'copy', '-movflags', 'empty_moov+default_base_moof+frag_keyframe', '-f', 'mp4', 'pipe:1'], { maxBuffer: 1e8 });
  const boxes = new BoxCutter().push(fragmented);
  const moov = boxes.find((b) => b.type === 'moov')!.bytes;
  const moof = boxes.find((b) => b.type === 'moof')!.bytes;
  const track = readTrack(moov);
  t.ok(track.kind === 'video' && track.width === 256 && track.height === 144 && /^avc1\.[0-9a-f]{6}$/.test(track.codec), track.codec);
  const fragment = readFragment(moof, track);
  t.ok(fragment.independent && fragment.samples > 0 && fragment.duration > 0);
  let seed = 5;
  const random = (n: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
  let typed = 0;
  for (let i = 0; i < 20_000; i++) {
    const [of, use] = i % 2 === 0 ? [moov, (b: Buffer) => readTrack(b)] : [moof, (b: Buffer) => readFragment(b, track)];
    const damaged = Buffer.from(of.subarray(0, random(4) === 0 ? 8 + random(of.length - 8) : of.length));
    for (let n = random(3); n >= 0; n--) damaged[8 + random(damaged.length - 8)] = random(256);
    try {
      use(damaged);
    } catch (error) {
      if (error instanceof ShoalError && error.code === 'MEDIA_FAILED') typed++;
      else throw error;
    }
  }
  t.ok(typed > 100, `${typed} of 20,000 were refused, none threw otherwise`);
  t.equal((() => { try { new BoxCutter().push(Buffer.from('7fffffff6d646174', 'hex')); return ''; } catch (e) { return (e as ShoalError).code; } })(), 'MEDIA_FAILED', 'a box without bound');
  t.end();
});

test('waiting: woken by what they wait for, bounded in time, number and distance', async (t) => {
  const waiting = new Waiting(60);
  waiting.reached(5, 2);
  await waiting.until(5, 1);
  await waiting.until(4);
  t.equal(await codeOf(waiting.until(7)), 'REQUEST_INVALID', 'two ahead');
  let woken = false;
  const next = waiting.until(5, 2).then(() => (woken = true));
  await sleep(5);
  t.equal(woken, false);
  waiting.reached(5, 3);
  await next;
  t.equal(await codeOf(waiting.until(6, 0)), 'TIMEOUT');
  t.equal(waiting.count, 0, 'nobody is left behind');
  const many = Array.from({ length: maxWaiting }, () => waiting.until(6, 0).catch(() => {}));
  t.equal(await codeOf(waiting.until(6, 0)), 'HOST_LIMIT');
  waiting.close();
  await Promise.all(many);
  t.pass('closing lets all go');
});

test('playlists as an independent reader sees them', (t) => {
  const segment = (number: number) => ({
    number, uri: `p-${number}.m4s`, durationS: 2, decodeTime: number * 2, duration: 2, bytes: 1, atMs: 1e12 + number * 2000, init: 'init.mp4',
    parts: [{ uri: `p-${number}.0.m4s`, durationS: 1, independent: true }, { uri: `p-${number}.1.m4s`, durationS: 1, independent: false }],
  });
  const live = read(mediaPlaylist({ segments: [segment(7), segment(8)], open: [{ uri: 'p-9.0.m4s', durationS: 1, independent: true }], hint: 'p-9.1.m4s', targetS: 2, partTargetS: 1, init: 'init.mp4', ended: false, vod: false }));
  t.deepEqual([live.mediaSequence, live.targetDuration, live.partTargetDuration, live.endList], [7, 2, 1, undefined]);
  t.equal(live.serverControl!.canBlockReload, true);
  t.deepEqual(live.segments.filter((s) => s.uri !== undefined).map((s) => s.parts?.length), [2, 2]);
  t.equal(live.preloadSegment?.preloadHints?.[0]?.uri, 'p-9.1.m4s');
  t.equal(live.preloadSegment?.parts?.[0]?.uri, 'p-9.0.m4s');
  const ended = mediaPlaylist({ segments: [segment(7)], open: [], hint: undefined, targetS: 2, partTargetS: 1, init: 'init.mp4', ended: true, vod: false });
  t.ok(/EXT-X-ENDLIST/.test(ended) && !/EXT-X-PART/.test(ended), 'when it is over there are no parts and an end');
  t.end();
});

test('a file: HLS with fMP4 and TS, DASH, an adaptive ladder; found again; packaged anew when it changed', async (t) => {
  const state = await folder();
  const input = join(state, 'My Film.mp4');
  cpSync(film(), input);
  const progress: number[] = [];
  const lines: string[] = [];
  const origin = await openOrigin(options([input], state, { onProgress: (_, part) => progress.push(part ?? -1), log: (line) => lines.push(line) }));
  const base = `http://127.0.0.1:${origin.port}/my-film`;
  t.equal(origin.published[0]!.path, '/my-film/index.m3u8');
  t.ok(progress.length > 0 && progress.every((p) => p >= 0 && p <= 1), `${progress.length} words of progress`);
  const master = read(await text(`${base}/index.m3u8`));
  t.deepEqual(master.playlists!.map((p) => p.attributes.RESOLUTION!.height), [240, 144]);
  t.ok(master.playlists!.every((p) => /^avc1\.[0-9a-f]{6},mp4a\.40\.2$/.test(p.attributes.CODECS) && p.attributes.AUDIO === 'audio'));
  t.equal(master.mediaGroups.AUDIO['audio']!['audio']!.uri, 'audio/index.m3u8');
  const lists = await Promise.all(['v240', 'v144', 'audio'].map(async (name) => read(await text(`${base}/${name}/index.m3u8`))));
  for (const list of lists) {
    t.equal(list.endList, true);
    t.ok(list.segments.every((s) => Math.round(s.duration) <= list.targetDuration!), 'no segment is longer than the target says');
    t.ok(Math.abs(list.segments.reduce((sum, s) => sum + s.duration, 0) - 8) < 0.2, 'eight seconds in all');
  }
  t.deepEqual(lists[0]!.segments.map((s) => s.duration), lists[1]!.segments.map((s) => s.duration), 'renditions are cut at the same times');
  const uri = lists[0]!.segments[1]!.uri;
  const range = await fetch(`${base}/v240/${uri}`, { headers: { range: 'bytes=10-19' } });
  const whole = Buffer.from(await (await fetch(`${base}/v240/${uri}`)).arrayBuffer());
  t.deepEqual([range.status, range.headers.get('content-range'), Buffer.from(await range.arrayBuffer()).equals(whole.subarray(10, 20))], [206, `bytes 10-19/${whole.length}`, true]);
  const etag = range.headers.get('etag')!;
  t.equal(await statusOf(`${base}/v240/${uri}`, { 'if-none-match': etag }), 304);
  t.ok(/immutable/.test(range.headers.get('cache-control')!));
  t.equal((await fetch(`${base}/digests.json/..%2f..%2forigin.pid`)).status, 404);
  t.equal((await fetch(`${base}/nothing.m4s`)).headers.get('cache-control'), 'public, max-age=1');
  for (const path of ['index.m3u8', 'ts.m3u8', 'manifest.mpd']) {
    // ffmpeg's own demuxers decode what was packaged; -xerror makes any fault one.
    const { stdout: frames } = await run('ffprobe', ['-v', 'error', '-select_streams', 'v:0', '-count_frames', '-show_entries', 'stream=nb_read_frames', '-of', 'csv=p=0', `${base}/${path}`], { timeout: 30_000 });
    t.ok(frames.split('\n').some((n) => Number.parseInt(n, 10) === 200), `${path}: 200 frames (${frames.trim().split('\n')[0]})`);
  }
  await origin.close();
  const again = await openOrigin(options([input], state, { log: (line) => lines.push(line) }));
  t.ok(lines.at(-1)!.includes('packaged before'), 'the second time it is there');
  await again.close();
  cpSync(silent(), input);
  const changed = await openOrigin(options([input], state, { ts: false }));
  const now = read(await text(`http://127.0.0.1:${changed.port}/my-film/v144/index.m3u8`));
  t.notEqual(now.segments[0]!.uri, lists[1]!.segments[0]!.uri, 'other bytes have other names');
  t.equal((await fetch(`http://127.0.0.1:${changed.port}/my-film/audio/index.m3u8`)).status, 404, 'and the old ones are gone');
  await changed.close();
  await gone(state);
});

test("broken input: ffmpeg's reason in one line, and nothing of it published", async (t) => {
  const state = await folder();
  const bad = join(state, 'bad.mp4');
  writeFileSync(bad, 'this is no video');
  const torn = join(state, 'torn.ts');
  writeFileSync(torn, Buffer.concat([readFileSync(transport()).subarray(0, 188 * 20), Buffer.alloc(200_000, 0xff)]));
  for (const input of [bad, join(state, 'missing.mp4')]) {
    const error = (await openOrigin(options([input], state)).catch((e: unknown) => e)) as ShoalError;
    t.equal(error.code, 'MEDIA_UNREADABLE', error.message);
    t.notOk(error.message.includes('\n'), 'one line');
  }
  t.equal(await codeOf(openOrigin(options([bad], state, { live: true }))), 'MEDIA_UNREADABLE', 'live too');
  t.deepEqual(readdirSync(join(state, 'vod')), [], 'the folder of packages is empty');
  t.deepEqual(readdirSync(join(state, 'live')), []);
  const both = await openOrigin(options([bad, silent()], state, { keepGoing: true, ts: false }));
  t.deepEqual(both.published.map((p) => p.error?.code), ['MEDIA_UNREADABLE', undefined], 'with keepGoing the good one is served');
  t.equal((await fetch(`http://127.0.0.1:${both.port}/bad/index.m3u8`)).status, 404);
  await both.close();
  await gone(state);
});

test('live: parts as they come, blocking reload, preload hints, the window, DASH', async (t) => {
  const state = await folder();
  const origin = await openOrigin(options([film()], state, { live: true, segmentS: 1, window: 3 }));
  const base = `http://127.0.0.1:${origin.port}/film`;
  const playlist = async (query = ''): Promise<Manifest> => read(await text(`${base}/v144/index.m3u8${query}`));
  const first = await playlist();
  t.equal(first.endList, undefined);
  t.ok(first.partTargetDuration! <= 0.25 && first.serverControl!.partHoldBack >= 2 * first.partTargetDuration!);
  const msn = first.mediaSequence! + first.segments.filter((s) => s.uri).length;
  const held = await playlist(`?_HLS_msn=${msn}`);
  t.ok(held.mediaSequence! + held.segments.filter((s) => s.uri).length > msn, 'a held reload has the segment it waited for');
  const at = held.mediaSequence! + held.segments.filter((s) => s.uri).length;
  const partwise = await playlist(`?_HLS_msn=${at}&_HLS_part=1`);
  t.ok((partwise.preloadSegment?.parts?.length ?? 99) >= 2 || partwise.mediaSequence! + partwise.segments.filter((s) => s.uri).length > at, 'and a part');
  const hint = partwise.preloadSegment!.preloadHints![0]!.uri;
  const hinted = await fetch(`${base}/v144/${hint}`);
  t.equal(hinted.status, 200, `the hinted part ${hint} was waited for`);
  t.ok((await hinted.arrayBuffer()).byteLength > 0);
  for (const [query, status] of [['?_HLS_msn=99999', 400], ['?_HLS_part=1', 400], ['?_HLS_msn=x', 400]] as const)
    t.equal((await fetch(`${base}/v144/index.m3u8${query}`)).status, status, query);
  t.equal((await fetch(`${base}/v144/index.m3u8`)).headers.get('cache-control')!.split(',')[1]!.trim(), 'max-age=1');
  t.equal((await fetch(`${base}/none/index.m3u8`)).status, 404);
  const late = await playlist(`?_HLS_msn=${at + 1}`);
  t.ok(late.segments.filter((s) => s.uri).length <= 4, 'the window is kept');
  const segments = late.segments.filter((s) => s.uri);
  const joined = Buffer.concat(await Promise.all(segments.at(-1)!.parts!.map(async (p) => Buffer.from(await (await fetch(`${base}/v144/${p.uri}`)).arrayBuffer()))));
  const segment = Buffer.from(await (await fetch(`${base}/v144/${segments.at(-1)!.uri}`)).arrayBuffer());
  t.ok(joined.equals(segment), 'the parts are the segment');
  const mpd = await text(`${base}/manifest.mpd`);
  t.ok(/type="dynamic"/.test(mpd) && mpd.includes(segments.at(-1)!.uri) && !/NaN|undefined/.test(mpd));
  const video = read(await text(`${base}/v240/index.m3u8`)).segments.find((s) => s.dateTimeObject !== undefined)!;
  t.ok(Math.abs(video.dateTimeObject!.getTime() - Date.now()) < 20_000, 'program date and time');
  await origin.close();
  await gone(state);
});

const mainFile = join(root, 'src/main/origin.ts');
function startOrigin(inputs: string[], stateFolder: string, more: object = {}): { child: ChildProcess; ready: Promise<number>; log: () => string } {
  const words = JSON.stringify({ inputs, stateFolder, listen: { host: '127.0.0.1', port: 0 }, segmentMs: 2000, renditions: 1, json: true, ...more });
  const child = spawn(process.execPath, ['--import', 'tsx', mainFile, words], { cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  const ready = new Promise<number>((done) => {
    child.stderr!.on('data', (data: Buffer) => {
      log += data.toString();
      const m = /origin: ready on 127\.0\.0\.1:(\d+)/.exec(log);
      if (m !== null) done(Number(m[1]));
    });
    child.once('close', () => done(0));
  });
  return { child, ready, log: () => log };
}
const ended = (child: ChildProcess): Promise<void> => new Promise((done) => (child.exitCode !== null || child.signalCode !== null ? done() : child.once('close', () => done())));

test('kill -9 of the origin while it packages: nothing half published, and the next one starts clean', async (t) => {
  const state = await folder();
  for (const waitMs of [900, 1400]) {
    const { child } = startOrigin([film()], state, { renditions: 2 });
    const until = Date.now() + 10_000;
    while (!existsSync(join(state, 'vod')) || readdirSync(join(state, 'vod')).length === 0) {
      if (Date.now() > until || child.exitCode !== null) break;
      await sleep(10);
    }
    await sleep(waitMs - 800);
    child.kill('SIGKILL');
    await ended(child);
    const published = readdirSync(join(state, 'vod')).filter((name) => !name.startsWith('.'));
    t.ok(published.every((name) => existsSync(join(state, 'vod', name, 'digests.json'))), `published after the kill: ${published.join(' ') || 'nothing'}`);
  }
  const { child, ready, log } = startOrigin([film()], state, { renditions: 2 });
  const port = await ready;
  t.ok(port > 0, log());
  t.deepEqual(readdirSync(join(state, 'vod')), ['film'], 'nothing of the lives before is left');
  t.equal((await fetch(`http://127.0.0.1:${port}/film/index.m3u8`)).status, 200);
  const second = startOrigin([film()], state);
  t.equal(await second.ready, 0, 'a second one over the same folder ends');
  t.ok(second.log().includes('HOST_LIMIT'), 'and says why');
  child.kill('SIGTERM');
  await ended(child);
  t.equal(child.exitCode, 0, 'asked to end, it ends well');
  await gone(state);
});

test('kill -9 of a live origin: its encoder ends with it, and segments of the next life have other names', async (t) => {
  const state = await folder();
  const first = startOrigin([film()], state, { live: true, segmentMs: 1000 });
  const list = read(await text(`http://127.0.0.1:${await first.ready}/film/v240/index.m3u8`));
  first.child.kill('SIGKILL');
  await ended(first.child);
  const next = startOrigin([film()], state, { live: true, segmentMs: 1000 });
  const port = await next.ready;
  const again = read(await text(`http://127.0.0.1:${port}/film/v240/index.m3u8`));
  const names = new Set(list.segments.map((s) => s.uri));
  t.ok(again.segments.every((s) => s.uri === undefined || !names.has(s.uri)), 'no name is used twice');
  t.equal((await fetch(`http://127.0.0.1:${port}/film/v240/${list.segments[0]!.uri}`)).status, 404, 'the old ones are gone');
  const encoders = (): string => execFileSync('sh', ['-c', `ps -eo pid,args | grep '[f]fmpeg .*${film()}' || true`], { encoding: 'utf8' });
  t.equal(encoders().trim().split('\n').length, 1, 'one encoder runs');
  next.child.kill('SIGTERM');
  await ended(next.child);
  t.equal(encoders().trim(), '', 'none after the end');
  await gone(state);
});
