/** One file of the repository, by what its path says it is: its value, or all that is wrong with it. Pure. */
import { parseKernel } from '../image/elf.ts';
import { createHash } from 'node:crypto';
import type { ValidateFunction } from 'ajv';
import { ShoalError } from '../model/errors.ts';
import type { ReleaseManifest } from '../model/manifest.ts';
import type { RolloutPolicy } from '../model/rollout.ts';
import type { SummonPolicy } from '../model/desired.ts';
import { completed, semanticReasons, type Reason, type ServiceSpec } from '../model/service.ts';
import { ajv, reasonsOf } from '../schema/schema.ts';
import { paths, type Place } from './layout.ts';
import { readSigners, type Key, type Policy } from './policy.ts';
import { hostSchema, policySchema, releaseSchema, rolloutSchema, serviceFileSchema } from './schemas.ts';

export interface ServiceFile {
  /** Its `image` is "": the release has it. */
  spec: ServiceSpec;
  release: number;
  rollout: string | RolloutPolicy;
  summon: SummonPolicy | undefined;
}

/** What each kind of file is, read. */
export interface Values {
  signers: Key[];
  policy: Policy;
  service: ServiceFile;
  release: ReleaseManifest;
  rollout: RolloutPolicy;
  host: { labels: Record<string, string> };
}

export type Document = { [K in keyof Values]: { kind: K; value: Values[K] } }[keyof Values];

export interface Read {
  document: Document | undefined;
  reasons: Reason[];
}

const checks: Record<'policy' | 'service' | 'release' | 'rollout' | 'host', ValidateFunction> = {
  policy: ajv.compile(policySchema),
  service: ajv.compile(serviceFileSchema),
  release: ajv.compile(releaseSchema),
  rollout: ajv.compile(rolloutSchema),
  host: ajv.compile(hostSchema),
};

/** Reasons of a file have "FILE: field" as their path. */
export const inFile = (path: string, field: string, message: string, hint: string): Reason => ({ path: field === '' ? path : `${path}: ${field}`, message, hint });

export const misplaced = (path: string): Reason =>
  inFile(path.slice(0, 200), '', 'is no file of a deployment repository.', 'Check the spelling; docs/formats/deployment-repository.md has the layout.');

type DocumentPlace = Exclude<Place, { kind: 'image' | 'text' }>;

export function readDocument(path: string, place: DocumentPlace, bytes: Uint8Array): Read {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return { document: undefined, reasons: [inFile(path, '', 'is not UTF-8.', 'Write it as UTF-8.')] };
  }
  if (place.kind === 'signers') return signers(path, text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { document: undefined, reasons: [inFile(path, '', `is not JSON: ${(error as Error).message.slice(0, 200)}.`, 'Correct it where it says.')] };
  }
  const check = checks[place.kind];
  // What "if" adds about itself says nothing.
  const shape = check(value) ? [] : reasonsOf((check.errors ?? []).filter(({ keyword }) => keyword !== 'if'));
  const more = semantic(place, value);
  const reasons = [...shape, ...more].map((reason) => inFile(path, reason.path, reason.message, reason.hint));
  if (reasons.length > 0) return { document: undefined, reasons };
  return { document: { kind: place.kind, value: finished(place, value) } as Document, reasons };
}

function signers(path: string, text: string): Read {
  const { keys, wrong } = readSigners(text);
  const reasons = wrong.map(({ line, why }) => inFile(path, `line ${line}`, `${why}.`, 'Write it as: NAME ssh-ed25519 AAAA…'));
  const seen = new Map<string, string>();
  for (const { principal, key } of keys) {
    const before = seen.get(key);
    if (before !== undefined) reasons.push(inFile(path, principal, `has the same key as ${before}.`, 'Give each key to one name.'));
    seen.set(key, principal);
  }
  return { document: reasons.length === 0 ? { kind: 'signers', value: keys } : undefined, reasons };
}

type Loose = Record<string, unknown>;
const loose = (value: unknown): Loose => (typeof value === 'object' && value !== null ? (value as Loose) : {});

function semantic(place: DocumentPlace, value: unknown): Reason[] {
  const of = loose(value);
  switch (place.kind) {
    case 'service':
      return [...semanticReasons(value), ...summonReasons(of), ...(typeof of['rollout'] === 'object' ? rolloutReasons(of['rollout']).map((reason) => ({ ...reason, path: `rollout/${reason.path}` })) : [])];
    case 'rollout':
      return rolloutReasons(value);
    case 'release':
      return releaseReasons(place, of);
    default:
      return [];
  }
}

/** A service that may go to nothing when nobody uses it, and is used by its own health check. */
function summonReasons({ summon, health }: Loose): Reason[] {
  const [{ idleS }, { kind, intervalMs = 5000 }] = [loose(summon), loose(health)];
  if (typeof idleS !== 'number' || kind !== 'http' || Number(intervalMs) > 1000 * idleS) return [];
  return [{ path: 'summon/idleS', message: 'never comes: the health check over HTTP is traffic, and more often than that.', hint: 'Probe by icmp, which is not counted, or with an intervalMs longer than that.' }];
}

function rolloutReasons(value: unknown): Reason[] {
  const { waves } = loose(value);
  if (!Array.isArray(waves) || !waves.every((wave) => typeof wave === 'number')) return [];
  if (waves.at(-1) === 100 && waves.every((wave, i) => i === 0 || wave > waves[i - 1]!)) return [];
  return [{ path: 'waves', message: 'do not rise to 100.', hint: 'Give per cents that rise, the last 100: [10, 50, 100].' }];
}

function releaseReasons(place: Extract<Place, { kind: 'release' }>, of: Loose): Reason[] {
  const reasons: Reason[] = [];
  for (const field of ['tenant', 'service', 'counter'] as const)
    if (of[field] !== undefined && of[field] !== place[field])
      reasons.push({ path: field, message: `is ${JSON.stringify(of[field])}, the path says ${JSON.stringify(place[field])}.`, hint: `A release belongs at ${paths.release('TENANT', 'NAME', 1).replace('1', 'COUNTER')}.` });
  const [created, expires] = [of['created'], of['expires']].map((text) => (typeof text === 'string' ? Date.parse(text) : NaN)) as [number, number];
  for (const [field, at] of [['created', created], ['expires', expires]] as const)
    if (typeof of[field] === 'string' && Number.isNaN(at)) reasons.push({ path: field, message: 'is no time.', hint: 'Give RFC 3339: 2026-12-31T22:00:00Z.' });
  if (expires <= created) reasons.push({ path: 'expires', message: 'is not after created.', hint: 'Give a later time.' });
  return reasons;
}

function finished(place: DocumentPlace, value: unknown): Document['value'] {
  if (place.kind !== 'service') return value as Document['value'];
  const { release, rollout, summon, ...spec } = value as { release: number; rollout: string | RolloutPolicy; summon?: SummonPolicy };
  return { spec: completed({ ...spec, tenant: place.tenant, name: place.service, image: '' }), release, rollout, summon };
}

/** What is wrong with an image's bytes, by themselves and for what its name says. */
export function imageReasons(path: string, hex: string, bytes: Buffer): Reason[] {
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== hex) return [inFile(path, '', `has the digest ${found}.`, 'Name an image by the SHA-256 of its bytes, and commit it without any conversion (.gitattributes: images/* binary).')];
  try {
    parseKernel(bytes);
    return [];
  } catch (error) {
    const { message, hint } = error instanceof ShoalError ? error : { message: 'cannot be read', hint: 'Commit the raw, stripped ELF.' };
    return [inFile(path, '', `${message}.`, hint)];
  }
}
