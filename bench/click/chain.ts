/**
 * Packets a second through a chain on one Xen host: a guest, the middlebox, and the guest again by its second device. The guest that makes and counts
 * packets (unikernels/apps/packets) is the same for all boxes: click between two networks of the switch, all of it started by our agent; Linux in a
 * Debian guest between two Linux bridges with netback, started by xl; and, said beside, click on such bridges. In turns.
 *
 * By itself, in a lab that is up: `node --import tsx bench/click/chain.ts LAB [ROUNDS] [KIND] [CHAIN...]`.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Client } from '../../src/cli/client.ts';
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { count, table } from '../../src/cli/format.ts';
import { putImage, readImage } from '../../src/cli/images.ts';
import { labAttach, type Lab, type LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { inDom0 } from '../cache/debian.ts';
import { atLeast, compared, machineFacts, type BenchContext, type BenchOutcome } from '../harness.ts';
import { debianMemoryMib, kinds, prepareDebian, type Kind } from './debian.ts';
import type { Told } from './lab.ts';
import { addChainNetworks, chainNetworks, removeChainNetworks, withMacs } from './networks.ts';

export const chains = ['switch', 'netback', 'debian'] as const;
export type ChainName = (typeof chains)[number];
const titles: Record<ChainName, string> = { switch: 'click, switch', netback: 'click, netback', debian: 'debian, netback' };
const folder = '/run/shoal-chain';
const flows = 300;
/** As in bench/click/lab.ts: as many as the queues of the ready-made configurations hold. */
const window = 512;
const boxMemoryMib = 8;
const sourceMemoryMib = 8;
const sourceMacs = ['02:00:00:00:09:01', '02:00:00:00:09:02'];
const boxMacs = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
const cameFrom: Record<Kind, Record<'click' | 'debian', string>> = {
  router: { click: '10.0.0.0/24', debian: '10.0.0.0/24' },
  firewall: { click: '10.0.0.0/24', debian: '10.0.0.0/24' },
  nat: { click: '10.0.1.248/30', debian: '10.0.1.254/32' },
};
const lengths = { full: { rounds: 5, seconds: 2 }, quick: { rounds: 2, seconds: 2 } };
const timeoutMs = 600_000;
const secret = 'chain';

export interface ChainSample {
  kind: Kind;
  chain: ChainName;
  round: number;
  /** Under a window, and with more sent than gets through. */
  perS: number;
  overloadPerS: number;
  /** Share of those sent under the window. */
  lost: number;
  dom0Busy: number;
}

const bridgesOf = (chain: ChainName): [string, string] => (chain === 'switch' ? [chainNetworks[0].bridge, chainNetworks[1].bridge] : [`chain-${chain[0]}0`, `chain-${chain[0]}1`]);
const configurationOf = (kind: Kind): string => readFileSync(join(repositoryRoot, `unikernels/apps/click/configurations/${kind}.click`), 'utf8');

/** A source and a box, with what is between them. */
abstract class Chain {
  readonly kind: Kind;
  readonly name: ChainName;
  protected readonly host: LabHost;
  protected sourceMac = sourceMacs[0]!;
  protected boxMac = boxMacs[0]!;

  constructor(host: LabHost, kind: Kind, name: ChainName) {
    this.host = host;
    this.kind = kind;
    this.name = name;
  }

  abstract boot(): Promise<void>;
  abstract end(): Promise<void>;

  async start(signal: AbortSignal): Promise<void> {
    await this.boot();
    for (let tries = 0; tries < 60; tries++) {
      signal.throwIfAborted();
      const { code, stdout } = await this.host.exec(this.words(0.3, 32), { timeoutMs });
      if (code === 0 && (JSON.parse(stdout) as Told).received > 0) return;
      await sleep(500);
    }
    throw new ShoalError('LAB_FAILED', `Nothing comes through the ${this.kind} by ${titles[this.name]}.`, { hint: 'The consoles of its guests say why.' });
  }

  protected words(seconds: number, under: number): string {
    return [`${folder}/ask`, bridgesOf(this.name)[0], this.sourceMac, seconds, under, flows, this.boxMac, cameFrom[this.kind][this.name === 'debian' ? 'debian' : 'click']].join(' ');
  }

  async run(...orders: [seconds: number, under: number][]): Promise<Told[]> {
    const script = orders.map(([seconds, under]) => this.words(seconds, under)).join(' && ');
    return (await inDom0(this.host, script, timeoutMs)).split('\n').map((line) => JSON.parse(line) as Told);
  }
}

