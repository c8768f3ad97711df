/** The switch against a Xen made of memory (switch_test.c and its neighbours), built with sanitizers; and, as root, behind a real TAP on a bridge. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test from 'tape';

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

test('the switch: frames, guests, requests, crashes', (t) => {
  const run = spawnSync(program, { encoding: 'utf8', timeout: 240_000, env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0' } });
  const lines = run.stdout.split('\n').filter((line) => /^(not )?ok - /.test(line));
  for (const line of lines) t.ok(line.startsWith('ok'), line.replace(/^(not )?ok - /, ''));
  t.ok(lines.length > 150, `all tests were run (${lines.length})`);
  t.equal(run.status, 0, `they ended well ${run.signal ?? ''}`);
  const found = /ERROR: AddressSanitizer[^]*|[^\n]*runtime error[^\n]*/.exec(run.stderr);
  t.notOk(found, `the sanitizers are content ${found?.[0].slice(0, 1500) ?? ''}`);
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
    ip('netns', 'exec', space, 'ip', 'tuntap', 'add', 'dev', 'probe', 'mode', 'tap');
    ip('-n', space, 'link', 'set', 'probe', 'master', 'br0');
    return true;
  } catch {
    return false;
  }
}

test('the switch: a guest behind a real TAP', async (t) => {
  const able = process.getuid?.() === 0 && makeSpace();
  try {
    if (!able) {
      t.comment('skipped: needs root, network namespaces and TAPs');
      return;
    }
    const before = ip('-n', space, '-br', 'link', 'show', 'br0').split(/\s+/)[2];
    const guest = spawn('ip', ['netns', 'exec', space, program, 'tap', 'br0'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: guest.stdout })[Symbol.asyncIterator]();
    t.equal((await lines.next()).value, 'ok interface=shoal-n', 'the uplink is made');
    await lines.next();
    const link = ip('-n', space, 'link', 'show', 'shoal-n');
    t.ok(/UP/.test(link) && /master br0/.test(link), 'it is up and on the bridge');
    t.equal(ip('-n', space, '-br', 'link', 'show', 'br0').split(/\s+/)[2], before, 'the bridge keeps its address');
    const asked = spawnSync('ip', ['netns', 'exec', space, process.execPath, '-e', conversation], { encoding: 'utf8', timeout: 20_000 });
    t.equal(asked.stdout, '40', `forty datagrams, large and small, go to a guest and come back ${asked.stderr}`);
    t.ok(/10\.0\.0\.1 .*02:00:00:00:00:01/.test(ip('-n', space, 'neigh')), 'the switch said where it is');
    guest.stdin.end();
    const [code] = (await once(guest, 'exit')) as [number];
    t.equal(code, 0, 'clean end');
    t.notOk(/shoal-n/.test(ip('-n', space, 'link')), 'and no interface is left');
  } finally {
    spawnSync('ip', ['netns', 'del', space]);
  }
});

test('the switch: cleaned up', (t) => {
  rmSync(folder, { recursive: true });
  t.end();
});
