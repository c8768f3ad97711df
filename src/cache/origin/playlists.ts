/**
 * The text of HLS playlists (RFC 8216, and its second edition for low latency) and of the DASH manifest beside them. Pure; one
 * description of the stream gives both.
 */
import type { Rendition } from './ladder.ts';

export interface Part {
  uri: string;
  durationS: number;
  independent: boolean;
}

export interface Segment {
  /** Media sequence number: counts up from 0 by one. */
  number: number;
  uri: string;
  durationS: number;
  /** Ticks of the track, of its first sample. */
  decodeTime: number;
  /** Ticks. */
  duration: number;
  bytes: number;
  /** Unix milliseconds of its first sample; undefined of what was not live. */
  atMs: number | undefined;
  /** The initialization segment it needs. */
  init: string;
  /** In order; only of the last few segments of a live stream. */
  parts: readonly Part[];
}

export interface MediaPlaylist {
  segments: readonly Segment[];
  /** Parts of the segment that is being made. */
  open: readonly Part[];
  /** Uri of the part that comes next; a reader may ask for it already. */
  hint: string | undefined;
  targetS: number;
  /** 0 when there are no parts. */
  partTargetS: number;
  /** Of the segment being made, when nothing is finished yet. */
  init: string | undefined;
  ended: boolean;
  vod: boolean;
}

/** Three digits of a second are kept: a millisecond is below a frame. */
const seconds = (s: number): string => s.toFixed(3).replace(/\.?0+$/, '') || '0';

const partLine = ({ uri, durationS, independent }: Part): string =>
  `#EXT-X-PART:DURATION=${durationS.toFixed(5)},URI="${uri}"${independent ? ',INDEPENDENT=YES' : ''}`;

/** A rendition's playlist. The target duration is the longest segment rounded, and never changes while the stream is live. */
export function mediaPlaylist(list: MediaPlaylist): string {
  const { segments, open, partTargetS } = list;
  const live = !list.vod && !list.ended;
  const lines = ['#EXTM3U', `#EXT-X-VERSION:${partTargetS > 0 ? 9 : 7}`, `#EXT-X-TARGETDURATION:${Math.ceil(list.targetS - 0.001)}`];
  if (partTargetS > 0 && live)
    lines.push(
      `#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=${seconds(partTargetS * 3)},HOLD-BACK=${seconds(Math.ceil(list.targetS) * 3)}`,
      `#EXT-X-PART-INF:PART-TARGET=${seconds(partTargetS)}`,
    );
  lines.push(`#EXT-X-MEDIA-SEQUENCE:${segments[0]?.number ?? 0}`);
  if (list.vod) lines.push('#EXT-X-PLAYLIST-TYPE:VOD');
  lines.push('#EXT-X-INDEPENDENT-SEGMENTS');
  let init: string | undefined;
  segments.forEach((segment) => {
    if (segment.init !== init) lines.push(`#EXT-X-MAP:URI="${(init = segment.init)}"`);
    if (segment.atMs !== undefined) lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(segment.atMs).toISOString()}`);
    if (live) lines.push(...segment.parts.map(partLine));
    lines.push(`#EXTINF:${segment.durationS.toFixed(5)},`, segment.uri);
  });
  if (live && init === undefined && list.init !== undefined) lines.push(`#EXT-X-MAP:URI="${list.init}"`);
  if (live) lines.push(...open.map(partLine));
  if (live && list.hint !== undefined) lines.push(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="${list.hint}"`);
  if (!live) lines.push('#EXT-X-ENDLIST');
  return `${lines.join('\n')}\n`;
}

export interface Variant {
  rendition: Rendition;
  /** RFC 6381. */
  codec: string;
  /** The highest of a segment, bits a second. */
  peakBps: number;
  uri: string;
}

/** The playlist that names the renditions, the best first. */
export function multivariantPlaylist(variants: readonly Variant[], framesPerSecond: number): string {
  const audio = variants.find(({ rendition }) => rendition.kind === 'audio');
  const lines = ['#EXTM3U', '#EXT-X-VERSION:7', '#EXT-X-INDEPENDENT-SEGMENTS'];
  const video = variants.filter(({ rendition }) => rendition.kind === 'video');
  if (audio !== undefined && video.length > 0)
    lines.push(`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="${audio.uri}"`);
  for (const { rendition, codec, peakBps, uri } of video.length > 0 ? video : variants) {
    const withAudio = audio !== undefined && rendition.kind === 'video';
    const codecs = withAudio ? `${codec},${audio.codec}` : codec;
    const average = rendition.bitrateBps + (withAudio ? audio.rendition.bitrateBps : 0);
    const peak = Math.max(average, peakBps + (withAudio ? audio.peakBps : 0));
    lines.push(
      `#EXT-X-STREAM-INF:BANDWIDTH=${Math.ceil(peak)},AVERAGE-BANDWIDTH=${average},CODECS="${codecs}"` +
        (rendition.kind === 'video'
          ? `,RESOLUTION=${rendition.width}x${rendition.height},FRAME-RATE=${framesPerSecond.toFixed(3)}`
          : '') +
        (withAudio ? ',AUDIO="audio"' : ''),
      uri,
    );
  }
  return `${lines.join('\n')}\n`;
}

