/** A source repository of its own with one application, which its Makefile "compiles" by putting files together. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Checkout } from '../../../src/cli/image-source.ts';

export interface Repository extends Checkout {
  write(path: string, text: string): void;
  commit(subject: string): string;
}

export async function withRepository(work: (repository: Repository) => Promise<void>): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'shoal-source-'));
  const git = (...words: string[]): string =>
    execFileSync('git', ['-C', root, '-c', 'user.name=T', '-c', 'user.email=t@example.org', ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  const write = (path: string, text: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  try {
    git('init', '-q', '-b', 'main');
    for (const folder of ['include', 'kernel', 'platform/xen', 'lwip', 'libc']) write(`unikernels/${folder}/a.c`, `${folder}\n`);
    write('unikernels/apps/tiny/manifest.json', '{"name": "tiny", "version": "1.2.3"}\n');
    write('unikernels/apps/tiny/tiny.c', 'one\n');
    write('unikernels/Makefile', '$(OUT)/%.elf: apps/%/*.c kernel/*.c\n\tmkdir -p $(OUT)\n\tcat $^ > $@\n');
    write('.gitignore', 'build\n');
    mkdirSync(join(root, 'images'));
    await work({
      root,
      store: join(root, 'build/images'),
      cache: join(root, 'cache'),
      write,
      commit: (subject) => {
        git('add', '-A');
        git('commit', '-qm', subject);
        return git('rev-parse', 'HEAD');
      },
    });
  } finally {
    rmSync(root, { recursive: true });
  }
}
