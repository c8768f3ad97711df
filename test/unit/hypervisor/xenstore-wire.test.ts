/** The xenstore codec against vectors that other implementations may share, and at its edges. */
import { readFileSync } from 'node:fs';
import test from 'tape';
import * as wire from '../../../src/hypervisor/xen/xenstore/wire.ts';

interface Vector {
  name: string;
  type: number;
  requestId: number;
  transactionId: number;
  body: string;
  bytes: string;
  request?: [string, ...unknown[]];
}
const vectors = JSON.parse(readFileSync(new URL('../../vectors/xenstore.json', import.meta.url), 'utf8')) as {
  messages: Vector[];
  refused: { name: string; bytes: string }[];
};
const constructors = wire as unknown as Record<string, (...args: unknown[]) => wire.Request>;

const decodeAll = (decoder: wire.Decoder, bytes: Buffer): wire.Message[] => [...decoder.push(bytes)];

test('every vector encodes to its bytes and decodes from them', (t) => {
  for (const vector of vectors.messages) {
    const { type, requestId, transactionId } = vector;
    const body = Buffer.from(vector.body, 'hex');
    t.equal(wire.encode({ type, requestId, transactionId, body }).toString('hex'), vector.bytes, `${vector.name}: encodes`);
    const [message] = decodeAll(new wire.Decoder(), Buffer.from(vector.bytes, 'hex'));
    t.deepEqual(message && { ...message, body: message.body.toString('hex') }, { type, requestId, transactionId, body: vector.body }, `${vector.name}: decodes`);
    if (!vector.request) continue;
    const [name, ...args] = vector.request;
    const request = constructors[`${name}Request`]!(...args);
    t.deepEqual([request.type, request.body.toString('hex')], [type, vector.body], `${vector.name}: is what ${name}Request makes`);
  }
  t.end();
});

test('a stream cut at any place gives the same messages', (t) => {
  const all = Buffer.concat(vectors.messages.map((vector) => Buffer.from(vector.bytes, 'hex')));
  const whole = decodeAll(new wire.Decoder(), all).map((m) => [m.type, m.requestId, m.body.toString('hex')]);
  t.equal(whole.length, vectors.messages.length);
  for (const size of [1, 2, 7, 15, 16, 17, 100]) {
    const decoder = new wire.Decoder();
    const found: unknown[] = [];
    for (let at = 0; at < all.length; at += size) {
      for (const m of decodeAll(decoder, Buffer.from(all.subarray(at, at + size)))) found.push([m.type, m.requestId, m.body.toString('hex')]);
    }
    t.deepEqual(found, whole, `in pieces of ${size}`);
  }
  t.end();
});

test('what no peer may send is refused', (t) => {
  for (const { name, bytes } of vectors.refused) {
    t.throws(() => decodeAll(new wire.Decoder(), Buffer.from(bytes, 'hex')), wire.WireError, name);
  }
  t.end();
});

test('paths and sizes are checked before anything is sent', (t) => {
  for (const path of ['', '/a/', 'a b', '/a//b', '/a\0b', '/ä', `/${'x'.repeat(wire.mostPathBytes)}`]) {
    t.throws(() => wire.readRequest(path), wire.WireError, JSON.stringify(path.slice(0, 20)));
  }
  t.doesNotThrow(() => wire.readRequest('/'));
  t.throws(() => wire.writeRequest('/a', 'x'.repeat(4096)), wire.WireError, 'a value that does not fit');
  t.doesNotThrow(() => wire.writeRequest('/a', 'x'.repeat(4093)));
  t.end();
});

test('parts of a large folder', (t) => {
  const part = (text: string) => wire.directoryPart(Buffer.from(text));
  t.deepEqual(part('5\0a\0bc\0'), { generation: '5', names: ['a', 'bc'], bytes: 5, last: false });
  t.deepEqual(part('5\0d\0\0'), { generation: '5', names: ['d'], bytes: 3, last: true });
  t.deepEqual(part('5\0\0'), { generation: '5', names: [], bytes: 1, last: true });
  t.throws(() => part('5'), wire.WireError);
  t.end();
});
