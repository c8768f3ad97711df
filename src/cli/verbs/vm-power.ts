/** `shoal vm start|stop|pause|unpause|destroy NAME…`: what changes the state of VMs, one or all. */
import { asShoalError, ShoalError } from '../../model/errors.ts';
import type { BulkOutcome } from '../../xenapi/plugin-types.ts';
import type { Verb, Words } from '../arguments.ts';
import type { Client } from '../client.ts';
import { errorOf } from '../failure.ts';
import { plural, portionOf } from '../format.ts';
import { Progress } from '../progress.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { allVms, findVms, type VmName } from '../vms.ts';

export interface Outcome {
  done: number;
  failed: { name: string; error: ShoalError }[];
}

const many = { operands: 'NAME... | --all', operandCount: [0, 10_000] as const, speaksToHost: true };
const all = { all: { help: 'all VMs of the host' } };

async function chosen(client: Client, words: Words): Promise<VmName[]> {
  if (words.flag('all')) {
    if (words.operands.length > 0)
      throw new ShoalError('USAGE', 'Names and --all contradict each other.', { hint: 'Give one or the other.' });
    return allVms(client);
  }
  if (words.operands.length === 0) throw new ShoalError('USAGE', 'Which VMs?', { hint: 'Name them, or give --all.' });
  return findVms(client, [...new Set(words.operands)]);
}

function report(terminal: Terminal, { done, failed }: Outcome, participle: string): number {
  const shown = failed.map(({ name, error: { code, message, hint, data } }) => ({ name, error: { code, message, hint, data } }));
  terminal.printJson({ done, failed: shown });
  terminal.print(`${plural(done, 'VM')} ${participle}`);
  if (failed.length === 0) return 0;
  const first = failed[0]!;
  const more = failed.length === 1 ? '' : ` (and ${failed.length - 1} more)`;
  const error = new ShoalError(first.error.code, `${first.name}: ${first.error.message}${more}`, { hint: first.error.hint });
  if (!terminal.json) terminal.failure(error);
  return 1;
}

/** One XenAPI call a VM, one after the other: the host takes as long for each as it would for all at once. */
async function each(terminal: Terminal, client: Client, method: string, label: string, vms: readonly VmName[]): Promise<Outcome> {
  const outcome: Outcome = { done: 0, failed: [] };
  const progress = vms.length > 8 ? new Progress(terminal, { label, total: vms.length }) : undefined;
  for (const { ref, name } of vms) {
    try {
      await client.call(method, [ref]);
      outcome.done++;
    } catch (thrown) {
      const error = asShoalError(thrown);
      if (error.code === 'CONNECTION_FAILED' || error.code === 'INTERNAL_ERROR') throw error;
      outcome.failed.push({ name, error });
    }
    progress?.update(outcome.done + outcome.failed.length);
  }
  progress?.end();
  return outcome;
}

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
  const progress = vms.length > 8 ? new Progress(terminal, { label, total: vms.length }) : undefined;
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
    ...many,
    name: `vm ${name}`,
    summary,
    options: all,
    run: (terminal, words) =>
      withHost(terminal, words, async (client) =>
        report(terminal, await each(terminal, client, `VM.${name}`, label, await chosen(client, words)), participle),
      ),
  };
}

export const vmStart = powerVerb('start', 'start halted VMs', 'started', 'starting');
export const vmPause = powerVerb('pause', 'pause running VMs', 'paused', 'pausing');
export const vmUnpause = powerVerb('unpause', 'let paused VMs go on', 'unpaused', 'unpausing');

export const vmStop: Verb = {
  ...many,
  name: 'vm stop',
  summary: 'shut VMs down: they are asked to, and may take their time',
  options: {
    ...all,
    force: { help: 'power off at once' },
    'timeout-ms': { value: 'N', help: 'how long each may take; default 10000' },
  },
  run: (terminal, words) =>
    withHost(terminal, words, async (client) => {
      const args = {
        ...(words.flag('force') ? { force: 'true' } : {}),
        ...(words.flag('timeout-ms') ? { timeoutMs: String(words.number('timeout-ms', 0, 0, 600_000)) } : {}),
      };
      return report(
        terminal,
        await inPortions(terminal, client, 'stop', args, 'stopping', await chosen(client, words)),
        'stopped',
      );
    }),
};

export const vmDestroy: Verb = {
  ...many,
  name: 'vm destroy',
  summary: 'power VMs off and take them out for good',
  options: all,
  run: (terminal, words) =>
    withHost(terminal, words, async (client) =>
      report(terminal, await destroyVms(terminal, client, await chosen(client, words)), 'destroyed'),
    ),
};