export interface DashTrack extends Variant {
  timescale: number;
  segments: readonly Segment[];
  /** Of the rendition's folder: "v720/". */
  folder: string;
}

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
const isoDuration = (s: number): string => `PT${seconds(s)}S`;

/** ISO/IEC 23009-1, segments listed one by one, so that they have the names HLS has for them. `live`: when it began, Unix milliseconds. */
export function dashManifest(tracks: readonly DashTrack[], framesPerSecond: number, live: { beganMs: number; nowMs: number; targetS: number } | undefined): string {
  const durationS = Math.max(0, ...tracks.map(({ segments }) => segments.reduce((sum, s) => sum + s.durationS, 0)));
  const set = (kind: Rendition['kind']): string => {
    const of = tracks.filter(({ rendition, segments }) => rendition.kind === kind && segments.length > 0);
    if (of.length === 0) return '';
    const representations = of.map(({ rendition, codec, peakBps, timescale, segments, folder }) => {
      const last = segments.at(-1)!.init;
      const times = segments.map((s) => `<S t="${s.decodeTime}" d="${s.duration}"/>`).join('');
      const urls = segments.map((s) => `<SegmentURL media="${escaped(folder + s.uri)}"/>`).join('');
      const picture = kind === 'video' ? ` width="${rendition.width}" height="${rendition.height}" frameRate="${Math.round(framesPerSecond * 1000)}/1000"` : '';
      return (
        `<Representation id="${rendition.name}" codecs="${codec}" bandwidth="${Math.ceil(Math.max(rendition.bitrateBps, peakBps))}"${picture}>` +
        `<SegmentList timescale="${timescale}" startNumber="${segments[0]!.number}"><Initialization sourceURL="${escaped(folder + last)}"/>` +
        `<SegmentTimeline>${times}</SegmentTimeline>${urls}</SegmentList></Representation>`
      );
    });
    return `<AdaptationSet contentType="${kind}" mimeType="${kind}/mp4" segmentAlignment="true" startWithSAP="1">${representations.join('')}</AdaptationSet>`;
  };
  const kindOfPresentation =
    live === undefined
      ? `type="static" mediaPresentationDuration="${isoDuration(durationS)}"`
      : `type="dynamic" availabilityStartTime="${new Date(live.beganMs).toISOString()}" publishTime="${new Date(live.nowMs).toISOString()}" ` +
        `minimumUpdatePeriod="${isoDuration(live.targetS / 2)}" suggestedPresentationDelay="${isoDuration(live.targetS * 3)}"`;
  return (
    `<?xml version="1.0" encoding="UTF-8"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:full:2011" ` +
    `minBufferTime="${isoDuration(2)}" ${kindOfPresentation}><Period id="0" start="PT0S">${set('video')}${set('audio')}</Period></MPD>\n`
  );
}
