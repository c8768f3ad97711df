/** The switch's client against the real program with a Xen made of memory, and against others that misbehave. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { SwitchClient } from '../../../src/hypervisor/xen/switch-client.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const folder = mkdtempSync(join(tmpdir(), 'shoal-switch-client-'));
const socketPath = join(folder, 'socket');
let daemon: ChildProcess;
let complaints = '';
let client: SwitchClient;

function start(): void {
  daemon = spawn(join(folder, 'switch_test'), ['serve', '--foreground', '--socket', socketPath, '--state', join(folder, 'state')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' },
  });
  daemon.stderr!.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
}

/** Code, and errno where there is one. */
async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    if (!(error instanceof ShoalError)) return String(error);
    return error.code === 'SWITCH_REFUSED' ? `${error.code} ${String(error.data['errno'])}` : error.code;
  }
}

const rings = { network: 'default', port: 9, txMfn: 1000, rxMfn: 1001n };

test('the switch client: set up', (t) => {
  execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen/switch'), `OUT=${folder}`, 'switch_test', 'SANITIZE=-fsanitize=address,undefined'], {
    timeout: 240_000,
  });
  t.pass('built');
  t.end();
});

test('the switch client: a request waits for a switch, but not for long', async (t) => {
  const hasty = SwitchClient.connect(socketPath, { patienceMs: 50 });
  t.equal(await failure(hasty.hello()), 'SWITCH_UNAVAILABLE', 'nobody there');
  hasty.close();
  client = SwitchClient.connect(socketPath, { patienceMs: 20_000 });
  const hello = client.hello();
  start();
  t.equal(await hello, 'shoal-switch 1', 'answered once it is there');
  t.equal(statSync(socketPath).mode & 0o777, 0o600, 'the socket is for root alone');
});

test('the switch client: requests', async (t) => {
  t.equal(await client.network('default', 'xenbr0'), 'shoal-default', 'a network');
  await Promise.all([client.network('default', 'xenbr0'), client.attach(20, 0, rings), client.attach(20, 1, rings), client.attach(21, 0, rings)]);
  t.equal(await failure(client.attach(20, 0, rings)), 'SWITCH_REFUSED EEXIST', 'attached once');
  await client.identity(20, 0, { mac: '02:00:00:00:00:20', ipv4: ['10.0.0.20', '10.0.1.20'], rateKbit: 5000, flood: true, unlocked: true });
  await client.identity(21, 0, { mac: '02:00:00:00:00:21', ipv4: [], rateKbit: undefined });
  t.equal(await failure(client.identity(21, 0, { mac: '02:00:00:00:00:20' })), 'SWITCH_REFUSED EADDRINUSE', 'a MAC is one vif\'s');
  t.deepEqual(
    await client.list(),
    [
      { domid: 20, handle: 0, network: 'default', port: 9, mac: '02:00:00:00:00:20', ipv4: ['10.0.0.20', '10.0.1.20'], rateKbit: 5000, flood: true, unlocked: true, state: 'up' },
      { domid: 20, handle: 1, network: 'default', port: 9, mac: undefined, ipv4: [], rateKbit: 0, flood: false, unlocked: false, state: 'up' },
      { domid: 21, handle: 0, network: 'default', port: 9, mac: '02:00:00:00:00:21', ipv4: [], rateKbit: 0, flood: false, unlocked: false, state: 'up' },
    ],
    'they are listed',
  );
  t.deepEqual(await client.stats(20, 0), { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, rxDropped: 0, txDropped: 0 }, 'counters');
  const totals = await client.totals();
  t.ok(totals.vifs === 3 && totals.memoryKib > 0, 'totals');
  await client.mirror(20, 0, join(folder, 'frames.pcap'));
  await client.mirror(20, 0);
  t.ok(existsSync(join(folder, 'frames.pcap')), 'a mirror');
  t.equal(await client.detach(20), 2, 'detached');
  t.equal(await client.detach(20), 0, 'again is well');
  t.equal(await failure(client.stats(20, 0)), 'SWITCH_REFUSED ENOENT', 'gone');
  t.equal(await failure(client.network('a b\nlist', 'x')), 'SWITCH_REFUSED EINVAL', 'a word is a word');
  t.ok(/not a request/.test(await client.network('a b\nlist', 'x').catch(String)), 'and others are not sent');
  t.equal(await failure(client.attach(30_001, 0, rings)), 'SWITCH_REFUSED ESRCH', 'no such domain');
});

