/** Bundles: a repository with releases, a site that takes them in, and everything that must not be taken in. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { applyBundle, readSite } from '../../../src/bundle/apply.ts';
import { makeBundle } from '../../../src/bundle/make.ts';
import { ImageStore } from '../../../src/image/store.ts';
import type { ReleaseManifest } from '../../../src/model/manifest.ts';
import { codeOf, digestOf, parseFake } from '../host/rig.ts';

const now = new Date('2026-11-21T12:00:00Z');
const later = (days: number): Date => new Date(now.getTime() + days * 86_400_000);

function imageOf(line: string): Buffer {
  const made = Buffer.alloc(30_000);
  for (let i = 0; i < made.length; i++) made[i] = (Math.imul(i, 2654435761) >>> 11) & 0xff;
  made.write(`\x7fELF ${line}`, 0, 'latin1');
  return made;
}

interface Site {
  folder: string;
  repository: string;
  signers: string;
  images: ImageStore;
  release(counter: number, line: string): Buffer;
  make(out: string, since: number, more?: object): Promise<string>;
  apply(file: string, more?: object): ReturnType<typeof applyBundle>;
}

async function withSite(work: (site: Site) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-bundle-'));
  const repository = join(folder, 'deploy');
  const git = (...words: string[]): void =>
    void execFileSync('git', ['-C', repository, '-c', 'user.name=T', '-c', 'user.email=t@example.org', ...words], { stdio: 'ignore' });
  try {
    mkdirSync(repository);
    git('init', '-q', '-b', 'main');
    for (const name of ['key', 'stranger']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(folder, name)]);
    const signers = join(folder, 'allowed_signers');
    writeFileSync(signers, `ops@example.org namespaces="shoal-bundle" ${readFileSync(join(folder, 'key.pub'), 'utf8')}`);
    const images = await ImageStore.open(join(folder, 'site/images'), { parse: parseFake });
    await work({
      folder,
      repository,
      signers,
      images,
      release: (counter, line) => {
        const image = imageOf(line);
        const digest = digestOf(image);
        const manifest: ReleaseManifest = {
          format: 'shoal-release-1',
          tenant: 'acme',
          service: 'web',
          counter,
          image: { name: 'web', version: '1', digest, sizeBytes: image.length, source: { commit: 'a'.repeat(40), digest, dirty: false }, compiler: 'cc', recipe: 'make' },
          created: now.toISOString(),
          expires: later(90).toISOString(),
        };
        for (const path of ['releases/acme/web', 'images']) mkdirSync(join(repository, path), { recursive: true });
        writeFileSync(join(repository, `releases/acme/web/${counter}.json`), JSON.stringify(manifest));
        writeFileSync(join(repository, 'images', digest.slice(7)), image);
        git('add', '-A');
        git('commit', '-qm', `release ${counter}`);
        return image;
      },
      make: async (out, since, more = {}) => {
        await makeBundle({ repository, since, keyFile: join(folder, 'key'), created: now, expires: later(30), out: join(folder, out), ...more });
        return join(folder, out);
      },
      apply: (file, more = {}) => applyBundle({ file, folder: join(folder, 'site'), images, allowedSigners: signers, now: later(1), ...more }),
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a site catches up, first whole and then by deltas', (t) =>
  withSite(async (site) => {
    const first = site.release(1, 'one');
    const { state, header } = await site.apply(await site.make('a', 0));
    t.deepEqual([state.counter, state.signer, header.objects[0]!.from], [1, 'ops@example.org', undefined]);
    for (const n of [2, 3]) site.release(n, `release ${n}`);
    const last = site.release(4, 'one');
    const second = await site.make('b', 1);
    const applied = await site.apply(second);
    t.deepEqual(applied.header.releases.map(({ counter }) => counter), [2, 3, 4]);
    t.equal(applied.header.objects.length, 2, 'an image the site has is not sent again');
    t.ok(applied.header.objects.every(({ from, bytes }) => from !== undefined && bytes < 1000), 'deltas, one against the other');
    t.ok(readFileSync(second).length < first.length, `${readFileSync(second).length} bytes in all`);
    t.ok(last.equals(first));
    t.deepEqual((await readSite(join(site.folder, 'site'))).releases.length, 4);
    t.equal(site.images.list().length, 3);
  }));

test('what must not be taken in leaves the site as it was', (t) =>
  withSite(async (site) => {
    site.release(1, 'one');
    await site.apply(await site.make('first', 0));
    // Two images: the first is whole when the second turns out to be damaged.
    for (const n of [2, 3]) site.release(n, `release ${n}`);
    const good = await site.make('good', 1);
    const bytes = readFileSync(good);
    const write = (name: string, content: Buffer): string => {
      writeFileSync(join(site.folder, name), content);
      return join(site.folder, name);
    };
    const flipped = (at: number): Buffer => {
      const bad = Buffer.from(bytes);
      bad[at] = bad[at]! ^ 1;
      return bad;
    };
    site.release(4, 'four');
    const before = readFileSync(join(site.folder, 'site/site.json'), 'utf8');
    const cases: [string, () => Promise<unknown>, string][] = [
      ['an unknown signer', async () => site.apply(await site.make('stranger.bundle', 1, { keyFile: join(site.folder, 'stranger') })), 'BUNDLE_UNTRUSTED'],
      ['expired', () => site.apply(good, { now: later(31) }), 'BUNDLE_EXPIRED'],
      ['of the future', () => site.apply(good, { now: later(-1) }), 'BUNDLE_EXPIRED'],
      ['older than the site', () => site.apply(join(site.folder, 'first')), 'BUNDLE_OLD'],
      ['one that leaves something out', async () => site.apply(await site.make('gap', 2)), 'BUNDLE_OLD'],
      ['a damaged header', () => site.apply(write('header', flipped(60))), 'BUNDLE_UNTRUSTED'],
      ['a damaged image', () => site.apply(write('image', flipped(bytes.length - 3))), 'BUNDLE_INVALID'],
      ['another kind of file', () => site.apply(write('text', Buffer.from('a text, longer than the front of a bundle'))), 'BUNDLE_INVALID'],
      ['another version', () => site.apply(write('version', flipped(8))), 'BUNDLE_INVALID'],
    ];
    for (const part of [0, 10, 31, 32, 200, Math.floor(bytes.length / 2), bytes.length - 1])
      cases.push([`cut at ${part}`, () => site.apply(write(`cut${part}`, bytes.subarray(0, part))), 'BUNDLE_INVALID']);
    cases.push(['longer', () => site.apply(write('longer', Buffer.concat([bytes, Buffer.from('x')]))), 'BUNDLE_INVALID']);
    for (const [what, work, code] of cases) t.equal(await codeOf(work()), code, what);
    t.equal(readFileSync(join(site.folder, 'site/site.json'), 'utf8'), before, 'the site is at what it was');
    t.equal(site.images.list().length, 1, 'and no image stayed');
    t.equal((await site.apply(good)).state.counter, 3, 'the good one still goes');
    t.equal(await codeOf(site.apply(good)), 'BUNDLE_OLD', 'once');
  }));

test('a signature for something else is none for a bundle; a signer who was removed is none any more', (t) =>
  withSite(async (site) => {
    site.release(1, 'one');
    const file = await site.make('a', 0);
    writeFileSync(site.signers, readFileSync(site.signers, 'utf8').replace('namespaces="shoal-bundle"', 'namespaces="git"'));
    t.equal(await codeOf(site.apply(file)), 'BUNDLE_UNTRUSTED', 'a key that may sign commits only');
    writeFileSync(site.signers, '');
    t.equal(await codeOf(site.apply(file)), 'BUNDLE_UNTRUSTED', 'nobody');
    t.notOk(existsSync(join(site.folder, 'site/site.json')));
  }));

test('an attempt that was killed is made good by the next', (t) =>
  withSite(async (site) => {
    const image = site.release(1, 'one');
    const file = await site.make('a', 0);
    // The image was put, the state file was not renamed.
    await site.images.put(digestOf(image), (async function* () {
      yield image;
    })());
    writeFileSync(join(site.folder, 'site/site.json.part'), '{"half');
    t.equal((await readSite(join(site.folder, 'site'))).counter, 0);
    t.equal((await site.apply(file)).state.counter, 1);
    t.equal(await codeOf(site.make('b', 1)), 'BUNDLE_OLD', 'there is nothing after it to make one of');
  }));
