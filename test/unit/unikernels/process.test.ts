/**
 * The ping application as a Linux process with sanitizers, on a TAP device in a network namespace of this test's own: it answers
 * echo requests (fragmented ones too) and HTTP, survives nonsense and many connections at once, and ends without a finding.
 * Needs root, for the namespace.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const built = join(root, 'build/unikernels');
const namespace = `shoal-test-${process.pid}`;
const inside = ['ip', 'netns', 'exec', namespace];
const guest = '10.64.1.1';

function run(argv: string[], timeoutMs = 20_000): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
  return { code: status, text: `${stdout}${stderr}` };
}

function mustRun(argv: string[]): void {
  const { code, text } = run(argv);
  if (code !== 0) throw new Error(`${argv.join(' ')}: ${text}`);
}

const curl = (...argv: string[]) => run([...inside, 'curl', '-s', '--max-time', '10', ...argv]);
const status = (...argv: string[]) => curl('-o', '/dev/null', '-w', '%{http_code}', ...argv).text;

/** A request as raw bytes; resolves with the status line of the answer. */
function raw(bytes: string): string {
  const script = `exec 3<>/dev/tcp/${guest}/80; printf '%b' "$1" >&3; read -t 10 -r line <&3; printf '%s' "$line"`;
  return run([...inside, 'bash', '-c', script, 'bash', bytes]).text.trim();
}

test('ping-linux answers echo and HTTP, and the sanitizers find nothing', async (t) => {
  const targets = ['all', join(built, 'echo'), 'SANITIZE=1'];
  const make = run(['make', '-s', '-j2', '-C', join(root, 'unikernels'), ...targets], 300_000);
  t.equal(make.code, 0, `make: ${make.text.slice(-2000)}`);
  const echo = (...argv: string[]) => run([...inside, join(built, 'echo'), ...argv]);
  let child: ChildProcess | undefined;
  let output = '';
  try {
    mustRun(['ip', 'netns', 'add', namespace]);
    mustRun([...inside, 'ip', 'tuntap', 'add', 'dev', 'tap0', 'mode', 'tap']);
    mustRun([...inside, 'ip', 'addr', 'add', '10.64.0.1/16', 'dev', 'tap0']);
    mustRun([...inside, 'ip', 'link', 'set', 'tap0', 'up']);
    const command = [join(built, 'ping-linux.san'), 'tap0', 'name=vm"1', `ip=${guest}/16`, 'gw=10.64.0.1'];
    child = spawn(inside[0]!, [...inside.slice(1), ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout!.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr!.on('data', (data: Buffer) => (output += data.toString()));
    for (let i = 0; i < 100 && !output.includes('net 0: up'); i++) await new Promise((done) => setTimeout(done, 50));
    const up = /net 0: up after \d+ us, ip 10\.64\.1\.1\/16 gw 10\.64\.0\.1 mac [0-9a-f:]{17}/;
    t.match(output, up, 'one line when the network is up');

    t.equal(echo(guest, '5').code, 0, 'echo');
    t.equal(echo(guest, '3', '4000').code, 0, 'echo in fragments');
    const answer = curl(`http://${guest}/`).text;
    const told = JSON.parse(answer) as Record<string, unknown>;
    t.equal(told.name, 'vm1', 'name, without what JSON would need to escape');
    t.equal(told.image, 'ping');
    t.match(String(told.version), /^\d+\.\d+\.\d+$/);
    t.ok(Number(told.uptimeMs) >= 0, 'uptime');
    t.equal(status(`http://${guest}/?query`), '200', 'a query is ignored');
    t.equal(status('-I', `http://${guest}/`), '200', 'HEAD');
    t.equal(status(`http://${guest}/other`), '404');
    t.equal(status('-X', 'POST', '-d', 'x', `http://${guest}/`), '405');
    t.equal(status(`http://${guest}/${'a'.repeat(200)}`), '414');
    t.equal(status('-H', `X: ${'a'.repeat(9000)}`, `http://${guest}/`), '431');
    t.match(raw('GET  / HTTP/1.1\\r\\n\\r\\n'), /^HTTP\/1\.1 400 /, 'two spaces');
    t.match(raw('GET / HTTP/1.1\\r\\n\\r\\n'), /^HTTP\/1\.1 400 /, 'no Host');
    t.match(raw('\\0\\0\\0\\r\\n\\r\\n'), /^HTTP\/1\.1 400 /, 'no HTTP');
    t.match(raw('GET / HTTP/1.0\\n\\n'), /^HTTP\/1\.1 200 /, 'HTTP/1.0, bare line feeds');

    const bash = (script: string) => run([...inside, 'bash', '-c', script]);
    const one = `curl -s --max-time 10 -o /dev/null -w '%{http_code}\\n' http://${guest}/`;
    const many = bash(`for i in $(seq 40); do ${one} & done; wait`);
    t.equal(many.text.split('\n').filter((line) => line === '200').length, 40, '40 connections at once');
    const open26 = `for i in $(seq 5 30); do eval "exec $i<>/dev/tcp/${guest}/80"; done`;
    const idle = bash(`${open26}; exec curl -s --max-time 10 http://${guest}/`);
    t.match(idle.text, /"name":"vm1"/, 'answers beside connections that say nothing');
    t.equal(echo(guest, '3').code, 0, 'echo at the end');
  } finally {
    if (child !== undefined && child.exitCode === null) {
      // The child is `ip netns exec`, which became the process itself.
      child.kill('SIGTERM');
      await Promise.race([once(child, 'exit'), new Promise((done) => setTimeout(done, 10_000))]);
    }
    run(['ip', 'netns', 'del', namespace]);
  }
  t.equal(child?.exitCode, 0, `ends without a finding: ${output.slice(-3000)}`);
  t.end();
});
