/**
 * The lab itself, on real Xen hosts: up, commands, the network between hosts, and that nothing is left after whatever happened.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { untilAgentAnswers } from '../../src/lab/agent.ts';
import { labAttach, labDown, labStatus, labUp, type Lab } from '../../src/lab/lab.ts';
import { labFolder, repositoryRoot } from '../../src/lab/paths.ts';
import { run } from '../../src/lab/processes.ts';
import { processesOf, readRecord } from '../../src/lab/record.ts';

const name = 'labtest';
const minutes = 60_000;

/** What a lab may leave behind: processes, namespaces, its folder. */
async function leftovers(): Promise<string[]> {
  const left = (await processesOf(name)).map(
    ({ pid }) => `process ${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 80)}`,
  );
  const namespaces = (await run(['ip', 'netns', 'list'])).stdout.split('\n').filter((line) => line.startsWith(`shoal-${name}`));
  return [...left, ...namespaces, ...(existsSync(labFolder(name)) ? [labFolder(name)] : [])];
}

const milliseconds = (text: string): number[] => [...text.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]));

let lab: Lab;

test('lab: two hosts come up on real Xen', { timeout: 15 * minutes }, async (t) => {
  await labDown(name);
  const stages: string[] = [];
  lab = await labUp({ name, hosts: 2, memoryMib: 2048, onProgress: (text) => stages.push(text) });
  t.equal(lab.hosts.length, 2);
  t.ok(stages.length > 0, 'progress is told');
  const xen = await lab.hosts[0]!.exec('xl info; xl list');
  t.match(xen.stdout, /xen_version +: 4\.17/);
  t.match(xen.stdout, /Domain-0 +0/);
  t.equal((await lab.hosts[1]!.exec('hostname')).stdout, 'host1\n');
  const status = await labStatus(name);
  t.ok(status.up && status.hosts.every((host) => host.alive), 'status says up');
  t.ok(readFileSync(lab.hosts[0]!.consoleFile, 'utf8').length >= 0, 'there is a console log');
});

test('lab: there is room for a neighbour of each VM', (t) => {
  t.ok(Number(readFileSync('/proc/sys/net/ipv4/neigh/default/gc_thresh3', 'utf8')) >= 65_536, 'the bound over all namespaces');
  t.end();
});

test("lab: the clock is the machine's and the random pools differ", { timeout: minutes }, async (t) => {
  for (const host of lab.hosts) {
    const seconds = Number((await host.exec('date +%s')).stdout);
    t.ok(Math.abs(seconds - Date.now() / 1000) < 5, `${host.name} is within five seconds`);
  }
  const [one, other] = await Promise.all(lab.hosts.map((host) => host.exec('head -c 16 /dev/urandom | od -An -tx1')));
  t.notEqual(one!.stdout, other!.stdout);
});

test('lab: exec passes input, output and exit code; put puts a file', { timeout: minutes }, async (t) => {
  const host = lab.hosts[0]!;
  t.deepEqual(await host.exec('cat; echo err >&2; exit 7', { input: 'given' }), { code: 7, stdout: 'given', stderr: 'err\n' });
  t.equal((await host.exec('sleep 20', { timeoutMs: 500 })).code, 124, 'a command that takes too long is given up');
  const file = join(tmpdir(), `shoal-put-${process.pid}`);
  const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 7) & 255));
  writeFileSync(file, bytes);
  await host.put(file, "/tmp/it's put");
  const sum = await host.exec('wc -c < "/tmp/it\'s put"; cksum < "/tmp/it\'s put"');
  t.equal(sum.stdout, `100000\n${(await run(['cksum'], { input: bytes })).stdout}`);
  const parallel = await Promise.all(Array.from({ length: 20 }, (_, i) => host.exec(`echo ${i}`)));
  t.deepEqual(
    parallel.map((each) => each.stdout),
    Array.from({ length: 20 }, (_, i) => `${i}\n`),
    'twenty at once',
  );
});

test('lab: a second up attaches, a different one is refused', { timeout: minutes }, async (t) => {
  const begun = Date.now();
  const again = await labUp({ name });
  t.ok(Date.now() - begun < 10_000, `attached after ${Date.now() - begun} ms`);
  t.equal(again.hosts[0]!.url, lab.hosts[0]!.url);
  try {
    await labUp({ name, hosts: 3 });
    t.fail('more hosts than there are');
  } catch (error) {
    t.equal((error as { code: string }).code, 'LAB_FAILED');
  }
});

test('lab: hosts reach each other across the router, and a shape is felt', { timeout: 2 * minutes }, async (t) => {
  const [a, b] = [lab.hosts[0]!, lab.hosts[1]!];
  const ping = async () => (await a.exec(`ping -c 5 -i 0.2 -W 5 ${b.address}`, { timeoutMs: 30_000 })).stdout;
  await ping();
  const direct = milliseconds(await ping());
  t.equal(direct.length, 5, 'five of five answered');
  await lab.link(0, 1, { delayMs: 60 });
  const slow = milliseconds(await ping());
  t.equal(slow.length, 5);
  t.ok(Math.min(...slow) >= 120, `60 ms each way: ${Math.min(...slow)} ms`);
  t.deepEqual((await labStatus(name)).links, [{ from: 0, to: 1, shape: { delayMs: 60 } }]);
  await lab.link(1, 0, { lossPercent: 100 });
  t.equal(milliseconds(await ping()).length, 0, 'all lost');
  await lab.link(0, 1, {});
  const back = milliseconds(await ping());
  t.equal(back.length, 5, 'an empty shape takes it away');
  t.ok(Math.min(...back) < 120, 'and the delay is gone');
  for (const bad of [{ delayMs: -1 }, { lossPercent: 101 }, { rateKbps: Number.NaN }]) {
    await lab.link(0, 1, bad).then(
      () => t.fail('taken'),
      (error: { code: string }) => t.equal(error.code, 'USAGE', JSON.stringify(bad)),
    );
  }
});

