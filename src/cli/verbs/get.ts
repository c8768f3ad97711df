/** `shoal get`, `shoal describe`: what there is in the fleet. */
import { ShoalError } from '../../model/errors.ts';
import type { Verb } from '../arguments.ts';
import { withController } from '../control.ts';
import { facts, kib, nearest, table, type Column } from '../format.ts';

type Item = Record<string, any>;
interface Kind {
  path: string;
  columns: Column[];
  row: (item: Item) => string[];
}

const right = (title: string): Column => ({ title, align: 'right' });

const kinds: Record<string, Kind> = {
  services: {
    path: '/v1/services',
    columns: [{ title: 'SERVICE' }, right('READY'), right('WANTED'), right('MEMORY'), { title: 'IMAGE' }, { title: 'NOTE' }],
    row: (s) => [
      s['id'],
      String(s['copies'].ready),
      String(s['copies'].wanted),
      kib(s['spec'].memoryKib),
      s['spec'].image.slice(0, 19),
      s['deleting'] ? 'being deleted' : (s['notes'][0]?.text ?? ''),
    ],
  },
  vms: {
    path: '/v1/vms',
    columns: [{ title: 'VM' }, { title: 'HOST' }, { title: 'STATE' }, right('MEMORY'), { title: 'ADDRESS' }],
    row: (v) => [
      v['id'],
      v['host'],
      v['state'] === 'running' && !v['ready'] ? 'not ready' : v['state'],
      kib(v['memoryKib']),
      v['addresses'].join(' '),
    ],
  },
  hosts: {
    path: '/v1/hosts',
    columns: [
      { title: 'HOST' },
      { title: 'STATE' },
      right('VMS'),
      right('FREE'),
      right('MEMORY'),
      { title: 'LABELS' },
      { title: 'NOTE' },
    ],
    row: (h) => [
      h['id'],
      h['drained'] ? `${h['state']}, drained` : h['state'],
      String(h['vms']),
      kib(h['freeKib']),
      kib(h['totalKib']),
      Object.entries(h['labels'])
        .map(([k, v]) => `${k}=${String(v)}`)
        .join(' '),
      h['error']?.message ?? h['shortfalls'][0] ?? '',
    ],
  },
  tasks: {
    path: '/v1/tasks',
    columns: [{ title: 'TASK' }, { title: 'WHAT' }, { title: 'STATUS' }, right('DONE'), { title: 'DETAIL' }],
    row: (t) => [t['id'], `${t['kind']} ${t['subject']}`, t['status'], `${Math.round(t['progress'] * 100)} %`, t['detail']],
  },
  tokens: {
    path: '/v1/tokens',
    columns: [{ title: 'TOKEN' }, { title: 'ROLE' }, { title: 'TENANT' }, { title: 'EXPIRES' }, { title: 'NOTE' }],
    row: (t) => [t['id'], t['role'], t['tenant'] ?? '', t['expires'] ?? 'never', t['note']],
  },
  releases: { path: '/v1/releases', columns: [{ title: 'RELEASE' }, { title: 'DIGEST' }], row: (r) => [r['id'], r['digest']] },
  pools: {
    path: '/v1/pools',
    columns: [{ title: 'POOL' }, { title: 'NETWORK' }, { title: 'FIRST' }, { title: 'LAST' }],
    row: (p) => [p['id'], p['network'], p['first'], p['last']],
  },
  quotas: {
    path: '/v1/quotas',
    columns: [{ title: 'TENANT' }, right('VMS'), right('MEMORY'), right('ADDRESSES')],
    row: (q) => [
      q['id'],
      String(q['vms'] ?? ''),
      q['memoryKib'] === undefined ? '' : kib(q['memoryKib']),
      String(q['addresses'] ?? ''),
    ],
  },
};

export const get: Verb = {
  name: 'get',
  summary: 'list what there is in the fleet',
  operands: '[KIND]',
  operandCount: [0, 1],
  options: {
    tenant: { value: 'NAME', help: "only this tenant's services or VMs" },
    host: { value: 'HOST', help: 'only VMs on this host' },
  },
  speaksToController: true,
  notes: `KIND: ${Object.keys(kinds).join(', ')}; services by default.`,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const name = words.operands[0] ?? 'services';
      const kind = kinds[name] ?? kinds[`${name}s`];
      if (kind === undefined) {
        const meant = nearest(name, Object.keys(kinds));
        throw new ShoalError('USAGE', `There are no "${name}".`, {
          hint: meant === undefined ? `There are: ${Object.keys(kinds).join(', ')}.` : `Did you mean ${meant}?`,
        });
      }
      const query = new URLSearchParams();
      for (const option of ['tenant', 'host'] as const) {
        const value = words.text(option);
        if (value === undefined) continue;
        if (option === 'host' ? kind !== kinds['vms'] : kind !== kinds['vms'] && kind !== kinds['services'])
          throw new ShoalError('USAGE', `--${option} has no meaning for ${name}.`, { hint: 'Leave it out.' });
        query.set(option, value);
      }
      const items = await control.list<Item>(`${kind.path}${query.size === 0 ? '' : `?${query.toString()}`}`);
      terminal.printJson(items);
      if (items.length === 0) terminal.note(`No ${name}.`);
      else terminal.print(table(kind.columns, items.map(kind.row), terminal.style));
    }),
};

export const describe: Verb = {
  name: 'describe',
  summary: 'all about a service, a VM or a host of the fleet',
  operands: 'TENANT/NAME | VM | HOST',
  operandCount: [1, 1],
  speaksToController: true,
  run: (terminal, words) =>
    withController(words, async (control) => {
      const word = words.operands[0]!;
      const [tenant, name] = word.split('/');
      const path =
        name !== undefined
          ? `/v1/services/${encodeURIComponent(tenant!)}/${encodeURIComponent(name)}`
          : word.split('.').length === 4 || /^[0-9a-f]{8}-/.test(word)
            ? `/v1/vms/${encodeURIComponent(word)}`
            : `/v1/hosts/${encodeURIComponent(word)}`;
      const item = await control.call<Item>('GET', path);
      terminal.printJson(item);
      terminal.print(facts(lines(item), terminal.style));
    }),
};

/** Nested values as "spec.health.kind"; lists of plain things on one line. */
function lines(value: Item, at = ''): [string, string][] {
  return Object.entries(value).flatMap(([name, v]): [string, string][] => {
    if (Array.isArray(v))
      return v.every((each) => typeof each !== 'object')
        ? [[at + name, v.join(' ')]]
        : v.flatMap((each: Item, i) => lines(each, `${at}${name}.${i}.`));
    if (typeof v === 'object' && v !== null) return lines(v as Item, `${at}${name}.`);
    return [[at + name, String(v)]];
  });
}
