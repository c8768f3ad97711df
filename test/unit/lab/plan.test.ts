import test from 'tape';
import { checkMemory, checkOneSubnet, dom0MemoryMib, hostPlan, parseHostName, processorsOf } from '../../../src/lab/plan.ts';
import { checkLabName } from '../../../src/lab/paths.ts';
import { agentConfig } from '../../../src/lab/agent.ts';
import { parseAgentConfig } from '../../../src/main/agent-config.ts';

test('plan: every host has a subnet, an address and a hardware address of its own', (t) => {
  const plans = Array.from({ length: 64 }, (_, k) => hostPlan(k));
  for (const field of ['name', 'address', 'cidr', 'gateway', 'mac'] as const) {
    t.equal(new Set(plans.map((plan) => plan[field])).size, 64, `${field} is unique`);
  }
  t.deepEqual(hostPlan(2), {
    index: 2,
    name: 'host2',
    address: '10.66.0.2',
    prefixLength: 16,
    cidr: '10.66.0.0/16',
    gateway: '10.66.0.1',
    first: '10.66.1.0',
    last: '10.66.250.255',
    mac: '52:54:00:00:01:02',
    bridge: 'host2',
    leg: 'leg2',
  });
  t.throws(() => hostPlan(64), /no host 64/);
  t.throws(() => hostPlan(-1), /no host/);
  t.throws(() => hostPlan(0.5), /no host/);
  t.end();
});

test('plan: hosts of one subnet share its gateway, bridge and leg, and no address or pool', (t) => {
  const number = (address: string): number => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const plans = Array.from({ length: 64 }, (_, k) => hostPlan(k, true));
  for (const field of ['cidr', 'gateway', 'bridge', 'leg', 'prefixLength'] as const) t.equal(new Set(plans.map((plan) => plan[field])).size, 1, `${field} is the same`);
  const { cidr, gateway } = plans[0]!;
  const [base, bits] = cidr.split('/') as [string, string];
  const within = (address: string): boolean => Math.floor(number(address) / 2 ** (32 - Number(bits))) === Math.floor(number(base) / 2 ** (32 - Number(bits)));
  t.ok(plans.every(({ address, first, last }) => [address, first, last, gateway].every(within)), 'all of it is in the subnet');
  const taken = plans.flatMap(({ address, first, last }) => [[number(address), number(address)], [number(first), number(last)]]).concat([[number(gateway), number(gateway)]]);
  taken.sort(([a = 0], [b = 0]) => a - b);
  t.ok(taken.every(([first], i) => i === 0 || first! > taken[i - 1]![1]!), 'nothing overlaps');
  t.equal(new Set(plans.map(({ mac }) => mac)).size, 64, 'each bridge has its own hardware address');
  t.deepEqual([plans[1]!.address, plans[1]!.gateway, plans[1]!.cidr], ['10.65.0.2', '10.64.0.1', '10.64.0.0/10']);
  for (const hosts of [0, 1]) t.throws(() => checkOneSubnet(hosts), /two hosts or more/);
  checkOneSubnet(2);
  t.end();
});

test('plan: two processors a host where the machine has as many, else one, never more than share its cores', (t) => {
  for (const [hosts, cores, expected] of [
    [1, 1, 1],
    [1, 2, 2],
    [2, 2, 1],
    [2, 3, 1],
    [2, 4, 2],
    [8, 16, 2],
  ] as const)
    t.equal(processorsOf(hosts, cores), expected, `${hosts} hosts on ${cores} cores`);
  t.end();
});

test('plan: host names and lab names', (t) => {
  t.equal(parseHostName('host3'), 3);
  t.equal(parseHostName('12'), 12);
  for (const bad of ['', 'host', 'hosts1', 'host-1', 'host64', '1e1', 'host1;ls'])
    t.throws(() => parseHostName(bad), undefined, JSON.stringify(bad));
  t.equal(checkLabName('lab2'), 'lab2');
  for (const bad of ['', '2lab', 'a/b', '../x', 'UPPER', 'abcdefghijklm', 'a b'])
    t.throws(() => checkLabName(bad), /no name/, JSON.stringify(bad));
  t.end();
});

test('plan: memory of a host and what dom0 gets of it', (t) => {
  t.equal(checkMemory(8192), 8192);
  for (const bad of [0, 512, 1023, 1024.5, Number.NaN, 1e9]) t.throws(() => checkMemory(bad), /cannot have/, String(bad));
  t.equal(dom0MemoryMib(1024), 640, 'at least what its root and node need');
  t.equal(dom0MemoryMib(8192), 2048);
  t.equal(dom0MemoryMib(65536), 4096, 'at most 4 GiB');
  t.end();
});

test('plan: the agent accepts the configuration that the lab writes', (t) => {
  const config = parseAgentConfig(JSON.stringify(agentConfig(5, 2)));
  t.equal(config.networks.length, 1);
  t.equal(config.listen.port, 443);
  const [alone, shared] = [false, true].map((oneSubnet) => parseAgentConfig(JSON.stringify(agentConfig(1, 2, oneSubnet))).networks[0]!.subnet!);
  t.deepEqual([alone!.prefix, shared!.prefix, shared!.first], [16, 10, alone!.first], 'in one subnet, too');
  t.end();
});
