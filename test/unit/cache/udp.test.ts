/** UDP in segments: C against the kernel, the addon's arguments, backpressure, and a transport stream that ffmpeg plays without a fault. */
import { execFile } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'tape';
import { UdpSender } from '../../../src/cache/udp/sender.ts';
import { datagramBytes, PcrCutter, pcrOf, sendFile } from '../../../src/cache/udp/transport.ts';
import type { ShoalError } from '../../../src/model/errors.ts';
import { build, makeIn, reportProgram } from '../c-programs.ts';
import { folder, gone, transport } from './media.ts';

for (const words of [[], ['SANITIZE=1']]) makeIn('src/cache/native', ...words);
const addon = join(build, 'shoal_udp.node');
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return 'none';
  } catch (error) {
    return (error as ShoalError).code ?? (error as Error).name;
  }
};

async function receiver(): Promise<{ socket: Socket; port: number; got: Buffer[] }> {
  const socket = createSocket('udp4');
  const got: Buffer[] = [];
  socket.on('message', (message) => got.push(message));
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  socket.setRecvBufferSize(4 * 1024 * 1024);
  return { socket, port: socket.address().port, got };
}

for (const program of ['udp_test', 'udp_test_san']) test(`datagrams in C: ${program}`, (t) => reportProgram(t, program));

test('every function of the addon refuses wrong arguments', (t) => {
  const native = createRequire(import.meta.url)(addon) as Record<string, (...args: unknown[]) => unknown>;
  const wrong: unknown[] = [undefined, null, -1, 1.5, NaN, 2 ** 60, 'x', '127.0.0.1', {}, [], new Uint8Array(0), new Uint16Array(4), 1n, true, Symbol('x')];
  let calls = 0;
  for (const call of Object.values(native))
    for (let count = 0; count <= 8; count++)
      for (const value of wrong) {
        calls++;
        try {
          call(...Array.from({ length: count }, () => value));
        } catch (error) {
          if (!(error instanceof Error)) t.fail(String(error));
        }
      }
  t.ok(calls > 300, `${calls} calls, and node is still here`);
  const socket = native['open']!('127.0.0.1', 9, '', '', 1, true, 0);
  t.throws(() => native['send']!(socket, new Uint8Array(4), 0), RangeError, 'segments of nothing');
  t.throws(() => native['send']!(socket, new Uint8Array(4), 65_508), RangeError, 'segments that are too large');
  native['close']!(socket);
  t.throws(() => native['close']!(socket), /closed/);
  t.throws(() => native['send']!(socket, new Uint8Array(4), 4), /closed/);
  t.equal(codeOf(() => UdpSender.open({ to: '192.0.2.300', port: 1 })), 'RangeError');
  t.equal(codeOf(() => UdpSender.open({ to: '127.0.0.1', port: 1, local: '192.0.2.1' })), 'UDP_SEND_FAILED');
  t.equal(codeOf(() => UdpSender.open({ to: '127.0.0.1', port: 1 }, '/nonexistent.node')), 'SETUP_FAILED');
  t.end();
});

test('batches arrive whole and in order; multicast too; close breaks off', async (t) => {
  const { socket, port, got } = await receiver();
  const sender = UdpSender.open({ to: '127.0.0.1', port });
  const bytes = Buffer.alloc(1316 * 200 + 5);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(i, Math.min(i, bytes.length - 4));
  await Promise.all([sender.send(bytes, 1316), sender.send(Buffer.from('last'), 1316)]);
  const until = Date.now() + 30_000;
  while (got.length < 202 && Date.now() < until) await new Promise((done) => setTimeout(done, 5));
  t.deepEqual([got.length, Buffer.concat(got.slice(0, 201)).equals(bytes), got[201]?.toString()], [202, true, 'last']);
  t.equal(sender.counts.datagrams, 202);
  const stopped = sender.send(Buffer.alloc(1316 * 1000), 1316).then(() => 'sent', (e: ShoalError) => e.code);
  await sender.close();
  t.ok(['sent', 'UDP_SEND_FAILED'].includes(await stopped));
  t.equal(await sender.send(bytes, 1316).catch((e: ShoalError) => e.code), 'UDP_SEND_FAILED', 'a closed one');
  socket.close();

  const group = createSocket({ type: 'udp4', reuseAddr: true });
  const heard: Buffer[] = [];
  group.on('message', (message) => heard.push(message));
  await new Promise<void>((done) => group.bind(0, done));
  group.addMembership('239.255.77.1', '127.0.0.1');
  const many = UdpSender.open({ to: '239.255.77.1', port: group.address().port, interface: '127.0.0.1', ttl: 0 });
  await many.send(Buffer.alloc(3000, 7), 1000);
  const end = Date.now() + 30_000;
  while (heard.length < 3 && Date.now() < end) await new Promise((done) => setTimeout(done, 5));
  t.deepEqual(heard.map((m) => m.length), [1000, 1000, 1000], 'three datagrams to the group');
  await many.close();
  group.close();
});

