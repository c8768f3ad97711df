/**
 * The controller's composition root: configuration, journal, hosts over XenAPI, images, API.
 *
 * `node controller.cjs CONFIG` ends with 1 and one line on stderr when it cannot start. SIGTERM and SIGINT end the controller, never
 * a VM. One controller a state folder: the folder is locked by the port it listens on and by a file with its process id.
 */
import { X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openController } from '../control/controller.ts';
import type { DeploymentSettings } from '../control/deployment/service.ts';
import { checkLink, XenApiLink, type XenApiLinkOptions } from '../control/links/xenapi.ts';
import type { HostRecord } from '../control/state.ts';
import { JournalStore } from '../control/store.ts';
import { DeltaStore } from '../image/deltas.ts';
import { parseKernel } from '../image/elf.ts';
import { ImageStore } from '../image/store.ts';
import { ShoalError } from '../model/errors.ts';
import type { Digest } from '../model/ids.ts';
import { closeOnSignal, log, readNeeded, runDaemon } from './daemon.ts';
import { parseControllerConfig, type ControllerConfig } from './controller-config.ts';
import { lockFolder } from './lock.ts';

/** Replaced by the bundler. */
declare const SHOAL_VERSION: string | undefined;
const version = typeof SHOAL_VERSION === 'string' ? SHOAL_VERSION : '0.1.0';

/** Built beside the controller's bundle (src/lab/build.ts). */
const consoleFolder = fileURLToPath(new URL('console', import.meta.url));

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

/** Bundled, the program stands beside this one; from source, it needs the loader. */
function receiveProgram(): string[] {
  const bundled = fileURLToPath(new URL('receive.mjs', import.meta.url));
  if (existsSync(bundled)) return [process.execPath, bundled];
  return [process.execPath, '--import', import.meta.resolve('tsx'), fileURLToPath(new URL('receive.ts', import.meta.url))];
}

async function deploymentOf(config: ControllerConfig, images: DeploymentSettings['images']): Promise<DeploymentSettings | undefined> {
  if (config.deployment === undefined) return undefined;
  const { signersFile, branch, pushMib, remote } = config.deployment;
  const secret = (path: string | undefined, what: string): string | undefined => (path === undefined ? undefined : readNeeded(path, what).trim());
  const folder = join(resolve(config.stateDir), 'deploy.git');
  // Its thread pool is a package of its own files: only where it is asked for.
  const { DesiredReader } = await import('../desired/desired.ts');
  return {
    folder,
    branch,
    anchor: readNeeded(signersFile, 'signersFile'),
    receive: receiveProgram(),
    pushBytes: pushMib * 1024 * 1024,
    reader: new DesiredReader(folder),
    images,
    remote: remote && {
      url: remote.url,
      pollMs: remote.pollMs,
      token: secret(remote.tokenFile, 'tokenFile'),
      webhookSecret: secret(remote.webhookSecretFile, 'webhookSecretFile'),
    },
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
  // Two controllers over one state would each undo what the other does.
  lockFolder(config.stateDir, 'controller.pid');
  const store = await JournalStore.open(config.stateDir, log);
  const images = await ImageStore.open(join(config.stateDir, 'images'), { parse: parseKernel });
  const bytes = async (digest: string): Promise<Uint8Array | undefined> => (images.has(digest as Digest) ? images.bytes(digest as Digest) : undefined);
  const deltas = await DeltaStore.open(join(config.stateDir, 'deltas'), { bytes, log });
  const kept = {
    list: () => images.list(),
    put: async (digest: string, chunks: AsyncIterable<Uint8Array>) => void (await images.put(digest as Digest, chunks)),
    bytes,
    file: (digest: string) => images.file(digest as Digest),
  };
  const deployment = await deploymentOf(config, kept);
  const controller = await openController({
    store,
    auditFile: join(config.stateDir, 'audit.log'),
    operatorTokenFile: join(config.stateDir, 'operator.token'),
    listen: config.listen,
    tls,
    graceMs: config.graceMs,
    link: (record) => new XenApiLink(linkOptions(config, record)),
    checkHost: (record) => checkLink(linkOptions(config, record)),
    images: kept,
    deltas,
    origin: config.url === undefined || tls === undefined ? undefined : { url: config.url, fingerprint: new X509Certificate(tls.cert).fingerprint256 },
    deployment,
    gatesDir: config.gatesDir,
    console: existsSync(join(consoleFolder, 'index.html')) ? consoleFolder : undefined,
    version,
    log,
  });
  log(
    `controller: ready on ${config.listen.host}:${controller.server.port}${tls === undefined ? ' (no TLS)' : ''}, ${Math.round(process.uptime() * 1000)} ms after its start`,
  );

  closeOnSignal(() => controller.close());
}

runDaemon(main);
