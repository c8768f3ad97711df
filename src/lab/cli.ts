/** `shoal lab …`: the lab from the command line. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ShoalError } from '../model/errors.ts';
import { labAttach, labDown, labStatus, labUp, type LabHost, type LabStatus } from './lab.ts';
import { openProgress } from './progress.ts';
import type { Store } from './qemu.ts';
import { enter } from './network.ts';
import { parseHostName, routerNamespace } from './plan.ts';
import { attach, connect } from './ssh.ts';

export const labUsage = `shoal lab up [--hosts N] [--memory MiB] [--lab NAME] [--store NAME] [--one-subnet] [--no-agent] [--json]
shoal lab down [--lab NAME]
shoal lab status [--lab NAME] [--json]
shoal lab shell HOST [--lab NAME] [-- COMMAND…]
shoal lab console HOST [--lab NAME]
shoal lab link HOST HOST [--delay MS] [--loss PERCENT] [--rate KBIT] [--lab NAME]
shoal lab inside [--lab NAME] -- COMMAND…    (a command in the namespace of the router)`;

export interface LabArguments {
  verb: string;
  /** Words that are no options. */
  words: string[];
  /** What follows `--`; undefined without it. */
  command: string[] | undefined;
  name: string | undefined;
  hosts: number | undefined;
  memoryMib: number | undefined;
  store: string | undefined;
  json: boolean;
  agent: boolean;
  oneSubnet: boolean;
  delayMs: number | undefined;
  lossPercent: number | undefined;
  rateKbps: number | undefined;
}

const words: Record<string, number> = { up: 0, down: 0, status: 0, shell: 1, console: 1, link: 2, inside: 0 };

function number(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+(\.\d+)?$/.test(text)) throw new ShoalError('USAGE', `--${option} takes a number, not "${text}"`);
  return Number(text);
}

/** Pure. */
export function parseLabArguments(argv: readonly string[]): LabArguments {
  const dashes = argv.indexOf('--');
  const own = dashes < 0 ? argv : argv.slice(0, dashes);
  const command = dashes < 0 ? undefined : argv.slice(dashes + 1);
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  let parsed;
  try {
    parsed = parseArgs({
      args: [...own],
      allowPositionals: true,
      options: {
        lab: text,
        hosts: text,
        memory: text,
        store: text,
        json: flag,
        'no-agent': flag,
        'one-subnet': flag,
        delay: text,
        loss: text,
        rate: text,
      },
    });
  } catch (error) {
    throw new ShoalError('USAGE', (error as Error).message, { hint: labUsage });
  }
  const [verb, ...rest] = parsed.positionals;
  if (verb === undefined || !(verb in words))
    throw new ShoalError('USAGE', verb === undefined ? 'shoal lab: which verb?' : `shoal lab has no verb "${verb}"`, {
      hint: labUsage,
    });
  if (rest.length !== words[verb])
    throw new ShoalError('USAGE', `shoal lab ${verb} takes ${words[verb]} argument(s)`, { hint: labUsage });
  if (verb === 'inside' && (command ?? []).length === 0)
    throw new ShoalError('USAGE', 'shoal lab inside needs a command', { hint: labUsage });
  const { values } = parsed;
  if (values['one-subnet'] === true && verb !== 'up')
    throw new ShoalError('USAGE', `shoal lab ${verb} does not take --one-subnet`, { hint: 'A lab gets its subnets when it comes up.' });
  return {
    verb,
    words: rest,
    command: command !== undefined && command.length > 0 ? command : undefined,
    name: values.lab,
    hosts: number(values.hosts, 'hosts'),
    memoryMib: number(values.memory, 'memory'),
    store: values.store,
    json: values.json ?? false,
    agent: !(values['no-agent'] ?? false),
    oneSubnet: values['one-subnet'] ?? false,
    delayMs: number(values.delay, 'delay'),
    lossPercent: number(values.loss, 'loss'),
    rateKbps: number(values.rate, 'rate'),
  };
}