class XlChain extends Chain {
  async boot(): Promise<void> {
    await inDom0(this.host, `xl create ${folder}/${this.name}-${this.kind}.cfg && xl create ${folder}/source-${this.name}.cfg`, timeoutMs);
  }

  async end(): Promise<void> {
    await this.host.exec(`xl destroy source-${this.name}; xl destroy ${this.name === 'debian' ? 'debian' : 'netback'}-${this.kind}`, { timeoutMs });
  }
}

class SwitchChain extends Chain {
  readonly #client: Client;
  readonly #lab: Lab;
  readonly #local: string;

  constructor(host: LabHost, kind: Kind, lab: Lab, local: string) {
    super(host, kind, 'switch');
    this.#lab = lab;
    this.#local = local;
    this.#client = new Client({ url: host.url, ca: readFileSync(host.caFile, 'utf8'), password: readFileSync(host.passwordFile, 'utf8').trim(), timeoutMs: 120_000 });
  }

  async boot(): Promise<void> {
    const [click, packets] = [await this.#image('click'), await this.#image('packets')];
    const vifs = (last: string): object[] => ['0', '1'].map((net, i) => ({ network: chainNetworks[i]!.name, ip: `10.0.${net}.${last}`, lockingMode: 'unlocked' }));
    const specs = [
      { name: `box-${this.kind}`, image: click, memoryKib: boxMemoryMib * 1024, args: `secret=${secret}`, vifs: vifs('254') },
      { name: 'source', image: packets, memoryKib: sourceMemoryMib * 1024, vifs: vifs('1') },
    ];
    const { results } = await this.#client.plugin<{ results: { vm?: { ref: string }; error?: { message: string } }[] }>('launch-each', { specs });
    const refs = results.map(({ vm, error }) => {
      if (vm === undefined) throw new ShoalError('LAB_FAILED', error?.message ?? 'not launched');
      return vm.ref;
    });
    const [box, source] = [await this.#macs(refs[0]!), await this.#macs(refs[1]!)];
    this.boxMac = box[0]!;
    this.sourceMac = source[0]!;
    const [configuration, secretFile] = [join(this.#local, 'box.click'), join(this.#local, 'secret')];
    writeFileSync(configuration, withMacs(configurationOf(this.kind), box));
    writeFileSync(secretFile, secret);
    let said = '';
    for (let tries = 0; tries < 20; tries++) {
      const { code, stderr } = await this.#lab.inside([join(repositoryRoot, 'shoal'), 'click', 'install', '10.0.0.254', configuration, '--secret-file', secretFile], { timeoutMs: 60_000 });
      if (code === 0) return;
      said = stderr;
      await sleep(300);
    }
    throw new ShoalError('LAB_FAILED', `The box does not take its configuration: ${said.slice(-300)}`);
  }

  async end(): Promise<void> {
    for (const name of [`box-${this.kind}`, 'source']) {
      const refs = await this.#client.call<string[]>('VM.get_by_name_label', [name]);
      if (refs.length > 0) await this.#client.plugin('destroy', { vms: [await this.#client.call<string>('VM.get_uuid', [refs[0]])] });
    }
  }

  async #image(app: string): Promise<string> {
    return (await putImage(this.#client, readImage(join(repositoryRoot, `build/unikernels/${app}.elf`)))).digest;
  }

  async #macs(ref: string): Promise<string[]> {
    const { VIFs } = await this.#client.call<{ VIFs: string[] }>('VM.get_record', [ref]);
    const macs: string[] = [];
    for (const vif of VIFs) macs.push((await this.#client.call<{ MAC: string }>('VIF.get_record', [vif])).MAC);
    return macs;
  }
}

async function prepare(host: LabHost, local: string, lab: Lab): Promise<void> {
  const program = join(local, 'ask');
  await must(['gcc', '-O2', '-static', '-o', program, join(repositoryRoot, 'bench/click/ask.c')], { code: 'SETUP_FAILED', timeoutMs: 60_000 });
  await inDom0(host, `mkdir -p ${folder}`);
  await host.put(program, `${folder}/ask`);
  await host.put(join(repositoryRoot, 'bench/click/hotplug.sh'), `${folder}/hotplug.sh`);
  await inDom0(host, `chmod +x ${folder}/ask ${folder}/hotplug.sh`);
  for (const app of ['click', 'packets']) await host.put(join(repositoryRoot, `build/unikernels/${app}.elf`), `${folder}/${app}.elf`);
  // The agent's guests have the last processor, and so have xl's.
  const last = Number(await inDom0(host, "xl info | sed -n 's/^nr_cpus *: *//p'")) - 1;
  const devices = (macs: string[], chain: ChainName): string =>
    `vif = [${macs.map((mac, i) => `"mac=${mac},bridge=${bridgesOf(chain)[i]},script=${folder}/hotplug.sh"`).join(', ')}]\ncpus = "${last}"`;
  const write = (name: string, lines: string[]): Promise<string> => inDom0(host, `cat > ${folder}/${name}.cfg`, timeoutMs, [`name = "${name}"`, 'type = "pv"', 'vcpus = 1', ...lines, ''].join('\n'));
  for (const chain of ['netback', 'debian'] as const) {
    for (const bridge of bridgesOf(chain)) await inDom0(host, `ip link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 && ip link set ${bridge} up`);
    await write(`source-${chain}`, [`kernel = "${folder}/packets.elf"`, `memory = ${sourceMemoryMib}`, devices(sourceMacs, chain)]);
  }
  for (const kind of kinds) {
    const text = Buffer.from(configurationOf(kind));
    const disk = join(local, `${kind}.disk`);
    writeFileSync(disk, Buffer.concat([text, Buffer.alloc(4096 - (text.length % 4096))]));
    await host.put(disk, `${folder}/${kind}.disk`);
    await write(`netback-${kind}`, [`kernel = "${folder}/click.elf"`, `memory = ${boxMemoryMib}`, 'extra = "name=box config=disk"',
      `disk = ["format=raw,vdev=xvda,access=ro,script=${folder}/hotplug.sh,target=${folder}/${kind}.disk"]`, devices(boxMacs, 'netback')]);
  }
  await prepareDebian(host, local, folder, devices(boxMacs, 'debian'));
  await addChainNetworks(lab, host);
}

async function clear(host: LabHost, lab: Lab): Promise<void> {
  await removeChainNetworks(lab, host);
  await host.exec(`${(['netback', 'debian'] as const).flatMap(bridgesOf).map((bridge) => `ip link del ${bridge}`).join('; ')}; rm -rf ${folder}`, { timeoutMs: 30_000 });
}

interface Plan {
  rounds: number;
  seconds: number;
  kinds: readonly Kind[];
  chains: readonly ChainName[];
}

async function measured(lab: Lab, plan: Plan, status: (text: string) => void, signal: AbortSignal): Promise<ChainSample[]> {
  const host = lab.hosts[0]!;
  const local = mkdtempSync(join(tmpdir(), 'shoal-bench-chain-'));
  const samples: ChainSample[] = [];
  try {
    status('bridges, networks, guests');
    await prepare(host, local, lab);
    for (const kind of plan.kinds) {
      const all = plan.chains.map((chain) => (chain === 'switch' ? new SwitchChain(host, kind, lab, local) : new XlChain(host, kind, chain)));
      try {
        for (const chain of all) await chain.start(signal);
        for (const chain of all) await chain.run([1, window]);
        for (let round = 1; round <= plan.rounds && !signal.aborted; round++) {
          for (const chain of all) {
            status(`${kind}, ${titles[chain.name]}, round ${round} of ${plan.rounds}`);
            const [free, overload] = await chain.run([plan.seconds, window], [plan.seconds / 2, 0]);
            const wrong = free!.wrong + overload!.wrong;
            if (wrong > 0 || free!.lookedAt === 0) throw new ShoalError('LAB_FAILED', `${titles[chain.name]} as ${kind}: ${wrong} of ${free!.lookedAt} packets looked at are wrong.`);
            samples.push({ kind, chain: chain.name, round, perS: free!.perS, overloadPerS: overload!.perS, lost: (free!.sent - free!.received) / free!.sent, dom0Busy: free!.busy });
          }
        }
      } finally {
        for (const chain of all) await chain.end();
      }
    }
    return samples;
  } finally {
    await clear(host, lab);
    rmSync(local, { recursive: true, force: true });
  }
}

export async function chaining({ terminal, quick, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const samples = await measured(lab, { ...(quick ? lengths.quick : lengths.full), kinds, chains }, (text) => terminal.status(`chain: ${text}`), signal);
  terminal.status('');
  return chainOutcome(samples, { ...machineFacts(), accelerator: lab.accelerator });
}

/** Pure; exported for its test. */
export function chainOutcome(samples: readonly ChainSample[], machine: BenchOutcome['machine']): BenchOutcome {
  const median = (kind: Kind, chain: ChainName, of: (sample: ChainSample) => number) => p50(samples.filter((sample) => sample.kind === kind && sample.chain === chain).map(of));
  const here = kinds.filter((kind) => samples.some((sample) => sample.kind === kind));
  const ran = chains.filter((chain) => samples.some((sample) => sample.chain === chain));
  const rows = here.map((kind) => {
    const over = (chain: ChainName, of: (sample: ChainSample) => number) => median(kind, chain, of) / median(kind, 'debian', of);
    return { kind, ours: over('switch', (s) => s.perS), netback: over('netback', (s) => s.perS), overload: over('switch', (s) => s.overloadPerS) };
  });
  const least = (of: (row: (typeof rows)[number]) => number) => Math.min(...rows.map(of));
  const right = (title: string) => ({ title, align: 'right' as const });
  const share = (part: number) => `${(100 * part).toFixed(2)} %`;
  return {
    machine,
    promises: [
      atLeast('CLICK-14', 'packets/s of 64 bytes from guest to guest, click on the switch over Debian on netback and Linux bridges, the least of router, firewall and NAT', least((row) => row.ours), '×', 2),
      compared('CLICK-15', 'the same of click on netback and Linux bridges', least((row) => row.netback), '×'),
      compared('CLICK-16', 'the same of click on the switch with more sent than gets through', least((row) => row.overload), '×'),
      compared('CLICK-17', 'packets lost on the way, the worst median of the switch', Math.max(...here.map((kind) => 100 * median(kind, 'switch', (s) => s.lost))), '%'),
    ],
    lines: [
      table(
        [{ title: 'AS' }, { title: 'BOX' }, right('MIB'), right('PACKETS/S'), right('OVERLOADED'), right('LOST'), right('DOM0 BUSY')],
        here.flatMap((kind) =>
          ran.map((chain) => [kind, titles[chain], String(chain === 'debian' ? debianMemoryMib : boxMemoryMib), count(Math.round(median(kind, chain, (s) => s.perS))),
            count(Math.round(median(kind, chain, (s) => s.overloadPerS))), share(median(kind, chain, (s) => s.lost)), `${(100 * median(kind, chain, (s) => s.dom0Busy)).toFixed(0)} %`])),
      ),
      ...rows.map(({ kind, ours, netback, overload }) => `chain, ${kind}: ${ours.toFixed(2)} times on the switch, ${netback.toFixed(2)} on netback; overloaded ${overload.toFixed(2)}.`),
    ],
    files: {
      'click-chain.csv': ['kind,chain,round,packets_per_s,overloaded_packets_per_s,lost,dom0_busy',
        ...samples.map((s) => `${s.kind},${s.chain},${s.round},${s.perS},${s.overloadPerS},${s.lost.toFixed(5)},${s.dom0Busy.toFixed(3)}`), ''].join('\n'),
      'click-chain.svg': `${plotSvg({
        title: 'Packets a second from guest to guest through a middlebox: click and Debian as router, firewall and NAT',
        xLabel: `rounds as ${here.join(', as ')}`, yLabel: 'packets/s', scale: 'linear',
        series: ran.map((chain, i) => ({ label: titles[chain], shape: i === 2 ? 'diamond' as const : 'dot' as const, points: samples.filter((s) => s.chain === chain).map((s, at) => [at + 1, s.perS] as const) })),
      })}\n`,
    },
  };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [lab = 'lab', rounds = '3', kind, ...some] = process.argv.slice(2);
  const plan = { rounds: Number(rounds), seconds: 2, kinds: kinds.filter((each) => kind === undefined || kind === 'all' || each === kind), chains: chains.filter((each) => some.length === 0 || some.includes(each)) };
  const samples = await measured(await labAttach(lab), plan, (text) => process.stderr.write(`${text}\n`), new AbortController().signal);
  const { promises, lines, files } = chainOutcome(samples, machineFacts());
  for (const line of [...lines, files['click-chain.csv']!]) console.log(line);
  for (const { row, name, value, unit } of promises) console.log(`${row} ${name}: ${value} ${unit}`);
}
