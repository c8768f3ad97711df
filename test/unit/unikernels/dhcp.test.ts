/**
 * ping, as a Linux process with sanitizers, gets its address of a real DHCP server (dnsmasq) in a namespace of this test's own, and asks on where
 * nobody answers. Needs root, for the namespace.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { must } from './inside.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const namespace = `shoal-dhcp-${process.pid}`;
const inside = ['ip', 'netns', 'exec', namespace];

function start(argv: readonly string[], of: { output: string }): ChildProcess {
  const child = spawn(inside[0]!, [...inside.slice(1), ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (data: Buffer) => (of.output += data.toString()));
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await once(child, 'exit');
  clearTimeout(late);
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 600 && !what(); i++) await sleep(50);
}

test('an address of a DHCP server', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/ping-linux.san'), 'SANITIZE=1'], 300_000);
  const folder = mkdtempSync(join(tmpdir(), 'shoal-dhcp-'));
  const leases = join(folder, 'leases');
  const [said, served] = [{ output: '' }, { output: '' }];
  const children: ChildProcess[] = [];
  try {
    must(['ip', 'netns', 'add', namespace]);
    for (const words of ['tuntap add dev tap0 mode tap', 'addr add 10.64.0.1/16 dev tap0', 'link set tap0 up']) must([...inside, 'ip', ...words.split(' ')]);
    const ping = start([join(root, 'build/unikernels/ping-linux.san'), 'tap0', 'name=asker', 'ip=dhcp'], said);
    children.push(ping);
    await sleep(1500);
    t.notOk(said.output.includes('net 0: up'), 'nobody answers: no address yet');
    t.equal(ping.exitCode, null, 'and it goes on asking');

    children.push(
      start(
        ['dnsmasq', '--no-daemon', '--port=0', '--conf-file=/dev/null', '--user=root', '--interface=tap0', '--bind-interfaces', '--dhcp-authoritative', `--dhcp-leasefile=${leases}`,
          '--dhcp-range=10.64.7.7,10.64.7.7,255.255.0.0,2m', '--dhcp-option=option:router,10.64.0.1', `--pid-file=${join(folder, 'pid')}`],
        served,
      ),
    );
    await until(() => said.output.includes('net 0: up'));
    t.match(said.output, /net 0: up after \d+ us, ip 10\.64\.7\.7\/16 gw 10\.64\.0\.1 mac [0-9a-f:]{17}/, "address, prefix and gateway are the server's");
    t.match(readFileSync(leases, 'utf8'), / 10\.64\.7\.7 /, 'which wrote down the lease');
    const { stdout } = spawnSync(inside[0]!, [...inside.slice(1), 'curl', '-s', '--max-time', '10', 'http://10.64.7.7/'], { encoding: 'utf8' });
    t.match(stdout, /"name":"asker"/, 'it answers there');
    const acks = () => served.output.match(/DHCPACK\(tap0\) 10\.64\.7\.7/g)?.length ?? 0;
    t.equal(acks(), 1, 'given once');
  } finally {
    for (const child of children) await end(child);
    spawnSync('ip', ['netns', 'del', namespace]);
    rmSync(folder, { recursive: true, force: true });
  }
  t.equal(children[0]?.exitCode, 0, `it ends without a finding: ${said.output.slice(-2000)}`);
});
