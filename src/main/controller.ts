/**
 * The controller's composition root: configuration, journal, hosts over XenAPI, images, API.
 *
 * `node controller.cjs CONFIG` ends with 1 and one line on stderr when it cannot start. SIGTERM and SIGINT end the controller, never
 * a VM. One controller a state folder: the folder is locked by the port it listens on and by a file with its process id.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openController } from '../control/controller.ts';
import { checkLink, XenApiLink, type XenApiLinkOptions } from '../control/links/xenapi.ts';
import type { HostRecord } from '../control/state.ts';
import { JournalStore } from '../control/store.ts';
import { parseKernel } from '../image/elf.ts';
import { ImageStore } from '../image/store.ts';
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';
import { parseControllerConfig, type ControllerConfig } from './controller-config.ts';

/** Replaced by the bundler. */
declare const SHOAL_VERSION: string | undefined;
const version = typeof SHOAL_VERSION === 'string' ? SHOAL_VERSION : '0.1.0';

/** Built beside the controller's bundle (src/lab/build.ts). */
const consoleFolder = fileURLToPath(new URL('console', import.meta.url));

const log = (line: string): void => void process.stderr.write(`${new Date().toISOString()} ${line}\n`);
process.stderr.on('error', () => {});

function readNeeded(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ShoalError('CONFIG_INVALID', `The ${what} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Two controllers over one state would each undo what the other does. A file of a process that is gone is taken over. */
function lock(folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, 'controller.pid');
  for (let tries = 0; tries < 3; tries++) {
    try {
      const file = openSync(path, 'wx', 0o600);
      writeSync(file, String(process.pid));
      closeSync(file);
      return path;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const pid = Number(readNeeded(path, 'lock'));
      if (pid > 0 && pid !== process.pid && isAlive(pid))
        throw new ShoalError('HOST_LIMIT', `The controller ${pid} uses ${folder}.`, {
          hint: 'End it first, or give this one a folder of its own.',
        });
      rmSync(path, { force: true });
    }
  }
  throw new ShoalError('HOST_LIMIT', `Another controller takes ${folder} at the same time.`);
}

function linkOptions(
  { credentialsDir, pollS, patienceMs }: ControllerConfig,
  { name, url, fingerprint, ca, credential }: HostRecord,
): XenApiLinkOptions {
  return {
    url,
    // The name was checked to be one word: no path leads out of the folder.
    password: () =>
      readNeeded(join(credentialsDir, credential), `credential "${credential}" of host ${name}`).replace(/\r?\n$/, ''),
    pollS,
    patienceMs,
    ...(fingerprint === undefined ? {} : { fingerprint }),
    ...(ca === undefined ? {} : { ca }),
    log,
  };
}

async function main(): Promise<void> {
  const path = process.argv[2];
  if (path === undefined)
    throw new ShoalError('USAGE', 'usage: controller CONFIG', { hint: 'Give the path of the configuration file.' });
  const config = parseControllerConfig(readNeeded(path, 'configuration'));
  const tls =
    config.tls === undefined
      ? undefined
      : { cert: readNeeded(config.tls.certFile, 'certificate'), key: readNeeded(config.tls.keyFile, 'key') };
  const held = lock(config.stateDir);
  process.on('exit', () => rmSync(held, { force: true }));
  const store = await JournalStore.open(config.stateDir, log);
  const images = await ImageStore.open(join(config.stateDir, 'images'), { parse: parseKernel });
  const controller = await openController({
    store,
    auditFile: join(config.stateDir, 'audit.log'),
    operatorTokenFile: join(config.stateDir, 'operator.token'),
    listen: config.listen,
    tls,
    graceMs: config.graceMs,
    link: (record) => new XenApiLink(linkOptions(config, record)),
    checkHost: (record) => checkLink(linkOptions(config, record)),
    images: {
      list: () => images.list(),
      put: async (digest, chunks) => void (await images.put(digest as Digest, chunks)),
      bytes: async (digest) => (images.has(digest as Digest) ? images.bytes(digest as Digest) : undefined),
    },
    console: existsSync(join(consoleFolder, 'index.html')) ? consoleFolder : undefined,
    version,
    log,
  });
  log(
    `controller: ready on ${config.listen.host}:${controller.server.port}${tls === undefined ? ' (no TLS)' : ''}, ${Math.round(process.uptime() * 1000)} ms after its start`,
  );

  let ending = false;
  const end = (): void => {
    if (ending) return;
    ending = true;
    void controller.close().finally(() => process.exit(0));
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

main().catch((thrown: unknown) => {
  const { code, message, hint } = asShoalError(thrown);
  log(`${code}: ${message} ${hint}`);
  process.exit(1);
});
