/** Inside of the namespace: the middlebox as a child process, the command that steers it, and traffic through it. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';
import { installConfiguration, readStatus } from '../../../../src/cli/click-port.ts';
import { command } from '../../../../src/cli/main.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');
const far = process.argv[2]!;
const guest = '10.0.0.2';
const port = { address: guest, port: 8081, secret: 'a-secret' };
const folder = mkdtempSync(join(tmpdir(), 'shoal-click-'));
const secretFile = join(folder, 'secret');
writeFileSync(secretFile, 'a-secret\n');

const wire = `// a wire between both devices
elementclass Half { $from, $to | FromDevice($from) -> frames :: Counter -> Queue(200) -> ToDevice($to) }
there :: Half(eth0, eth1); back :: Half(eth1, eth0);
`;

const run = (argv: string[], timeoutMs = 30_000) => spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
const echo = (...words: string[]) => run([join(root, 'build/unikernels/echo'), ...words]).status === 0;

/** The command as a user types it: its exit code, and what it printed as JSON. */
async function shoal(...words: string[]): Promise<{ code: number; out: Record<string, unknown>; text: string }> {
  let text = '';
  const sink = { write: (part: string) => ((text += part), true), isTTY: false };
  const code = await command(['click', ...words, '--secret-file', secretFile, '--json'], { stdout: sink, stderr: { write: () => true, isTTY: false }, env: {} } as never);
  let out: Record<string, unknown> = {};
  try {
    out = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // nothing was printed
  }
  return { code, out, text };
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

let child: ChildProcess;
let output = '';

async function until(so: () => boolean): Promise<boolean> {
  for (let i = 0; i < 1500 && !so(); i++) await new Promise((done) => setTimeout(done, 20));
  return so();
}

test('without a configuration it answers for itself', async (t) => {
  child = spawn(join(root, 'build/unikernels/click-linux.san'), ['tap0,tap1', 'name=t', `ip=${guest}/24`, 'secret=a-secret'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout!.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr!.on('data', (data: Buffer) => (output += data.toString()));
  t.ok(await until(() => output.includes('net 0: up')), 'it comes up');
  for (const argv of [['ip', 'link', 'set', 'tap1', 'netns', far], ['ip', '-n', far, 'addr', 'add', '10.0.0.9/24', 'dev', 'tap1'], ['ip', '-n', far, 'link', 'set', 'tap1', 'up']])
    t.equal(run(argv).status, 0, argv.join(' '));
  t.ok(echo(guest, '3'), 'echo');
  t.equal(await fetch(`http://${guest}:8081/health`).then((answer) => answer.text()), 'ok\n', 'health needs no secret');
  t.equal((await fetch(`http://${guest}:8081/status`)).status, 401, 'all else does');
  t.deepEqual((await shoal('list', guest)).out['list'], [], 'nothing runs');
  t.equal((await readStatus({ ...port, secret: 'wrong' }).catch((error: { code: string }) => error.code)) as unknown, 'TOKEN_INVALID', 'a wrong secret');
  t.end();
});

test('a wire is installed, and carries frames of all kinds', async (t) => {
  t.equal((await shoal('install', guest, file('wire.click', wire))).out['elements'], 8, 'installed');
  t.ok(echo('10.0.0.9', '3'), 'echo through it');
  t.ok(echo('10.0.0.9', '2', '4000'), 'in fragments');
  t.ok(echo(guest, '2'), 'the guest itself still answers');
  const server = "require('node:http').createServer((q, r) => r.end(Buffer.alloc(3000000, 'x'))).listen(8000, '10.0.0.9', () => console.log('on'))";
  const serving = spawn('ip', ['netns', 'exec', far, process.execPath, '-e', server], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(serving.stdout, 'data');
  // What never was on a wire comes without a checksum; the far end takes it only with one.
  const bytes = await fetch('http://10.0.0.9:8000/').then((answer) => answer.arrayBuffer());
  t.equal(bytes.byteLength, 3_000_000, 'a large download');
  serving.kill('SIGKILL');
  const { out } = await shoal('read', guest, 'there/frames.count', 'back/frames.count');
  t.ok(Number(out['there/frames.count']) > 100 && Number(out['back/frames.count']) > 100, 'both directions are counted');
  t.equal((await shoal('read', guest)).out['configuration'], wire, 'read back as it was written');
  t.end();
});

test('a bad configuration is refused with its places, and the wire goes on', async (t) => {
  const { code, out } = await shoal('install', guest, file('bad.click', 'Idle ->\n  Discrad();\nx :: Queue(none) -> Discard;\n'));
  const data = JSON.stringify(out);
  t.equal(code, 1, 'refused');
  t.match(data, /CLICK_REFUSED/, 'by its code');
  t.match(data, /2:3: unknown element class 'Discrad'/, 'with line and column');
  t.ok(echo('10.0.0.9', '2'), 'the wire carries on');
  t.equal((await shoal('install', guest, file('good.click', 'Idle -> Discard'), '--check')).out['installed'], false, 'a check installs nothing');
  t.equal((await shoal('read', guest)).out['configuration'], wire, 'it is the one that runs');
  t.end();
});

test('state is kept where names and classes are, handlers are written', async (t) => {
  const before = Number((await shoal('read', guest, 'there/frames.count')).out['there/frames.count']);
  await installConfiguration(port, wire.replace('Queue(200)', 'Null -> Queue(100)'));
  t.ok(Number((await shoal('read', guest, 'there/frames.count')).out['there/frames.count']) >= before, 'the counter goes on');
  t.ok(echo('10.0.0.9', '2'), 'and so does the wire');
  t.equal((await shoal('write', guest, 'there/frames.reset')).code, 0, 'a handler is written');
  t.ok(Number((await shoal('read', guest, 'there/frames.count')).out['there/frames.count']) < before, 'and obeyed');
  t.equal((await shoal('read', guest, 'there/frames.nothing')).code, 1, 'one that is not there');
  t.end();
});

test('a large configuration comes in pieces, and what was cut off leaves nothing', async (t) => {
  const many = Array.from({ length: 2500 }, (_, i) => `Idle -> limit${i} :: Queue(${i + 1}) -> Discard; // customer ${i}, whose name is long enough`).join('\n');
  const large = `${wire}${many}\n`;
  t.ok(large.length > 150_000, `${large.length} bytes`);
  const cut = await fetch(`http://${guest}:8081/configuration?at=0`, { method: 'PUT', headers: { authorization: 'Bearer a-secret' }, body: 'Idle -> and then its client was killed' });
  t.equal(cut.status, 200, 'a client that ends after its first piece');
  t.equal((await installConfiguration(port, large)).elements, 7508, 'all elements');
  t.equal((await shoal('read', guest)).out['configuration'], large, 'read back whole');
  t.match((await shoal('read', guest, '--flat')).out['configuration'] as string, /limit2499 :: Queue\(2500\);/, 'and flat');
  t.equal((await shoal('read', guest, 'limit1234.capacity')).out['limit1234.capacity'], '1235', 'each element is found');
  t.ok(echo('10.0.0.9', '2'), 'the wire is part of it');
  t.equal((await installConfiguration(port, 'x'.repeat(262_145)).catch((error: { code: string }) => error.code)) as unknown, 'REQUEST_TOO_LARGE', 'one that is too large');
  t.end();
});

test('many requests that end anywhere', async (t) => {
  for (const bytes of ['', 'GET', 'GET / HTTP/1.1\\r\\n', 'PUT /configuration?at=0 HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer a-secret\\r\\nContent-Length: 100\\r\\n\\r\\nabc', '\\0\\1\\2\\r\\n\\r\\n'])
    run(['bash', '-c', `exec 3<>/dev/tcp/${guest}/8081; printf '%b' "$1" >&3; read -t 1 -r line <&3`, 'bash', bytes]);
  t.equal((await fetch(`http://${guest}:8081/install`, { method: 'DELETE' })).status, 401, 'it still answers');
  t.equal((await readStatus(port)).elements, 7508, 'and runs what it ran');
  t.end();
});

test('it ends in order', async (t) => {
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number | null];
  t.equal(code, 0, code === 0 ? 'no finding' : output.slice(-4000));
  rmSync(folder, { recursive: true });
  t.end();
});
