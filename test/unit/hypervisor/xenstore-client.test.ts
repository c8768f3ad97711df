/** The store client against a daemon in this process: pipelining, transactions that lose, watches, and what happens when the connection goes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { StoreClient, StoreRefusal } from '../../../src/hypervisor/xen/xenstore/client.ts';
import { Decoder, encode, messageType, readRequest, texts, writeRequest, type Message } from '../../../src/hypervisor/xen/xenstore/wire.ts';

interface Daemon {
  path: string;
  received: Message[];
  /** Chunks as they came, to see what was sent in one write. */
  chunks: Buffer[];
  sockets: Socket[];
  answer: (message: Message, socket: Socket) => void;
  stop: () => Promise<void>;
}

const reply = (socket: Socket, message: Message, body: string, type = message.type): void => {
  socket.write(encode({ type, requestId: message.requestId, transactionId: message.transactionId, body: Buffer.from(body) }));
};

async function daemon(answer: Daemon['answer'] = (message, socket) => reply(socket, message, 'OK\0')): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-store-'));
  const made: Daemon = { path: join(folder, 'socket'), received: [], chunks: [], sockets: [], answer, stop: async () => {} };
  const server: Server = createServer((socket) => {
    const decoder = new Decoder();
    made.sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      made.chunks.push(chunk);
      for (const message of decoder.push(chunk)) {
        made.received.push(message);
        made.answer(message, socket);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(made.path, resolve));
  made.stop = async () => {
    for (const socket of made.sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true, force: true });
  };
  return made;
}

const code = (error: unknown): unknown => (error instanceof ShoalError ? error.code : error);

test('a batch leaves in one write and answers may come in any order', async (t) => {
  const held: [Message, Socket][] = [];
  const store = await daemon((message, socket) => {
    held.push([message, socket]);
    if (held.length === 3) for (const [m, s] of held.reverse()) reply(s, m, texts(m.body)[0]!);
  });
  const client = new StoreClient([store.path]);
  const answers = await client.batch([readRequest('/a'), readRequest('/b'), readRequest('/c')]);
  t.deepEqual(answers.map(String), ['/a', '/b', '/c']);
  t.equal(store.chunks.length, 1, 'one write');
  t.deepEqual(client.counts, { requests: 3, changes: 0, retries: 0 });
  client.close();
  await store.stop();
});

test('a node that is not there reads as undefined, other refusals throw', async (t) => {
  const store = await daemon((message, socket) => reply(socket, message, texts(message.body)[0] === '/gone' ? 'ENOENT\0' : 'EACCES\0', messageType.error));
  const client = new StoreClient([store.path]);
  t.equal(await client.read('/gone'), undefined);
  t.deepEqual(await client.directory('/gone'), []);
  try {
    await client.read('/secret');
    t.fail('is refused');
  } catch (error) {
    t.ok(error instanceof StoreRefusal && error.errno === 'EACCES' && error.code === 'XENSTORE_FAILED', String(error));
  }
  client.close();
  await store.stop();
});

test('a transaction that loses is done again, all of it', async (t) => {
  let ends = 0;
  const store = await daemon((message, socket) => {
    if (message.type === messageType.transactionStart) reply(socket, message, `${7 + ends}\0`);
    else if (message.type === messageType.transactionEnd && ++ends < 3) reply(socket, message, 'EAGAIN\0', messageType.error);
    else reply(socket, message, 'OK\0');
  });
  const client = new StoreClient([store.path]);
  const answers = await client.transaction([writeRequest('/a', '1'), writeRequest('/b', '2')], [readRequest('/after')]);
  t.equal(answers.length, 2, 'the answers to its requests');
  const after = store.received.findIndex((m) => m.type === messageType.read);
  t.equal(store.received[after]!.transactionId, 0, 'what comes after it is outside of it');
  t.equal(store.received[after - 1]!.type, messageType.transactionEnd);
  const writes = store.received.filter((m) => m.type === messageType.write);
  t.deepEqual(writes.map((m) => m.transactionId), [7, 7, 8, 8, 9, 9]);
  t.equal(client.counts.retries, 2);
  t.equal(store.chunks.length, 6, 'two writes to the socket an attempt');
  client.close();
  await store.stop();
});

test('a transaction that always loses gives up', async (t) => {
  const store = await daemon((message, socket) => {
    if (message.type === messageType.transactionStart) reply(socket, message, '7\0');
    else reply(socket, message, 'EAGAIN\0', messageType.error);
  });
  const client = new StoreClient([store.path]);
  t.equal(await client.transaction([]).catch(code), 'XENSTORE_FAILED');
  client.close();
  await store.stop();
});

test('watches fire by token and end', async (t) => {
  const store = await daemon();
  const client = new StoreClient([store.path]);
  const seen: string[] = [];
  const stop = await client.watch('/a', (path) => seen.push(path));
  const token = texts(store.received[0]!.body)[1]!;
  const fire = (body: string): void => {
    store.sockets[0]!.write(encode({ type: messageType.watchEvent, requestId: 0, transactionId: 0, body: Buffer.from(body) }));
  };
  fire(`/a/b\0${token}\0`);
  fire(`/x\0nobody\0`);
  await client.read('/sync');
  t.deepEqual(seen, ['/a/b']);
  await stop();
  fire(`/a/c\0${token}\0`);
  await client.read('/sync');
  t.deepEqual(seen, ['/a/b'], 'nothing after the end');
  client.close();
  await store.stop();
});

test('a lost connection fails what is under way, the next request connects again and watches are set anew', async (t) => {
  const store = await daemon();
  const client = new StoreClient([store.path]);
  await client.watch('/a', () => {});
  store.answer = (_message, socket) => socket.destroy();
  t.equal(await client.read('/b').catch(code), 'XENSTORE_FAILED');
  store.answer = (message, socket) => reply(socket, message, 'OK\0');
  t.equal(await client.read('/c'), 'OK\0');
  t.equal(store.sockets.length, 2);
  t.equal(store.received.filter((m) => m.type === messageType.watch).length, 2, 'the watch was set again');
  client.close();
  t.equal(await client.read('/d').catch(code), 'XENSTORE_FAILED', 'a closed client stays closed');
  await store.stop();
});

test('garbage from the daemon ends the connection, not the process', async (t) => {
  const store = await daemon((_message, socket) => socket.write(Buffer.alloc(16, 0xff)));
  const client = new StoreClient([store.path]);
  t.equal(await client.read('/a').catch(code), 'XENSTORE_FAILED');
  client.close();
  await store.stop();
});

test('no daemon is a typed error', async (t) => {
  const client = new StoreClient(['/nonexistent/socket']);
  t.equal(await client.read('/a').catch(code), 'XENSTORE_FAILED');
  client.close();
});

test('a folder that does not fit in one message is read in parts, and again when it changes meanwhile', async (t) => {
  let parts = 0;
  const store = await daemon((message, socket) => {
    if (message.type === messageType.directory) return reply(socket, message, 'E2BIG\0', messageType.error);
    parts++;
    const offset = Number(texts(message.body)[1]);
    if (parts === 2) return reply(socket, message, '6\0zz\0\0');
    return offset === 0 ? reply(socket, message, '5\0a\0b\0') : reply(socket, message, '5\0c\0\0');
  });
  const client = new StoreClient([store.path]);
  t.deepEqual(await client.directory('/big'), ['a', 'b', 'c']);
  t.equal(client.counts.retries, 1);
  client.close();
  await store.stop();
});