const given = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };

function print(status: LabStatus): void {
  if (status.hosts.length === 0) {
    console.log(`lab ${status.name} is not up`);
    return;
  }
  console.log(
    `lab ${status.name}: Xen ${status.versions?.xen}, dom0 Linux ${status.versions?.kernel}, ${status.store}, ` +
      `${status.accelerator}, ${status.memoryMib} MiB a host${status.oneSubnet ? ', in one subnet' : ''}`,
  );
  for (const host of status.hosts) {
    console.log(
      [
        `  ${host.name}`,
        host.alive ? `pid ${host.pid}` : 'ended',
        host.address,
        `VMs in ${host.cidr}`,
        host.agent ? host.url : 'no agent',
      ].join('  '),
    );
  }
  if (status.controller !== undefined) {
    const { url, pid, alive } = status.controller;
    console.log(`  controller  ${alive ? `pid ${pid}` : 'ended'}  ${url}`);
  }
  for (const { from, to, shape } of status.links) {
    const parts = [
      shape.delayMs && `${shape.delayMs} ms`,
      shape.lossPercent && `${shape.lossPercent} % lost`,
      shape.rateKbps && `${shape.rateKbps} kbit/s`,
    ];
    console.log(`  host${from} <-> host${to}: ${parts.filter(Boolean).join(', ')} each way`);
  }
}

/** Follows a host's serial log until interrupted. */
function follow(host: LabHost): Promise<number> {
  if (!existsSync(host.consoleFile)) throw new ShoalError('LAB_FAILED', `${host.name} has no serial log`);
  const child = spawn('tail', ['-n', '+1', '-F', host.consoleFile], { stdio: ['ignore', 'inherit', 'inherit'] });
  return new Promise((resolve) => child.on('close', (code) => resolve(code ?? 0)));
}

/** Runs a program with the caller's own standard input and output. */
function passOn(argv: string[]): Promise<number> {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve(code ?? 128));
  });
}

/** One shell word. */
const quote = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** The verb `lab`; resolves with the exit code. */
export async function labCommand(argv: string[]): Promise<number> {
  const args = parseLabArguments(argv);
  const hostOf = async (word: string): Promise<LabHost> => {
    const index = parseHostName(word);
    const host = (await labAttach(args.name)).hosts[index];
    if (host === undefined) throw new ShoalError('USAGE', `the lab has no host${index}`);
    return host;
  };
  switch (args.verb) {
    case 'up': {
      const progress = openProgress();
      try {
        await labUp({
          ...given({ name: args.name, hosts: args.hosts, memoryMib: args.memoryMib, store: args.store as Store | undefined }),
          agent: args.agent,
          ...(args.oneSubnet ? { oneSubnet: true } : {}),
          onProgress: progress.stage,
        });
      } finally {
        progress.end();
      }
      const status = await labStatus(args.name);
      if (args.json) console.log(JSON.stringify(status));
      else print(status);
      return 0;
    }
    case 'down':
      await labDown(args.name);
      return 0;
    case 'status': {
      const status = await labStatus(args.name);
      if (args.json) console.log(JSON.stringify(status));
      else print(status);
      return status.up ? 0 : 1;
    }
    case 'shell': {
      const host = await hostOf(args.words[0]!);
      await connect(host.ssh, 20_000);
      return attach(host.ssh, args.command?.length === 1 ? args.command[0] : args.command?.map(quote).join(' '));
    }
    case 'console':
      return follow(await hostOf(args.words[0]!));
    case 'link': {
      const lab = await labAttach(args.name);
      const shape = given({ delayMs: args.delayMs, lossPercent: args.lossPercent, rateKbps: args.rateKbps });
      await lab.link(parseHostName(args.words[0]!), parseHostName(args.words[1]!), shape);
      return 0;
    }
    default: {
      const lab = await labAttach(args.name);
      return passOn([...enter(routerNamespace(lab.name)), ...args.command!]);
    }
  }
}
