/**
 * Vifs on bridges with a real kernel but without Xen: in a network namespace of its own, a veth pair plays netback's link and a further
 * namespace behind it the guest. Shows who reaches whom by ARP, that broadcasts are not copied to guests, how bridges are sharded and that
 * nothing is left. Needs root; runs itself again inside of the namespace.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { loadNative } from '../../src/hypervisor/xen/native.ts';
import { Networks, vifName } from '../../src/hypervisor/xen/networks.ts';
import { ShoalError } from '../../src/model/errors.ts';

const self = fileURLToPath(import.meta.url);
const root = resolve(dirname(self), '../..');
const tag = 'shoalbr';
const namespaces = [tag, `${tag}-out`, ...[1, 2, 3, 4, 5].map((n) => `${tag}-g${n}`)];
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8', timeout: 20_000 });
const remove = (): void => {
  for (const name of namespaces) spawnSync('ip', ['netns', 'del', name], { timeout: 20_000 });
};

if (!process.argv.includes('inside')) {
  test('vifs on bridges', { timeout: 120_000 }, (t) => {
    execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen/native'), `OUT=${join(root, 'build')}`], { timeout: 120_000 });
    remove();
    try {
      for (const name of namespaces) {
        ip('netns', 'add', name);
        ip('netns', 'exec', name, 'ip', 'link', 'set', 'lo', 'up');
      }
      const run = spawnSync('ip', ['netns', 'exec', tag, process.execPath, '--import', 'tsx', self, 'inside'], { encoding: 'utf8', timeout: 110_000, cwd: root });
      for (const match of run.stdout.matchAll(/^(not )?ok \d+ (.*)$/gm)) t.ok(!match[1], match[2]);
      t.equal(run.status, 0, run.status === 0 ? 'all of it ran' : run.stdout + run.stderr);
    } finally {
      remove();
    }
    t.end();
  });
} else {
  inside();
}

/** Outside and guests: a namespace each, joined by a veth pair to the namespace with the bridges. */
function plug(namespace: string, here: string, address: string, mac?: string): void {
  // As netback's links have it; a lower address than the bridge's would become the bridge's.
  ip('link', 'add', here, 'address', 'fe:ff:ff:ff:ff:ff', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
  const there = (...args: string[]): string => ip('netns', 'exec', namespace, 'ip', ...args);
  if (mac) there('link', 'set', 'eth0', 'address', mac);
  there('addr', 'add', `${address}/16`, 'dev', 'eth0');
  there('link', 'set', 'eth0', 'up');
}

const mac = (n: number): string => `00:16:3e:00:00:0${n}`;
const guest = (n: number): string => `10.99.1.${n}`;

/** A connection to a closed port is refused at once by whoever has the address; nobody there is "No route to host" after three questions. */
function reaches(from: string | undefined, address: string): boolean {
  const words = ['bash', '-c', `echo > /dev/tcp/${address}/9`];
  const run = from ? spawnSync('ip', ['netns', 'exec', from, ...words], { encoding: 'utf8', timeout: 8000 }) : spawnSync(words[0]!, words.slice(1), { encoding: 'utf8', timeout: 8000 });
  return run.stderr.includes('refused');
}

const received = (namespace: string): number => Number(ip('netns', 'exec', namespace, 'cat', '/sys/class/net/eth0/statistics/rx_packets'));
const forget = (namespace: string): void => void ip('netns', 'exec', namespace, 'ip', 'neigh', 'flush', 'all');

function inside(): void {
  const native = loadNative(join(root, 'build/shoal_xen.node'));
  const networks = new Networks(native, [{ name: 'default', bridge: 'br0' }], 4);
  const vif = (n: number, ipv4: string[] = [guest(n)]) => ({ handle: 0, mac: mac(n), network: 'default', ipv4 });
  const nothing = async (): Promise<string | undefined> => 'nobody made it';

  test('the world', (t) => {
    for (const family of ['all', 'default']) execFileSync('sh', ['-c', `echo 1 > /proc/sys/net/ipv6/conf/${family}/disable_ipv6`]);
    ip('link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0', 'mcast_snooping', '0');
    ip('addr', 'add', '10.99.0.2/16', 'dev', 'br0');
    plug(`${tag}-out`, 'uplink0', '10.99.0.1');
    ip('link', 'set', 'uplink0', 'address', '52:54:00:00:00:02');
    ip('link', 'set', 'uplink0', 'master', 'br0', 'up');
    ip('link', 'set', 'br0', 'up');
    networks.start(new Map());
    t.deepEqual(networks.names(), ['default']);
    t.end();
  });

  test('a vif is waited for by the kernel\'s news', async (t) => {
    const attached = networks.attach(1, vif(1), nothing);
    setTimeout(() => plug(`${tag}-g1`, vifName(1, 0), guest(1), mac(1)), 50);
    await attached;
    t.match(ip('-d', 'link', 'show', vifName(1, 0)), /master br0.*proxy_arp on proxy_arp_wifi on/s);
    for (const n of [2, 3]) {
      plug(`${tag}-g${n}`, vifName(n, 0), guest(n), mac(n));
      await networks.attach(n, vif(n, n === 3 ? [] : [guest(n)]), nothing);
    }
  });

  test('everybody reaches everybody', (t) => {
    t.ok(reaches(`${tag}-out`, guest(1)), 'outside reaches a guest with a known address');
    t.ok(reaches(`${tag}-out`, guest(3)), 'outside reaches a guest that configures itself');
    t.ok(reaches(undefined, guest(2)), 'dom0 reaches a guest');
    t.ok(reaches(`${tag}-g1`, guest(2)), 'a guest reaches a guest');
    t.ok(reaches(`${tag}-g1`, guest(3)) && reaches(`${tag}-g3`, guest(1)), 'known and unknown reach each other');
    t.ok(reaches(`${tag}-g1`, '10.99.0.1'), 'a guest reaches outside');
    t.ok(reaches(`${tag}-g1`, '10.99.0.2'), 'a guest reaches dom0');
    t.end();
  });

  test('a broadcast reaches only who needs it', (t) => {
    for (const name of namespaces.slice(1)) forget(name); // so that nobody probes an old neighbour meanwhile
    const before = [1, 2, 3].map((n) => received(`${tag}-g${n}`));
    t.notOk(reaches(`${tag}-out`, '10.99.7.7'), 'outside asks for an address that nobody has');
    t.notOk(reaches(undefined, '10.99.7.8'), 'so does dom0');
    const copies = [1, 2, 3].map((n, i) => received(`${tag}-g${n}`) - before[i]!);
    t.equal(copies[0], 0, 'no copy for guest 1');
    t.equal(copies[1], 0, 'nor for guest 2');
    t.ok(copies[2]! >= 2, 'but for guest 3, which answers for itself');
    for (const name of namespaces.slice(1)) forget(name);
    const quiet = received(`${tag}-g1`);
    t.ok(reaches(`${tag}-out`, guest(2)));
    t.equal(received(`${tag}-g1`) - quiet, 0, 'a question about guest 2 does not reach guest 1');
    t.end();
  });

  test('a full bridge gets another beside it', async (t) => {
    for (const n of [4, 5]) {
      plug(`${tag}-g${n}`, vifName(n, 0), guest(n), mac(n));
      await networks.attach(n, vif(n), nothing);
    }
    t.match(ip('link', 'show', vifName(5, 0)), /master br0\.1 /, 'guest 5 is on the shard');
    t.match(ip('link', 'show', vifName(4, 0)), /master br0\.1 /, 'and guest 4, for the uplink and the three before it fill the first');
    for (const from of [`${tag}-out`, undefined, `${tag}-g1`, `${tag}-g3`, `${tag}-g4`]) {
      if (from) forget(from);
      t.ok(reaches(from, guest(5)), `${from ?? 'dom0'} reaches guest 5`);
    }
    for (const address of [guest(1), guest(3), guest(4), '10.99.0.1', '10.99.0.2']) t.ok(reaches(`${tag}-g5`, address), `guest 5 reaches ${address}`);
    for (const name of namespaces.slice(1)) forget(name);
    const quiet = [1, 4].map((n) => received(`${tag}-g${n}`));
    t.notOk(reaches(`${tag}-g5`, '10.99.7.7'));
    t.deepEqual([1, 4].map((n) => received(`${tag}-g${n}`)), quiet, 'its broadcasts reach no other guest');
  });

  test('another agent finds everything again', async (t) => {
    native.close();
    const later = new Networks(native, [{ name: 'default', bridge: 'br0' }], 4);
    later.start(new Map([1, 2, 3, 4, 5].map((n) => [vifName(n, 0), mac(n)])));
    later.release(5);
    t.notOk(ip('neigh', 'show', 'dev', 'br0').includes(guest(5)), 'the neighbour of guest 5 is forgotten');
    t.ok(ip('neigh', 'show', 'dev', 'br0').includes(guest(4)), 'that of guest 4 is not');
    t.notOk(execFileSync('bridge', ['fdb', 'show', 'dev', 'br0-1'], { encoding: 'utf8' }).includes(mac(5)), 'nor does the way to the shard know it');
    const gone = later.gone(5);
    ip('link', 'del', vifName(5, 0));
    await gone;
    for (const n of [1, 2, 3, 4]) {
      later.release(n);
      ip('link', 'del', vifName(n, 0));
      await later.gone(n);
    }
    t.equal(ip('neigh', 'show', 'nud', 'permanent', 'dev', 'br0').trim(), '', 'no neighbour is left');
    native.close();
  });

  test('neighbours of vifs that went away unseen are swept at the start', (t) => {
    ip('neigh', 'add', guest(9), 'lladdr', mac(9), 'dev', 'br0', 'nud', 'permanent');
    ip('neigh', 'add', '10.99.0.77', 'lladdr', '02:00:00:00:00:01', 'dev', 'br0', 'nud', 'permanent');
    new Networks(native, [{ name: 'default', bridge: 'br0' }]).start(new Map());
    const left = ip('neigh', 'show', 'nud', 'permanent', 'dev', 'br0');
    t.notOk(left.includes(guest(9)), 'ours is gone');
    t.ok(left.includes('10.99.0.77'), 'what somebody else set stays');
    native.close();
    t.end();
  });

  test('what cannot be is a typed error', async (t) => {
    const other = new Networks(native, [{ name: 'default', bridge: 'br9' }]);
    other.start(new Map());
    const code = async (work: () => unknown): Promise<unknown> => {
      try {
        await work();
        return 'none';
      } catch (error) {
        return error instanceof ShoalError ? error.code : error;
      }
    };
    plug(`${tag}-g1`, vifName(8, 0), guest(8), mac(8));
    t.equal(await code(() => other.attach(8, vif(8), nothing)), 'VIF_FAILED', 'a bridge that is not there');
    t.equal(await code(() => other.attach(8, { ...vif(8), network: 'x' }, nothing)), 'NETWORK_UNKNOWN');
    t.equal(await code(() => new Networks(native, [{ name: 'x', bridge: 'a-long-bridge' }])), 'VALUE_NOT_SUPPORTED');
    native.close();
  });
}
