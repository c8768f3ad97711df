/** `shoal apply -f FILE...`, `shoal scale`, `shoal restart`, `shoal delete`: what is wanted of services. */
import { readFileSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';
import type { OptionModel, Verb, Words } from '../arguments.ts';
import { withController, type Control } from '../control.ts';
import { plural } from '../format.ts';
import { waitFor, type Task } from '../task.ts';
import type { Terminal } from '../terminal.ts';

const waiting: Record<string, OptionModel> = {
  'no-wait': { help: 'do not wait until it is so' },
  timeout: { value: 'SECONDS', help: 'wait so long at most; 600 by default' },
};

async function settle(control: Control, terminal: Terminal, words: Words, tasks: Task[]): Promise<void> {
  const timeoutMs = words.number('timeout', 600, 1, 86_400) * 1000;
  const ended = words.flag('no-wait')
    ? tasks
    : await Promise.all(tasks.map((task) => waitFor(control, terminal, task, timeoutMs)));
  terminal.printJson({ tasks: ended });
  for (const task of ended)
    terminal.print(
      `${task.subject}  ${task.kind} ${task.status === 'done' ? 'done' : 'under way'}${task.detail === '' ? '' : `: ${task.detail}`}`,
    );
}

/** "TENANT/NAME" as a path. */
function pathOf(key: string): string {
  const m = /^([a-z0-9-]{1,16})\/([a-z0-9-]{1,28})$/.exec(key);
  if (m === null) throw new ShoalError('USAGE', `"${key}" is no service.`, { hint: 'Give it as TENANT/NAME.' });
  return `/v1/services/${m[1]}/${m[2]}`;
}

function servicesIn(file: string): unknown[] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'));
  } catch (error) {
    throw new ShoalError('USAGE', `${file} cannot be read: ${(error as Error).message}.`, {
      hint: 'Give a file of JSON: one service, or a list of them.',
      cause: error,
    });
  }
  return Array.isArray(value) ? value : [value];
}

export const apply: Verb = {
  name: 'apply',
  summary: 'make services so, all of them or none',
  options: {
    file: { value: 'FILE', short: 'f', help: 'JSON: one service or a list of them; - reads standard input' },
    'dry-run': { help: 'only say whether it could be done' },
    ...waiting,
  },
  speaksToController: true,
  notes: 'docs/formats/service.md has the fields.',
  run: (terminal, words) =>
    withController(words, async (control) => {
      const file = words.text('file');
      if (file === undefined) throw new ShoalError('USAGE', '`shoal apply` needs a file.', { hint: 'Give it as -f FILE.' });
      const services = servicesIn(file);
      const dry = words.flag('dry-run');
      const { tasks } = await control.call<{ tasks: Task[] }>('POST', `/v1/apply${dry ? '?dryRun=true' : ''}`, { services });
      if (dry) terminal.print(`${plural(services.length, 'service')} could be made so`);
      await settle(control, terminal, words, tasks);
    }),
};

const onService = (name: string, summary: string, method: string, path: string): Verb => ({
  name,
  summary,
  operands: 'TENANT/NAME',
  operandCount: [1, 1],
  options: waiting,
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) =>
      settle(control, terminal, words, [await control.call<Task>(method, `${pathOf(words.operands[0]!)}${path}`)]),
    ),
});

export const restart = onService('restart', 'replace all copies of a service, a few at a time', 'POST', '/restart');
export const deleteVerb = onService('delete', 'end a service with all its copies', 'DELETE', '');

export const scale: Verb = {
  name: 'scale',
  summary: 'change the number of copies of a service',
  operands: 'TENANT/NAME COUNT',
  operandCount: [2, 2],
  options: waiting,
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const [key, count] = words.operands;
      if (!/^\d{1,5}$/.test(count!))
        throw new ShoalError('USAGE', `"${count}" is no number of copies.`, { hint: 'Give a whole number.' });
      await settle(control, terminal, words, [
        await control.call<Task>('POST', `${pathOf(key!)}/scale`, { count: Number(count) }),
      ]);
    }),
};

export const drain: Verb = {
  name: 'drain',
  summary: 'move all copies off a host',
  operands: 'HOST',
  operandCount: [1, 1],
  options: { undo: { help: 'let the host take copies again' }, ...waiting },
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const path = `/v1/hosts/${encodeURIComponent(words.operands[0]!)}`;
      if (words.flag('undo')) {
        terminal.printJson(await control.call('POST', `${path}/undrain`));
        return terminal.print(`${words.operands[0]} takes copies again`);
      }
      await settle(control, terminal, words, [await control.call<Task>('POST', `${path}/drain`)]);
    }),
};
