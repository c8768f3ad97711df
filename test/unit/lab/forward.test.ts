/** The forwarder into a namespace, built with sanitizers: bytes both ways, ends, many at once, and what is left after a kill -9. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { repositoryRoot } from '../../../src/lab/paths.ts';

const folder = mkdtempSync(join(tmpdir(), 'shoal-forward-'));
const space = `shoal-fwd-${process.pid}`;
const label = join(folder, 'label');
const target = 7000;
let forward: ChildProcess;
let port = 0;
let complaints = '';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** In the namespace: gives back what it got once it got all of it, or, asked with "!", says nothing and ends at once. */
const peer = `
  require('node:net').createServer({ allowHalfOpen: true }, (s) => {
    const parts = [];
    s.on('data', (d) => { if (d.toString('latin1') === '!') s.destroy(); else parts.push(d); });
    s.on('end', () => s.end(Buffer.concat(parts)));
    s.on('error', () => {});
  }).listen(${target}, '127.0.0.1', () => console.log('up'));`;

async function startForward(wanted: number): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(join(folder, 'forward'), [label, String(wanted), `/run/netns/${space}`, String(target)], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr!.on('data', (piece: Buffer) => (complaints += piece.toString()));
  const line = await new Promise<string>((resolve) => child.stdout!.once('data', (piece: Buffer) => resolve(piece.toString())));
  return { child, port: Number(/^ready (\d+)\n$/.exec(line)?.[1]) };
}

const patienceMs = 10_000;

/** Sends, ends, and resolves with what came back; undefined when the connection broke, or the end did not come in time. */
function echo(bytes: Buffer, to = port): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const socket = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true }, () => socket.end(bytes));
    socket.on('data', (part: Buffer) => parts.push(part));
    const timer = setTimeout(() => (socket.destroy(), resolve(undefined)), patienceMs);
    const end = (back: Buffer | undefined): void => (clearTimeout(timer), resolve(back));
    socket.on('end', () => end(Buffer.concat(parts)));
    socket.on('error', () => end(undefined));
  });
}

/** Processes of this forwarder, itself among them. */
const processes = (): number =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(label) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    } catch {
      return false;
    }
  }).length;

async function soon(when: () => boolean): Promise<boolean> {
  for (let i = 0; i < 400 && !when(); i++) await sleep(5);
  return when();
}

test('forward: set up', async (t) => {
  const source = join(repositoryRoot, 'src/lab/native/forward.c');
  execFileSync('gcc', ['-g', '-O1', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined', '-o', join(folder, 'forward'), source], { timeout: 60_000 });
  execFileSync('ip', ['netns', 'add', space]);
  execFileSync('ip', ['-n', space, 'link', 'set', 'lo', 'up']);
  const server = spawn('nsenter', [`--net=/run/netns/${space}`, '--', process.execPath, '-e', peer], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => server.stdout.once('data', resolve));
  ({ child: forward, port } = await startForward(0));
  t.ok(port > 0, `it listens on ${port}`);
});

test('forward: bytes arrive as they were sent, and so does the end', async (t) => {
  t.deepEqual(await echo(Buffer.from('hello')), Buffer.from('hello'));
  t.deepEqual(await echo(Buffer.alloc(0)), Buffer.alloc(0), 'an end without bytes');
  const bytes = randomBytes(8 << 20);
  const sum = (data: Buffer | undefined) => createHash('sha256').update(data ?? '').digest('hex');
  t.equal(sum(await echo(bytes)), sum(bytes), '8 MiB');
  const many = await Promise.all(Array.from({ length: 100 }, (_, i) => echo(Buffer.from(`${i}`.repeat(5000)))));
  t.ok(many.every((back, i) => back?.toString() === `${i}`.repeat(5000)), 'a hundred at once');
  t.ok(await soon(() => processes() === 1), 'nothing of them is left');
});

test('forward: a reader that does not read holds up no other', async (t) => {
  const slow = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  slow.on('error', () => {});
  slow.pause();
  slow.end(randomBytes(16 << 20));
  await sleep(50);
  t.deepEqual(await echo(Buffer.from('beside it')), Buffer.from('beside it'));
  slow.destroy();
  t.ok(await soon(() => processes() === 1), 'it went with its reader');
});

test('forward: an end that breaks is told, and one that nobody serves', async (t) => {
  const broken = await new Promise<boolean>((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('!'));
    socket.on('close', () => resolve(true));
    socket.on('error', () => {});
  });
  t.ok(broken, 'the peer broke off, and so did we');
  const nobody = spawn(join(folder, 'forward'), [label, '0', `/run/netns/${space}`, '9'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const line = await new Promise<string>((resolve) => nobody.stdout.once('data', (piece: Buffer) => resolve(piece.toString())));
  t.deepEqual(await echo(Buffer.alloc(0), Number(line.split(' ')[1])), Buffer.alloc(0), 'refused there: closed here');
  nobody.kill('SIGKILL');
  await new Promise((resolve) => nobody.once('exit', resolve));
});

test('forward: a port in use is left alone, another is taken', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => holder.once('listening', resolve));
  const held = (holder.address() as AddressInfo).port;
  const other = await startForward(held);
  t.notEqual(other.port, held);
  t.deepEqual(await echo(Buffer.from('x'), other.port), Buffer.from('x'));
  other.child.kill('SIGKILL');
  holder.close();
  const usage = spawn(join(folder, 'forward'), [label, '99999', 'x', '1'], { stdio: 'ignore' });
  t.equal(await new Promise((resolve) => usage.once('exit', resolve)), 2, 'no such port');
});

test('forward: kill -9 takes its connections along', async (t) => {
  const sockets = await Promise.all(
    Array.from({ length: 5 }, () => new Promise<Socket>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(socket));
      socket.on('error', () => {});
    })),
  );
  t.ok(await soon(() => processes() === 6), 'five are open');
  let closed = 0;
  for (const socket of sockets) socket.resume().once('close', () => closed++);
  forward.kill('SIGKILL');
  t.ok(await soon(() => processes() === 0), 'none is left');
  t.ok(await soon(() => closed === 5), 'and who was connected is told');
  for (const socket of sockets) socket.destroy();
  t.equal(complaints, '', 'and no sanitizer complained');
});

test.onFinish(() => {
  // whatever is left of it: the peer, and a connection's process
  execFileSync('sh', ['-c', `ip netns pids ${space} | xargs -r kill -9; ip netns del ${space}`], { stdio: 'ignore' });
  rmSync(folder, { recursive: true, force: true });
});
