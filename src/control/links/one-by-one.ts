/**
 * Launching on a host without our plugin, with calls that every XAPI has. A template named "shoal-" and the first twelve digits of
 * the image's digest is cloned where there is one (XCP-ng keeps kernels inside of templates); else the VM is created from nothing,
 * with the digest as its kernel. A launch that is asked for again goes on where the one before stopped.
 */
import { asShoalError, ShoalError } from '../../model/errors.ts';
import { copyKey, formatCopyId } from '../../model/fleet.ts';
import type { Uuid } from '../../model/ids.ts';
import { isUnknown, type LaunchItem, type LaunchOutcome } from '../port.ts';

export type Call = (method: string, ...args: unknown[]) => Promise<unknown>;

export async function launchOneByOne(
  call: Call,
  items: readonly LaunchItem[],
  networks: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<LaunchOutcome[]> {
  const outcomes: LaunchOutcome[] = [];
  for (const item of items) {
    try {
      if (signal.aborted) throw new ShoalError('TASK_CANCELLED', 'The launch was cancelled.');
      outcomes.push({ uuid: await launchOne(call, item, networks) });
    } catch (thrown) {
      const error = asShoalError(thrown);
      if (isUnknown(error)) throw error;
      outcomes.push({ error });
    }
  }
  return outcomes;
}

async function launchOne(call: Call, item: LaunchItem, networks: ReadonlyMap<string, string>): Promise<Uuid> {
  const otherConfig = { [copyKey]: formatCopyId(item.copy) };
  const [found] = (await call('VM.get_by_name_label', item.name)) as string[];
  if (found !== undefined) {
    const { other_config: known } = (await call('VM.get_record', found)) as { other_config: Record<string, string> };
    if (known[copyKey] !== otherConfig[copyKey]) throw new ShoalError('NAME_IN_USE', `Another VM has the name ${item.name}.`);
  }
  const ref = found ?? (await make(call, item, otherConfig));
  try {
    const {
      power_state: power,
      VIFs: vifs,
      uuid,
    } = (await call('VM.get_record', ref)) as { power_state: string; VIFs: string[]; uuid: Uuid };
    if (power === 'Running') return uuid;
    for (const [device, { network, ip }] of item.vifs.entries()) {
      if (device < vifs.length) continue;
      const networkRef = networks.get(network);
      if (networkRef === undefined) throw new ShoalError('NETWORK_UNKNOWN', `The host has no network "${network}".`);
      await call('VIF.create', {
        VM: ref,
        network: networkRef,
        device: String(device),
        MAC: '',
        MTU: 1500,
        other_config: {},
        ipv4_allowed: ip === undefined ? [] : [ip],
      });
    }
    await call('VM.start', ref, false, false);
    return uuid;
  } catch (thrown) {
    // What could not be started is taken away again, unless nobody knows whether it was.
    if (!isUnknown(asShoalError(thrown))) await call('VM.destroy', ref).catch(() => {});
    throw thrown;
  }
}

async function make(call: Call, item: LaunchItem, otherConfig: Record<string, string>): Promise<string> {
  const bytes = item.memoryKib * 1024;
  const [template] = (await call('VM.get_by_name_label', `shoal-${item.image.slice(7, 19)}`)) as string[];
  if (template === undefined) {
    return (await call('VM.create', {
      name_label: item.name,
      memory_static_max: bytes,
      PV_kernel: item.image,
      PV_args: item.args,
      other_config: otherConfig,
    })) as string;
  }
  const ref = (await call('VM.clone', template, item.name)) as string;
  await call('VM.set_other_config', ref, otherConfig);
  const { is_a_template: isTemplate, memory_static_max: now } = (await call('VM.get_record', ref)) as {
    is_a_template: boolean;
    memory_static_max: unknown;
  };
  if (isTemplate) await call('VM.set_is_a_template', ref, false);
  if (Number(now) !== bytes) await call('VM.set_memory_static_max', ref, bytes);
  await call('VM.set_PV_args', ref, item.args);
  return ref;
}
