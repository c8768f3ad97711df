/** Kept objects as UDP datagrams, as the admin port asks: what arrives is the body, in the datagrams that were meant, and what cannot be sent is refused. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import test from 'tape';
import { admin, Cache, get, Origin, sleep, until } from './rig.ts';

class Receiver {
  readonly socket: Socket = createSocket({ type: 'udp4', reuseAddr: true, recvBufferSize: 4 << 20 });
  readonly datagrams: Buffer[] = [];

  async listen(group?: string): Promise<number> {
    this.socket.on('message', (bytes) => this.datagrams.push(bytes));
    this.socket.bind(0);
    await once(this.socket, 'listening');
    if (group !== undefined) this.socket.addMembership(group, '10.0.0.1');
    return this.socket.address().port;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.datagrams);
  }
}

/** Null packets, each with a number in its payload. */
const transport = (packets: number): Buffer =>
  Buffer.concat(Array.from({ length: packets }, (_, i) => {
    const packet = Buffer.alloc(188, 0xff);
    packet.writeUInt32BE(0x471fff10, 0);
    packet.writeUInt32BE(i, 4);
    return packet;
  }));

interface Playout {
  id: number;
  url: string;
  state: string;
  datagrams: number;
  bytes: number;
}
const listed = async (): Promise<Playout[]> => (JSON.parse((await admin('/streams'))!.body.toString()) as { streams: Playout[] }).streams;
const begin = async (query: string) => (await admin(`/streams?${query}`, 'POST'))!;
const stateOf = async (id: number): Promise<string> => (await listed()).find((one) => one.id === id)!.state;

test('streams of datagrams out of what is kept', async (t) => {
  const origin = new Origin();
  const cache = new Cache();
  const film = transport(2000), plain = Buffer.from(Uint8Array.from({ length: 100_001 }, (_, i) => i * 7));
  origin.give('/film.ts', film);
  origin.give('/plain', plain);
  origin.give('/varies', plain, { 'Cache-Control': 'max-age=1000', Vary: 'Accept' });
  await cache.start(await origin.listen());
  for (const path of ['/film.ts', '/plain', '/varies']) await get(path);

  for (const [name, group] of [['unicast', undefined], ['multicast', '239.9.9.9']] as const) {
    const receiver = new Receiver();
    const port = await receiver.listen(group);
    const begun = await begin(`url=site/film.ts&to=${group ?? '10.0.0.1'}:${port}&paced=0`);
    t.equal(begun.status, 200, `${name}: ${begun.body.toString().trim()}`);
    const { stream } = JSON.parse(begun.body.toString()) as { stream: number };
    t.ok(await until(() => receiver.bytes.length >= film.length), `${name}: ${receiver.bytes.length} bytes came`);
    t.ok(receiver.bytes.equals(film), `${name}: the film, in order`);
    t.equal(receiver.datagrams[0]!.length, 1316, `${name}: seven packets a datagram`);
    t.equal(await stateOf(stream), 'done');
    const { datagrams, bytes } = (await listed()).find(({ id }) => id === stream)!;
    t.deepEqual([datagrams, bytes], [Math.ceil(film.length / 1316), film.length], `${name}: and it counted them`);
    receiver.socket.close();
  }

  const receiver = new Receiver();
  const port = await receiver.listen();
  await begin(`url=site/plain&to=10.0.0.1:${port}&mode=plain`);
  t.ok(await until(() => receiver.bytes.length >= plain.length) && receiver.bytes.equals(plain), 'anything, in plain datagrams');
  t.equal(receiver.datagrams[0]!.length, 1024);
  receiver.datagrams.length = 0;
  await begin(`url=site/film.ts&to=10.0.0.1:${port}&mode=rtp&paced=0`);
  t.ok(await until(() => receiver.datagrams.length === Math.ceil(film.length / 1316)), 'RTP');
  const numbers = receiver.datagrams.map((bytes) => bytes.readUInt16BE(2));
  t.ok(receiver.datagrams.every((bytes) => bytes[0] === 0x80 && (bytes[1]! & 0x7f) === 33) && numbers.every((n, i) => n === ((numbers[0]! + i) & 0xffff)), 'of type 33, numbered');
  receiver.datagrams.length = 0;
  const wrong = JSON.parse((await begin(`url=site/plain&to=10.0.0.1:${port}`)).body.toString()) as { stream: number };
  await sleep(300);
  t.equal(await stateOf(wrong.stream), 'not a transport stream', 'what is no transport stream is not sent as one');

  const endless = JSON.parse((await begin(`url=site/film.ts&to=10.0.0.1:${port}&paced=0&seconds=600`)).body.toString()) as { stream: number };
  t.ok(await until(() => receiver.bytes.length > 3 * film.length), 'again and again');
  t.equal((await admin(`/streams?id=${endless.stream}`, 'DELETE'))?.status, 204);
  t.equal(await stateOf(endless.stream), 'ended');
  await sleep(100);
  const then = receiver.datagrams.length;
  await sleep(200);
  t.equal(receiver.datagrams.length, then, 'and no more when it is ended');

  for (const [query, status, what] of [
    ['url=site/none&to=10.0.0.1:5004', 404, 'what is not kept'],
    ['url=site/varies&to=10.0.0.1:5004', 404, 'what varies'],
    ['url=site&to=10.0.0.1:5004', 404, 'no URL'],
    ['to=10.0.0.1:5004', 400, 'nothing'],
    ['url=site/film.ts', 400, 'to nobody'],
    ['url=site/film.ts&to=10.0.0.1', 400, 'without a port'],
    ['url=site/film.ts&to=10.0.0.1:0', 400, 'port 0'],
    ['url=site/film.ts&to=10.0.0.256:5004', 400, 'no address'],
    ['url=site/film.ts&to=255.255.255.255:5004', 400, 'to everybody'],
    ['url=site/film.ts&to=10.0.0.1:5004&ttl=256', 400, 'too long a life'],
    ['url=site/film.ts&to=10.0.0.1:5004&mode=mpeg', 400, 'a mode there is none of'],
    ['url=site/film.ts&to=10.0.0.1:5004&seconds=90000', 400, 'more than a day'],
  ] as const)
    t.equal((await begin(query)).status, status, `refused: ${what}`);
  t.equal((await admin('/streams?id=9999', 'DELETE'))?.status, 404);
  t.equal((await get('/streams?url=site/film.ts&to=10.0.0.1:5004', {}, { method: 'POST', port: 8081 }))?.status, 401, 'only who has the secret sends');

  const nobody = JSON.parse((await begin('url=site/film.ts&to=10.0.0.77:5004')).body.toString()) as { stream: number };
  t.equal(await stateOf(nobody.stream), 'asking');
  const running = await Promise.all([1, 2, 3].map(() => begin(`url=site/film.ts&to=10.0.0.1:${port}&paced=0&seconds=600`)));
  t.deepEqual(running.map(({ status }) => status), [200, 200, 200]);
  t.equal((await begin('url=site/film.ts&to=10.0.0.1:5004')).status, 503, 'four at a time');
  t.equal((await get('/plain'))?.body.length, plain.length, 'viewers are served beside them');
  for (let i = 0; i < 60 && (await stateOf(nobody.stream)) === 'asking'; i++) await sleep(100);
  t.equal(await stateOf(nobody.stream), 'nobody has this address');
  t.equal((await begin(`url=site/film.ts&to=10.0.0.1:${port}`)).status, 200, 'its place is free again');
  receiver.socket.close();
  t.equal(await cache.stop(), '', 'the sanitizers found nothing');
  origin.close();
  t.end();
});
