/**
 * `shoal vm migrate NAME... --to HOST`: two agents and an order for each VM. The command asks the target for a ticket and gives it to the source; from then
 * on they need nobody.
 */
import { ShoalError } from '../../model/errors.ts';
import type { Departed, Plan } from '../../xenapi/plugin-types.ts';
import { addressPlanner } from '../address-plan.ts';
import type { Verb, Words } from '../arguments.ts';
import { Client } from '../client.ts';
import { summaryOf } from '../demo/statistics.ts';
import { ms, plural } from '../format.ts';
import { allOption, chosenVms, eachVm, manyVms, reportMany } from '../many.ts';
import { otherHostOptions, otherTarget, readTarget, withHost } from '../target.ts';
import type { Terminal } from '../terminal.ts';
import type { VmName } from '../vms.ts';

const migrationMs = 3_600_000;
/** One is shipped while another is suspended, and a third begun. */
const movesAtOnce = 4;

interface Facts {
  agent: { fingerprint: string | null };
}

const clientOfTarget = async (words: Words): Promise<Client> => new Client(readTarget(await otherTarget(words)));

export const vmMigrate: Verb = {
  ...manyVms,
  name: 'vm migrate',
  summary: 'move running VMs to another host',
  options: {
    ...otherHostOptions,
    ...allOption,
    live: { help: 'copy its memory while it runs, then only the rest' },
    ip: { value: 'ADDRESS', help: 'the address it is to have there' },
    plan: { help: 'say how long it would take, whether to, and which addresses it keeps; nothing moves' },
    'rtt-ms': { value: 'N', help: 'with --plan: round trip of whoever uses the VM as it moves' },
    resolve: { value: 'here|there', help: 'of a migration in doubt, when the target is gone for good: where the VM is to be' },
  },
  notes:
    'Within a subnet the address goes along; to another subnet the VM gets one there, and connections end. What fails leaves the VM running where it was. ' +
    '--resolve here while the VM runs there makes two of it.',
  examples: ['shoal vm migrate web --lab lab/host0 --to lab/host1 --live', 'shoal vm migrate web --to lab/host1 --plan', 'shoal vm migrate --all --to lab/host1'],
  run: (terminal, words) =>
    withHost(terminal, words, async (client) => {
      const vms = await chosenVms(client, words);
      for (const option of ['ip', 'resolve']) if (words.flag(option) && (words.flag('all') || vms.length !== 1)) throw new ShoalError('USAGE', `--${option} is about one VM.`, { hint: 'Name the one.' });
      if (words.flag('resolve')) return resolve(terminal, words, client, vms[0]!);
      const target = await clientOfTarget(words);
      try {
        const many = words.flag('all') || vms.length !== 1;
        if (words.flag('plan')) return await planAll(terminal, words, client, target, vms, many);
        return await (many ? moveAll(terminal, words, client, target, vms) : moveOne(terminal, words, client, target, vms[0]!));
      } finally {
        await target.close();
      }
    }),
};

/** What the operator gave is what the hosts reach each other by; in a lab they have addresses of their own. */
const urlOf = (words: Words): { url?: string } => (words.text('to')?.startsWith('https://') === true ? { url: words.text('to')! } : {});

async function addressOf(target: Client): Promise<string> {
  const [host] = Object.values(await target.records('host'));
  return `https://${String(host?.['address'] ?? '')}`;
}

async function resolve(terminal: Terminal, words: Words, client: Client, { uuid, name }: VmName): Promise<void> {
  const where = words.text('resolve');
  if (where !== 'here' && where !== 'there') throw new ShoalError('USAGE', `"${where}" is neither here nor there.`, { hint: 'Give --resolve here or --resolve there.' });
  await client.plugin('migrate-resolve', { vm: uuid, where });
  terminal.printJson({ name, where });
  terminal.print(`${name} is taken to be ${where}`);
}

