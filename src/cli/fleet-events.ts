/** The fleet's changes as they happen, one a line, until Ctrl-C. */
import { ShoalError } from '../model/errors.ts';
import type { Words } from './arguments.ts';
import { withController } from './control.ts';
import type { Terminal } from './terminal.ts';

const kinds = ['vm', 'service', 'host', 'task', 'note', 'rollout'];

export const watchFleet = (terminal: Terminal, words: Words): Promise<void> =>
  withController(words, async (control) => {
    const unknown = words.operands.find((kind) => !kinds.includes(kind));
    if (unknown !== undefined)
      throw new ShoalError('USAGE', `"${unknown}" is no kind of event.`, { hint: `There are: ${kinds.join(', ')}.` });
    const ended = new AbortController();
    process.once('SIGINT', () => ended.abort());
    terminal.note('watching; Ctrl-C ends it');
    await control.events(words.operands, ended.signal, ({ kind, data: { op, key, data = {} } }) => {
      if (kind === 'hello') return;
      if (kind === 'reset') return terminal.note('some changes were missed');
      terminal.printJson({ kind, op, key, ...(op === 'put' ? { data } : {}) });
      const { dim, red, cyan, yellow } = terminal.style;
      const copies = data['copies'] as { ready: number; wanted: number } | undefined;
      const what =
        kind === 'service' && copies !== undefined
          ? `${copies.ready} of ${copies.wanted} ready`
          : String(data['text'] ?? data['detail'] ?? data['state'] ?? data['phase'] ?? '');
      const paint = op === 'del' ? red : kind === 'note' ? yellow : cyan;
      terminal.print(
        [dim(new Date().toISOString().slice(11, 23)), paint(kind.padEnd(7)), key, op === 'del' ? 'gone' : what]
          .join('  ')
          .trimEnd(),
      );
    });
  });
