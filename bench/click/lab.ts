/**
 * Packets a second through a middlebox that is a guest: click as router, firewall and NAT beside Linux in a Debian guest that does the same, by the same
 * netback of one Xen host, in turns. Sender and receiver are one program in dom0 (forward.c) straight on the guest's two vifs, in a
 * namespace: dom0 has nothing else to do than that and netback.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { p50 } from '../../src/cli/demo/statistics.ts';
import { plotSvg } from '../../src/cli/demo/plot.ts';
import { count, table } from '../../src/cli/format.ts';
import type { LabHost } from '../../src/lab/lab.ts';
import { repositoryRoot } from '../../src/lab/paths.ts';
import { must } from '../../src/lab/processes.ts';
import { ShoalError } from '../../src/model/errors.ts';
import { inDom0 } from '../cache/debian.ts';
import { atLeast, compared, machineFacts, type BenchContext, type BenchOutcome } from '../harness.ts';
import { debianMemoryMib, kinds, prepareDebian, type Kind } from './debian.ts';

const boxes = ['click', 'debian'] as const;
type Box = (typeof boxes)[number];
/** With less it has fewer receive buffers than 128 (netfront_init), and dom0 waits for them. */
const clickMemoryMib = 8;
const folder = '/run/shoal-forward';
const flows = 300;
/** Packets under way: as many as the queues of the ready-made configurations hold, so that nothing is lost. */
const window = 512;
/** Of a processor, for the rounds in which dom0 is not what holds packets up: a share as a host of many middleboxes has for each. */
const capPercent = 10;
const lengths = { full: { rounds: 5, seconds: 2 }, quick: { rounds: 2, seconds: 2 } };
/** As in the first lines of the ready-made configurations. */
const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
const sources: Record<Kind, Record<Box, string>> = {
  router: { click: '10.0.0.0/24', debian: '10.0.0.0/24' },
  firewall: { click: '10.0.0.0/24', debian: '10.0.0.0/24' },
  nat: { click: '10.0.1.248/30', debian: '10.0.1.254/32' },
};
/** A machine that others use, too, may let the lab wait. */
const timeoutMs = 600_000;
const vifs = `vif = [${macs.map((mac) => `"mac=${mac},script=${folder}/hotplug.sh"`).join(', ')}]`;

export interface Forwarded {
  kind: Kind;
  box: Box;
  round: number;
  /** Under a window; the same where the guest may have `capPercent` of a processor; and with more sent than gets through. */
  perS: number;
  cappedPerS: number;
  overloadPerS: number;
  lost: number;
  /** Of the guest's processor, for each packet of the window's measurement. */
  guestUs: number;
  /** The share of dom0's processor that was busy meanwhile. */
  dom0Busy: number;
}

/** What a program of ours said of packets it sent and got back. */
export interface Told {
  sent: number;
  received: number;
  perS: number;
  wrong: number;
  lookedAt: number;
  busy: number;
}

export class Guest {
  readonly kind: Kind;
  readonly box: Box;
  readonly #host: LabHost;
  readonly #name: string;
  #domid = 0;

  constructor(host: LabHost, kind: Kind, box: Box) {
    this.#host = host;
    this.kind = kind;
    this.box = box;
    this.#name = `${box}-${kind}`;
  }

  async start(signal: AbortSignal): Promise<void> {
    await inDom0(this.#host, `ip netns add ${this.#name} && ip netns exec ${this.#name} sysctl -qw net.ipv6.conf.default.disable_ipv6=1; xl create ${folder}/${this.#name}.cfg`, timeoutMs);
    this.#domid = Number(await inDom0(this.#host, `xl domid ${this.#name}`, timeoutMs));
    for (let tries = 0; tries < 60; tries++) {
      signal.throwIfAborted();
      if ((await this.forward(0.3, 32)).received > 0) return;
      await sleep(500);
    }
    throw new ShoalError('LAB_FAILED', `Nothing comes through ${this.#name}.`, { hint: `xl console ${this.#name} in dom0 says why.` });
  }

  #words(seconds: number, under: number): string {
    const words = [`${folder}/forward`, seconds, under, flows, `vif${this.#domid}.0`, `vif${this.#domid}.1`, macs[0], sources[this.kind][this.box]];
    return `ip netns exec ${this.#name} ${words.join(' ')}`;
  }

