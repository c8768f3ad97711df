/**
 * The plugin's functions about images: what the host has, an order to fetch one, and the right for a neighbour to fetch one from here
 * (docs/formats/distribution.md).
 */
import { blobPath } from '../image/serving.ts';
import { orderLimits, type FetchOrder, type ImageSource } from '../model/distribution.ts';
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { Api } from './api.ts';
import { integer, json, objectOf, wrong } from './plugin-arguments.ts';

/** Answer to "offer-image": behind the host's address it is a source. */
export interface Offered {
  path: string;
  sizeBytes: number;
}

/** Throws IMAGE_UNKNOWN. */
export function offerImage(api: Api, digest: string | undefined): Offered {
  const wanted = digestOf('digest', digest);
  const file = api.agent.images.file(wanted);
  if (file === undefined) throw new ShoalError('IMAGE_UNKNOWN', `This host has no image ${wanted}.`, { data: { image: wanted } });
  return { path: api.shelf.capabilities.grant(blobPath(wanted)), sizeBytes: file.bytes };
}

/** Throws FIELD_TYPE_ERROR. */
export function orderOf(text: string | undefined): FetchOrder {
  const order = objectOf('order', json('order', text), ['digest', 'sizeBytes', 'sources', 'timeoutMs']);
  const { sources } = order;
  if (!Array.isArray(sources) || sources.length > orderLimits.sources) throw wrong('order.sources', `a list of at most ${orderLimits.sources} sources`);
  return {
    digest: digestOf('order.digest', order['digest']),
    sizeBytes: integer('order.sizeBytes', order['sizeBytes'], 1, Number.MAX_SAFE_INTEGER),
    sources: sources.map((source: unknown, i) => sourceOf(`order.sources[${i}]`, source)),
    timeoutMs: integer('order.timeoutMs', order['timeoutMs'], 1, orderLimits.timeoutMs),
  };
}

function sourceOf(path: string, value: unknown): ImageSource {
  const source = objectOf(path, value, ['url', 'fingerprint', 'from', 'delta']);
  const { url, fingerprint, from, delta } = source;
  if (delta !== undefined) {
    if (typeof delta !== 'string' || url !== undefined || delta.length > orderLimits.inlineDeltaBytes * 1.4)
      throw wrong(`${path}.delta`, `at most ${orderLimits.inlineDeltaBytes} bytes in base64, without a url`);
    return { delta, from: digestOf(`${path}.from`, from) };
  }
  if (typeof url !== 'string' || url.length > 2000 || !URL.canParse(url) || new URL(url).protocol !== 'https:') throw wrong(`${path}.url`, 'https://HOST:PORT/…');
  if (typeof fingerprint !== 'string' || !/^([0-9a-f]{2}:?){32}$/i.test(fingerprint)) throw wrong(`${path}.fingerprint`, 'the SHA-256 of a certificate');
  return { url, fingerprint, ...(from === undefined ? {} : { from: digestOf(`${path}.from`, from) }) };
}

function digestOf(path: string, value: unknown): Digest {
  if (typeof value === 'string' && isDigest(value)) return value;
  throw wrong(path, 'sha256: and 64 hex digits');
}
