/** The store daemon over its socket, without Xen, built with sanitizers: the same protocol that guests and xl speak. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { StoreClient, StoreRefusal } from '../../../src/hypervisor/xen/xenstore/client.ts';
import {
  directoryRequest, encode, getPermsRequest, messageType, mkdirRequest, readRequest, rmRequest, setPermsRequest, texts, transactionEndRequest,
  transactionStartRequest, writeRequest,
} from '../../../src/hypervisor/xen/xenstore/wire.ts';
import { build, makeIn, reportProgram, root } from '../c-programs.ts';

const folder = mkdtempSync(join(tmpdir(), 'shoal-stored-'));
const socketPath = join(folder, 'socket');
let daemon: ChildProcess;
let complaints = '';

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    return error instanceof StoreRefusal ? error.errno : String(error);
  }
}

/** Resolves when `when` holds, looked at after each event of the loop; false after a second. */
async function soon(when: () => boolean): Promise<boolean> {
  for (let i = 0; i < 200 && !when(); i++) await new Promise((done) => setTimeout(done, 5));
  return when();
}

async function start(): Promise<void> {
  daemon = spawn(join(folder, 'shoal-stored'), ['--foreground', '--without-xen', '--socket', socketPath], { stdio: ['ignore', 'ignore', 'pipe'] });
  daemon.stderr!.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
  for (let i = 0; i < 200; i++) {
    const socket = connect(socketPath);
    const up = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]).catch(() => false);
    socket.destroy();
    if (up) return;
    await new Promise((done) => setTimeout(done, 10));
  }
  throw new Error(`the daemon did not come up: ${complaints}`);
}

test('the store daemon: set up', async (t) => {
  execFileSync('make', ['-s', '-C', join(root, 'src/hypervisor/xen/stored'), `OUT=${folder}`, 'SANITIZE=-fsanitize=address,undefined'], { timeout: 120_000 });
  await start();
  t.pass('built and listening');
});

test('the store daemon: nodes', async (t) => {
  const store = new StoreClient([socketPath]);
  await store.batch([writeRequest('/a/b/c', 'one'), writeRequest('/a/b/c', 'two'), mkdirRequest('/a/d')]);
  t.equal(await store.read('/a/b/c'), 'two', 'the last write counts');
  t.deepEqual(await store.directory('/a'), ['b', 'd'], 'parents are made on the way');
  t.equal(await store.read('/a/none'), undefined, 'what is not there is not there');
  await store.batch([mkdirRequest('/a/b/c')]);
  t.equal(await store.read('/a/b/c'), 'two', 'mkdir leaves a value alone');
  await store.batch([rmRequest('/a')]);
  t.equal(await store.read('/a/b/c'), undefined, 'rm takes all below');
  t.equal(await refusal(store.batch([rmRequest('/a/b')])), 'ENOENT', 'rm below nothing');
  t.equal(await refusal(store.batch([rmRequest('/a')])), 'none', 'rm twice is well');
  t.equal(await refusal(store.batch([rmRequest('/')])), 'EINVAL', 'the root stays');
  await store.batch([writeRequest('/p/q', ''), setPermsRequest('/p', { owner: 7, others: 'r', named: [{ domid: 3, access: 'b' }] })]);
  const [perms] = await store.batch([getPermsRequest('/p')]);
  t.deepEqual(texts(perms!), ['r7', 'b3'], 'permissions come back');
  await store.batch([writeRequest('/p/new', '')]);
  t.deepEqual(texts((await store.batch([getPermsRequest('/p/new')]))[0]!), ['r7', 'b3'], 'a new node inherits them');
  await store.batch([rmRequest('/p')]);
  store.close();
});

test('the store daemon: folders larger than a message', async (t) => {
  const store = new StoreClient([socketPath]);
  const names = Array.from({ length: 3000 }, (_, i) => `child-${i}`);
  await store.batch(names.map((name) => writeRequest(`/large/${name}`, name)));
  t.deepEqual(await store.directory('/large'), names, 'listed whole, in parts');
  t.equal(await refusal(store.batch([directoryRequest('/large')])), 'E2BIG', 'and not in one');
  await store.batch([rmRequest('/large')]);
  store.close();
});

test('the store daemon: watches', async (t) => {
  const store = new StoreClient([socketPath]);
  const other = new StoreClient([socketPath]);
  const heard: string[] = [];
  const below: string[] = [];
  const stop = await store.watch('/w', (path) => heard.push(path));
  await store.watch('/w/x/deep', (path) => below.push(path));
  t.ok(await soon(() => heard.length === 1 && below.length === 1), 'each fires once when set');
  await other.batch([writeRequest('/w/x/deep/leaf', '1'), writeRequest('/elsewhere', '1')]);
  t.ok(await soon(() => heard.length === 2), 'a change below is heard');
  t.equal(heard[1], '/w/x/deep/leaf', 'with its path');
  await other.batch([rmRequest('/w/x')]);
  t.ok(await soon(() => below.length === 3 && heard.length === 3), 'removing a parent is heard by who watches below it');
  t.equal(below[2], '/w/x/deep', 'with the path that is gone');
  await stop();
  await other.batch([writeRequest('/w/y', '1')]);
  await store.read('/');
  t.equal(heard.length, 3, 'nothing more after the end of the watch');
  store.close();
  other.close();
});

