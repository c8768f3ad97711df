/** Agents in the dom0s of a lab: as clients see them, and killed where a test says. */
import { readFileSync } from 'node:fs';
import { Client } from '../../src/cli/client.ts';
import type { LabHost } from '../../src/lab/lab.ts';
import { asShoalError } from '../../src/model/errors.ts';

const timeoutMs = 120_000;

export const agentOf = (host: LabHost): Client =>
  new Client({ url: host.url, ca: readFileSync(host.caFile, 'utf8'), password: readFileSync(host.passwordFile, 'utf8').trim() });

/** "none" where it succeeds. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return asShoalError(error).code;
  }
}

export async function shellOf(host: LabHost, command: string): Promise<string> {
  const { code, stdout, stderr } = await host.exec(command, { timeoutMs });
  if (code !== 0) throw new Error(`${command}: ${code} ${stderr}`);
  return stdout.trim();
}

/** kill -9 of a host's agent, and another one under this environment. The result is a client of that, in place of the one given. */
export async function restartAgent(host: LabHost, environment: string, client: Client): Promise<Client> {
  await shellOf(host, [
    `printf '%s\\n' '${environment}' > /etc/shoal/agent.env`,
    'touch /run/shoal-agent.stop',
    'while kill -0 $(cat /run/shoal-supervise.pid) 2>/dev/null; do kill -9 $(cat /run/shoal-agent.pid) 2>/dev/null; sleep 0.1; done',
    'rm -f /run/shoal-agent.stop; setsid -f /usr/lib/shoal/supervise </dev/null >/dev/null 2>&1',
  ].join('; '));
  await client.close();
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await new Promise((resolve) => setTimeout(resolve, 200))) {
    const next = agentOf(host);
    if ((await codeOf(next.plugin('facts'))) === 'none') return next;
    await next.close();
  }
  throw new Error('the agent does not answer');
}
