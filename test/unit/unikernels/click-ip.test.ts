/**
 * The ready-made translator and firewall as Linux processes with sanitizers, each between two network namespaces over TAP devices: Linux's own stack
 * at both ends says whether what they do to packets is right. Needs root, for the namespaces.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type Test } from 'tape';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const names = { middle: `shoal-ci-${process.pid}`, inside: `shoal-ci-${process.pid}-in`, outside: `shoal-ci-${process.pid}-out` };
const bytes = 8_000_000;

const run = (argv: string[], timeoutMs = 60_000) => spawnSync(argv[0]!, argv.slice(1), { encoding: 'utf8', timeout: timeoutMs });
function must(argv: string[], timeoutMs?: number): void {
  const { status, stdout, stderr } = run(argv, timeoutMs);
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`.slice(-3000));
}
const within = (name: string, argv: string[], timeoutMs?: number) => run(['ip', 'netns', 'exec', name, ...argv], timeoutMs);
const echo = (name: string, ...words: string[]) => within(name, [join(root, 'build/unikernels/echo'), ...words]).status === 0;

/** A server in that namespace that sends known bytes, and prints who asked. */
async function serve(name: string, address: string, children: ChildProcess[]): Promise<{ asked: () => Promise<string> }> {
  const program = `require('node:http').createServer((q, r) => { console.log(q.socket.remoteAddress); r.end(Buffer.alloc(${bytes}, 'shoal')); }).listen(8000, '${address}', () => console.log('on'))`;
  const child = spawn('ip', ['netns', 'exec', name, process.execPath, '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let asked = '';
  child.stdout.on('data', (data: Buffer) => (asked += data.toString()));
  await once(child.stdout, 'data');
  /** Who asked, once somebody did. */
  const whoAsked = async (): Promise<string> => {
    for (let i = 0; i < 500 && asked === 'on\n'; i++) await new Promise((done) => setTimeout(done, 10));
    return asked;
  };
  return { asked: whoAsked };
}

/** What a client in that namespace gets: the number of bytes, all as they should be, or why not. */
function fetchFrom(name: string, address: string, timeoutMs: number): string {
  const program = `fetch('http://${address}:8000/', { signal: AbortSignal.timeout(${timeoutMs}) }).then((a) => a.arrayBuffer()).then((b) => console.log(Buffer.from(b).equals(Buffer.alloc(${bytes}, 'shoal')) ? b.byteLength : 'other bytes'), (e) => console.log('failed', e.name))`;
  return within(name, [process.execPath, '-e', program]).stdout.trim();
}

async function between(t: Test, configuration: string, work: (children: ChildProcess[]) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-click-ip-'));
  const children: ChildProcess[] = [];
  let output = '';
  try {
    for (const name of Object.values(names)) must(['ip', 'netns', 'add', name]);
    for (const tap of ['tap0', 'tap1']) must(['ip', '-n', names.middle, 'tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr']);
    const text = readFileSync(join(root, 'unikernels/apps/click/configurations', configuration));
    writeFileSync(join(folder, 'disk'), Buffer.concat([text, Buffer.alloc(4096 - (text.length % 4096))]));
    const words = ['netns', 'exec', names.middle, join(root, 'build/unikernels/click-linux.san'), 'tap0,tap1', 'name=t', 'config=disk', `disk=${join(folder, 'disk')}`];
    const click = spawn('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(click);
    for (const stream of [click.stdout, click.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
    for (let i = 0; i < 1500 && click.exitCode === null && !output.includes('elements run'); i++) await new Promise((done) => setTimeout(done, 20));
    t.ok(output.includes('elements run'), `${configuration} runs${output.includes('elements run') ? '' : `: ${click.exitCode ?? 'goes on'}: ${output.slice(-2000)}`}`);
    const sides = [['tap0', names.inside, '10.0.0.1/24', '10.0.0.254'], ['tap1', names.outside, '10.0.1.2/24', '10.0.1.254']] as const;
    for (const [tap, name, address, gateway] of sides) {
      must(['ip', '-n', names.middle, 'link', 'set', tap, 'netns', name]);
      must(['ip', '-n', name, 'addr', 'add', address, 'dev', tap]);
      must(['ip', '-n', name, 'link', 'set', tap, 'up']);
      must(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
      must(['ip', '-n', name, 'route', 'add', 'default', 'via', gateway]);
    }
    await work(children);
    click.kill('SIGTERM');
    if (click.exitCode === null && click.signalCode === null) await once(click, 'close');
    t.notOk(/Sanitizer|runtime error/.test(output), `the sanitizers find nothing${/Sanitizer|runtime error/.test(output) ? `: ${output.slice(-4000)}` : ''}`);
  } finally {
    for (const child of children) child.kill('SIGKILL');
    for (const name of Object.values(names)) spawnSync('ip', ['netns', 'del', name]);
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the translator: downloads, pings, fragments go out under its address; nobody comes in', async (t) => {
  must(['make', '-s', '-j2', '-C', join(root, 'unikernels'), join(root, 'build/unikernels/click-linux.san'), join(root, 'build/unikernels/echo')], 900_000);
  await between(t, 'nat.click', async (children) => {
    const far = await serve(names.outside, '10.0.1.2', children);
    await serve(names.inside, '10.0.0.1', children);
    t.ok(echo(names.inside, '10.0.0.254', '2'), 'its own address answers');
    t.ok(echo(names.inside, '10.0.1.2', '3'), 'echo through it');
    t.ok(echo(names.inside, '10.0.1.2', '3', '4000'), 'in fragments');
    t.equal(fetchFrom(names.inside, '10.0.1.2', 40_000), String(bytes), 'a download, whole');
    t.match(await far.asked(), /^10\.0\.1\.(248|249|250|251)$/m, 'the server sees a public address');
    t.doesNotMatch(await far.asked(), /10\.0\.0\./, 'and no inner one');
    t.match(fetchFrom(names.outside, '10.0.0.1', 1500), /^failed/, 'from outside the inner address is out of reach');
    t.match(fetchFrom(names.outside, '10.0.1.249', 1500), /^failed/, 'and nothing listens on a public one');
  });
  t.end();
});

test('the firewall: what is begun inside goes on, what is begun outside does not', async (t) => {
  await between(t, 'firewall.click', async (children) => {
    const far = await serve(names.outside, '10.0.1.2', children);
    const near = await serve(names.inside, '10.0.0.1', children);
    t.equal(fetchFrom(names.inside, '10.0.1.2', 40_000), String(bytes), 'a download, whole');
    t.match(await far.asked(), /^10\.0\.0\.1$/m, 'from the address it has');
    t.ok(echo(names.inside, '10.0.1.2', '3', '4000'), 'echo, in fragments');
    t.notOk(echo(names.outside, '10.0.0.1', '1', '56', '700'), 'no echo from outside');
    t.match(fetchFrom(names.outside, '10.0.0.1', 1500), /^failed/, 'no connection from outside');
    t.equal(fetchFrom(names.inside, '10.0.0.1', 20_000), String(bytes), 'the server inside is there');
    t.equal(await near.asked(), 'on\n10.0.0.1\n', 'and was asked only from inside');
  });
  t.end();
});

test('the router: both ways, whole and in fragments, and not for ever', async (t) => {
  await between(t, 'router.click', async (children) => {
    await serve(names.inside, '10.0.0.1', children);
    t.equal(fetchFrom(names.outside, '10.0.0.1', 40_000), String(bytes), 'a download, whole');
    t.ok(echo(names.outside, '10.0.0.1', '3', '4000'), 'echo, in fragments');
    must(['ip', '-n', names.outside, 'route', 'replace', 'default', 'via', '10.0.1.254', 'hoplimit', '1']);
    t.notOk(echo(names.outside, '10.0.0.1', '1', '56', '700'), 'a packet whose time is over does not arrive');
  });
  t.end();
});