test('the store daemon: words for the ends of domains', async (t) => {
  const store = new StoreClient([socketPath]);
  const heard: string[] = [];
  for (const word of ['@introduceDomain', '@releaseDomain', '@domainEnds']) await store.watch(word, (path) => heard.push(path));
  t.ok(await soon(() => heard.length === 3), 'three, each heard once when it is watched');
  t.equal(await refusal(store.watch('@noSuchWord', () => {})), 'EINVAL', 'and no others');
  store.close();
});

makeIn('src/hypervisor/xen/stored', join(build, 'deaths_test'));
test('the store daemon: whose end is told', (t) => reportProgram(t, 'deaths_test'));

test('the store daemon: transactions', async (t) => {
  const a = new StoreClient([socketPath]);
  const b = new StoreClient([socketPath]);
  const begin = async (store: StoreClient) => Number(texts((await store.batch([transactionStartRequest()]))[0]!)[0]);
  const end = (store: StoreClient, id: number, commit: boolean) => refusal(store.batch([transactionEndRequest(commit)], id));
  const heard: string[] = [];
  await b.batch([writeRequest('/t/kept', 'old'), writeRequest('/t/gone/x', '')]);
  await b.watch('/t', (path) => heard.push(path));
  await soon(() => heard.length === 1);

  const first = await begin(a);
  await a.batch([writeRequest('/t/new/leaf', 'v'), writeRequest('/t/kept', 'mine'), rmRequest('/t/gone')], first);
  t.equal((await a.batch([readRequest('/t/kept')], first))[0]!.toString(), 'mine', 'it sees its own writes');
  t.deepEqual(texts((await a.batch([directoryRequest('/t')], first))[0]!), ['kept', 'new'], 'and its own folders');
  t.equal(await refusal(a.batch([readRequest('/t/gone/x')], first)), 'ENOENT', 'and its own removals');
  t.equal(await b.read('/t/kept'), 'old', 'nobody else does');
  t.equal(heard.length, 1, 'nor hears of them');
  t.equal(await end(a, first, true), 'none', 'it is committed');
  t.equal(await b.read('/t/new/leaf'), 'v', 'then all of it is there');
  t.equal(await b.read('/t/gone/x'), undefined, 'or gone');
  t.ok(await soon(() => heard.length === 4), 'and heard of, a change each');

  const second = await begin(a);
  await a.batch([readRequest('/t/kept')], second);
  await b.batch([writeRequest('/t/kept', 'theirs')]);
  await a.batch([writeRequest('/t/kept', 'lost')], second);
  t.equal(await end(a, second, true), 'EAGAIN', 'what it read has changed: refused');
  t.equal(await b.read('/t/kept'), 'theirs', 'and nothing of it done');

  const third = await begin(a);
  await a.batch([writeRequest('/t/kept', 'dropped')], third);
  t.equal(await end(a, third, false), 'none', 'dropped');
  t.equal(await b.read('/t/kept'), 'theirs', 'without a trace');
  t.equal(await end(a, third, true), 'ENOENT', 'and over');
  t.equal(await refusal(b.batch([transactionEndRequest(true)], 12345)), 'ENOENT', 'a transaction of nobody');
  a.close();
  b.close();
});

test('the store daemon: hostile bytes end only the connection they came on', async (t) => {
  const store = new StoreClient([socketPath]);
  await store.batch([writeRequest('/safe', 'yes')]);
  const bytes = encode({ type: messageType.write, requestId: 9, transactionId: 0, body: Buffer.from('/split\0byte by byte') });
  const slow = connect(socketPath);
  for (const byte of bytes) {
    slow.write(Buffer.from([byte]));
    await new Promise((done) => setImmediate(done));
  }
  await once(slow, 'data');
  t.equal(await store.read('/split'), 'byte by byte', 'a request split at every byte');
  slow.destroy();

  const long = connect(socketPath);
  long.write(Buffer.from([11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0]));
  long.resume();
  await once(long, 'close');
  t.pass('a body over the limit closes the connection');

  let seed = 42;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  const words = ['/', '/safe', '/x/y', 'rel/ative', '@releaseDomain', '@no', '//', '/x/', 'T', 'n0', 'r70000', '', 'é', '/'.repeat(4000), '1'];
  const noisy = connect(socketPath);
  noisy.resume();
  for (let i = 0; i < 5000; i++) {
    const body = Buffer.from(Array.from({ length: random(4) }, () => words[random(words.length)]).join('\0') + (random(2) ? '\0' : '')).subarray(0, 4096);
    const type = random(30);
    if (type === messageType.rm || (type === messageType.write && body.toString().startsWith('/safe'))) continue;
    noisy.write(encode({ type, requestId: i, transactionId: random(8) ? 0 : random(5), body }));
  }
  noisy.end();
  await once(noisy, 'close');
  t.equal(await store.read('/safe'), 'yes', 'five thousand senseless requests later the store answers');
  store.close();
});

test('the store daemon: clean end', async (t) => {
  daemon.kill('SIGTERM');
  const [code] = (await once(daemon, 'exit')) as [number];
  t.equal(code, 0, 'it leaves with 0');
  t.notOk(/ERROR: AddressSanitizer|runtime error/.test(complaints), `the sanitizers are content ${complaints.slice(0, 500)}`);
  rmSync(folder, { recursive: true });
});
