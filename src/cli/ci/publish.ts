/** From an image to a release that was pushed: counter, manifest and service follow from what the branch has; others may push meanwhile. */
import { readDocument } from '../../desired/documents.ts';
import { paths } from '../../desired/layout.ts';
import { ShoalError } from '../../model/errors.ts';
import type { ReleaseManifest } from '../../model/manifest.ts';
import type { Checkout, Changes } from './checkout.ts';
import type { Publishable } from './image.ts';

export interface PublishOptions {
  tenant: string;
  service: string;
  image: Publishable;
  expiryDays: number;
  /** Releases of the service whose files stay in the tree; the history has all. */
  keep: number;
  /** Name of a rollout policy; what the service has when left out. */
  rollout: string | undefined;
  /** The service's file without `release`, for a service that is new or changed; text. */
  spec: string | undefined;
  nowMs: () => number;
  /** Told of each attempt after the first. */
  onAgain: (attempt: number) => void;
  waitMs?: (attempt: number) => number;
}

export interface Published {
  release: ReleaseManifest;
  /** Of the deployment repository. */
  commit: string;
}

const attempts = 10;

/** Throws DEPLOYMENT_REFUSED with what the controller said, CONFLICT when others were always first, REPOSITORY_FAILED, USAGE. */
export async function publish(checkout: Checkout, options: PublishOptions): Promise<Published> {
  const { waitMs = (attempt: number) => 100 * 2 ** Math.min(attempt, 5) * (0.5 + Math.random()) } = options;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const tip = await checkout.tip();
    const { commit, release } = await releaseOn(checkout, tip, options);
    const outcome = await checkout.push(commit);
    if (outcome.kind === 'pushed' || (outcome.kind === 'behind' && (await checkout.has(commit).catch(() => false)))) return { release, commit };
    if (outcome.kind === 'refused') throw new ShoalError('DEPLOYMENT_REFUSED', outcome.why, { hint: 'Correct what it says, and publish again; nothing was changed.' });
    options.onAgain(attempt);
    await new Promise((resolve) => setTimeout(resolve, waitMs(attempt)));
  }
  throw new ShoalError('CONFLICT', `Others pushed first ${attempts} times.`, { hint: 'Publish again.' });
}

/** The next release as a signed commit on top of another; not pushed. */
export async function releaseOn(checkout: Checkout, tip: string, options: PublishOptions): Promise<Published> {
  const { changes, release } = await prepare(checkout, tip, options);
  const { tenant, service, counter, image } = release;
  const commit = await checkout.commit(tip, changes, `Release ${counter} of ${tenant}/${service}\n\n${image.name} ${image.version}, source ${image.source.commit}\n${image.digest}`);
  return { commit, release };
}

async function prepare(checkout: Checkout, tip: string, { tenant, service, image, expiryDays, keep, rollout, spec, nowMs }: PublishOptions): Promise<{ changes: Changes; release: ReleaseManifest }> {
  const path = paths.service(tenant, service);
  const before = spec ?? (await checkout.read(tip, path));
  if (before === undefined) throw new ShoalError('NOT_FOUND', `The deployment repository has no ${path}.`, { hint: 'Commit the service first, or give its file with --spec.' });
  const folder = paths.release(tenant, service, 1).replace(/1\.json$/, '').replace(/\/$/, '');
  const counters = (await checkout.names(tip, folder)).map((name) => Number(/\/(\d+)\.json$/.exec(name)?.[1] ?? 0)).sort((a, b) => a - b);
  const counter = (counters.at(-1) ?? 0) + 1;
  const created = new Date(nowMs());
  const release: ReleaseManifest = {
    format: 'shoal-release-1',
    tenant,
    service,
    counter,
    image: image.manifest,
    created: created.toISOString(),
    expires: new Date(created.getTime() + expiryDays * 86_400_000).toISOString(),
  };
  const changes = new Map<string, Uint8Array | string | undefined>();
  const serviceText = withRelease(path, before, counter, rollout);
  changes.set(path, serviceText);
  const releasePath = paths.release(tenant, service, counter);
  const releaseText = `${JSON.stringify(release, null, 2)}\n`;
  changes.set(releasePath, releaseText);
  changes.set(paths.image(image.manifest.digest), image.bytes);
  for (const [at, text, place] of [[path, serviceText, { kind: 'service', tenant, service }], [releasePath, releaseText, { kind: 'release', tenant, service, counter }]] as const) {
    const { reasons } = readDocument(at, place, Buffer.from(text));
    if (reasons.length > 0) throw new ShoalError('USAGE', reasons.map((each) => `${each.path} ${each.message} ${each.hint}`).join('\n'), { hint: 'Correct what it names.' });
  }
  await prune(checkout, tip, { tenant, service, counters, keep, stays: image.manifest.digest }, changes);
  return { changes, release };
}

function withRelease(path: string, text: string, release: number, rollout: string | undefined): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ShoalError('USAGE', `${path} is not JSON: ${(cause as Error).message}.`, { hint: 'Correct it.', cause });
  }
  return `${JSON.stringify({ ...(value as object), release, ...(rollout === undefined ? {} : { rollout }) }, null, 2)}\n`;
}

/** Old releases leave the tree, and their images with them unless a release that stays, of any service, has the same. */
async function prune(
  checkout: Checkout,
  tip: string,
  { tenant, service, counters, keep, stays }: { tenant: string; service: string; counters: readonly number[]; keep: number; stays: string },
  changes: Map<string, Uint8Array | string | undefined>,
): Promise<void> {
  const gone = counters.slice(0, Math.max(0, counters.length - keep + 1));
  if (gone.length === 0) return;
  // A few a time: each is a fetch of its own.
  const some = gone.slice(0, 5);
  const digests = new Set<string>();
  for (const counter of some) {
    const path = paths.release(tenant, service, counter);
    digests.add((JSON.parse((await checkout.read(tip, path)) ?? '{}') as { image?: { digest?: string } }).image?.digest ?? '');
    changes.set(path, undefined);
  }
  const used = await checkout.digestsBut(tip, new Set(some.map((counter) => paths.release(tenant, service, counter))));
  for (const digest of digests) if (digest.startsWith('sha256:') && digest !== stays && !used.has(digest) && (await checkout.names(tip, 'images')).includes(paths.image(digest))) changes.set(paths.image(digest), undefined);
}
