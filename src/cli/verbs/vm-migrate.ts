/**
 * `shoal vm migrate VM --to HOST`: two agents and an order. The command asks the target for a ticket and gives it to the source; from then on they need
 * nobody. With a controller in the environment it is the controller that does so.
 */
import { planAddresses, type AddressForecast, type PlannedNetwork, type PlannedVif } from '../../migrate/address-plan.ts';
import { ShoalError } from '../../model/errors.ts';
import type { Departed, Plan } from '../../xenapi/plugin-types.ts';
import type { Verb, Words } from '../arguments.ts';
import { Client } from '../client.ts';
import { ms } from '../format.ts';
import { otherHostOptions, otherTarget, readTarget, withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import { findVm, listVms, type VmName } from '../vms.ts';

const migrationMs = 3_600_000;

interface Facts {
  agent: { fingerprint: string | null };
}

const clientOfTarget = async (words: Words): Promise<Client> => new Client(readTarget(await otherTarget(words)));

export const vmMigrate: Verb = {
  name: 'vm migrate',
  summary: 'move a running VM to another host',
  operands: 'VM',
  operandCount: [1, 1],
  options: {
    ...otherHostOptions,
    live: { help: 'copy its memory while it runs, then only the rest' },
    ip: { value: 'ADDRESS', help: 'the address it is to have there' },
    plan: { help: 'say how long it would take, whether to, and which addresses it keeps; nothing moves' },
    'rtt-ms': { value: 'N', help: 'with --plan: round trip of whoever uses the VM as it moves' },
    resolve: { value: 'here|there', help: 'of a migration in doubt, when the target is gone for good: where the VM is to be' },
  },
  speaksToHost: true,
  notes:
    'Within a subnet the address goes along; to another subnet the VM gets one there, and connections end. What fails leaves the VM running where it was. ' +
    '--resolve here while the VM runs there makes two of it.',
  examples: ['shoal vm migrate web --lab lab/host0 --to lab/host1 --live', 'shoal vm migrate web --to lab/host1 --plan'],
  async run(terminal, words) {
    const name = words.operands[0]!;
    return withHost(terminal, words, async (client) => {
      const vm = await findVm(client, name);
      const { uuid } = vm;
      const where = words.text('resolve');
      if (where !== undefined) {
        if (where !== 'here' && where !== 'there') throw new ShoalError('USAGE', `"${where}" is neither here nor there.`, { hint: 'Give --resolve here or --resolve there.' });
        await client.plugin('migrate-resolve', { vm: uuid, where });
        terminal.printJson({ name, where });
        terminal.print(`${name} is taken to be ${where}`);
        return;
      }
      const target = await clientOfTarget(words);
      try {
        await (words.flag('plan') ? plan(terminal, words, client, target, vm, name) : move(terminal, words, client, target, uuid, name));
      } finally {
        await target.close();
      }
    });
  },
};

/** What the operator gave is what the hosts reach each other by; in a lab they have addresses of their own. */
const urlOf = (words: Words): { url?: string } => (words.text('to')?.startsWith('https://') === true ? { url: words.text('to')! } : {});

async function addressOf(target: Client): Promise<string> {
  const [host] = Object.values(await target.records('host'));
  return `https://${String(host?.['address'] ?? '')}`;
}

async function networksOf(client: Client): Promise<(PlannedNetwork & { ref: string })[]> {
  return Object.entries(await client.records('network')).map(([ref, record]) => {
    const { cidr = '', gateway = '' } = record['other_config'] as Record<string, string>;
    return { ref, name: String(record['name_label']), cidr, gateway };
  });
}

async function vifsOf(client: Client, ref: string, networks: readonly (PlannedNetwork & { ref: string })[]): Promise<PlannedVif[]> {
  const refs = await client.call<string[]>('VM.get_VIFs', [ref]);
  const vifs = await Promise.all(refs.map((vif) => client.call<Record<string, unknown>>('VIF.get_record', [vif])));
  return vifs
    .sort((a, b) => Number(a['device']) - Number(b['device']))
    .map((vif) => ({ network: networks.find((each) => each.ref === vif['network'])?.name ?? '', addresses: vif['ipv4_allowed'] as string[] }));
}

/** Which of the VM's addresses it keeps. */
async function addressesOf(words: Words, client: Client, target: Client, { ref, uuid }: VmName): Promise<AddressForecast[]> {
  const [here, there, listed] = await Promise.all([networksOf(client), networksOf(target), listVms(target, ['uuid', 'addresses'])]);
  const taken = new Set(listed.flatMap((vm) => (vm.uuid === uuid ? [] : vm.addresses)));
  return planAddresses(await vifsOf(client, ref, here), here, there, words.text('ip'), taken);
}

async function plan(terminal: Terminal, words: Words, client: Client, target: Client, vm: VmName, name: string): Promise<void> {
  const rtt = words.flag('rtt-ms') ? { rttMs: String(words.number('rtt-ms', 0, 0, 3_600_000)) } : {};
  const said = await client.plugin<Plan>('migrate-plan', { vm: vm.uuid, url: urlOf(words).url ?? (await addressOf(target)), live: String(words.flag('live')), ...rtt }, { timeoutMs: 60_000 });
  const addresses = await addressesOf(words, client, target, vm);
  terminal.printJson({ name, ...said, addresses });
  const way = said.rttMs === undefined ? 'the host cannot be reached from there' : `round trip ${ms(said.rttMs)} ms`;
  terminal.print(`${name}: ${said.advice === 'migrate' ? 'migrate' : 'start afresh there'}`);
  terminal.print(`  ${way}; ${Math.ceil(said.bytes / 1024)} KiB, ${ms(said.totalMs)} ms in all, ${ms(said.downtimeMs)} ms of standstill; after ${said.migrations} migrations that way`);
  for (const { address, kept, why } of addresses) terminal.print(`  ${address} ${kept ? 'goes along: plain TCP survives' : 'does not go along: plain TCP over it ends'}; ${why}`);
}

async function move(terminal: Terminal, words: Words, client: Client, target: Client, uuid: string, name: string): Promise<void> {
  const { agent } = await client.plugin<Facts>('facts');
  if (agent.fingerprint === null) throw new ShoalError('MIGRATION_REFUSED', 'The host of the VM speaks without TLS.', { hint: 'Give its agent a certificate.' });
  const [targetHost] = Object.keys(await target.records('host'));
  const dest = await target.call<Record<string, string>>('host.migrate_receive', [targetHost, '', { fingerprint: agent.fingerprint, ...urlOf(words) }]);
  const ip = words.text('ip');
  const done = await client.plugin<Departed>('migrate', { vm: uuid, dest, live: String(words.flag('live')), ...(ip === undefined ? {} : { ip }) }, { timeoutMs: migrationMs });
  terminal.printJson({ name, uuid, ...done });
  terminal.print(`${name} runs there${done.addresses.length === 0 ? '' : ` as ${done.addresses.join(', ')}`}: ${ms(done.totalMs)} ms in all, ${ms(done.downtimeMs)} ms of standstill, ${Math.ceil(done.bytes / 1024)} KiB`);
}
