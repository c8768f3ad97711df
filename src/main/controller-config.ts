/** The controller's configuration file: JSON, read once at the start. Hosts, tokens and quotas are not in it: those are state. */
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface ControllerConfig {
  listen: { host: string; port: number };
  /** PEM files; undefined only with `"tls": false`. */
  tls: { certFile: string; keyFile: string } | undefined;
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
}

/** Throws CONFIG_INVALID. */
export function parseControllerConfig(text: string): ControllerConfig {
  const fields = fieldsOf(text);
  const listen = new Fields(fields.take('listen') ?? {}, 'listen');
  const gatesDir = fields.string('gatesDir');
  const config: ControllerConfig = {
    listen: { host: listen.string('host') ?? '127.0.0.1', port: listen.integer('port', 0, 65_535) ?? 7443 },
    tls: fields.boolean('tls') === false ? undefined : { certFile: fields.need('certFile'), keyFile: fields.need('keyFile') },
    stateDir: fields.need('stateDir'),
    credentialsDir: fields.need('credentialsDir'),
    graceMs: fields.integer('graceMs', 0, 86_400_000) ?? 60_000,
    pollS: fields.integer('pollS', 1, 60) ?? 10,
    patienceMs: fields.integer('patienceMs', 100, 600_000) ?? 10_000,
    ...(gatesDir === undefined ? {} : { gatesDir }),
  };
  listen.end();
  fields.end();
  if (config.tls === undefined && !/^(127\.|::1$|localhost$)/.test(config.listen.host))
    throw invalid('tls', 'may be false only where nobody but this machine can connect: listen on 127.0.0.1');
  return config;
}
