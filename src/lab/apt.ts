/**
 * Debian packages without touching the machine's own apt: a private sources list made from the machine's configuration, private
 * lists and an empty dpkg status, so that apt resolves and downloads for a root file system that is not the machine's.
 * Signatures are checked by apt against the machine's Debian keyring.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ShoalError } from '../model/errors.ts';
import { must, run } from './processes.ts';

export const release = 'bookworm';
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** One archive: a base address and a suite. */
export interface AptSource {
  uri: string;
  suite: string;
}

const suiteForm = new RegExp(`^${release}(-updates|-security)?$`);

function wanted(uris: string[], suites: string[], components: string[], signedBy: string | undefined): AptSource[] {
  if (!components.includes('main')) return [];
  if (signedBy !== undefined && !/debian-archive/.test(signedBy)) return [];
  const found: AptSource[] = [];
  for (const uri of uris) for (const suite of suites) if (suiteForm.test(suite)) found.push({ uri, suite });
  return found;
}

/** Reads one line of the classic format: `deb [option=value …] URI SUITE COMPONENT…`. */
function parseLine(line: string): AptSource[] {
  const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)/.exec(line);
  if (match === null) return [];
  const signedBy = /(?:^|\s)signed-by=(\S+)/.exec(match[1] ?? '')?.[1];
  return wanted([match[2]!], [match[3]!], (match[4] ?? '').trim().split(/\s+/), signedBy);
}

/** Reads one paragraph of the deb822 format. */
function parseParagraph(text: string): AptSource[] {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) continue;
    const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
    if (match !== null) fields.set((last = match[1]!.toLowerCase()), match[2]!);
    else if (/^\s/.test(line)) fields.set(last, `${fields.get(last) ?? ''} ${line.trim()}`);
  }
  const words = (name: string) => (fields.get(name) ?? '').split(/\s+/).filter((word) => word !== '');
  if (!words('types').includes('deb') || /^no$/i.test(fields.get('enabled') ?? 'yes')) return [];
  return wanted(words('uris'), words('suites'), words('components'), fields.get('signed-by'));
}

/** Archives of this Debian release, signed by Debian, in a file of apt's configuration. Pure. */
export function parseAptSources(fileName: string, text: string): AptSource[] {
  if (fileName.endsWith('.sources')) return text.split(/\n\s*\n/).flatMap(parseParagraph);
  return text.split('\n').flatMap(parseLine);
}

/** What the machine itself installs from. */
export function machineAptSources(etc = '/etc/apt'): AptSource[] {
  const files = [join(etc, 'sources.list')];
  const parts = join(etc, 'sources.list.d');
  if (existsSync(parts))
    files.push(
      ...readdirSync(parts)
        .filter((name) => /\.(list|sources)$/.test(name))
        .map((name) => join(parts, name)),
    );
  const found = files.filter((file) => existsSync(file)).flatMap((file) => parseAptSources(file, readFileSync(file, 'utf8')));
  const unique = new Map(found.map((source) => [`${source.uri} ${source.suite}`, source]));
  if (unique.size === 0) {
    throw new ShoalError('SETUP_FAILED', `apt on this machine has no source for Debian ${release}`, {
      hint: `Add Debian ${release} (main) to /etc/apt/sources.list.`,
    });
  }
  return [...unique.values()];
}

export interface Apt {
  /** File names (in `archives`) of the named packages and everything they depend on, downloaded and checked. */
  closure(packages: string[]): Promise<string[]>;
  /** File of one package alone, downloaded and checked. */
  fetch(name: string): Promise<string>;
  /** A field of the candidate version of a package. */
  field(name: string, field: string): Promise<string>;
}

/** A private apt with its state in `folder`. Fetches the package lists; needs the network. */
export async function openApt(folder: string): Promise<Apt> {
  const lists = join(folder, 'lists');
  const archives = join(folder, 'archives');
  const nothing = join(folder, 'nothing');
  for (const made of [lists, archives, nothing]) mkdirSync(join(made, 'partial'), { recursive: true });
  const signedBy = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
  const list = machineAptSources().map(({ uri, suite }) => `deb ${signedBy}${uri} ${suite} main\n`);
  writeFileSync(join(folder, 'sources.list'), list.join(''));
  writeFileSync(join(folder, 'status'), '');
  const settings = [
    `Dir::Etc::sourcelist=${join(folder, 'sources.list')}`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::lists=${lists}`,
    `Dir::State::status=${join(folder, 'status')}`,
    `Dir::Cache::archives=${archives}`,
    `Dir::Cache::pkgcache=${join(folder, 'pkgcache.bin')}`,
    'Dir::Cache::srcpkgcache=',
    'APT::Update::Post-Invoke-Success=',
    'APT::Sandbox::User=root',
    'APT::Install-Recommends=0',
    'APT::Architecture=amd64',
    'Acquire::Retries=3',
  ].flatMap((setting) => ['-o', setting]);
  const env = { LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (tool: string, ...args: string[]) =>
    must([tool, ...settings, '-q', ...args], { env, timeoutMs: 600_000, code: 'SETUP_FAILED' });
  await apt('apt-get', 'update');

  return {
    async closure(packages) {
      // apt names only what it would fetch: asked as if nothing had been fetched yet
      const uris = await apt('apt-get', '-o', `Dir::Cache::archives=${nothing}`, '-y', '--print-uris', 'install', ...packages);
      const files = [...uris.matchAll(/^'[^']+' (\S+\.deb) /gm)].map((match) => match[1]!);
      await apt('apt-get', '-y', '--download-only', 'install', ...packages);
      return files.sort().map((file) => join(archives, file));
    },
    async fetch(name) {
      const uri = /^'[^']+' (\S+\.deb) /m.exec(await apt('apt-get', '--print-uris', 'download', name));
      if (uri === null) throw new ShoalError('SETUP_FAILED', `apt knows no package ${name}`);
      const done = await run(['apt-get', ...settings, '-q', 'download', name], { env, cwd: archives, timeoutMs: 600_000 });
      if (done.code !== 0) throw new ShoalError('SETUP_FAILED', `apt could not download ${name}: ${done.stderr.trim()}`);
      return join(archives, basename(uri[1]!));
    },
    async field(name, field) {
      const record = await apt('apt-cache', 'show', '--no-all-versions', name);
      const value = new RegExp(`^${field}: (.*)$`, 'm').exec(record)?.[1];
      if (value === undefined) throw new ShoalError('SETUP_FAILED', `package ${name} has no field ${field}`);
      return value;
    },
  };
}
