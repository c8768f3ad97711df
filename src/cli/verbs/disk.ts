/** `shoal disk create|list|destroy`: disks of a host, for VMs. */
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import type { Client } from '../client.ts';
import { count, table } from '../format.ts';
import { wholeBytes } from '../sizes.ts';
import { withHost } from '../target.ts';

interface DiskView {
  name: string;
  uuid: string;
  bytes: number;
  usedBytes: number;
  /** In dom0. */
  path: string;
  vms: { name: string; mode: string }[];
}

async function listDisks(client: Client): Promise<DiskView[]> {
  const [disks, vbds, vms] = await Promise.all([client.records('VDI'), client.records('VBD'), client.records('VM')]);
  return Object.entries(disks).map(([ref, disk]) => ({
    name: String(disk['name_label']),
    uuid: String(disk['uuid']),
    bytes: Number(disk['virtual_size']),
    usedBytes: Number(disk['physical_utilisation']),
    path: String(disk['location']),
    vms: Object.values(vbds)
      .filter((vbd) => vbd['VDI'] === ref)
      .map((vbd) => ({ name: String(vms[String(vbd['VM'])]?.['name_label'] ?? ''), mode: String(vbd['mode']).toLowerCase() })),
  }));
}

export const diskCreate: Verb = {
  name: 'disk create',
  summary: 'make a disk on the host',
  operands: 'NAME',
  operandCount: [1, 1],
  options: {
    size: { value: 'BYTES', help: 'of a new file; K, M, G' },
    store: { help: 'it holds an empty object store for minicache' },
    device: { value: 'PATH', help: 'a block device of dom0, in place of a new file' },
  },
  speaksToHost: true,
  examples: ['shoal disk create cache --size 64M --store', 'shoal vm create edge --disk cache --args "disk origin=10.64.0.1:8080"'],
  async run(terminal, words) {
    const [name, size, device] = [words.operands[0]!, words.text('size'), words.text('device')];
    if ((size === undefined) === (device === undefined)) throw new ShoalError('USAGE', 'One of --size and --device is needed.', { hint: 'For example --size 64M.' });
    if (device !== undefined && words.flag('store'))
      throw new ShoalError('USAGE', '--store goes with --size.', { hint: 'minicache makes a device whose beginning is zero an object store by itself; so does `shoal store make` in dom0.' });
    const record = {
      name_label: name,
      sm_config: device === undefined ? { format: words.flag('store') ? 'store' : 'blank' } : { device },
      ...(size === undefined ? {} : { virtual_size: wholeBytes(size, '--size') }),
    };
    const disk = await withHost(terminal, words, async (client) => {
      const ref = await client.call<string>('VDI.create', [record]);
      return client.call<Record<string, unknown>>('VDI.get_record', [ref]);
    });
    terminal.printJson({ name, uuid: disk['uuid'], bytes: disk['virtual_size'], path: disk['location'] });
    terminal.print(String(disk['uuid']));
    terminal.note(`give it to a VM: shoal vm create VM --disk ${name}`);
  },
};

export const diskList: Verb = {
  name: 'disk list',
  summary: 'list the disks of the host',
  speaksToHost: true,
  async run(terminal, words) {
    const disks = await withHost(terminal, words, listDisks);
    terminal.printJson(disks);
    const columns = [{ title: 'NAME' }, { title: 'BYTES', align: 'right' as const }, { title: 'USED', align: 'right' as const }, { title: 'PATH' }, { title: 'VMS' }];
    const rows = disks.map(({ name, bytes, usedBytes, path, vms }) => [
      name,
      count(bytes),
      count(usedBytes),
      path,
      vms.map((vm) => (vm.mode === 'ro' ? `${vm.name}:ro` : vm.name)).join(' '),
    ]);
    terminal.print(table(columns, rows, terminal.style));
  },
};

export const diskDestroy: Verb = {
  name: 'disk destroy',
  summary: 'remove disks that no VM has, with all they hold',
  operands: 'NAME...',
  operandCount: [1, 100],
  speaksToHost: true,
  async run(terminal, words) {
    await withHost(terminal, words, async (client) => {
      const disks = Object.entries(await client.records('VDI'));
      const refs = words.operands.map((word) => {
        const found = disks.find(([, disk]) => disk['name_label'] === word || disk['uuid'] === word);
        if (found === undefined) throw new ShoalError('DISK_UNKNOWN', `The host has no disk "${word}".`);
        return found[0];
      });
      for (const ref of refs) await client.call('VDI.destroy', [ref]);
    });
    terminal.printJson({ destroyed: words.operands });
    terminal.print(words.operands.map((name) => `destroyed ${name}`).join('\n'));
  },
};
