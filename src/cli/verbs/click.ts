/** `shoal click install|read|write|list VM …`: what a middlebox does, and what its elements say. */
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { ShoalError } from '../../model/errors.ts';
import { installConfiguration, readHandler, readStatus, writeHandler, type ClickPort } from '../click-port.ts';
import type { Verb, Words } from '../arguments.ts';
import { count, table } from '../format.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { findVm, viewOf } from '../vms.ts';

const adminPort = 8081;

const options = {
  'secret-file': { value: 'FILE', help: "file with what the admin port asks for; default: the word secret= of the VM's arguments" },
  port: { value: 'N', help: `the admin port; default: the word admin= of the VM's arguments, else ${adminPort}` },
};

const notes =
  'VM is the name of a VM of the host, or the IPv4 address of a guest, for which no host is asked. ' +
  "The admin port has to be reached from here: in the lab, `shoal lab inside -- shoal click … ADDRESS --secret-file FILE`.";

function secretOf(words: Words): string | undefined {
  const file = words.text('secret-file');
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new ShoalError('USAGE', `The secret cannot be read: ${(error as Error).message}.`, { hint: 'Check the path and its permissions.', cause: error });
  }
}

/** The first `key=value` of a command line. */
export const wordOf = (args: string, key: string): string | undefined =>
  args
    .split(/\s+/)
    .find((word) => word.startsWith(`${key}=`))
    ?.slice(key.length + 1);

async function portOf(terminal: Terminal, words: Words, name: string): Promise<ClickPort> {
  const secret = secretOf(words);
  if (isIPv4(name)) return { address: name, port: words.number('port', adminPort, 1, 65535), secret: secret ?? '' };
  return withHost(terminal, words, async (client) => {
    const { ref } = await findVm(client, name);
    const record = await client.call<Record<string, unknown>>('VM.get_record', [ref]);
    const addresses: string[] = [];
    for (const vif of record['VIFs'] as string[]) {
      addresses.push(...((await client.call<Record<string, unknown>>('VIF.get_record', [vif]))['ipv4_allowed'] as string[]));
    }
    const vm = viewOf(ref, record, addresses, []);
    const [address] = vm.addresses;
    if (vm.state !== 'running') throw new ShoalError('VM_BAD_POWER_STATE', `${vm.name} does not run.`, { params: [ref, 'Running', vm.state] });
    if (address === undefined) throw new ShoalError('REQUEST_INVALID', `${vm.name} has no address.`, { hint: 'Give the VM a network; its admin port listens there.' });
    const given = Number(wordOf(vm.args, 'admin') ?? adminPort);
    return { address: address.replace(/\/\d+$/, ''), port: words.number('port', given, 1, 65535), secret: secret ?? wordOf(vm.args, 'secret') ?? '' };
  });
}

function readConfiguration(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new ShoalError('USAGE', `The configuration cannot be read: ${(error as Error).message}.`, { hint: 'Give a file, or - for standard input.', cause: error });
  }
}

export const clickInstall: Verb = {
  name: 'click install',
  summary: 'put a Click configuration in place of the one that runs',
  operands: 'VM FILE',
  operandCount: [2, 2],
  options: { ...options, check: { help: 'only say whether the guest would take it' } },
  speaksToHost: true,
  notes: `The old one runs until the new one is whole and sound; elements of the same name and class keep their state. ${notes}`,
  examples: ['shoal click install fw firewall.click', 'shoal click install fw firewall.click --check'],
  async run(terminal, words) {
    const text = readConfiguration(words.operands[1]!);
    const installed = await installConfiguration(await portOf(terminal, words, words.operands[0]!), text, words.flag('check'));
    terminal.printJson(installed);
    terminal.print(installed.installed ? `${count(installed.elements)} elements run` : 'the guest would take it');
  },
};

export const clickRead: Verb = {
  name: 'click read',
  summary: 'read handlers of elements, or the configuration',
  operands: 'VM [ELEMENT.HANDLER...]',
  operandCount: [1, 64],
  options: { ...options, flat: { help: 'the configuration with compound elements unfolded' } },
  speaksToHost: true,
  notes: `Without a handler: the configuration, as it was written. ${notes}`,
  examples: ['shoal click read fw', 'shoal click read fw in.count out.count'],
  async run(terminal, words) {
    const [vm, ...names] = words.operands;
    const port = await portOf(terminal, words, vm!);
    if (names.length === 0) {
      const text = await readHandler(port, words.flag('flat') ? 'flatconfig' : 'config');
      terminal.printJson({ configuration: text });
      if (!terminal.json) terminal.raw(text.endsWith('\n') || text === '' ? text : `${text}\n`);
      return;
    }
    const values: Record<string, string> = {};
    for (const name of names) values[name] = await readHandler(port, name);
    terminal.printJson(values);
    for (const [name, value] of Object.entries(values)) terminal.print(names.length === 1 ? value.trimEnd() : `${name}: ${value.trimEnd()}`);
  },
};

export const clickWrite: Verb = {
  name: 'click write',
  summary: 'write a handler of an element',
  operands: 'VM ELEMENT.HANDLER [VALUE]',
  operandCount: [2, 3],
  options,
  speaksToHost: true,
  notes,
  examples: ['shoal click write fw in.reset', 'shoal click write fw limit.rate 20Mbps'],
  async run(terminal, words) {
    const [vm, name, value = ''] = words.operands;
    await writeHandler(await portOf(terminal, words, vm!), name!, value);
    terminal.printJson({ written: name, value });
  },
};

export const clickList: Verb = {
  name: 'click list',
  summary: 'list the elements of a middlebox',
  operands: 'VM',
  operandCount: [1, 1],
  options,
  speaksToHost: true,
  notes,
  async run(terminal, words) {
    const port = await portOf(terminal, words, words.operands[0]!);
    const status = await readStatus(port);
    const text = status.running === null ? '' : await readHandler(port, 'list');
    const elements = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('\t'))
      .map(([name = '', elementClass = '']) => ({ name, class: elementClass }));
    terminal.printJson({ ...status, list: elements });
    if (terminal.json) return;
    if (status.running === null) terminal.print('no configuration runs');
    else terminal.print(table([{ title: 'NAME' }, { title: 'CLASS' }], elements.map((element) => [element.name, element.class]), terminal.style));
  },
};