test('a socket that takes little at a time is waited for; one that takes nothing is an error, and the rest is not sent', async (t) => {
  const state = await folder();
  const fake = join(state, 'fake.cjs');
  // The addon's functions, with room for two datagrams at a time, and for none at all after twenty.
  writeFileSync(
    fake,
    `const sent = []; let room = 2; exports.sent = sent; exports.open = () => ({}); exports.close = () => {}; exports.cuts = () => true;
     exports.send = (_, bytes, segment) => { let done = 0; while (room > 0 && done < bytes.length) { sent.push(Buffer.from(bytes.subarray(done, done + segment))); done = Math.min(bytes.length, done + segment); room--; } return done; };
     exports.writable = async () => { room = sent.length < 20 ? 2 : 0; return room > 0; };`,
  );
  const { sent } = createRequire(import.meta.url)(fake) as { sent: Buffer[] };
  const sender = UdpSender.open({ to: '127.0.0.1', port: 9 }, fake);
  const bytes = Buffer.from(Array.from({ length: 95 }, (_, i) => i));
  await Promise.all([sender.send(bytes, 10), sender.send(Buffer.from('second'), 10)]);
  t.ok(Buffer.concat(sent).equals(Buffer.concat([bytes, Buffer.from('second')])), 'every byte once, batches in order');
  t.deepEqual(sender.counts, { datagrams: 11, waits: 5 });
  t.equal(await sender.send(Buffer.alloc(500), 10).catch((e: ShoalError) => e.code), 'TIMEOUT');
  t.equal(sent.length, 20, 'what had no room was not sent');
  await sender.close();
  await gone(state);
});

test('pacing by PCR: at the stream\'s own times, no packet split, jumps and damage', async (t) => {
  const file = readFileSync(transport());
  let clock = 0;
  const sent: { atMs: number; bytes: Buffer }[] = [];
  const options = {
    path: transport(),
    sender: { send: async (bytes: Uint8Array) => void sent.push({ atMs: clock, bytes: Buffer.from(bytes) }) },
    now: () => clock,
    wait: async (ms: number) => void (clock += ms),
  };
  const result = await sendFile(options);
  t.ok(Buffer.concat(sent.map((s) => s.bytes)).equals(file), 'every byte once, in order');
  t.ok(sent.slice(0, -1).every((s) => s.bytes.length % datagramBytes === 0) && sent.at(-1)!.bytes.length % 188 === 0, 'whole datagrams of whole packets');
  t.equal(result.bytes, file.length);
  const first = [0, 188, 376, 564, 752].map((at) => pcrOf(file.subarray(at))).find((p) => p !== undefined);
  t.ok(Math.abs(clock - 6000) < 400, `six seconds of video took ${Math.round(clock)} ms of the clock`);
  // Each clock value leaves at its time, but for the time that its datagram takes to fill: this stream has about 40 a second.
  const pid = first?.pid ?? [...Array(file.length / 188).keys()].map((i) => pcrOf(file.subarray(i * 188))).find((p) => p !== undefined)!.pid;
  let worst = 0;
  let base: number | undefined;
  let at = 0;
  for (const { atMs, bytes } of sent) {
    for (let i = 0; i + 188 <= bytes.length; i += 188) {
      const pcr = pcrOf(bytes.subarray(i));
      if (pcr === undefined || pcr.pid !== pid) continue;
      base ??= pcr.ticks / 27_000 - atMs;
      worst = Math.max(worst, Math.abs(pcr.ticks / 27_000 - base - atMs));
    }
    at += bytes.length;
  }
  t.ok(worst < 120, `clock values leave ${worst.toFixed(1)} ms from their time at the worst`);
  t.equal(at, file.length);
  const whole = new PcrCutter();
  const stretches = whole.push(file).length;
  const bits = new PcrCutter();
  let n = 0;
  for (let i = 0; i < file.length; i += 101) n += bits.push(file.subarray(i, i + 101)).length;
  t.equal(n, stretches, 'however the bytes come');
  const state = await folder();
  for (const [name, bytes] of [['text', Buffer.alloc(5000, 'x')], ['no-clock', Buffer.concat(Array.from({ length: 40 }, () => Buffer.concat([Buffer.from([0x47, 0x1f, 0xff, 0x10]), Buffer.alloc(184)])))], ['damaged', Buffer.concat([file.subarray(0, 188 * 50), Buffer.alloc(400, 1)])]] as const) {
    writeFileSync(join(state, name), bytes);
    t.equal(await sendFile({ ...options, path: join(state, name) }).catch((e: ShoalError) => e.code), 'MEDIA_UNREADABLE', name);
  }
  t.equal(await sendFile({ ...options, path: join(state, 'missing') }).catch((e: ShoalError) => e.code), 'MEDIA_UNREADABLE');
  await gone(state);
});

test('ffmpeg reads the paced stream from the socket without a fault', async (t) => {
  const { socket, port } = await receiver();
  await new Promise<void>((done) => socket.close(() => done()));
  const reading = promisify(execFile)(
    'ffmpeg',
    ['-v', 'warning', '-xerror', '-t', '3', '-i', `udp://127.0.0.1:${port}?timeout=8000000&buffer_size=4194304`, '-f', 'null', '-'],
    { timeout: 30_000 },
  ).then(({ stderr }) => stderr, (e: { stderr?: string; message: string }) => `failed: ${e.stderr ?? e.message}`);
  await new Promise((done) => setTimeout(done, 400));
  const stop = new AbortController();
  const sender = UdpSender.open({ to: '127.0.0.1', port });
  const sending = sendFile({ path: transport(), sender, signal: stop.signal });
  const said = await reading;
  stop.abort();
  const sent = await sending;
  await sender.close();
  t.notOk(/failed|corrupt|continuity|error/i.test(said), said.trim() || `nothing to say of ${sent.datagrams} datagrams`);
});