  async forward(seconds: number, under: number): Promise<Told> {
    return JSON.parse(await inDom0(this.#host, this.#words(seconds, under), timeoutMs)) as Told;
  }

  /** One round, as one script, for each call into dom0 takes a second: as it is, with the cap, with more sent than gets through. */
  async round(seconds: number): Promise<{ free: Told; capped: Told; overload: Told; guestS: number }> {
    const used = `xl list ${this.#domid} | tail -n 1 | awk '{print $NF}'`;
    const cap = (percent: number): string => `xl sched-credit -d ${this.#domid} -c ${percent}`;
    const script = [used, this.#words(seconds, window), used, cap(capPercent), this.#words(seconds, window), cap(0), this.#words(seconds / 2, 0)].join(' && ');
    const [before, free, after, capped, overload] = (await inDom0(this.#host, script, timeoutMs)).split('\n').filter((line) => line !== '');
    return { free: JSON.parse(free!) as Told, capped: JSON.parse(capped!) as Told, overload: JSON.parse(overload!) as Told, guestS: Number(after) - Number(before) };
  }

  async end(): Promise<void> {
    await this.#host.exec(`xl destroy ${this.#name}; ip netns del ${this.#name}`, { timeoutMs });
  }
}

export async function prepare(host: LabHost, local: string): Promise<void> {
  const program = join(local, 'forward');
  await must(['gcc', '-O2', '-static', '-o', program, join(repositoryRoot, 'bench/click/forward.c')], { code: 'SETUP_FAILED', timeoutMs: 60_000 });
  await inDom0(host, `mkdir -p ${folder}`);
  await host.put(program, `${folder}/forward`);
  await host.put(join(repositoryRoot, 'bench/click/hotplug.sh'), `${folder}/hotplug.sh`);
  await inDom0(host, `chmod +x ${folder}/forward ${folder}/hotplug.sh`);
  await host.put(join(repositoryRoot, 'build/unikernels/click.elf'), `${folder}/click.elf`);
  for (const kind of kinds) {
    const text = readFileSync(join(repositoryRoot, `unikernels/apps/click/configurations/${kind}.click`));
    const disk = join(local, `${kind}.disk`);
    writeFileSync(disk, Buffer.concat([text, Buffer.alloc(4096 - (text.length % 4096))]));
    await host.put(disk, `${folder}/${kind}.disk`);
    const config = [`name = "click-${kind}"`, 'type = "pv"', `kernel = "${folder}/click.elf"`, `memory = ${clickMemoryMib}`, 'vcpus = 1', 'extra = "name=box config=disk"',
      `disk = ["format=raw,vdev=xvda,access=ro,script=${folder}/hotplug.sh,target=${folder}/${kind}.disk"]`, vifs, ''];
    await inDom0(host, `cat > ${folder}/click-${kind}.cfg`, timeoutMs, config.join('\n'));
  }
  await prepareDebian(host, local, folder, vifs);
}

async function measure(guest: Guest, round: number, seconds: number): Promise<Forwarded> {
  const { free, capped, overload, guestS } = await guest.round(seconds);
  const wrong = free.wrong + capped.wrong + overload.wrong;
  if (wrong > 0 || free.lookedAt === 0) throw new ShoalError('LAB_FAILED', `${guest.box} as ${guest.kind}: ${wrong} of ${free.lookedAt} packets looked at are wrong.`);
  return {
    kind: guest.kind, box: guest.box, round, perS: free.perS, cappedPerS: capped.perS, overloadPerS: overload.perS, lost: (free.sent - free.received) / free.sent,
    guestUs: (guestS * 1e6) / free.received, dom0Busy: free.busy,
  };
}

export async function forwarding({ terminal, quick, lab, signal }: BenchContext): Promise<BenchOutcome> {
  const host = lab.hosts[0]!;
  const local = mkdtempSync(join(tmpdir(), 'shoal-bench-forward-'));
  const { rounds, seconds } = quick ? lengths.quick : lengths.full;
  const samples: Forwarded[] = [];
  try {
    await prepare(host, local);
    for (const kind of kinds) {
      const guests = boxes.map((box) => new Guest(host, kind, box));
      try {
        for (const guest of guests) await guest.start(signal);
        for (const guest of guests) await guest.forward(1, window);
        for (let round = 1; round <= rounds && !signal.aborted; round++) {
          for (const guest of guests) {
            terminal.status(`${kind}, ${guest.box}, round ${round} of ${rounds}`);
            samples.push(await measure(guest, round, seconds));
          }
        }
      } finally {
        for (const guest of guests) await guest.end();
      }
    }
    terminal.status('');
    return outcomeOf(samples, { ...machineFacts(), accelerator: lab.accelerator });
  } finally {
    await host.exec(`rm -rf ${folder}`, { timeoutMs: 30_000 });
    rmSync(local, { recursive: true, force: true });
  }
}

/** Pure; exported for its test. */
export function outcomeOf(samples: readonly Forwarded[], machine: BenchOutcome['machine']): BenchOutcome {
  const median = (kind: Kind, box: Box, of: (sample: Forwarded) => number) => p50(samples.filter((sample) => sample.kind === kind && sample.box === box).map(of));
  const rows = kinds.map((kind) => {
    const ratio = (of: (sample: Forwarded) => number) => median(kind, 'click', of) / median(kind, 'debian', of);
    return { kind, ratio: ratio((s) => s.perS), capped: ratio((s) => s.cappedPerS), overload: ratio((s) => s.overloadPerS), processor: 1 / ratio((s) => s.guestUs) };
  });
  const least = (of: (row: (typeof rows)[number]) => number) => Math.min(...rows.map(of));
  const right = (title: string) => ({ title, align: 'right' as const });
  return {
    machine,
    promises: [
      atLeast('CLICK-11', 'packets/s of 64 bytes by netback, click over Debian, the least of router, firewall and NAT', least((row) => row.ratio), '×', 2),
      atLeast('CLICK-12', `the same where the guest may have ${capPercent} % of a processor`, least((row) => row.capped), '×', 2),
      compared('CLICK-13', "packets for the same time of the guest's processor", least((row) => row.processor), '×'),
    ],
    lines: [
      table(
        [{ title: 'AS' }, { title: 'GUEST' }, right('MIB'), right('PACKETS/S'), right(`WITH ${capPercent} %`), right('OVERLOADED'), right('LOST'), right('GUEST, US A PACKET'), right('DOM0 BUSY')],
        kinds.flatMap((kind) =>
          boxes.map((box) => [kind, box, String(box === 'click' ? clickMemoryMib : debianMemoryMib), count(Math.round(median(kind, box, (s) => s.perS))),
            count(Math.round(median(kind, box, (s) => s.cappedPerS))),
            count(Math.round(median(kind, box, (s) => s.overloadPerS))), `${(100 * median(kind, box, (s) => s.lost)).toFixed(2)} %`, median(kind, box, (s) => s.guestUs).toFixed(1), `${(100 * median(kind, box, (s) => s.dom0Busy)).toFixed(0)} %`])),
      ),
      ...rows.map(({ kind, ratio, capped, overload, processor }) => `${kind}: ${ratio.toFixed(2)} times; with ${capPercent} % ${capped.toFixed(2)}; overloaded ${overload.toFixed(2)}; of the guest's processor ${processor.toFixed(2)}.`),
    ],
    files: {
      'click.csv': ['kind,guest,round,packets_per_s,capped_packets_per_s,overloaded_packets_per_s,lost,guest_us_per_packet,dom0_busy',
        ...samples.map((s) => `${s.kind},${s.box},${s.round},${s.perS},${s.cappedPerS},${s.overloadPerS},${s.lost.toFixed(5)},${s.guestUs.toFixed(2)},${s.dom0Busy.toFixed(3)}`), ''].join('\n'),
      'click.svg': `${plotSvg({
        title: 'Packets a second through a guest by netback: click and Debian as router, firewall and NAT',
        xLabel: `rounds as ${kinds.join(', as ')}`, yLabel: 'packets/s', scale: 'linear',
        series: boxes.map((box, i) => ({ label: box, shape: i === 0 ? 'dot' as const : 'diamond' as const, points: samples.filter((s) => s.box === box).map((s, at) => [at + 1, s.perS] as const) })),
      })}\n`,
    },
  };
}
