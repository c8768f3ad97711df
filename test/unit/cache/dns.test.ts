/** The name server: what it answers, read by c-ares and by the codec; what it refuses; messages that are no messages. */
import packet, { type Packet } from 'dns-packet';
import { Resolver } from 'node:dns/promises';
import { connect } from 'node:net';
import test from 'tape';
import { answer, type Zone } from '../../../src/cache/route/dns.ts';
import { serveDns } from '../../../src/cache/route/dns-server.ts';

const zone: Zone = { name: 'cdn.example', server: 'ns.cdn.example', serverAddress: '192.0.2.53', ttlS: 2 };
const addresses = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5'];
const resolve = (tenant: string, event: string, client: string): string[] | undefined =>
  tenant !== 'acme' ? undefined : event === 'final' ? (client.startsWith('10.9.') ? ['10.9.0.1'] : addresses) : event === 'early' ? [] : undefined;

const ask = (name: string, type = 'A', more: object = {}): Packet & { rcode: string; flag_aa: boolean } =>
  packet.decode(answer(packet.encode({ id: 7, type: 'query', flags: 0x100, questions: [{ name, type: type as 'A' }], ...more }), '192.0.2.1', zone, resolve, false)!) as never;

test('addresses of an event, best first, no more than four', (t) => {
  const reply = ask('final.acme.cdn.example');
  t.deepEqual([reply.rcode, reply.flag_aa, reply.id], ['NOERROR', true, 7]);
  t.deepEqual(reply.answers!.map((a) => (a as { data: string }).data), addresses.slice(0, 4));
  t.equal((reply.answers![0] as { ttl: number }).ttl, 2);
  t.equal(ask('FINAL.Acme.CDN.example').answers!.length, 4, 'case does not matter');
  t.equal(ask('v720.final.acme.cdn.example').answers!.length, 4, 'a label in front is the same event');
  t.deepEqual([ask('other.acme.cdn.example').rcode, ask('final.else.cdn.example').rcode], ['NXDOMAIN', 'NXDOMAIN']);
  const early = ask('early.acme.cdn.example');
  t.deepEqual([early.rcode, early.answers!.length, early.authorities!.length], ['NOERROR', 0, 1], 'an event without a cache yet: no data, and how long that holds');
  t.deepEqual([ask('final.acme.cdn.example', 'AAAA').rcode, ask('final.acme.cdn.example', 'AAAA').answers!.length], ['NOERROR', 0]);
  t.equal(ask('acme.cdn.example').rcode, 'NOERROR', 'a level between exists');
  t.equal(ask('elsewhere.example').rcode, 'REFUSED');
  t.equal(ask('xcdn.example').rcode, 'REFUSED', 'a name that only ends alike');
  t.equal(ask('cdn.example', 'SOA').answers!.length, 1);
  t.end();
});

test("the client's subnet decides when a resolver tells it", (t) => {
  const subnet = Buffer.from([0, 1, 24, 0, 10, 9, 3]);
  const reply = ask('final.acme.cdn.example', 'A', {
    additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 1232, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [{ code: 8, data: subnet }] }],
  });
  t.deepEqual(reply.answers!.map((a) => (a as { data: string }).data), ['10.9.0.1']);
  const own = (reply.additionals![0] as unknown as { options: { code: number; data: Buffer }[] }).options[0]!;
  t.deepEqual([own.code, ...own.data.subarray(0, 4)], [8, 0, 1, 24, 24], 'and is told what was looked at');
  t.end();
});

test('what is no question: nothing is thrown, nothing is amplified', (t) => {
  const good = packet.encode({ id: 1, type: 'query', questions: [{ name: 'final.acme.cdn.example', type: 'A' }] });
  t.equal(answer(Buffer.alloc(0), '', zone, resolve, false), undefined);
  const reply = Buffer.from(good);
  reply[2]! |= 0x80;
  t.equal(answer(reply, '', zone, resolve, false), undefined, 'a reply is not replied to');
  const update = Buffer.from(good);
  update[2] = 0x28;
  t.equal((packet.decode(answer(update, '', zone, resolve, false)!) as { rcode?: string }).rcode, 'NOTIMP');
  let seed = 1;
  const random = (n: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
  let answered = 0;
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(good.subarray(0, 1 + random(good.length)));
    for (let n = random(4); n >= 0; n--) bytes[random(bytes.length)] = random(256);
    const back = answer(bytes, '192.0.2.1', zone, resolve, false);
    if (back !== undefined) answered++;
    if (back !== undefined && back.length > 512) t.fail(`${back.length} bytes for ${bytes.toString('hex')}`);
  }
  t.ok(answered > 0, `20,000 damaged messages, ${answered} answered, none thrown`);
  t.end();
});

test('over sockets: c-ares reads the answers; TCP too', async (t) => {
  const server = await serveDns('127.0.0.1', 0, zone, resolve);
  const resolver = new Resolver({ timeout: 2000, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.port}`]);
  t.deepEqual((await resolver.resolve4('final.acme.cdn.example')).sort(), addresses.slice(0, 4));
  t.equal(await resolver.resolve4('none.acme.cdn.example').catch((e: NodeJS.ErrnoException) => e.code), 'ENOTFOUND');
  t.equal(await resolver.resolve4('early.acme.cdn.example').catch((e: NodeJS.ErrnoException) => e.code), 'ENODATA');
  const query = packet.streamEncode({ id: 3, type: 'query', questions: [{ name: 'final.acme.cdn.example', type: 'A' }] });
  const reply = await new Promise<Buffer>((done, fail) => {
    let held = Buffer.alloc(0);
    const socket = connect(server.port, '127.0.0.1', () => {
      for (const byte of query) socket.write(Buffer.of(byte));
    });
    socket.on('error', fail);
    socket.on('data', (data) => {
      held = Buffer.concat([held, data]);
      if (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
        socket.destroy();
        done(held);
      }
    });
  });
  t.equal((packet.streamDecode(reply) as Packet).answers!.length, 4, 'byte by byte over TCP');
  await server.close();
});
