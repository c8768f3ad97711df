/** `shoal vm create NAME…`: makes VMs and starts them in one call; with --halted makes them only. */
import { existsSync } from 'node:fs';
import { ShoalError } from '../../model/errors.ts';
import type { Verb, Words } from '../arguments.ts';
import type { Client } from '../client.ts';
import { kib, ms, plural, table } from '../format.ts';
import { findImage, putImage, readImage } from '../images.ts';
import { withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { launchMany, type LaunchedVm } from '../launch.ts';

const maxVms = 10_000;
/** An image of 4 MiB boots in this; the smallest that every image of the house runs in. */
const defaultMemoryKib = 4096;

export const vmCreate: Verb = {
  name: 'vm create',
  summary: 'make a VM and start it; or many, with --count',
  operands: 'NAME',
  operandCount: [1, 1],
  options: {
    image: {
      value: 'IMAGE',
      help: 'a kernel file, or the digest (or its beginning) of one the host has; default: the only one it has',
    },
    'memory-kib': { value: 'N', help: `memory of the VM; default ${defaultMemoryKib}` },
    network: { value: 'NETWORK', help: 'network of its device, with commas between of several; default the host\'s first, "" for none' },
    ip: { value: 'ADDRESS', help: 'its address, with commas between of several devices; default the next free one' },
    args: { value: 'TEXT', help: 'words for the application' },
    backend: { value: 'NAME', help: 'switch or netback; default what the network prefers and the image can' },
    disk: { value: 'NAME[:ro]', help: 'a disk of the host, to write or read-only; several with commas between' },
    'rate-kbit': { value: 'N', help: 'what it may send, in kbit/s; needs the switch' },
    'locking-mode': { value: 'MODE', help: 'unlocked: it may send IPv4 from any address, to forward for others; default network_default' },
    count: { value: 'N', help: 'make N of them: NAME-1, NAME-2, …' },
    first: { value: 'N', help: 'number of the first of them; default 1' },
    halted: { help: 'do not start it' },
  },
  speaksToHost: true,
  examples: ['shoal vm create web --image build/unikernels/ping.elf', 'shoal vm create fish --count 100'],
  async run(terminal, words) {
    const many = words.flag('count');
    if (many && words.flag('ip'))
      throw new ShoalError('USAGE', '--ip goes with one VM only.', { hint: 'Leave out --ip or --count.' });
    if (many && words.flag('halted'))
      throw new ShoalError('USAGE', '--halted goes with one VM only.', { hint: 'Leave out --halted or --count.' });
    if (words.flag('first') && !many) throw new ShoalError('USAGE', '--first goes with --count.', { hint: 'Give --count too.' });
    return withHost(terminal, words, async (client) => {
      const image = await imageOf(client, words.text('image'), terminal);
      return words.flag('halted') ? define(terminal, words, client, image) : start(terminal, words, client, image, many);
    });
  },
};

function disksOf(words: Words): { disk: string; readonly: boolean }[] {
  return (words.text('disk') ?? '').split(',').filter((word) => word !== '').map((word) => ({ disk: word.replace(/:ro$/, ''), readonly: word.endsWith(':ro') }));
}

/** One device, as most VMs have, or the several that commas part. */
function devicesOf(words: Words): { network?: string | undefined; ip?: string | undefined; vifs?: { network: string; ip?: string }[] } {
  const [network, ip] = [words.text('network'), words.text('ip')];
  if (network === undefined || !network.includes(',')) return { network, ip };
  const [networks, ips] = [network.split(','), ip?.split(',') ?? []];
  if (ips.length > networks.length) throw new ShoalError('USAGE', `There are ${ips.length} addresses for ${networks.length} devices.`, { hint: 'Give --ip at most as many as --network, in the same order.' });
  return { vifs: networks.map((each, i) => ({ network: each, ...(ips[i] === undefined || ips[i] === '' ? {} : { ip: ips[i] }) })) };
}

function lockingModeOf(words: Words): 'unlocked' | undefined {
  const mode = words.text('locking-mode') ?? 'network_default';
  if (mode === 'unlocked') return mode;
  if (mode === 'network_default') return undefined;
  throw new ShoalError('USAGE', `There is no locking mode "${mode.slice(0, 40)}".`, { hint: 'Use unlocked, for a VM that forwards for others, or network_default.' });
}

async function imageOf(client: Client, word: string | undefined, terminal: Terminal): Promise<string> {
  if (word === undefined || !existsSync(word)) return findImage(client, word);
  const { digest, sent } = await putImage(client, readImage(word));
  if (sent) terminal.note(`uploaded ${word} as ${digest}`);
  return digest;
}

async function start(terminal: Terminal, words: Words, client: Client, image: string, many: boolean): Promise<number> {
  const name = words.operands[0]!;
  const count = words.number('count', 1, 1, maxVms);
  const optional = {
    ...devicesOf(words),
    args: words.text('args'),
    backend: words.text('backend'),
    disks: words.flag('disk') ? disksOf(words) : undefined,
    rateKbit: words.flag('rate-kbit') ? words.number('rate-kbit', 0, 1, 100_000_000) : undefined,
    lockingMode: lockingModeOf(words),
  };
  const { vms, error } = await launchMany(terminal, client, {
    ...(many ? { prefix: name, count, first: words.number('first', 1, 0, 1_000_000) } : { name }),
    image,
    memoryKib: words.number('memory-kib', defaultMemoryKib, 1, 2 ** 30),
    ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
  });
  if (terminal.json) {
    if (error === undefined) terminal.printJson(vms);
    else terminal.printJson({ vms, error });
  } else {
    terminal.print(launchedTable(vms, terminal));
    terminal.note(`${plural(vms.length, 'VM')} started, ${kib(words.number('memory-kib', defaultMemoryKib, 1, 2 ** 30))} each`);
  }
  if (error === undefined) return 0;
  // In JSON the error stands beside what was started, so only people are told again.
  if (!terminal.json) terminal.failure(error);
  return 1;
}

function launchedTable(vms: readonly LaunchedVm[], terminal: Terminal): string {
  const columns = [
    { title: 'NAME' },
    { title: 'DOMAIN', align: 'right' as const },
    { title: 'ADDRESS' },
    { title: 'MAC' },
    { title: 'STARTED IN', align: 'right' as const },
  ];
  return table(
    columns,
    vms.map((vm) => [vm.name, String(vm.domid), vm.ip, vm.mac, `${ms(vm.ms)} ms`]),
    terminal.style,
  );
}

async function define(terminal: Terminal, words: Words, client: Client, image: string): Promise<number> {
  const memory = words.number('memory-kib', defaultMemoryKib, 1, 2 ** 30) * 1024;
  const record = {
    name_label: words.operands[0]!,
    PV_kernel: image,
    PV_args: words.text('args') ?? '',
    memory_static_max: memory,
  };
  const devices = devicesOf(words);
  const networks = devices.network === '' ? [] : Object.entries(await client.records('network'));
  const wanted = devices.vifs ?? (networks.length === 0 ? [] : [{ network: devices.network ?? String(networks[0]![1]['name_label']), ip: devices.ip }]);
  const vifs = wanted.map(({ network, ip }, device) => {
    const found = networks.find(([, { name_label: name }]) => name === network)?.[0];
    if (found === undefined) throw new ShoalError('NETWORK_UNKNOWN', `The host has no network "${network}".`);
    return { network: found, device: String(device), ipv4_allowed: ip === undefined ? [] : [ip], locking_mode: lockingModeOf(words) ?? 'network_default' };
  });
  const ref = await client.call<string>('VM.create', [record]);
  try {
    for (const vif of vifs) await client.call('VIF.create', [{ VM: ref, ...vif }]);
    const disks = words.flag('disk') ? Object.entries(await client.records('VDI')) : [];
    for (const { disk, readonly } of disksOf(words)) {
      const found = disks.find(([, record]) => record['name_label'] === disk || record['uuid'] === disk);
      if (found === undefined) throw new ShoalError('DISK_UNKNOWN', `The host has no disk "${disk}".`);
      await client.call('VBD.create', [{ VM: ref, VDI: found[0], mode: readonly ? 'RO' : 'RW' }]);
    }
  } catch (error) {
    await client.call('VM.destroy', [ref]);
    throw error;
  }
  const uuid = await client.call<string>('VM.get_uuid', [ref]);
  terminal.printJson({ ref, uuid, name: record.name_label });
  terminal.print(uuid);
  terminal.note(`start it: shoal vm start ${record.name_label}`);
  return 0;
}