async function planAll(terminal: Terminal, words: Words, client: Client, target: Client, vms: readonly VmName[], many: boolean): Promise<void> {
  const rtt = words.flag('rtt-ms') ? { rttMs: String(words.number('rtt-ms', 0, 0, 3_600_000)) } : {};
  const url = urlOf(words).url ?? (await addressOf(target));
  const addressesOf = await addressPlanner(client, target, words.text('ip'));
  const plans: object[] = [];
  for (const vm of vms) {
    const { uuid, name } = vm;
    const said = await client.plugin<Plan>('migrate-plan', { vm: uuid, url, live: String(words.flag('live')), ...rtt }, { timeoutMs: 60_000 });
    const addresses = await addressesOf(vm);
    plans.push({ name, ...said, addresses });
    const way = said.rttMs === undefined ? 'the host cannot be reached from there' : `round trip ${ms(said.rttMs)} ms`;
    terminal.print(`${name}: ${said.advice === 'migrate' ? 'migrate' : 'start afresh there'}`);
    terminal.print(`  ${way}; ${Math.ceil(said.bytes / 1024)} KiB, ${ms(said.totalMs)} ms in all, ${ms(said.downtimeMs)} ms of standstill; after ${said.migrations} migrations that way`);
    for (const { address, kept, why } of addresses) terminal.print(`  ${address} ${kept ? 'goes along: plain TCP survives' : 'does not go along: plain TCP over it ends'}; ${why}`);
  }
  terminal.printJson(many ? { plans } : plans[0]!);
}

/** How a VM is moved: the target's ticket for it, given to the source. */
async function mover(words: Words, client: Client, target: Client): Promise<(uuid: string) => Promise<Departed>> {
  const { agent } = await client.plugin<Facts>('facts');
  if (agent.fingerprint === null) throw new ShoalError('MIGRATION_REFUSED', 'The host of the VM speaks without TLS.', { hint: 'Give its agent a certificate.' });
  const [targetHost] = Object.keys(await target.records('host'));
  const [live, ip] = [String(words.flag('live')), words.text('ip')];
  return async (uuid) => {
    const dest = await target.call<Record<string, string>>('host.migrate_receive', [targetHost, '', { fingerprint: agent.fingerprint, ...urlOf(words) }]);
    return client.plugin<Departed>('migrate', { vm: uuid, dest, live, ...(ip === undefined ? {} : { ip }) }, { timeoutMs: migrationMs });
  };
}

async function moveOne(terminal: Terminal, words: Words, client: Client, target: Client, { uuid, name }: VmName): Promise<void> {
  const done = await (await mover(words, client, target))(uuid);
  terminal.printJson({ name, uuid, ...done });
  terminal.print(`${name} runs there${done.addresses.length === 0 ? '' : ` as ${done.addresses.join(', ')}`}: ${ms(done.totalMs)} ms in all, ${ms(done.downtimeMs)} ms of standstill, ${Math.ceil(done.bytes / 1024)} KiB`);
}

async function moveAll(terminal: Terminal, words: Words, client: Client, target: Client, vms: readonly VmName[]): Promise<number> {
  const move = await mover(words, client, target);
  const moved: (Departed & { name: string; uuid: string })[] = [];
  const begun = performance.now();
  const outcome = await eachVm(terminal, 'moving', vms, movesAtOnce, async ({ uuid, name }) => void moved.push({ name, uuid, ...(await move(uuid)) })).catch((error: unknown) => {
    terminal.note(`${plural(moved.length, 'VM')} of ${vms.length} run there; \`shoal vm list\` on either host tells`);
    throw error;
  });
  const tookMs = performance.now() - begun;
  const code = reportMany(terminal, outcome, 'run there', { ms: tookMs, moved });
  if (moved.length === 0) return code;
  const { p50, max } = summaryOf(moved.map(({ downtimeMs }) => downtimeMs));
  terminal.print(`  ${ms(tookMs)} ms in all; standstill ${ms(p50)} ms in the median, ${ms(max)} ms the longest`);
  terminal.print(`  \`shoal vm list\` there has their addresses`);
  return code;
}
