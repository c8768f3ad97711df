/**
 * `shoal vm console NAME`: what the guest printed; on a terminal also what it prints from now on, and what is typed goes to it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import type { Client } from '../client.ts';
import { withHost } from '../target.ts';
import { findVm } from '../vms.ts';

interface ConsoleText {
  text: string;
  cursor: number;
  live: boolean;
}

/** The console is read on demand, so following means asking again. */
const pollMs = 250;

const read = (client: Client, uuid: string, cursor: number): Promise<ConsoleText> =>
  client.plugin('console', { vm: uuid, cursor: String(cursor) });

export const vmConsole: Verb = {
  name: 'vm console',
  summary: 'show the console of a VM',
  operands: 'NAME',
  operandCount: [1, 1],
  options: {
    follow: { help: 'go on with what it prints; lines typed are sent to it; ends with Ctrl-C or when the VM ends' },
    send: { value: 'TEXT', help: 'type a line into it first' },
  },
  speaksToHost: true,
  notes: 'Nothing is kept open for a console: the host has the last 2 KiB of each, also of a VM that crashed.',
  run: (terminal, words) =>
    withHost(terminal, words, async (client) => {
      const { uuid, name } = await findVm(client, words.operands[0]!);
      const send = (line: string) => client.plugin('console-write', { vm: uuid, text: `${line}\n` });
      const line = words.text('send');
      if (line !== undefined) await send(line);
      if (line !== undefined && !words.flag('follow')) await sleep(pollMs);
      let last = await read(client, uuid, 0);
      if (!words.flag('follow')) {
        terminal.printJson({ name, ...last });
        if (!terminal.json) terminal.raw(withNewline(last.text));
        if (!last.live) terminal.note(`${name} does not run; these are its last words`);
        return;
      }
      const show = (text: string) => (terminal.json ? text !== '' && terminal.printJson({ name, text }) : terminal.raw(text));
      show(last.text);
      const ended = new AbortController();
      const onInterrupt = () => ended.abort();
      const typed = (bytes: Buffer) => {
        const lines = bytes.toString('utf8').split('\n').slice(0, -1);
        for (const one of lines) send(one).catch((error: unknown) => terminal.note(`not sent: ${asShoalError(error).message}`));
      };
      process.once('SIGINT', onInterrupt);
      process.stdin.on('data', typed);
      try {
        while (last.live && !ended.signal.aborted) {
          await sleep(pollMs, undefined, { signal: ended.signal }).catch(() => undefined);
          if (ended.signal.aborted) break;
          last = await read(client, uuid, last.cursor);
          show(last.text);
        }
      } catch (thrown) {
        const error = asShoalError(thrown);
        if (error.code !== 'VM_BAD_POWER_STATE' && error.code !== 'UUID_INVALID') throw error;
        terminal.note(`${name} does not run any more`);
      } finally {
        process.off('SIGINT', onInterrupt);
        process.stdin.off('data', typed);
        process.stdin.pause();
      }
    }),
};

const withNewline = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);
