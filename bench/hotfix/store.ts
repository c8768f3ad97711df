/**
 * `hotfix`, the store of the deployment repository alone: releases of a one-line fix written into it as a push leaves them, loose, and packed
 * as the controller packs them, every fifteen. How large it is, and how long a packing takes. No hook, no controller: it takes a minute.
 *
 * By itself: `node --import tsx bench/hotfix/store.ts [RELEASES] [--keep]`.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { counts, repack } from '../../src/control/deployment/pack.ts';
import { openRepository } from '../../src/control/deployment/repository.ts';
import { git } from '../../src/desired/git.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { fix, kib } from './repository.ts';

export interface StoreSample {
  release: number;
  /** With fifteen releases loose, and when they are packed. */
  beforeKib: number;
  afterKib: number;
  packMs: number;
  packs: number;
}

const together = 15;
/** Releases and images that stay in the tree. */
const keep = 20;

const sha = (kind: 'sha1' | 'sha256' | 'sha512', of: string | Buffer) => createHash(kind).update(of);

export async function measureStore(releases: number, imageFile: string): Promise<{ imageBytes: number; samples: StoreSample[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-store-'));
  try {
    const repository = join(folder, 'deploy.git');
    await openRepository({ folder: repository, branch: 'main', anchor: '', receive: ['/bin/true'], pushBytes: 1 << 27 });
    const image = readFileSync(imageFile);
    const samples: StoreSample[] = [];
    const old: string[] = [];
    let stream: (string | Buffer)[] = [];
    const data = (text: string | Buffer): void => void stream.push(`data ${Buffer.byteLength(text)}\n`, text, '\n');
    for (let release = 1; release <= releases; release++) {
      fix(image, release);
      const hex = sha('sha256', image).digest('hex');
      const commit = sha('sha1', String(release)).digest('hex');
      const at = (days: number): string => new Date((1_700_000_000 + release * 1000 + days * 86_400) * 1000).toISOString();
      const manifest = {
        ...{ format: 'shoal-release-1', tenant: 'acme', service: 'ping', counter: release },
        image: { name: 'ping', version: '0.1', digest: `sha256:${hex}`, sizeBytes: image.length, source: { commit, digest: `sha256:${hex}`, dirty: false }, compiler: 'gcc 12', recipe: 'make' },
        ...{ created: at(0), expires: at(90) },
      };
      stream.push(`commit refs/heads/main\ncommitter b <b@b> ${1_700_000_000 + release} +0000\n`);
      // A signature's worth of bytes that no packing makes smaller.
      data(`release ${release}\n${sha('sha512', commit).digest('base64')}${sha('sha512', hex).digest('base64')}\n`);
      if (release > 1 && release % together === 1) stream.push('from refs/heads/main^0\n');
      const files: [string, string | Buffer][] = [[`images/${hex}`, Buffer.from(image)], [`releases/acme/ping/${release}.json`, JSON.stringify(manifest, null, 2)], ['services/acme/ping.json', JSON.stringify({ release, memoryKib: 1024 })]];
      for (const [path, content] of files) {
        stream.push(`M 100644 inline ${path}\n`);
        data(content);
      }
      old.push(files[0]![0], files[1]![0]);
      if (old.length > 2 * keep) stream.push(...old.splice(0, 2).map((path) => `D ${path}\n`));
      if (release % together !== 0 && release !== releases) continue;
      await git(repository, ['fast-import', '--quiet', '--done'], { input: Buffer.concat(['feature done\n', ...stream, 'done\n'].map((part) => Buffer.from(part as string))) });
      stream = [];
      const beforeKib = kib(repository);
      const began = performance.now();
      await repack(repository);
      samples.push({ release, beforeKib, afterKib: 0, packMs: performance.now() - began, packs: (await counts(repository)).packs });
      samples.at(-1)!.afterKib = kib(repository);
    }
    await git(repository, ['fsck', '--full'], { timeoutMs: 300_000 });
    return { imageBytes: image.length, samples };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const storeFiles = (samples: readonly StoreSample[]): Record<string, string> => ({
  'hotfix-store.csv': ['release,repository_kib_before,repository_kib_after,pack_ms,packs', ...samples.map((s) => [s.release, s.beforeKib, s.afterKib, s.packMs.toFixed(0), s.packs].join(',')), ''].join('\n'),
  'hotfix-store.svg': `${plotSvg({
    title: 'The store of a deployment repository, before and after each packing of fifteen releases',
    xLabel: 'releases',
    yLabel: 'MiB',
    scale: 'linear',
    series: [
      { label: 'before', points: samples.map((s) => [s.release, s.beforeKib / 1024] as const), shape: 'ring' },
      { label: 'packed', points: samples.map((s) => [s.release, s.afterKib / 1024] as const), shape: 'dot' },
    ],
  })}\n`,
});

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const words = process.argv.slice(2);
  const { imageBytes, samples } = await measureStore(Number(words.find((word) => /^\d+$/.test(word)) ?? 1000), join(repositoryRoot, 'build/unikernels/ping.elf'));
  const files = storeFiles(samples);
  const [early, late] = [samples[Math.floor(samples.length / 10)]!, samples.at(-1)!];
  process.stdout.write(files['hotfix-store.csv']!);
  process.stdout.write(`${((1024 * (late.afterKib - early.afterKib)) / (late.release - early.release)).toFixed(0)} bytes a release, images of ${imageBytes}\n`);
  if (words.includes('--keep')) for (const [name, text] of Object.entries(files)) writeFileSync(join(repositoryRoot, 'docs/bench', name), text);
}