test('lab: a rate limits what passes', { timeout: 2 * minutes }, async (t) => {
  // a packet of 1,028 bytes takes 82 ms over 100 kbit/s; the queue in front of the line holds 200 ms
  await lab.link(0, 1, { rateKbps: 100 });
  const result = await lab.hosts[0]!.exec(`ping -c 60 -i 0.002 -s 1000 -W 3 ${lab.hosts[1]!.address}`, { timeoutMs: 60_000 });
  const times = milliseconds(result.stdout);
  t.ok(times.length >= 2 && times.length < 60, `some passed, some found the queue full: ${times.length} of 60`);
  t.ok(Math.max(...times) > 150, `packets waited for the line: up to ${Math.max(...times)} ms`);
  await lab.link(0, 1, {});
});

test('lab: the pinger says when an address first answers, and gives up when none does', { timeout: minutes }, async (t) => {
  const pinger = await lab.pinger(0);
  const begun = process.hrtime.bigint();
  const at = await pinger.firstReply(lab.hosts[0]!.address, 20_000);
  t.ok(at > begun && at < process.hrtime.bigint(), 'its clock is ours');
  const asked = process.hrtime.bigint();
  t.ok((await pinger.firstReply(lab.hosts[0]!.address, 20_000)) > asked, 'an answer to an earlier question does not count');
  const many = Array.from({ length: 2000 }, (_, i) =>
    pinger.firstReply(`10.64.${1 + (i >> 8)}.${i & 255}`, 1000).then(
      () => 'answered',
      (error: { code: string }) => error.code,
    ),
  );
  t.deepEqual([...new Set(await Promise.all(many))], ['TIMEOUT'], 'two thousand silent addresses time out');
  await pinger.close();
});

test('lab: a program inside of the router sees the hosts, the machine outside does not', { timeout: minutes }, async (t) => {
  const legs = (await lab.inside(['ip', '-br', '-4', 'addr'])).stdout;
  t.ok(
    lab.hosts.every((host) => legs.includes(`${host.gateway}/16`)),
    'the router has a leg in each subnet',
  );
  const other = await lab.pinger(1);
  t.ok((await other.firstReply(lab.hosts[1]!.address, 20_000)) > 0n, 'and the second host answers on its own');
  await other.close();
  t.notOk((await run(['ip', '-br', 'addr'])).stdout.includes('10.64.'), 'no address of the lab outside of its namespaces');
});

test('lab: the host agent comes back after a kill -9', { timeout: 2 * minutes }, async (t) => {
  const host = lab.hosts[0]!;
  t.ok(host.agent, 'the host has an agent');
  const killed = await host.exec('kill -9 $(cat /run/shoal-agent.pid) && cat /run/shoal-agent.pid');
  t.equal(killed.code, 0);
  await untilAgentAnswers(Number(new URL(host.url).port), 0, host.ssh, 60_000);
  const now = (await host.exec('cat /run/shoal-agent.pid')).stdout;
  t.ok(Number(now) > 0 && now !== killed.stdout, 'another process answers');
});

test('lab: after kill -9 of an emulator, up is no lie and down leaves nothing', { timeout: 5 * minutes }, async (t) => {
  const record = readRecord(name)!;
  process.kill(record.hosts[1]!.process.pid, 'SIGKILL');
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal((await labStatus(name)).up, false, 'status says so');
  await labAttach(name).then(
    () => t.fail('attached to a dead host'),
    (error: { code: string }) => t.equal(error.code, 'LAB_NOT_UP'),
  );
  await labDown(name);
  t.deepEqual(await leftovers(), []);
  await labDown(name);
  t.pass('down of nothing is fine');
});

test(
  'lab: up killed half way leaves nothing that down does not clear, and the next up works',
  { timeout: 10 * minutes },
  async (t) => {
    for (const afterMs of [400, 900, 1600]) {
      const up = spawn(
        process.execPath,
        ['--import', 'tsx', join(repositoryRoot, 'src/main/shoal.ts'), 'lab', 'up', '--lab', name, '--hosts', '2', '--memory', '2048'],
        {
          cwd: repositoryRoot,
          stdio: 'ignore',
        },
      );
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      up.kill('SIGKILL');
      await new Promise((resolve) => up.on('close', resolve));
      await labDown(name);
      t.deepEqual(await leftovers(), [], `killed after ${afterMs} ms`);
    }
    const stages: string[] = [];
    // As many hosts as in the first test: a host that shares cores is another machine, with another snapshot.
    const again = await labUp({ name, hosts: 2, memoryMib: 2048, onProgress: (text) => stages.push(text) });
    const booted = stages.some((text) => text.includes('booting'));
    t.notOk(booted, `up from its snapshot: ${stages.join(', ')}`);
    t.equal((await again.hosts[0]!.exec('true')).code, 0);
    await again.down();
    t.deepEqual(await leftovers(), []);
  },
);
