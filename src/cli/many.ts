/** Verbs about many VMs: which are meant, one call for each of them, and what came of it. */
import { asShoalError, ShoalError } from '../model/errors.ts';
import type { Words } from './arguments.ts';
import type { Client } from './client.ts';
import { plural } from './format.ts';
import { Progress } from './progress.ts';
import type { Terminal } from './terminal.ts';
import { allVms, findVms, type VmName } from './vms.ts';

export interface Outcome {
  done: number;
  failed: { name: string; error: ShoalError }[];
}

export const manyVms = { operands: 'NAME... | --all', operandCount: [0, 10_000] as const, speaksToHost: true };
export const allOption = { all: { help: 'all VMs of the host' } };
/** From here on there is a progress display. */
const fewVms = 8;

export async function chosenVms(client: Client, words: Words): Promise<VmName[]> {
  if (words.flag('all')) {
    if (words.operands.length > 0)
      throw new ShoalError('USAGE', 'Names and --all contradict each other.', { hint: 'Give one or the other.' });
    return allVms(client);
  }
  if (words.operands.length === 0) throw new ShoalError('USAGE', 'Which VMs?', { hint: 'Name them, or give --all.' });
  return findVms(client, [...new Set(words.operands)]);
}

export const progressOf = (terminal: Terminal, label: string, vms: readonly VmName[]): Progress | undefined =>
  vms.length > fewVms ? new Progress(terminal, { label, total: vms.length }) : undefined;

/** So many of them at a time. One that fails keeps no other from its turn; a host that is gone does: then no further one begins. */
export async function eachVm(terminal: Terminal, label: string, vms: readonly VmName[], atOnce: number, work: (vm: VmName) => Promise<unknown>): Promise<Outcome> {
  const outcome: Outcome = { done: 0, failed: [] };
  const progress = progressOf(terminal, label, vms);
  const left = [...vms];
  let lost: ShoalError | undefined;
  const one = async (): Promise<void> => {
    for (let vm = left.shift(); vm !== undefined && lost === undefined; vm = left.shift()) {
      try {
        await work(vm);
        outcome.done++;
      } catch (thrown) {
        const error = asShoalError(thrown);
        if (error.code === 'CONNECTION_FAILED' || error.code === 'INTERNAL_ERROR') lost ??= error;
        else outcome.failed.push({ name: vm.name, error });
      }
      progress?.update(outcome.done + outcome.failed.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, vms.length) }, one));
  progress?.end();
  if (lost !== undefined) throw lost;
  return outcome;
}

/** Prints it; the exit code. `more` goes into the JSON beside it. */
export function reportMany(terminal: Terminal, { done, failed }: Outcome, participle: string, more: Record<string, unknown> = {}): number {
  const shown = failed.map(({ name, error: { code, message, hint, data } }) => ({ name, error: { code, message, hint, data } }));
  terminal.printJson({ done, failed: shown, ...more });
  terminal.print(`${plural(done, 'VM')} ${participle}`);
  if (failed.length === 0) return 0;
  const first = failed[0]!;
  const others = failed.length === 1 ? '' : ` (and ${failed.length - 1} more)`;
  const error = new ShoalError(first.error.code, `${first.name}: ${first.error.message}${others}`, { hint: first.error.hint });
  if (!terminal.json) terminal.failure(error);
  return 1;
}
