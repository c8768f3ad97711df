/**
 * One file for a site without a network (docs/formats/bundle.md): releases, and the images they need, whole or as deltas against images the
 * site has. The header has the digest of everything behind it and is what is signed, so nothing is read that nobody vouched for.
 */
import { ShoalError } from '../model/errors.ts';
import { isDigest, type Digest } from '../model/ids.ts';
import type { ReleaseManifest } from '../model/manifest.ts';

export interface BundleObject {
  /** Of the image that comes out. */
  digest: Digest;
  sizeBytes: number;
  /** Bytes in this file: where, counted from the header's end, how many, and their own digest. */
  offset: number;
  bytes: number;
  stored: Digest;
  /** What is stored is a delta against this image. */
  from?: Digest;
}

export interface BundleHeader {
  format: 'shoal-bundle-1';
  /** Commits of the deployment repository, counted along its main line: what the site is at afterwards. */
  counter: number;
  /** What it must be at, at least. */
  since: number;
  /** Of the repository at `counter`. */
  commit: string;
  /** RFC 3339. */
  created: string;
  expires: string;
  releases: ReleaseManifest[];
  objects: BundleObject[];
}

export const signatureNamespace = 'shoal-bundle';
const magic = Buffer.from('SHOALBDL', 'latin1');
const version = 1;
/** Magic, version, and the lengths of header, signature and payload. */
export const frontBytes = 32;
export const bundleLimits = { headerBytes: 16 << 20, signatureBytes: 64 << 10, objects: 10_000, imageBytes: 64 << 20 } as const;

export interface Front {
  headerBytes: number;
  signatureBytes: number;
  payloadBytes: number;
}

export const invalid = (why: string): ShoalError => new ShoalError('BUNDLE_INVALID', `The bundle cannot be used: ${why}.`);

export function formatFront({ headerBytes, signatureBytes, payloadBytes }: Front): Buffer {
  const front = Buffer.alloc(frontBytes);
  magic.copy(front);
  front.writeUInt32LE(version, 8);
  front.writeUInt32LE(headerBytes, 12);
  front.writeUInt32LE(signatureBytes, 16);
  front.writeBigUInt64LE(BigInt(payloadBytes), 24);
  return front;
}

/** `fileBytes`: of the whole file, so that one that was cut is seen at once. Throws BUNDLE_INVALID. */
export function parseFront(front: Buffer, fileBytes: number): Front {
  if (front.length < frontBytes || !front.subarray(0, 8).equals(magic)) throw invalid('it does not begin as a bundle');
  if (front.readUInt32LE(8) !== version) throw invalid(`it is of version ${front.readUInt32LE(8)}, not ${version}`);
  const [headerBytes, signatureBytes] = [front.readUInt32LE(12), front.readUInt32LE(16)];
  if (headerBytes > bundleLimits.headerBytes || signatureBytes > bundleLimits.signatureBytes) throw invalid('its header is too large');
  const payload = front.readBigUInt64LE(24);
  const whole = BigInt(frontBytes + headerBytes + signatureBytes) + payload;
  if (whole !== BigInt(fileBytes)) throw invalid(`it has ${fileBytes} bytes instead of ${whole}`);
  return { headerBytes, signatureBytes, payloadBytes: Number(payload) };
}

/** Throws BUNDLE_INVALID. Its signature must have been checked before. */
export function parseHeader(text: string, payloadBytes: number): BundleHeader {
  let header: BundleHeader;
  try {
    header = JSON.parse(text) as BundleHeader;
  } catch {
    throw invalid('its header is no JSON');
  }
  const whole = (n: unknown, least: number): boolean => Number.isSafeInteger(n) && (n as number) >= least;
  if (typeof header !== 'object' || header === null || header.format !== 'shoal-bundle-1') throw invalid('its header is of another format');
  if (!whole(header.since, 0) || !whole(header.counter, 1) || header.counter <= header.since) throw invalid('its counters are wrong');
  if (Number.isNaN(Date.parse(header.expires)) || Number.isNaN(Date.parse(header.created))) throw invalid('its times are wrong');
  if (!Array.isArray(header.objects) || header.objects.length > bundleLimits.objects || !Array.isArray(header.releases)) throw invalid('its lists are missing or too long');
  let end = 0;
  for (const { digest, stored, from, offset, bytes, sizeBytes } of header.objects) {
    if (!isDigest(digest) || !isDigest(stored) || (from !== undefined && !isDigest(from))) throw invalid('an object has no digest');
    if (!whole(bytes, 1) || !whole(sizeBytes, 1) || sizeBytes > bundleLimits.imageBytes || bytes > bundleLimits.imageBytes || offset !== end) throw invalid('an object has a wrong length or place');
    end += bytes;
  }
  if (end !== payloadBytes) throw invalid('its objects do not fill it');
  for (const release of header.releases) {
    if (release?.format !== 'shoal-release-1' || !whole(release.counter, 1) || !isDigest(release.image?.digest ?? '')) throw invalid('a release is malformed');
    if (![release.tenant, release.service].every((name) => typeof name === 'string' && /^[a-z0-9][a-z0-9-]{0,62}$/.test(name))) throw invalid('a release is of no service');
  }
  return header;
}
