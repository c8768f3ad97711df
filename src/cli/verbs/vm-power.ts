/** `shoal vm start|stop|pause|unpause|destroy NAME…`: what changes the state of VMs, one or all. */
import type { BulkOutcome } from '../../xenapi/plugin-types.ts';
import type { Verb } from '../arguments.ts';
import type { Client } from '../client.ts';
import { errorOf } from '../failure.ts';
import { portionOf } from '../format.ts';
import { allOption, chosenVms, eachVm, manyVms, progressOf, reportMany, type Outcome } from '../many.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import type { VmName } from '../vms.ts';

/** Of calls for one VM each: enough that the host has always something to do. */
const callsAtOnce = 4;

/** A plugin function that takes many VMs, in portions. */
async function inPortions(
  terminal: Terminal,
  client: Client,
  fn: string,
  args: Record<string, string>,
  label: string,
  vms: readonly VmName[],
): Promise<Outcome> {
  const outcome: Outcome = { done: 0, failed: [] };
  const names = new Map(vms.map(({ uuid, name }) => [uuid, name]));
  const progress = progressOf(terminal, label, vms);
  const portion = portionOf(vms.length);
  for (let i = 0; i < vms.length; i += portion) {
    const uuids = vms.slice(i, i + portion).map(({ uuid }) => uuid);
    const part = await client.plugin<BulkOutcome>(fn, { ...args, vms: uuids }, { timeoutMs: 300_000 });
    outcome.done += part.done;
    for (const failure of part.failed)
      outcome.failed.push({ name: names.get(failure.uuid) ?? failure.uuid, error: errorOf(failure) });
    progress?.update(outcome.done + outcome.failed.length);
  }
  progress?.end();
  return outcome;
}

export const destroyVms = (terminal: Terminal, client: Client, vms: readonly VmName[]): Promise<Outcome> =>
  inPortions(terminal, client, 'destroy', {}, 'destroying', vms);

export function powerVerb(name: 'start' | 'pause' | 'unpause' | 'suspend' | 'resume', summary: string, participle: string, label: string): Verb {
  return {
    ...manyVms,
    name: `vm ${name}`,
    summary,
    options: allOption,
    run: (terminal, words) =>
      withHost(terminal, words, async (client) =>
        reportMany(terminal, await eachVm(terminal, label, await chosenVms(client, words), callsAtOnce, ({ ref }) => client.call(`VM.${name}`, [ref])), participle),
      ),
  };
}

export const vmStart = powerVerb('start', 'start halted VMs', 'started', 'starting');
export const vmPause = powerVerb('pause', 'pause running VMs', 'paused', 'pausing');
export const vmUnpause = powerVerb('unpause', 'let paused VMs go on', 'unpaused', 'unpausing');

export const vmStop: Verb = {
  ...manyVms,
  name: 'vm stop',
  summary: 'shut VMs down: they are asked to, and may take their time',
  options: {
    ...allOption,
    force: { help: 'power off at once' },
    'timeout-ms': { value: 'N', help: 'how long each may take; default 10000' },
  },
  run: (terminal, words) =>
    withHost(terminal, words, async (client) => {
      const args = {
        ...(words.flag('force') ? { force: 'true' } : {}),
        ...(words.flag('timeout-ms') ? { timeoutMs: String(words.number('timeout-ms', 0, 0, 600_000)) } : {}),
      };
      return reportMany(
        terminal,
        await inPortions(terminal, client, 'stop', args, 'stopping', await chosenVms(client, words)),
        'stopped',
      );
    }),
};

export const vmDestroy: Verb = {
  ...manyVms,
  name: 'vm destroy',
  summary: 'power VMs off and take them out for good',
  options: allOption,
  run: (terminal, words) =>
    withHost(terminal, words, async (client) =>
      reportMany(terminal, await destroyVms(terminal, client, await chosenVms(client, words)), 'destroyed'),
    ),
};
