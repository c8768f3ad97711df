/** http-cache-tests against minicache's Linux build, nginx and Varnish: how many of the required pass, and which do not. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { minicacheProgram, run, testsFolder } from './programs.ts';
import { nginxSettings } from './speed.ts';
import type { Network } from './network.ts';

export interface Conformance {
  server: string;
  passed: number;
  required: number;
  /** Ids of the required tests that did not pass. */
  failed: string[];
}

export interface Candidate {
  server: string;
  /** "http://10.0.0.2". */
  base: string;
  /** Starts it; undefined when it runs already. */
  command?: string[];
}

/** The tests' own server, that all of them fetch from. */
export const testsPort = 8009;

interface Suite {
  tests: { id: string; kind?: string; browser_only?: boolean }[];
}

/** Counts the required tests out of the results, by id. Pure. */
export function countRequired(suites: readonly Suite[], results: Record<string, unknown>): Omit<Conformance, 'server'> {
  const required = suites.flatMap(({ tests }) => tests).filter((one) => (one.kind ?? 'required') === 'required' && one.browser_only !== true);
  const failed = required.filter(({ id }) => results[id] !== true).map(({ id }) => id);
  return { passed: required.length - failed.length, required: required.length, failed };
}

async function readSuites(): Promise<Suite[]> {
  const load = async (file: string) => ((await import(pathToFileURL(join(testsFolder, 'tests', file)).href)) as { default: unknown }).default;
  return [...((await load('index.mjs')) as Suite[]), (await load('surrogate-control.mjs')) as Suite];
}

/** On one machine: ours, nginx and Varnish before the tests' server. */
export function localCandidates(folder: string): Candidate[] {
  const proxy = `proxy_cache_path ${folder}/cache keys_zone=z:10m; server { listen 127.0.0.1:8001; location / { proxy_pass http://127.0.0.1:${testsPort}; proxy_cache z;
proxy_cache_revalidate on; proxy_http_version 1.1; proxy_set_header Connection ""; } }`;
  writeFileSync(join(folder, 'proxy.conf'), nginxSettings(folder, '127.0.0.1:8001', proxy));
  return [
    { server: 'minicache', base: 'http://10.0.0.2', command: [minicacheProgram, 'tap0', 'name=c', 'ip=10.0.0.2/24', `origin=10.0.0.1:${testsPort}`, 'ram=65536'] },
    { server: 'nginx', base: 'http://127.0.0.1:8001', command: ['nginx', '-c', join(folder, 'proxy.conf')] },
    { server: 'varnish', base: 'http://127.0.0.1:8002', command: ['varnishd', '-F', '-a', '127.0.0.1:8002', '-b', `127.0.0.1:${testsPort}`, '-n', join(folder, 'varnish'), '-s', 'malloc,64m'] },
  ];
}

export async function measureConformance(network: Network, folder: string, candidates: readonly Candidate[], onStep: (text: string) => void): Promise<Conformance[]> {
  const suites = await readSuites();
  const env = { npm_config_protocol: 'http', npm_config_port: String(testsPort), npm_config_pidfile: join(folder, 'tests.pid') };
  network.start(network.client, -1, [process.execPath, '--no-warnings', 'server/server.mjs'], env, testsFolder);
  await network.ready(`http://127.0.0.1:${testsPort}/`);
  const found: Conformance[] = [];
  for (const { server, base, command } of candidates) {
    onStep(`http-cache-tests against ${server}`);
    const child = command === undefined ? undefined : network.start(network.client, -1, command);
    await network.ready(`${base}/`);
    const words = ['env', '-C', testsFolder, `npm_config_base=${base}`, 'npm_config_id=', 'npm_package_config_id=', process.execPath, '--no-warnings', 'cli.mjs'];
    const results = JSON.parse(await run(network.words(network.client, -1, words), 300_000)) as Record<string, unknown>;
    if (child !== undefined) await network.stop(child);
    found.push({ server, ...countRequired(suites, results) });
  }
  return found;
}
