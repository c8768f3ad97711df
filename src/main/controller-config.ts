/** The controller's configuration file: JSON, read once at the start. Hosts, tokens and quotas are not in it: those are state. */
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface ControllerConfig {
  listen: { host: string; port: number };
  /** PEM files; undefined only with `"tls": false`. */
  tls: { certFile: string; keyFile: string } | undefined;
  /** Where hosts reach this controller, to fetch images from it; undefined where they cannot. */
  url: string | undefined;
  stateDir: string;
  /** Folder of files with the passwords of hosts, each named as hosts' "credential". */
  credentialsDir: string;
  /** A host away for so long has its VMs made elsewhere. */
  graceMs: number;
  /** One wait for a host's events; with `patienceMs` more and no answer it is away. */
  pollS: number;
  patienceMs: number;
  /** Folder of the programs that gates of rollouts may name. */
  gatesDir?: string;
  /** The deployment repository; without it there is none. */
  deployment?: {
    /** An allowed_signers file: who may make the repository's first commit. */
    signersFile: string;
    branch: string;
    pushMib: number;
    remote: { url: string; pollMs: number; tokenFile: string | undefined; webhookSecretFile: string | undefined } | undefined;
  };
}

function deploymentOf(value: unknown): NonNullable<ControllerConfig['deployment']> {
  const fields = new Fields(value, 'deployment');
  const given = fields.take('remote');
  const remote = given === undefined ? undefined : new Fields(given, 'deployment.remote');
  const deployment = {
    signersFile: fields.need('signersFile'),
    branch: fields.string('branch') ?? 'main',
    pushMib: fields.integer('pushMib', 1, 4096) ?? 128,
    remote: remote && {
      url: remote.need('url'),
      pollMs: (remote.integer('pollS', 1, 86_400) ?? 30) * 1000,
      tokenFile: remote.string('tokenFile'),
      webhookSecretFile: remote.string('webhookSecretFile'),
    },
  };
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$/.test(deployment.branch)) throw invalid('deployment.branch', 'must be one word');
  if (remote !== undefined && !/^(https|ssh|file):\/\//.test(deployment.remote!.url)) throw invalid('deployment.remote.url', 'must begin with https://, ssh:// or file://');
  remote?.end();
  fields.end();
  return deployment;
}

/** Throws CONFIG_INVALID. */
export function parseControllerConfig(text: string): ControllerConfig {
  const fields = fieldsOf(text);
  const deployment = fields.take('deployment');
  const listen = new Fields(fields.take('listen') ?? {}, 'listen');
  const gatesDir = fields.string('gatesDir');
  const config: ControllerConfig = {
    listen: { host: listen.string('host') ?? '127.0.0.1', port: listen.integer('port', 0, 65_535) ?? 7443 },
    tls: fields.boolean('tls') === false ? undefined : { certFile: fields.need('certFile'), keyFile: fields.need('keyFile') },
    url: fields.string('url'),
    stateDir: fields.need('stateDir'),
    credentialsDir: fields.need('credentialsDir'),
    graceMs: fields.integer('graceMs', 0, 86_400_000) ?? 60_000,
    pollS: fields.integer('pollS', 1, 60) ?? 10,
    patienceMs: fields.integer('patienceMs', 100, 600_000) ?? 10_000,
    ...(gatesDir === undefined ? {} : { gatesDir }),
    ...(deployment === undefined ? {} : { deployment: deploymentOf(deployment) }),
  };
  listen.end();
  fields.end();
  if (config.tls === undefined && !/^(127\.|::1$|localhost$)/.test(config.listen.host))
    throw invalid('tls', 'may be false only where nobody but this machine can connect: listen on 127.0.0.1');
  // An address of its own is where it can be reached; "every address" is none.
  if (config.url === undefined && !/^(0\.0\.0\.0|::|127\..*|::1|localhost)$/.test(config.listen.host) && config.listen.port !== 0)
    config.url = `https://${config.listen.host.includes(':') ? `[${config.listen.host}]` : config.listen.host}:${config.listen.port}`;
  if (config.url !== undefined && !/^https:\/\/[^/\s]+$/.test(config.url)) throw invalid('url', 'must be https://HOST:PORT');
  return config;
}
