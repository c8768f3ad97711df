/**
 * The host agent's part of a lab host: which files dom0 needs to run it, its configuration, and when it counts as up. The lab
 * knows nothing else about it: without a bundle in dist/ a lab is plain Xen.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync, copyFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ShoalError } from '../model/errors.ts';
import { agentConfig as hostConfig } from '../setup/dom0.ts';
import { agentAddon, agentBundle, agentSwitch } from './build.ts';
import { hostIdentity } from './identity.ts';
import { hostPlan } from './plan.ts';
import { must } from './processes.ts';
import { exec, mustExec, type SshTarget } from './ssh.ts';

const programs = [agentBundle, agentAddon, agentSwitch];

/** /etc/shoal/agent.json of host `index`, a machine of so many processors. */
export function agentConfig(index: number, processors: number, oneSubnet = false): Record<string, unknown> {
  const { address, cidr, gateway, first, last } = hostPlan(index, oneSubnet);
  // The first of dom0's own is the emulator's, which no other host reaches.
  return { ...hostConfig({ bridge: 'xenbr0', range: { cidr, gateway, first, last }, guestCpus: [processors - 1] }), address };
}

/** Hash of all that makes the agent of host `index`. */
export async function agentKey(index: number, processors: number, oneSubnet: boolean): Promise<string> {
  const files = await hostIdentity(index);
  const hash = createHash('sha256').update(JSON.stringify(agentConfig(index, processors, oneSubnet)));
  for (const file of [...programs, files.passwordFile, files.certFile]) hash.update(readFileSync(file));
  return hash.digest('hex').slice(0, 20);
}

/** Puts the agent into dom0 and starts its supervisor. */
export async function installAgent(target: SshTarget, index: number, processors: number, oneSubnet: boolean): Promise<void> {
  const files = await hostIdentity(index);
  const root = join(target.folder, 'agent');
  rmSync(root, { recursive: true, force: true });
  mkdirSync(join(root, 'etc/shoal'), { recursive: true, mode: 0o700 });
  mkdirSync(join(root, 'usr/lib/shoal'), { recursive: true });
  writeFileSync(join(root, 'etc/shoal/agent.json'), `${JSON.stringify(agentConfig(index, processors, oneSubnet), null, 2)}\n`);
  for (const [from, name] of [
    [files.passwordFile, 'password'],
    [files.certFile, 'cert.pem'],
    [files.keyFile, 'key.pem'],
  ] as const) {
    writeFileSync(join(root, 'etc/shoal', name), readFileSync(from), { mode: 0o600 });
  }
  for (const program of programs) copyFileSync(program, join(root, 'usr/lib/shoal', basename(program)));
  const archive = join(target.folder, 'agent.tar');
  await must(['tar', '-C', root, '--owner=0', '--group=0', '-cf', archive, 'etc', 'usr']);
  await mustExec(target, 'tar -C / --no-overwrite-dir -xf - && setsid -f /usr/lib/shoal/supervise </dev/null >/dev/null 2>&1', {
    input: readFileSync(archive),
    timeoutMs: 120_000,
  });
  rmSync(root, { recursive: true });
  rmSync(archive);
}

/** One HTTPS request to a port of the loopback, to see whether anything answers that has the certificate. */
export function answers(port: number, ca: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = request({ host: '127.0.0.1', port, path: '/', method: 'GET', ca, timeout: 5_000, agent: false }, (response) => {
      response.resume();
      resolve(true);
    });
    probe.on('timeout', () => probe.destroy());
    probe.on('error', () => resolve(false));
    probe.end();
  });
}

/** Waits until the agent answers on its forwarded port. */
export async function untilAgentAnswers(port: number, index: number, target: SshTarget, timeoutMs: number): Promise<void> {
  const ca = readFileSync((await hostIdentity(index)).certFile, 'utf8');
  for (const start = Date.now(); Date.now() - start < timeoutMs; await sleep(50)) if (await answers(port, ca)) return;
  const log = await exec(target, 'tail -n 15 /var/log/shoal-agent.log', { timeoutMs: 20_000 });
  throw new ShoalError(
    'LAB_FAILED',
    `the host agent did not answer within ${timeoutMs / 1000} s; the end of its log:\n${log.stdout}`,
  );
}
