/** The switch against a Xen made of memory (switch_test.c and its neighbours), built with sanitizers; and, as root, with a real uplink on a bridge. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test, { type Test } from 'tape';
import { SwitchClient } from '../../../src/hypervisor/xen/switch-client.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const folder = mkdtempSync(join(tmpdir(), 'shoal-switch-'));
const program = join(folder, 'switch_test');
const build = (...words: string[]) =>
  execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen/switch'), `OUT=${folder}`, ...words], { timeout: 240_000 });

test('the switch: built, as it is and for tests', (t) => {
  build();
  build('switch_test', 'SANITIZE=-fsanitize=address,undefined');
  t.pass('built');
  t.end();
});

/** Each line "ok - …" or "not ok - …" of the C tests is one of ours. */
function report(t: Test, least: number, [command, ...words]: [string, ...string[]]): void {
  const run = spawnSync(command, words, { encoding: 'utf8', timeout: 240_000, env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' } });
  const lines = run.stdout.split('\n').filter((line) => /^(not )?ok - /.test(line));
  for (const line of lines) t.ok(line.startsWith('ok'), line.replace(/^(not )?ok - /, ''));
  t.ok(lines.length >= least, `all tests were run (${lines.length})`);
  t.equal(run.status, 0, `they ended well ${run.signal ?? ''}`);
  const found = /ERROR: AddressSanitizer[^]*|[^\n]*runtime error[^\n]*/.exec(run.stderr);
  t.notOk(found, `the sanitizers are content ${found?.[0].slice(0, 1500) ?? ''}`);
}

test('the switch: frames, guests, requests, crashes', (t) => {
  report(t, 200, [program]);
  t.end();
});

const space = `shoal-test-${process.pid}`;
const ip = (...words: string[]) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

/** Sends datagrams to the guest one after the other and counts those that come back unchanged. */
const conversation = `
  const socket = require('node:dgram').createSocket('udp4');
  let sent = 0;
  const next = () => socket.send(Buffer.alloc(1 + sent * 36, sent), 7, '10.0.0.1');
  const end = () => { process.stdout.write(String(sent)); socket.close(); clearTimeout(timer); };
  const timer = setTimeout(end, 10000);
  socket.on('message', (got) => {
    if (got.equals(Buffer.alloc(1 + sent * 36, sent)) && ++sent < 40) next();
    else end();
  });
  next();
`;

function makeSpace(): boolean {
  try {
    ip('netns', 'add', space);
    ip('-n', space, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', space, 'address', 'add', '10.0.0.254/24', 'dev', 'br0');
    ip('-n', space, 'link', 'set', 'br0', 'up');
    ip('-n', space, 'link', 'add', 'probe', 'type', 'veth', 'peer', 'name', 'probe-peer');
    ip('-n', space, 'link', 'set', 'probe', 'master', 'br0');
    return true;
  } catch {
    return false;
  }
}

const within = (...words: string[]): ChildProcess => spawn('ip', ['netns', 'exec', space, ...words], { stdio: ['pipe', 'pipe', 'inherit'] });
const inSpace = (what: string, body: (t: Test) => void | Promise<void>): void => {
  test(`the switch: ${what}`, async (t) => {
    const able = process.getuid?.() === 0 && makeSpace();
    try {
      if (able) await body(t);
      else t.comment('skipped: needs root, network namespaces and veth');
    } finally {
      spawnSync('ip', ['netns', 'del', space]);
    }
  });
};

inSpace('frames through a real uplink: bytes, tags, sums, segments, more than it holds, owners', (t) => {
  report(t, 20, ['ip', 'netns', 'exec', space, program, 'uplink', 'br0']);
});

inSpace('a guest behind a real uplink', async (t) => {
  const before = ip('-n', space, '-br', 'link', 'show', 'br0').split(/\s+/)[2];
  const guest = within(program, 'guest', 'br0');
  const lines = createInterface({ input: guest.stdout! })[Symbol.asyncIterator]();
  t.equal((await lines.next()).value, 'ok interface=shoal-n', 'the uplink is made');
  await lines.next();
  const link = ip('-n', space, 'link', 'show', 'shoal-n');
  t.ok(/UP/.test(link) && /master br0/.test(link), 'it is up and on the bridge');
  t.equal(ip('-n', space, '-br', 'link', 'show', 'br0').split(/\s+/)[2], before, 'the bridge keeps its address');
  const asked = spawnSync('ip', ['netns', 'exec', space, process.execPath, '-e', conversation], { encoding: 'utf8', timeout: 20_000 });
  t.equal(asked.stdout, '40', `forty datagrams, large and small, go to a guest and come back ${asked.stderr}`);
  t.ok(/10\.0\.0\.1 .*02:00:00:00:00:01/.test(ip('-n', space, 'neigh')), 'the switch said where it is');
  guest.stdin!.end();
  const [code] = (await once(guest, 'exit')) as [number];
  t.equal(code, 0, 'clean end');
  t.notOk(/shoal-n/.test(ip('-n', space, 'link')), 'and no interface is left');
});

/** Ends by its id, and waits until it is gone. */
async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

inSpace('a flood, with the agent asking and the switch killed in the middle of it', async (t) => {
  const [socket, state] = [join(folder, 'flood.sock'), join(folder, 'flood.state')];
  const start = (): ChildProcess => within(program, 'real', '--foreground', '--socket', socket, '--state', state);
  let running = start();
  const client = SwitchClient.connect(socket, { patienceMs: 20_000 });
  const floods: ChildProcess[] = [];
  try {
    t.equal(await client.network('n', 'br0'), 'shoal-n', 'a network');
    await client.attach(1, 0, { network: 'n', port: 7, txMfn: 2, rxMfn: 3 });
    await client.identity(1, 0, { mac: '02:00:00:00:00:01', ipv4: ['10.0.0.1'] });
    floods.push(within(program, 'flood', '10.0.0.1'), within(program, 'flood', '10.0.0.1'));
    let frames = 0;
    let asked = 0;
    const framesReach = async (least: number): Promise<boolean> => {
      for (const until = asked + 50_000; frames < least && asked < until; asked++) frames = (await client.totals()).frames;
      return frames >= least;
    };
    t.ok(await framesReach(10_000), 'frames flow');
    asked = 0;
    let moved = 0;
    while (moved < 50 && (await framesReach(frames + 1))) moved++;
    t.equal(moved, 50, `questions are answered while frames flow (${asked})`);
    const { rxFrames, rxDropped } = await client.stats(1, 0);
    t.ok(rxFrames === 256 && rxDropped > 5000, `what the guest has no buffer for is counted (${rxDropped})`);
    await kill(running);
    running = start();
    await client.hello().catch(() => undefined); // the connection may not have been seen to end
    frames = 0;
    t.ok(await framesReach(1000), 'frames flow again');
    t.equal((await client.list()).length, 1, 'the next switch takes up the flood where the last one was killed');
    t.ok(/master br0/.test(ip('-n', space, 'link', 'show', 'shoal-n')), 'its uplink is on the bridge again');
  } finally {
    client.close();
    for (const child of [...floods, running]) await kill(child);
  }
});

test('the switch: cleaned up', (t) => {
  rmSync(folder, { recursive: true });
  t.end();
});
