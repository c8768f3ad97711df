/**
 * Makes a Debian dom0 a host of Shoal: programs, units, limits, the agent's configuration with a certificate and a password of its own.
 * Everything that can be refused is refused before the first change; what is as wanted already is left alone, so it can be run again
 * at any time. It makes and changes no network interface.
 *
 * With a root folder other than `/` it writes there and starts nothing.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { BlockList, isIPv4 } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ShoalError } from '../model/errors.ts';
import { agentConfigText, certificateCommand, programFolder, sysctlPath, sysctls, sysctlText, type AgentSettings, type Range } from './dom0.ts';
import { difference, makeSo, type FileChange, type WantedFile } from './files.ts';
import { unitNames, units } from './units.ts';

export interface SetupOptions extends AgentSettings {
  /** `/`, or a folder that stands for it. */
  root: string;
  /** Says what would be changed, and changes nothing. */
  dryRun: boolean;
  /** Shoal's store daemon instead of Xen's, from the next start of the host on. */
  store: boolean;
  /** Programs to be copied: their name there, and where they are. */
  programs: Readonly<Record<string, string>>;
  say: (line: string) => void;
}

const run = promisify(execFile);
const certPath = 'etc/shoal/cert.pem';
const keyPath = 'etc/shoal/key.pem';
const configPath = 'etc/shoal/agent.json';
/** There while what was written has not been brought to what runs: a run that was killed is made up for by the next. */
const pendingPath = 'etc/shoal/setup.pending';
const defaultsPath = 'etc/default/xen';
const storeLine = `XENSTORED=/${programFolder}/shoal-stored`;

/** Gives the number of changes made, or that would be. Throws HYPERVISOR_UNAVAILABLE, NETWORK_UNKNOWN, CONFIG_INVALID, SETUP_FAILED. */
export async function setUpHost(options: SetupOptions): Promise<number> {
  const { root, dryRun, say } = options;
  checkHost(options);
  for (const from of Object.values(options.programs)) {
    if (!existsSync(from)) throw new ShoalError('SETUP_FAILED', `${from} is missing.`, { hint: 'Run `shoal build`.' });
  }
  const pending = join(root, pendingPath);
  const cutShort = existsSync(pending);
  const verb = { made: dryRun ? 'would make' : 'made', changed: dryRun ? 'would change' : 'changed', mode: dryRun ? 'would set the mode of' : 'set the mode of' };
  const changes: FileChange[] = [];
  for (const wanted of filesOf(options)) {
    const change = difference(root, wanted);
    if (change === undefined) continue;
    if (!dryRun) {
      if (changes.length === 0) makeSo(root, { path: pendingPath, mode: 0o600, content: '' }, { path: pendingPath, what: 'made' });
      makeSo(root, wanted, change);
    }
    changes.push(change);
    say(`${verb[change.what]} /${change.path}`);
  }
  if (!existsSync(join(root, certPath)) || !existsSync(join(root, keyPath))) {
    if (!dryRun) await makeCertificate(options);
    changes.push({ path: certPath, what: 'made' });
    say(`${verb.made} /${certPath} and its key`);
  }
  if (root === '/' && !dryRun) await start(changes.map(({ path }) => path), cutShort, say);
  if (!dryRun) rmSync(pending, { force: true });
  if (options.store && changes.some(({ path }) => path === defaultsPath)) say('the store daemon changes with the next start of the host');
  return changes.length;
}

/** Whether this host can be set up so. Throws HYPERVISOR_UNAVAILABLE, NETWORK_UNKNOWN, CONFIG_INVALID. */
export function checkHost({ root, bridge, range, address, guestCpus }: Omit<SetupOptions, 'programs'>): void {
  const capabilities = join(root, 'proc/xen/capabilities');
  const isDom0 = existsSync(capabilities) && readFileSync(capabilities, 'utf8').includes('control_d');
  if (!isDom0) {
    throw new ShoalError('HYPERVISOR_UNAVAILABLE', 'This is not dom0 of a Xen host.', {
      hint: 'Install xen-system-amd64, start the machine with Xen, and run this there; docs/walkthroughs/real-host.md has the steps.',
    });
  }
  if (root === '/' && process.getuid?.() !== 0) throw new ShoalError('HYPERVISOR_UNAVAILABLE', 'Only root can set a host up.', { hint: 'Run it as root.' });
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(bridge) || !existsSync(join(root, 'sys/class/net', bridge, 'bridge'))) {
    throw new ShoalError('NETWORK_UNKNOWN', `There is no bridge "${bridge.slice(0, 32)}".`, {
      hint: 'Make the bridge first, for example in /etc/network/interfaces: this changes no network interface.',
    });
  }
  if (range !== undefined) checkRange(range);
  if (address !== undefined && !isIPv4(address)) throw wrong('address', 'must be an IPv4 address');
  if (guestCpus?.length === 0) throw wrong('guest-cpus', 'must name at least one processor');
}

const wrong = (field: string, why: string): ShoalError => new ShoalError('CONFIG_INVALID', `${field} ${why}.`, { hint: `Correct --${field}.`, data: { field } });

