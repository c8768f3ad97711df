/** What is said to the kernel, byte for byte, what is made of its answers, and the addon against the kernel and against wrong arguments. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'tape';
import type { ShoalError } from '../../../src/model/errors.ts';
import { loadNative } from '../../../src/mptcp/linux/native.ts';
import { addressBytes, addressText, attribute, decodeAttributes, decodeMessages, encodeMessage, errnoOf, u32 } from '../../../src/mptcp/linux/netlink.ts';
import { askFamily, command, commandBody, decodeEndpoint, decodeEvent, decodeFamily } from '../../../src/mptcp/linux/path-manager.ts';
import { connectionInfo, decodeSocket, destroyBody, dumpBody, protocol } from '../../../src/mptcp/linux/socket-diag.ts';
import { build, makeIn, reportProgram } from '../c-programs.ts';

for (const words of [[], ['SANITIZE=1']]) makeIn('src/mptcp/native', ...words);

for (const program of ['sockets_test', 'sockets_test_san']) test(`sockets in C: ${program}`, (t) => reportProgram(t, program));

test('addresses are the same in text and bytes', (t) => {
  for (const [text, hex] of [
    ['192.0.2.1', 'c0000201'],
    ['::', '00000000000000000000000000000000'],
    ['::1', '00000000000000000000000000000001'],
    ['2001:db8::1:0:0:1', '20010db8000000000001000000000001'],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001'],
    ['fe80::', 'fe800000000000000000000000000000'],
  ] as const) {
    t.equal(addressBytes(text).toString('hex'), hex, `${text} to bytes`);
    t.equal(addressText(Buffer.from(hex, 'hex')), text, `${text} from bytes`);
  }
  t.equal(addressBytes('::ffff:192.0.2.1').toString('hex'), '00000000000000000000ffffc0000201', 'dotted inside IPv6');
  t.equal(addressText(addressBytes('::ffff:192.0.2.1')), '192.0.2.1', 'a mapped address is the IPv4 one');
  t.end();
});

test('commands to the path manager are what the kernel reads', (t) => {
  const hex = (body: Buffer[]): string => Buffer.concat(body).toString('hex');
  t.equal(
    hex(commandBody(command.announce, { token: 0x01020304, local: { address: '192.0.2.1', id: 2, flags: 1 } })),
    '08010000' + '24000180' + '0600010002000000' + '0500020002000000' + '08000300c0000201' + '0800060001000000' + '0800040004030201',
    'announce',
  );
  t.equal(hex(commandBody(command.remove, { token: 1, localId: 0 })), '09010000' + '0800040001000000' + '0500050000000000', 'remove, with the id 0');
  t.equal(
    hex(commandBody(command.destroy, { token: 1, local: { address: '::1', port: 80 }, remote: { address: '::1', port: 443 } })),
    '0b010000' + `28000180060001000a0000001400040000000000000000000000000000000001${'0600050050000000'}` + '0800040001000000' + `28000680060001000a0000001400040000000000000000000000000000000001${'06000500bb010000'}`,
    'destroy over IPv6',
  );
  t.equal(encodeMessage(16, 4, 9, askFamily('x')).toString('hex'), '1c000000' + '1000' + '0500' + '09000000' + '00000000' + '03010000' + '0600020078000000', 'a whole message');
  t.end();
});

test('sockets are asked for and destroyed by their addresses', (t) => {
  const dump = Buffer.concat(dumpBody(false, protocol.mptcp));
  t.equal(dump.length, 56 + 8, 'MPTCP is asked for by an attribute');
  t.equal(dump.subarray(56).toString('hex'), '0800030006010000', 'with its number, which has more than eight bits');
  t.equal(dump.readUInt32LE(4) & (1 << 10), 0, 'what listens is not asked for');
  t.ok(dump.readUInt32LE(4) & (1 << 1), 'what is established is');
  const [destroy] = destroyBody({ address: '192.0.2.1', port: 80 }, { address: '10.0.0.1', port: 0x1234 });
  t.equal(destroy!.subarray(8, 16).toString('hex'), '00501234c0000201', 'ports and source in network order');
  t.equal(destroy!.subarray(28, 32).toString('hex'), '0a000001', 'destination');
  t.end();
});

test('a socket of the kernel is read', (t) => {
  const body = Buffer.alloc(72);
  body[0] = 2;
  body[1] = 1;
  body.writeUInt16BE(443, 4);
  body.writeUInt16BE(50_000, 6);
  Buffer.from([192, 0, 2, 1]).copy(body, 8);
  Buffer.from([10, 0, 0, 1]).copy(body, 24);
  const subflow = attribute(19, [attribute(3, [attribute(2, u32(77)), attribute(8, u32(1 << 5)), attribute(9, Buffer.from([4])), attribute(10, Buffer.from([5]))])]);
  const found = decodeSocket(Buffer.concat([body, subflow]))!;
  t.deepEqual([found.local, found.remote, found.state], [{ address: '192.0.2.1', port: 443 }, { address: '10.0.0.1', port: 50_000 }, 'established'], 'addresses, ports, state');
  t.deepEqual(found.subflow, { token: 77, flags: 32, remoteId: 4, localId: 5 }, "and MPTCP's view of it");
  t.equal(decodeSocket(body)!.subflow, undefined, 'plain TCP has none');
  t.end();
});

test('what is cut short, too long or unknown is left out, never thrown', (t) => {
  const event = Buffer.concat([
    Buffer.from([6, 1, 0, 0]), attribute(1, u32(77)), attribute(4, Buffer.from([3])), attribute(7, Buffer.from([198, 51, 100, 1])), attribute(10, Buffer.from([0, 80])),
  ]);
  const whole = encodeMessage(30, 0, 0, [event]);
  t.deepEqual(decodeEvent(decodeMessages(whole)[0]!), { kind: 'announced', token: 77, remoteId: 3, remote: { address: '198.51.100.1', port: 80 } }, 'an announcement');
  t.deepEqual(decodeEvent({ type: 30, sequence: 0, body: Buffer.concat([Buffer.from([7, 1, 0, 0]), attribute(1, u32(77)), attribute(4, Buffer.from([3]))]) }), { kind: 'removed', token: 77, remoteId: 3 }, 'a removal');
  t.equal(decodeEvent({ type: 30, sequence: 0, body: Buffer.from([15, 1, 0, 0]) }), undefined, 'a listener that came');
  for (let length = 0; length < whole.length; length++) t.deepEqual(decodeMessages(whole.subarray(0, length)), [], `cut after ${length} bytes`);
  let seed = 1;
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.alloc(round % 200);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (seed = (seed * 1103515245 + 12345) >>> 0) >>> 24;
    if (round % 2 && bytes.length > 8) bytes.writeUInt16LE(bytes.length - 4, 4);
    for (const one of [{ type: 30, sequence: 0, body: bytes }, ...decodeMessages(bytes)]) decodeEvent(one);
    decodeAttributes(bytes);
    if (bytes.length >= 4) decodeEndpoint(bytes), decodeFamily(bytes);
    decodeSocket(bytes);
  }
  t.equal(errnoOf({ type: 2, sequence: 0, body: Buffer.from([0xfe, 0xff, 0xff, 0xff]) }), 2, 'errno of an answer');
  t.equal(connectionInfo(undefined).token, 0, 'without information there is no token');
  t.end();
});

test('every function of the addon refuses wrong arguments', (t) => {
  const native = createRequire(import.meta.url)(join(build, 'shoal_mptcp.node')) as Record<string, (...args: unknown[]) => unknown>;
  const wrong: unknown[] = [undefined, null, -1, 1.5, NaN, 2 ** 60, 'x', {}, [], new Uint8Array(0), new Uint16Array(4), 1n, Symbol('x')];
  let calls = 0;
  for (const [name, call] of Object.entries(native)) {
    if (name === 'known') continue;
    for (let count = 0; count <= 6; count++)
      for (const value of wrong) {
        calls++;
        try {
          void (call(...Array.from({ length: count }, () => value)) as Promise<unknown> | undefined)?.catch?.(() => {});
        } catch (error) {
          if (!(error instanceof Error)) t.fail(String(error));
        }
      }
  }
  t.ok(calls > 500, `${calls} calls, and the process lives`);
  const socket = loadNative().open(16);
  native['close']!(socket);
  t.throws(() => native['news']!(socket), /closed/, 'a closed socket is refused');
  t.throws(() => native['watch']!(loadNative().open(16), 1, 'no function'), /function/, 'a listener must be a function');
  try {
    loadNative('/nowhere/addon.node');
    t.fail('an addon that is not there');
  } catch (error) {
    t.equal((error as ShoalError).code, 'SETUP_FAILED', 'an addon that is not there');
  }
  t.end();
});
