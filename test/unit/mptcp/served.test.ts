/** The path agent over HTTPS, its configuration, and the gateway between real sockets on loopback. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { connect, createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'tape';
import { makeCertificate } from '../../../bench/migration/moving.ts';
import { parsePathAgentConfig } from '../../../src/main/path-agent-config.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { PathAgent } from '../../../src/mptcp/agent.ts';
import { serveAgent } from '../../../src/mptcp/api.ts';
import { PathClient } from '../../../src/mptcp/client.ts';
import { Gateway } from '../../../src/mptcp/gateway.ts';
import { loadNative } from '../../../src/mptcp/linux/native.ts';
import { metricsOf } from '../../../src/mptcp/metrics.ts';
import { SimulatedMptcp } from '../../../src/mptcp/simulated.ts';
import { makeIn } from '../c-programs.ts';

makeIn('src/mptcp/native');
const [w1, w2] = ['192.0.2.1', '198.51.100.1'];
const token = 'a-token-of-more-than-thirty-two-characters';
const codeOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'none', (error: ShoalError) => error.code);

test('over HTTPS: the certificate, the token, each call, and what is refused', async (t) => {
  const [folder, other] = [mkdtempSync(join(tmpdir(), 'shoal-path-')), mkdtempSync(join(tmpdir(), 'shoal-path-'))];
  const { certFile, keyFile } = makeCertificate(folder);
  const port = new SimulatedMptcp();
  const connection = port.connect({ address: w1, port: 443 }, { address: '10.0.0.1', port: 40_000 });
  const agent = new PathAgent({ port, policy: { addresses: [w1, w2], maxSubflows: 4 }, log: () => {} });
  const tls = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  const served = await serveAgent({ agent, listen: { host: '127.0.0.1', port: 0 }, tls, token, metrics: () => metricsOf(agent, undefined, []), log: () => {} });
  const url = `https://127.0.0.1:${served.port}`;
  const client = new PathClient({ url, certificate: tls.cert, token });
  t.equal((await client.announce({ address: w2, from: w1 }))[0]!.result, 'done', 'announce');
  t.equal((await client.backup({ address: w1, backup: true, tokens: [connection] }))[0]!.result, 'done', 'backup');
  t.equal((await client.status({ from: w1, to: w2 })).connections[0]!.from.backup, true, 'status');
  t.deepEqual(await client.destroy({ address: w1, tokens: [connection + 1] }), [], 'a token narrows a call');
  t.equal((await client.withdraw({ address: w1 }))[0]!.result, 'done', 'withdraw');
  t.equal(await codeOf(client.announce({ address: '203.0.113.1', from: w1 })), 'FORBIDDEN', 'policy');
  t.equal(await codeOf(client.announce({ address: 'a name', from: w1 })), 'REQUEST_INVALID', 'no address');
  t.equal(await codeOf(client.withdraw({ address: w2, token: 1 } as never)), 'REQUEST_INVALID', 'a misspelt field does not make a call about every connection');
  t.equal(port.connections()[0]!.subflows.length, 1, 'and nothing was done');
  t.equal(await codeOf(client.withdraw({ address: w2, tokens: Array.from({ length: 200_000 }, () => 1_234_567) })), 'REQUEST_TOO_LARGE', 'a body without end');
  const wrong = new PathClient({ url, certificate: tls.cert, token: `${token}x` });
  t.equal(await codeOf(wrong.status({ from: w1, to: w2 })), 'TOKEN_INVALID', 'another token');
  const foreign = new PathClient({ url, certificate: readFileSync(makeCertificate(other).certFile, 'utf8'), token });
  t.equal(await codeOf(foreign.status({ from: w1, to: w2 })), 'CERTIFICATE_MISMATCH', 'another certificate');
  const impatient = new PathClient({ url, certificate: tls.cert, token, timeoutMs: 50 });
  const { change } = await client.status({ from: w1, to: w2 });
  t.equal((await impatient.status({ from: w1, to: w2, after: change, waitMs: 100 })).change, change, 'a wait that was asked for is no time-out');
  t.throws(() => new PathClient({ url: 'http://127.0.0.1:1', certificate: '', token }), /https/, 'never without TLS');
  const text = metricsOf(agent, undefined, []);
  t.match(text, /shoal_paths_acts_total\{act="announce"\} 1\n/, 'metrics count acts');
  t.match(text, /# EOF\n$/, 'and end as OpenMetrics do');
  for (const one of [client, wrong, foreign, impatient]) one.close();
  await served.close();
  t.equal(await codeOf(client.status({ from: w1, to: w2 })), 'CONNECTION_FAILED', 'when it is gone');
  for (const one of [folder, other]) rmSync(one, { recursive: true });
  t.end();
});

test('the configuration: what is left out, and what is refused by its name', (t) => {
  const files = { certFile: 'c', keyFile: 'k', tokenFile: 't' };
  const config = parsePathAgentConfig(JSON.stringify(files));
  t.deepEqual(config, { listen: { host: '127.0.0.1', port: 7445 }, ...files, addresses: undefined, maxSubflows: 8, follow: undefined, gateways: [] });
  t.deepEqual(parsePathAgentConfig(JSON.stringify({ ...files, follow: true })).follow, { retryMs: 200, patienceMs: 30_000 });
  const refused = (more: object): string => {
    try {
      parsePathAgentConfig(JSON.stringify({ ...files, ...more }));
      return 'taken';
    } catch (error) {
      return (error as ShoalError).message;
    }
  };
  for (const [more, name] of [
    [{ certFile: undefined }, 'certFile'], [{ adresses: [] }, 'adresses'], [{ addresses: ['a.example'] }, 'addresses.0'], [{ maxSubflows: 0 }, 'maxSubflows'], [{ follow: { retry: 1 } }, 'follow.retry'],
    [{ gateways: [{ listen: { host: '::', port: 1 }, to: { host: 'name', port: 2 } }] }, 'gateways.0.to.host'], [{ gateways: [{ listen: { host: '::', port: 1 }, to: { host: '::1', port: 0 } }] }, 'gateways.0.to.port'],
  ] as const)
    t.match(refused(more), new RegExp(`"${name.replaceAll('.', '\\.')}"`), name);
  t.end();
});

interface Far {
  port: number;
  sockets: Socket[];
  close(): void;
}
async function far(on: (socket: Socket) => void): Promise<Far> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    on(socket);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return { port: (server.address() as { port: number }).port, sockets, close: () => void (server.close(), sockets.forEach((one) => one.destroy())) };
}
const gatewayTo = (port: number, most = 10): Promise<Gateway> =>
  Gateway.open({ listen: { host: '127.0.0.1', port: 0, mptcp: true }, to: { host: '127.0.0.1', port, mptcp: false }, most, connectTimeoutMs: 2_000, log: () => {} });
const dial = async (port: number): Promise<{ socket: Socket; fd: number }> => {
  const fd = await loadNative().connect('127.0.0.1', port, '', true, 2_000);
  return { fd, socket: new Socket({ fd, allowHalfOpen: true, readable: true, writable: true }) };
};
const closed = (socket: Socket): Promise<boolean> => new Promise((done) => {
  let broken = false;
  socket.on('error', () => (broken = true));
  socket.on('close', () => done(broken));
});

test('gateway: MPTCP outside, TCP inside; one direction may end long before the other', async (t) => {
  const got = createHash('sha256');
  const server = await far((socket) => {
    socket.on('data', (part: Buffer) => got.update(part));
    socket.on('end', () => {
      // Only after the client has ended: a gateway that ends both at once would lose this.
      for (let i = 0; i < 64; i++) socket.write(Buffer.alloc(65_536, i));
      socket.end();
    });
  });
  const gateway = await gatewayTo(server.port);
  const { socket, fd } = await dial(gateway.port);
  t.ok(loadNative().info(fd) !== undefined, 'outside it is MPTCP');
  const [sent, back] = [createHash('sha256'), createHash('sha256')];
  let bytes = 0;
  socket.on('data', (part: Buffer) => {
    bytes += part.length;
    back.update(part);
  });
  const ended = new Promise<void>((done) => socket.on('end', done));
  for (let i = 0; i < 64; i++) {
    const part = Buffer.alloc(65_536, 255 - i);
    sent.update(part);
    socket.write(part);
  }
  socket.end();
  await ended;
  t.equal(got.digest('hex'), sent.digest('hex'), 'every byte there');
  const expected = createHash('sha256');
  for (let i = 0; i < 64; i++) expected.update(Buffer.alloc(65_536, i));
  t.equal(bytes, 64 * 65_536, 'every byte back');
  t.equal(back.digest('hex'), expected.digest('hex'), 'unchanged');
  t.equal(gateway.counts.bytes, 2 * 64 * 65_536, 'and counted');
  while (gateway.open > 0) await new Promise((done) => setTimeout(done, 5));
  t.pass('nothing is kept of it');
  await gateway.close();
  server.close();
  t.end();
});

test('gateway: a reader that stops stops the writer, in bounded memory', async (t) => {
  const server = await far((socket) => void socket.pause());
  const gateway = await gatewayTo(server.port);
  const { socket } = await dial(gateway.port);
  socket.on('error', () => {});
  let before = -1;
  const timer = setInterval(() => {
    while (!socket.writableNeedDrain && !socket.destroyed) socket.write(Buffer.alloc(1 << 20));
  }, 5);
  // Until the kernel's buffers are full and nothing goes on.
  for (let tries = 0; tries < 60 && (gateway.counts.bytes !== before || before <= 0); tries++) {
    before = gateway.counts.bytes;
    await new Promise((done) => setTimeout(done, 400));
  }
  clearInterval(timer);
  t.ok(gateway.counts.bytes < 64 << 20, `it took ${gateway.counts.bytes >> 10} KiB and no more`);
  socket.destroy();
  await gateway.close();
  server.close();
  t.end();
});

test('gateway: a broken side is a reset on the other, no room and no server are one, too', async (t) => {
  const server = await far((socket) => void socket.resume());
  const gateway = await gatewayTo(server.port, 1);
  const one = await dial(gateway.port);
  one.socket.write('x');
  while (server.sockets.length === 0) await new Promise((done) => setTimeout(done, 5));
  // The reset may come before the connection is known to be there.
  const refused = (): Promise<boolean> => dial(gateway.port).then(({ socket }) => closed(socket.resume()), (error: Error) => /reset/i.test(error.message));
  t.equal(await refused(), true, 'more than there is room for is refused');
  const broke = closed(one.socket.resume());
  server.sockets[0]!.resetAndDestroy();
  t.equal(await broke, true, 'a reset inside is a reset outside');
  server.close();
  while (gateway.open > 0) await new Promise((done) => setTimeout(done, 5));
  t.equal(await refused(), true, 'a server that is gone is a reset');
  t.equal(gateway.counts.refused, 2, 'both are counted');
  await gateway.close();
  const plain = connect(gateway.port, '127.0.0.1');
  t.equal(await closed(plain), true, 'a closed gateway listens no more');
  t.equal(await codeOf(Gateway.open({ listen: { host: '192.0.2.99', port: 0, mptcp: true }, to: { host: '127.0.0.1', port: 1, mptcp: false }, log: () => {} })), 'MPTCP_FAILED', 'an address of another machine');
  t.end();
});