function checkRange({ cidr, gateway, first, last }: Range): void {
  const [base = '', prefix = ''] = cidr.split('/');
  const bits = /^\d{1,2}$/.test(prefix) ? Number(prefix) : 0;
  if (!isIPv4(base) || bits < 1 || bits > 30) throw wrong('cidr', 'must be like 10.64.0.0/16');
  const subnet = new BlockList();
  subnet.addSubnet(base, bits);
  if (number(base) % 2 ** (32 - bits) !== 0) throw wrong('cidr', 'must begin where its prefix says');
  for (const [field, value] of Object.entries({ gateway, first, last }))
    if (!isIPv4(value) || !subnet.check(value)) throw wrong(field, `must be an address of ${cidr}`);
  if (number(first) > number(last)) throw wrong('first', 'must not be behind last');
}

const number = (address: string): number => address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);

function filesOf(options: SetupOptions): WantedFile[] {
  const { root, programs, store } = options;
  const files: WantedFile[] = Object.entries(programs).map(([name, from]) => ({ path: `${programFolder}/${name}`, mode: 0o755, content: { from } }));
  files.push(
    { path: sysctlPath, mode: 0o644, content: sysctlText(lacking(root)) },
    { path: 'etc/modules-load.d/shoal.conf', mode: 0o644, content: moduleText },
    { path: 'etc/tmpfiles.d/shoal.conf', mode: 0o644, content: tmpfilesText },
    ...unitNames.map((name) => ({ path: `etc/systemd/system/${name}`, mode: 0o644, content: units[name] })),
    { path: 'etc/shoal/password', mode: 0o600, content: `${randomBytes(18).toString('base64url')}\n`, keep: true },
    { path: configPath, mode: 0o600, content: agentConfigText(options), old: true },
  );
  if (store) {
    const place = join(root, defaultsPath);
    const before = existsSync(place) ? readFileSync(place, 'utf8') : '';
    const others = before.split('\n').filter((line) => !/^\s*XENSTORED=/.test(line));
    while (others.at(-1) === '') others.pop();
    files.push({ path: defaultsPath, mode: 0o644, content: [...others, storeLine, ''].join('\n'), old: true });
  }
  return files;
}

/** A limit that is higher already stays. */
function lacking(root: string): Record<string, number> {
  const now = (name: string): number => {
    const place = join(root, 'proc/sys', ...name.split('.'));
    return existsSync(place) ? Number(readFileSync(place, 'utf8')) : 0;
  };
  return Object.fromEntries(Object.entries(sysctls).filter(([name, least]) => !(now(name) > least)));
}

const moduleText = ['# Written by `shoal host setup`.', 'xen-evtchn', 'xen-gntdev', 'xen-gntalloc', 'xen-privcmd', 'xen-netback', 'xen-blkback', 'loop', 'tun', ''].join('\n');

/** Taking away thousands of network devices waits for RCU each time. */
const tmpfilesText = '# Written by `shoal host setup`.\nw /sys/kernel/rcu_expedited - - - - 1\n';

/** The certificate comes last: with it, all is there. */
async function makeCertificate({ root, address }: SetupOptions): Promise<void> {
  const mine = Object.values(networkInterfaces()).flatMap((each) => each ?? []).filter(({ family }) => family === 'IPv4');
  const addresses = [...new Set(['127.0.0.1', ...mine.map((each) => each.address), ...(address === undefined ? [] : [address])])];
  const [key, cert] = [join(root, keyPath), join(root, certPath)];
  const [program, ...args] = certificateCommand(hostname(), addresses, `${key}.part`, `${cert}.part`);
  try {
    rmSync(`${key}.part`, { force: true });
    await run(program!, args, { timeout: 60_000 });
  } catch (cause) {
    throw new ShoalError('SETUP_FAILED', `openssl made no certificate: ${(cause as Error).message.slice(0, 300)}`, { hint: 'Install Debian\'s package openssl.', cause });
  }
  renameSync(`${key}.part`, key);
  renameSync(`${cert}.part`, cert);
}

/** Brings what runs to what was written. VMs are not touched: neither the agent's nor the switch's end is theirs. */
async function start(changed: readonly string[], all: boolean, say: (line: string) => void): Promise<void> {
  const orders: string[][] = [
    ['modprobe', '-a', ...moduleText.split('\n').filter((line) => /^[a-z]/.test(line))],
    ['sysctl', '-q', '-p', `/${sysctlPath}`],
    ['systemd-tmpfiles', '--create', '/etc/tmpfiles.d/shoal.conf'],
    ['systemctl', 'daemon-reload'],
    ['systemctl', 'enable', '--quiet', ...unitNames],
  ];
  const files: Record<(typeof unitNames)[number], readonly string[]> = {
    'shoal-switch.service': ['shoal-switch'],
    'shoal-agent.service': ['agent.cjs', 'node', 'shoal_xen.node', 'agent.json', 'cert.pem'],
  };
  for (const name of unitNames) {
    const its = [...files[name], name];
    orders.push(['systemctl', all || changed.some((path) => its.includes(path.split('/').at(-1)!)) ? 'restart' : 'start', name]);
  }
  for (const [program, ...args] of orders) {
    await run(program!, args, { timeout: 120_000 }).catch((cause: unknown) => {
      throw new ShoalError('SETUP_FAILED', `${program} ${args.join(' ')}: ${(cause as Error).message.slice(0, 300)}`, { hint: 'Correct what it names, and run this again.', cause });
    });
    say(`did ${program} ${args.join(' ')}`);
  }
}
