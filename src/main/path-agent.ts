/**
 * The path agent's composition root: `node --import tsx path-agent.ts CONFIG [--gateway]`. It steers the MPTCP connections of the network namespace it runs in.
 * SIGTERM and SIGINT end this process; connections stay as they are, except those that a gateway in it relays.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { PathAgent } from '../mptcp/agent.ts';
import { serveAgent } from '../mptcp/api.ts';
import { Follower } from '../mptcp/follower.ts';
import { Gateway } from '../mptcp/gateway.ts';
import { LinuxMptcp } from '../mptcp/linux/linux.ts';
import { metricsOf } from '../mptcp/metrics.ts';
import { ShoalError } from '../model/errors.ts';
import { closeOnSignal, log, readNeeded, runDaemon } from './daemon.ts';
import { parsePathAgentConfig } from './path-agent-config.ts';

/** What is in the file; a new one at the first start. */
function tokenIn(path: string): string {
  mkdirSync(dirname(path), { recursive: true });
  try {
    writeFileSync(path, `${randomBytes(32).toString('base64url')}\n`, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const token = readNeeded(path, 'token').trim();
  if (!/^\S{32,512}$/.test(token)) throw new ShoalError('CONFIG_INVALID', `The token in ${path} must have 32 to 512 characters without blanks.`, { hint: 'Remove the file: the next start makes one.' });
  return token;
}

async function main(): Promise<void> {
  const words = process.argv.slice(2).filter((word) => word !== '--gateway');
  const [path] = words;
  if (path === undefined || words.length > 1) throw new ShoalError('USAGE', 'usage: path-agent CONFIG [--gateway]', { hint: 'Give the path of the configuration file.' });
  const config = parsePathAgentConfig(readNeeded(path, 'configuration'));
  if (process.argv.includes('--gateway') && config.gateways.length === 0)
    throw new ShoalError('CONFIG_INVALID', 'A gateway is asked for, and "gateways" of the configuration is empty.', { hint: 'docs/formats/path-agent.md has its fields.' });
  const port = LinuxMptcp.open();
  const agent = new PathAgent({ port, policy: config, log });
  const follower = config.follow === undefined ? undefined : new Follower({ port, ...config.follow, maxSubflows: config.maxSubflows, log });
  if (follower !== undefined && port.scope === 'namespace') log("path-agent: \"follow\" has no effect: the kernel's own path manager is set (net.mptcp.path_manager)");
  const gateways: Gateway[] = [];
  for (const gateway of config.gateways) gateways.push(await Gateway.open({ ...gateway, log }));
  const api = await serveAgent({
    agent,
    listen: config.listen,
    tls: { cert: readNeeded(config.certFile, 'certificate'), key: readNeeded(config.keyFile, 'key') },
    token: tokenIn(config.tokenFile),
    metrics: () => metricsOf(agent, follower, gateways),
    log,
  });
  const where = 'socket' in config.listen ? config.listen.socket : `${config.listen.host}:${api.port}`;
  log(`path-agent: ready on ${where}, by ${port.scope}${gateways.map(({ name }) => `, gateway on ${name}`).join('')}`);
  closeOnSignal(async () => {
    follower?.close();
    agent.close();
    await Promise.allSettled([api.close(), ...gateways.map((gateway) => gateway.close())]);
    port.close();
  });
}

runDaemon(main);
