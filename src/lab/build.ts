/**
 * Builds what a lab is made of and what runs in it, each by its own Makefile or the bundler; what is up to date costs
 * milliseconds.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { repositoryRoot } from './paths.ts';
import { must } from './processes.ts';

const inRoot = (path: string) => join(repositoryRoot, path);

export const toolsFolder = inRoot('build/lab');
export const agentBundle = inRoot('dist/agent.cjs');
export const controllerBundle = inRoot('dist/controller.mjs');
export const receiveBundle = inRoot('dist/receive.mjs');
export const agentAddon = inRoot('build/shoal_xen.node');
export const agentSwitch = inRoot('build/shoal-switch');
export const agentStored = inRoot('build/shoal-stored');

const make = (folder: string, ...targets: string[]) =>
  must(['make', '-s', '-j2', '-C', inRoot(folder), ...targets], { code: 'SETUP_FAILED', timeoutMs: 300_000 });

/** The lab's own C programs; the folder they are in. */
export async function buildTools(): Promise<string> {
  await make('src/lab/native', `OUT=${toolsFolder}`);
  return toolsFolder;
}

/** One program out of its sources; `part` takes the bundle's place only when it is whole. */
async function bundle(source: string, outfile: string, format: 'cjs' | 'esm', more: readonly string[] = []): Promise<void> {
  mkdirSync(inRoot('dist'), { recursive: true });
  const part = inRoot(`dist/.${process.pid}-${basename(outfile)}`);
  try {
    await must(
      [
        inRoot('node_modules/@esbuild/linux-x64/bin/esbuild'),
        inRoot(source),
        '--bundle',
        '--platform=node',
        `--format=${format}`,
        '--target=node20',
        '--log-level=warning',
        `--outfile=${part}`,
        ...more,
      ],
      { cwd: repositoryRoot, code: 'SETUP_FAILED' },
    );
    renameSync(part, outfile);
  } finally {
    rmSync(part, { force: true });
  }
}

/** The host agent and its addon. False when this checkout has no host agent. */
export async function buildAgent(): Promise<boolean> {
  if (!existsSync(inRoot('src/main/agent.ts')) || !existsSync(inRoot('src/hypervisor/xen/native/Makefile'))) return false;
  await make('src/hypervisor/xen/native', `OUT=${inRoot('build')}`, agentAddon);
  await make('src/hypervisor/xen/switch', `OUT=${inRoot('build')}`, agentSwitch);
  await bundle('src/main/agent.ts', agentBundle, 'cjs');
  return true;
}

/** The web console's files into a folder, each whole or as it was before. */
export async function buildConsole(folder: string): Promise<void> {
  const part = `${folder}.${process.pid}`;
  try {
    await must(
      [
        inRoot('node_modules/@esbuild/linux-x64/bin/esbuild'),
        ...['main.ts', 'console.css', 'index.html', 'icon.svg'].map((name) => inRoot(`src/web/${name}`)),
        '--bundle',
        '--minify',
        '--format=esm',
        '--target=es2022',
        '--loader:.html=copy',
        '--loader:.svg=copy',
        '--log-level=warning',
        `--outdir=${part}`,
      ],
      { cwd: repositoryRoot, code: 'SETUP_FAILED' },
    );
    mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(part)) renameSync(join(part, name), join(folder, name));
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

/** The controller with its console; the path of its bundle. Its packages are modules that still ask for `require`. */
export async function buildController(): Promise<string> {
  const require = 'import { createRequire as shoalRequire } from "node:module"; const require = shoalRequire(import.meta.url);';
  await buildConsole(inRoot('dist/console'));
  // What judges pushes, and the thread that reads the deployment repository, are programs of their own; piscina starts threads from files of its own.
  await bundle('src/main/receive.ts', receiveBundle, 'esm', [`--banner:js=${require}`]);
  await bundle('src/desired/worker.ts', inRoot('dist/desired-worker.mjs'), 'esm', [`--banner:js=${require}`]);
  await bundle('src/main/controller.ts', controllerBundle, 'esm', [`--banner:js=${require}`, '--external:piscina']);
  return controllerBundle;
}

/** The path agent's addon. */
export async function buildPathAgent(): Promise<void> {
  await make('src/mptcp/native', `OUT=${inRoot('build')}`, inRoot('build/shoal_mptcp.node'));
}

/** Shoal's store daemon; its path. */
export async function buildStored(): Promise<string> {
  await make('src/hypervisor/xen/stored');
  return agentStored;
}