test('the switch client: addresses that move and wait', async (t) => {
  await client.attach(22, 0, rings);
  await client.attach(23, 0, rings);
  await client.identity(22, 0, { mac: '02:00:00:00:00:22', ipv4: ['10.0.0.22', '10.0.0.99'] });
  await client.identity(23, 0, { mac: '02:00:00:00:00:23', ipv4: ['10.0.0.23'] });
  await client.move('default', '10.0.0.99', { domid: 22, handle: 0 }, { domid: 23, handle: 0 }, 5000);
  const addresses = new Map((await client.list()).map(({ domid, ipv4 }) => [domid, ipv4]));
  t.deepEqual([addresses.get(22), addresses.get(23)], [['10.0.0.22'], ['10.0.0.23', '10.0.0.99']], 'moved');
  const { frames, drains, held, waiting } = await client.traffic('default', '10.0.0.99');
  t.deepEqual([frames, drains, held, waiting], [0, 1, false, 0], 'the old one has its connections');
  await client.move('default', '10.0.0.99', { domid: 23, handle: 0 }, undefined, 0);
  await client.hold('default', '10.0.0.99', 5000);
  t.equal((await client.traffic('default', '10.0.0.99')).held, true, 'and one that left is held');
  t.equal(await failure(client.move('default', '10.0.0.99', { domid: 23, handle: 0 }, undefined, 0)), 'none', 'done before');
  t.equal(await failure(client.move('default', '10.0.0.22', { domid: 23, handle: 0 }, { domid: 21, handle: 0 }, 0)), 'SWITCH_REFUSED EADDRINUSE');
  t.equal(await failure(client.hold('nowhere', '10.0.0.1', 5)), 'SWITCH_REFUSED ENOENT');
  t.equal(await failure(client.traffic('default', '10.0.0.77')), 'SWITCH_REFUSED ENOENT');
  for (const domid of [22, 23]) await client.detach(domid);
});

test('the switch client: thousands at once, in order', async (t) => {
  const domids = Array.from({ length: 3000 }, (_, i) => 100 + i);
  const work = domids.flatMap((domid) => [
    client.attach(domid, 0, rings),
    client.identity(domid, 0, { mac: `02:01:00:00:${(domid >> 8).toString(16).padStart(2, '0')}:${(domid & 255).toString(16).padStart(2, '0')}` }),
  ]);
  await Promise.all(work);
  const listed = await client.list();
  t.deepEqual(listed.map((vif) => vif.domid).sort((a, b) => a - b), [21, ...domids], 'all are there');
  t.deepEqual(new Set(await Promise.all(domids.map((domid) => client.detach(domid)))), new Set([1]), 'and leave');
});

test('the switch client: the switch is killed and started again', async (t) => {
  const running = once(daemon, 'exit');
  const work = Array.from({ length: 200 }, () => failure(client.list()));
  daemon.kill('SIGKILL');
  await running;
  const codes = new Set(await Promise.all(work));
  t.ok([...codes].every((code) => code === 'none' || code === 'SWITCH_UNAVAILABLE'), `requests under way fail as such (${[...codes].join()})`);
  start();
  t.deepEqual((await client.list()).map((vif) => vif.mac), ['02:00:00:00:00:21'], 'the next one knows what the last one did');
  t.equal(await client.detach(21), 1, 'and goes on');
});

