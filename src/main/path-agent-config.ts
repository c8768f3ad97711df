/** The path agent's configuration file: JSON, read once at the start (docs/formats/path-agent.md). */
import { isIP } from 'node:net';
import type { GatewaySide } from '../mptcp/gateway.ts';
import { Fields, fieldsOf, invalid } from './fields.ts';

export interface PathAgentConfig {
  listen: { host: string; port: number } | { socket: string };
  certFile: string;
  keyFile: string;
  tokenFile: string;
  addresses: string[] | undefined;
  maxSubflows: number;
  follow: { retryMs: number; patienceMs: number } | undefined;
  gateways: { listen: GatewaySide; to: GatewaySide; most: number }[];
}

function sideOf(value: unknown, path: string, mptcpUsually: boolean): GatewaySide {
  const fields = new Fields(value, path);
  const host = fields.need('host');
  if (isIP(host) === 0) throw invalid(`${path}.host`, 'must be an IPv4 or IPv6 address');
  const port = fields.integer('port', 0, 65_535);
  if (port === undefined) throw invalid(`${path}.port`, 'is needed');
  const side = { host, port, mptcp: fields.boolean('mptcp') ?? mptcpUsually };
  fields.end();
  return side;
}

const listOf = (value: unknown, field: string, most: number): unknown[] => {
  if (!Array.isArray(value) || value.length > most) throw invalid(field, `must be a list of up to ${most}`);
  return value;
};

/** Throws CONFIG_INVALID. */
export function parsePathAgentConfig(text: string): PathAgentConfig {
  const fields = fieldsOf(text);
  const listen = new Fields(fields.take('listen') ?? {}, 'listen');
  const socket = listen.string('socket');
  const at = { host: listen.string('host') ?? '127.0.0.1', port: listen.integer('port', 0, 65_535) ?? 7445 };
  listen.end();
  const given = fields.take('addresses');
  const addresses = given === undefined ? undefined : listOf(given, 'addresses', 10_000).map((value, i) => {
    if (typeof value !== 'string' || isIP(value) === 0) throw invalid(`addresses.${i}`, 'must be an IPv4 or IPv6 address');
    return value;
  });
  const followGiven = fields.take('follow');
  let follow: PathAgentConfig['follow'];
  if (followGiven !== undefined && followGiven !== false) {
    const inner = new Fields(followGiven === true ? {} : followGiven, 'follow');
    follow = { retryMs: inner.integer('retryMs', 20, 60_000) ?? 200, patienceMs: inner.integer('patienceMs', 100, 600_000) ?? 30_000 };
    inner.end();
  }
  const gateways = listOf(fields.take('gateways') ?? [], 'gateways', 100).map((value, i) => {
    const inner = new Fields(value, `gateways.${i}`);
    const gateway = { listen: sideOf(inner.take('listen'), `gateways.${i}.listen`, true), to: sideOf(inner.take('to'), `gateways.${i}.to`, false), most: inner.integer('most', 1, 1_000_000) ?? 4_096 };
    inner.end();
    if (gateway.to.port === 0) throw invalid(`gateways.${i}.to.port`, 'must not be 0');
    return gateway;
  });
  const config: PathAgentConfig = {
    listen: socket === undefined ? at : { socket },
    certFile: fields.need('certFile'),
    keyFile: fields.need('keyFile'),
    tokenFile: fields.need('tokenFile'),
    addresses,
    maxSubflows: fields.integer('maxSubflows', 1, 64) ?? 8,
    follow,
    gateways,
  };
  fields.end();
  return config;
}
