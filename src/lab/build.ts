/**
 * Builds what a lab is made of and what runs in it, each by its own Makefile or the bundler; what is up to date costs
 * milliseconds.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from './paths.ts';
import { must } from './processes.ts';

const inRoot = (path: string) => join(repositoryRoot, path);

export const toolsFolder = inRoot('build/lab');
export const agentBundle = inRoot('dist/agent.cjs');
export const agentAddon = inRoot('build/shoal_xen.node');
export const agentSwitch = inRoot('build/shoal-switch');

const make = (folder: string, ...targets: string[]) =>
  must(['make', '-s', '-j2', '-C', inRoot(folder), ...targets], { code: 'SETUP_FAILED', timeoutMs: 300_000 });

/** The lab's own C programs; the folder they are in. */
export async function buildTools(): Promise<string> {
  await make('src/lab/native', `OUT=${toolsFolder}`);
  return toolsFolder;
}

/** The host agent and its addon. False when this checkout has no host agent. */
export async function buildAgent(): Promise<boolean> {
  if (!existsSync(inRoot('src/main/agent.ts')) || !existsSync(inRoot('src/hypervisor/xen/native/Makefile'))) return false;
  await make('src/hypervisor/xen/native', `OUT=${inRoot('build')}`, agentAddon);
  await make('src/hypervisor/xen/switch', `OUT=${inRoot('build')}`, agentSwitch);
  mkdirSync(inRoot('dist'), { recursive: true });
  const part = inRoot(`dist/.agent-${process.pid}.cjs`);
  try {
    await must(
      [
        inRoot('node_modules/@esbuild/linux-x64/bin/esbuild'),
        inRoot('src/main/agent.ts'),
        '--bundle',
        '--platform=node',
        '--format=cjs',
        '--target=node20',
        '--log-level=warning',
        `--outfile=${part}`,
      ],
      { cwd: repositoryRoot, code: 'SETUP_FAILED' },
    );
    renameSync(part, agentBundle);
  } finally {
    rmSync(part, { force: true });
  }
  return true;
}

/** Shoal's store daemon; its path. */
export async function buildStored(): Promise<string> {
  await make('src/hypervisor/xen/stored');
  return inRoot('build/shoal-stored');
}
