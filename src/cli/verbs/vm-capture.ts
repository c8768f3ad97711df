/**
 * `shoal vm capture NAME`: the frames of a VM's network device, as a pcap file on standard output or in a file. The host keeps little of what
 * was not fetched, so this asks again as soon as it has written what it got.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';
import type { CaptureRead } from '../../xenapi/plugin-types.ts';
import type { Verb } from '../arguments.ts';
import type { Client } from '../client.ts';
import { count, plural } from '../format.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { findVm } from '../vms.ts';

/** How long the host waits for frames before it answers. */
const waitMs = 500;
/** Answers after the end was asked for: 4 MiB in parts of 512 KiB, and room. */
const mostLeft = 64;

export const vmCapture: Verb = {
  name: 'vm capture',
  summary: 'show the frames of a VM to tcpdump, or keep them',
  operands: 'NAME',
  operandCount: [1, 1],
  options: {
    vif: { value: 'N', help: 'which of its network devices; default 0' },
    seconds: { value: 'N', help: 'end after so long; default: with Ctrl-C, or with the VM' },
    output: { value: 'FILE', help: 'write a pcap file; default: to standard output' },
  },
  speaksToHost: true,
  notes: 'For VMs on the switch. Whoever reads too slowly loses frames, which are counted; the VM is never held up.',
  examples: ['shoal vm capture web | tcpdump -n -r -', 'shoal vm capture web --seconds 10 --output web.pcap'],
  async run(terminal, words) {
    const handle = words.number('vif', 0, 0, 7);
    const seconds = words.number('seconds', 0, 1, 86_400);
    const output = words.text('output');
    if (output === undefined && terminal.interactive)
      throw new ShoalError('USAGE', 'Frames are not written to a terminal.', { hint: 'Give --output FILE, or pipe it: | tcpdump -n -r -' });
    if (output === undefined && terminal.json)
      throw new ShoalError('USAGE', '--json needs --output: standard output cannot hold both.', { hint: 'Give --output FILE.' });
    return withHost(terminal, words, async (client) => {
      const { uuid, name } = await findVm(client, words.operands[0]!);
      const sink = sinkOf(terminal, output);
      try {
        const { capture } = await client.plugin<{ capture: string }>('capture', { vm: uuid, handle: String(handle) });
        const last = await copy(client, capture, seconds, sink.write);
        const { frames, dropped } = last;
        terminal.printJson({ name, vif: handle, frames, dropped, ...(output === undefined ? {} : { file: output }) });
        terminal.note(`${plural(frames, 'frame')}, ${dropped === 0 ? 'none' : count(dropped)} dropped`);
      } finally {
        sink.close();
      }
    });
  },
};

function sinkOf(terminal: Terminal, output: string | undefined): { write: (bytes: Buffer) => void; close: () => void } {
  if (output === undefined) return { write: (bytes) => terminal.bytes(bytes), close: () => {} };
  let fd: number;
  try {
    fd = openSync(output, 'w', 0o600);
  } catch (cause) {
    throw new ShoalError('USAGE', `${output} cannot be written: ${(cause as Error).message}.`, { hint: 'Give another file.', cause });
  }
  const write = (bytes: Buffer): void => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  };
  return { write, close: () => closeSync(fd) };
}

/** Until the time is over, Ctrl-C, or the VM's end. Gives the last answer. */
async function copy(client: Client, capture: string, seconds: number, write: (bytes: Buffer) => void): Promise<CaptureRead> {
  let over = false;
  const end = (): void => void (over = true);
  const timer = seconds === 0 ? undefined : setTimeout(end, seconds * 1000);
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  try {
    for (let left = mostLeft, ending = false; ; ) {
      const answer = await client.plugin<CaptureRead>('capture-read', { capture, waitMs: String(ending ? 0 : waitMs) });
      if (answer.data !== '') write(Buffer.from(answer.data, 'base64'));
      if (answer.ended || left === 0) return answer;
      if (ending) left--;
      if (over && !ending) {
        await client.plugin('capture-end', { capture });
        ending = true;
      }
    }
  } catch (error) {
    await client.plugin('capture-end', { capture }).catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
    process.off('SIGINT', end);
    process.off('SIGTERM', end);
  }
}