test('the switch: lines that are too long, clients that do not read, ends without an answer', async (t) => {
  const long = connect(socketPath);
  long.write('x'.repeat(1500));
  const [answer] = (await once(long, 'data')) as [Buffer];
  t.ok(answer.toString().startsWith('error EMSGSIZE '), 'refused');
  await once(long, 'close');
  await Promise.all(Array.from({ length: 500 }, (_, i) => client.attach(100 + i, 0, rings)));
  const deaf = connect(socketPath);
  deaf.pause();
  deaf.write('list\n'.repeat(2000));
  const split = connect(socketPath);
  for (const letter of 'hello\nhel') split.write(letter);
  t.equal(String((await once(split, 'data'))[0]), 'ok shoal-switch 1\n', 'a request in pieces');
  split.destroy();
  const { memoryKib } = await client.totals();
  t.ok(memoryKib < 400_000, `others are served meanwhile (${memoryKib} KiB)`);
  let lines = 0;
  deaf.on('data', (chunk: Buffer) => {
    for (const byte of chunk) lines += byte === 10 ? 1 : 0;
  });
  deaf.resume();
  for (let i = 0; i < 1500 && lines < 2000 * 501; i++) await new Promise((done) => setTimeout(done, 10));
  t.equal(lines, 2000 * 501, 'and it gets all of its answers once it reads');
  deaf.destroy();
});

test('the switch: clean end', async (t) => {
  const ended = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  t.equal((await ended)[0], 0, 'it leaves with 0');
  t.ok(existsSync(join(folder, 'state')) && !existsSync(socketPath), 'its state stays, its socket does not');
  t.equal(await failure(Promise.race([client.hello(), new Promise((_, reject) => setTimeout(reject, 100, new Error('waits')))])), 'Error: waits', 'the client waits');
  client.close();
  const late = new Promise((_, reject) => setTimeout(reject, 1000, new Error('waits')).unref());
  t.equal(await failure(Promise.race([client.hello(), late])), 'SWITCH_UNAVAILABLE', 'until it is closed');
  t.notOk(/ERROR: AddressSanitizer|runtime error/.test(complaints), `the sanitizers are content ${complaints.slice(0, 500)}`);
});

async function impostor(answer: (line: string, socket: Socket) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().split('\n').slice(0, -1)) answer(line, socket);
    });
  });
  await new Promise<void>((done) => server.listen(socketPath, done));
  return server;
}

test('the switch client: others at its socket', async (t) => {
  const totals = (vifs: string): string => `ok vifs=${vifs} frames=0 bytes=0 turns=0 copies=0 dropped=0 memory_kib=0\n`;
  const own = 'ok shoal-switch 1\n';
  const cases: [string, (line: string, socket: Socket) => void][] = [
    ['another protocol', (line, socket) => void socket.write(line === 'hello' ? 'ok shoal-switch 2\n' : totals('1'))],
    ['no protocol', (_, socket) => void socket.write('220 ready\n')],
    ['one that hangs up', (line, socket) => void (line === 'hello' ? socket.write(own) : socket.destroy())],
    ['one that falls silent', (line, socket) => void (line === 'hello' && socket.write(own))],
    ['gibberish', (line, socket) => void socket.write(line === 'hello' ? own : totals('1').replace('ok', 'oh'))],
    ['numbers that are none', (line, socket) => void socket.write(line === 'hello' ? own : totals('many'))],
    ['more than was asked for', (line, socket) => void socket.write(line === 'hello' ? `${own}${own}` : totals('1'))],
  ];
  for (const [what, answer] of cases) {
    const server = await impostor(answer);
    const fooled = SwitchClient.connect(socketPath, { patienceMs: 100, answerMs: 50 });
    t.equal(await failure(fooled.totals()), 'SWITCH_UNAVAILABLE', what);
    fooled.close();
    await new Promise((done) => server.close(done));
  }
});

test('the switch client: cleaned up', (t) => {
  rmSync(folder, { recursive: true });
  t.end();
});
