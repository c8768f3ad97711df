/** One rendition on its way: the encoder's pipe is cut into boxes, fragments, parts and segments, and each is handed on in order. */
import type { Readable } from 'node:stream';
import { ShoalError } from '../../model/errors.ts';
import { BoxCutter, readTrack, type Box, type Track } from './boxes.ts';
import { Cutter, type CutterOptions, type MadePart, type MadeSegment } from './cutter.ts';
import type { Workers } from './workers.ts';

/** What is done with what was cut. The encoder waits while a call is under way: its pipe is not read. */
export interface Sink {
  init(track: Track, bytes: Buffer, cutter: Cutter): Promise<void>;
  part(part: MadePart, cutter: Cutter): Promise<void>;
  segment(segment: MadeSegment): Promise<void>;
}

/** Resolves when the pipe has ended and its last segment was handed on. Throws MEDIA_FAILED. */
export async function cutRendition(
  pipe: Readable,
  workers: Pick<Workers, 'fragment'>,
  options: Omit<CutterOptions, 'track'>,
  sink: Sink,
): Promise<void> {
  const boxes = new BoxCutter();
  let ftyp: Box | undefined;
  let moof: Box | undefined;
  let track: Track | undefined;
  let cutter: Cutter | undefined;
  for await (const chunk of pipe) {
    for (const box of boxes.push(chunk as Buffer)) {
      if (box.type === 'ftyp') ftyp = box;
      else if (box.type === 'moov') {
        track = readTrack(box.bytes);
        cutter = new Cutter({ ...options, track });
        await sink.init(track, Buffer.concat([...(ftyp === undefined ? [] : [ftyp.bytes]), box.bytes]), cutter);
      } else if (box.type === 'moof') moof = box;
      else if (box.type === 'mdat' && moof !== undefined) {
        if (track === undefined || cutter === undefined) throw new ShoalError('MEDIA_FAILED', 'The encoder wrote samples before it said what they are.');
        const { kind, defaultDuration, defaultFlags } = track;
        const fragment = await workers.fragment({ moof: moof.bytes, track: { kind, defaultDuration, defaultFlags } });
        const bytes = Buffer.concat([moof.bytes, box.bytes]);
        moof = undefined;
        if (fragment.samples === 0) continue;
        const ended = cutter.push(fragment, bytes);
        if (ended !== undefined) await sink.segment(ended);
        await sink.part(cutter.open.at(-1)!, cutter);
      }
    }
  }
  const last = cutter?.finish();
  if (last !== undefined) await sink.segment(last);
}
