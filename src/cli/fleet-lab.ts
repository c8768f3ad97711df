/**
 * A fleet over a lab: the lab's controller, and its hosts taken into it with their certificates pinned. What demo, benchmarks and
 * tests on the lab stand on; each of them then speaks to the controller like any other client.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startController, type ControllerSettings, type LabController } from '../lab/controller.ts';
import type { LabHost } from '../lab/lab.ts';
import { ShoalError } from '../model/errors.ts';
import { Control } from './control.ts';

/** A host as the controller shows it; the part that is looked at here. */
interface HostView {
  id: string;
  url: string;
  state: 'up' | 'away' | 'dead';
  error?: { code: string; message: string };
}

export interface LabFleet {
  controller: LabController;
  /** As the operator; the caller closes it. */
  control: Control;
}

const upMs = 60_000;

/** dom0's own address: the controller is in the router's namespace, and the machine's loopback is not there. */
export const agentUrlOf = (host: Pick<LabHost, 'address'>): string => `https://${host.address}`;

export const controlOf = ({ url, caFile, tokenFile }: Pick<LabController, 'url' | 'caFile' | 'tokenFile'>): Control =>
  new Control(url, readFileSync(caFile, 'utf8'), readFileSync(tokenFile, 'utf8').trim());

/** Brings the controller of the lab `name` up over these hosts; resolves when it reaches all of them. Throws LAB_FAILED. */
export async function openLabFleet(name: string, hosts: readonly LabHost[], settings?: ControllerSettings): Promise<LabFleet> {
  const controller = await startController(name, settings);
  const control = controlOf(controller);
  try {
    await takeHosts(control, hosts);
    return { controller, control };
  } catch (error) {
    control.close();
    throw error;
  }
}

/** Takes in those hosts that the fleet has not yet, and waits until all are up. Throws LAB_FAILED. */
export async function takeHosts(control: Control, hosts: readonly LabHost[], timeoutMs = upMs): Promise<void> {
  const known = new Set((await control.list<HostView>('/v1/hosts')).map(({ id }) => id));
  for (const host of hosts)
    if (!known.has(host.name))
      await control.call('POST', '/v1/hosts', {
        name: host.name,
        url: agentUrlOf(host),
        credential: host.name,
        fingerprint: new X509Certificate(readFileSync(host.caFile)).fingerprint256,
      });
  await untilUp(control, hosts.map(({ name }) => name), timeoutMs);
}

/** Waits until the controller reaches all hosts of these names. Throws LAB_FAILED with why it does not. */
export async function untilUp(control: Control, hosts: readonly string[], timeoutMs = upMs): Promise<void> {
  const names = new Set(hosts);
  for (const began = performance.now(); ; await sleep(50)) {
    const away = (await control.list<HostView>('/v1/hosts')).filter(({ id, state }) => names.has(id) && state !== 'up');
    if (away.length === 0) return;
    if (performance.now() - began < timeoutMs) continue;
    const why = away.map(({ id, error }) => `${id}: ${error?.message ?? 'no answer yet'}`).join('; ');
    throw new ShoalError('LAB_FAILED', `The controller does not reach all hosts: ${why}`);
  }
}
