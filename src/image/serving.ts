/**
 * Images and deltas as files that never change, for whoever has the right to fetch them: `/blobs/sha256/HEX` and `/deltas/OLDHEX/NEWHEX`,
 * whole or from an offset on, so that a transfer that was cut goes on where it ended. The same code serves in a host agent and in the
 * controller.
 */
import { createReadStream } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { isDigest, type Digest } from '../model/ids.ts';
import type { Capabilities } from './capability.ts';

/** A file on disk; undefined when it is not there. */
export interface Served {
  path: string;
  bytes: number;
}

export interface Shelf {
  capabilities: Capabilities;
  blob: (digest: Digest) => Served | undefined;
  /** Left out where no deltas are kept. */
  delta?: (from: Digest, to: Digest) => Served | undefined;
}

/** Transfers at once; whoever comes after that is told to try elsewhere. */
const mostTransfers = 256;
/** A reader that takes nothing for so long is given up. */
const stallMs = 20_000;
let transfers = 0;

export const blobPath = (digest: Digest): string => `/blobs/sha256/${digest.slice(7)}`;
export const deltaPath = (from: Digest, to: Digest): string => `/deltas/${from.slice(7)}/${to.slice(7)}`;

/** Answers when the path is one of these; false, with nothing done, when it is not. */
export function serveFile(shelf: Shelf, request: IncomingMessage, response: ServerResponse, path: string, words: URLSearchParams): boolean {
  const blob = /^\/blobs\/sha256\/([0-9a-f]{64})$/.exec(path);
  const delta = /^\/deltas\/([0-9a-f]{64})\/([0-9a-f]{64})$/.exec(path);
  if (blob === null && delta === null) return false;
  request.resume();
  if (request.method !== 'GET' && request.method !== 'HEAD') return refuse(response, 405, 'Files are fetched with GET.');
  if (!shelf.capabilities.allows(path, words)) return refuse(response, 403, 'The right to fetch this has ended, or never was.');
  const file = blob !== null ? shelf.blob(named(blob[1]!)) : shelf.delta?.(named(delta![1]!), named(delta![2]!));
  if (file === undefined) return refuse(response, 404, 'This file is not kept here.');
  const range = rangeOf(request.headers.range, file.bytes);
  if (range === undefined) {
    response.setHeader('content-range', `bytes */${file.bytes}`);
    return refuse(response, 416, 'The file is not that long.');
  }
  if (transfers >= mostTransfers) return refuse(response, 503, 'Too many are fetching at once.');
  const { first, last, partial } = range;
  response.writeHead(partial ? 206 : 200, {
    'content-type': 'application/octet-stream',
    'content-length': last - first + 1,
    'accept-ranges': 'bytes',
    'cache-control': 'private, max-age=31536000, immutable',
    ...(partial ? { 'content-range': `bytes ${first}-${last}/${file.bytes}` } : {}),
  });
  if (request.method === 'HEAD' || file.bytes === 0) {
    response.end();
    return true;
  }
  transfers++;
  response.setTimeout(stallMs, () => response.destroy());
  pipeline(createReadStream(file.path, { start: first, end: last }), response)
    .catch(() => response.destroy())
    .finally(() => transfers--);
  return true;
}

const named = (hex: string): Digest => {
  const digest = `sha256:${hex}`;
  if (!isDigest(digest)) throw new Error('not a digest');
  return digest;
};

function refuse(response: ServerResponse, status: number, why: string): true {
  response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(why) + 1 }).end(`${why}\n`);
  return true;
}

/** What is to be sent: all of it, or one range; other forms of range are answered with all, as HTTP allows. Undefined: not satisfiable. */
function rangeOf(header: string | undefined, bytes: number): { first: number; last: number; partial: boolean } | undefined {
  const all = { first: 0, last: bytes - 1, partial: false };
  const match = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(header ?? '');
  if (match === null) return all;
  const first = Number(match[1]);
  const last = match[2] === '' ? bytes - 1 : Math.min(Number(match[2]), bytes - 1);
  return first >= bytes || last < first ? undefined : { first, last, partial: true };
}
