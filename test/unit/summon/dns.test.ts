/** The name server's words: data and no data, what is dropped, what is cut, a source that asks too much, and very many questions. */
import packet, { type Packet } from 'dns-packet';
import { createSocket } from 'node:dgram';
import { Resolver as Lookup } from 'node:dns/promises';
import test from 'tape';
import type { Zone } from '../../../src/cache/route/dns.ts';
import { serveMessages } from '../../../src/cache/route/dns-server.ts';
import { answerSummon, SourceRates, type Resolution, type Resolver } from '../../../src/summon/dns.ts';
import type { Target } from '../../../src/summon/names.ts';

const zone: Zone = { name: 'summon.example', server: 'ns.summon.example', serverAddress: '192.0.2.53', ttlS: 1 };
const asked: string[] = [];
const outcome = ({ tenant, service, commit }: Target): Resolution => {
  if (tenant !== 'acme') return { is: 'unknown' };
  if (service === 'bad') return { is: 'failed' };
  if (service === 'wide') return { is: 'address', addresses: Array.from({ length: 9 }, (_, i) => `10.1.0.${i}`) };
  return service === 'web' ? { is: 'address', addresses: [commit === undefined ? '10.0.0.1' : '10.0.0.2'] } : { is: 'unknown' };
};
const resolver: Resolver = {
  exists: async (target) => outcome(target).is !== 'unknown',
  resolve: async (target) => {
    asked.push(`${target.commit ?? ''} ${target.tenant}/${target.service}`);
    if (target.service === 'throws') throw new Error('no');
    return outcome(target);
  },
};
const query = (name: string, type = 'A', more: object = {}): Buffer => packet.encode({ id: 7, type: 'query', flags: 0x100, questions: [{ name, type: type as 'A' }], ...more });
type Read = Packet & { rcode: string; flag_aa: boolean; flag_tc: boolean };
const ask = async (name: string, type = 'A', more: object = {}): Promise<Read> =>
  packet.decode((await answerSummon(query(name, type, more), '192.0.2.1', false, zone, resolver, undefined))!) as never;
const rows = ({ rcode, answers, authorities, flag_aa }: Read): unknown => [rcode, answers!.map((each) => (each as { data: unknown }).data), authorities!.map(({ type }) => type), flag_aa];

test('summon dns: data, no data, no such name', async (t) => {
  t.deepEqual(rows(await ask('web.acme.summon.example')), ['NOERROR', ['10.0.0.1'], [], true]);
  t.deepEqual(rows(await ask('ABCD12.Web.acme.SUMMON.example')), ['NOERROR', ['10.0.0.2'], [], true]);
  t.equal(((await ask('web.acme.summon.example')).answers![0] as { ttl: number }).ttl, 1);
  asked.length = 0;
  t.deepEqual(rows(await ask('web.acme.summon.example', 'AAAA')), ['NOERROR', [], ['SOA'], true], 'AAAA: no data');
  t.deepEqual(rows(await ask('web.acme.summon.example', 'TXT')), ['NOERROR', [], ['SOA'], true]);
  t.deepEqual(asked, [], 'and nothing is booted for it');
  t.deepEqual(rows(await ask('none.acme.summon.example')), ['NXDOMAIN', [], ['SOA'], true]);
  t.deepEqual(rows(await ask('none.acme.summon.example', 'AAAA')), ['NXDOMAIN', [], ['SOA'], true]);
  t.deepEqual(rows(await ask('a.b.c.d.summon.example')), ['NXDOMAIN', [], ['SOA'], true]);
  t.deepEqual(rows(await ask('acme.summon.example')), ['NOERROR', [], ['SOA'], true], 'a tenant is a name without data');
  t.deepEqual(rows(await ask('summon.example', 'SOA')), ['NOERROR', [{ ...((await ask('summon.example', 'SOA')).answers![0] as { data: object }).data }], [], true]);
  t.deepEqual(rows(await ask('ns.summon.example')), ['NOERROR', ['192.0.2.53'], [], true]);
  t.deepEqual(rows(await ask('bad.acme.summon.example')), ['SERVFAIL', [], [], false]);
  t.deepEqual(rows(await ask('throws.acme.summon.example')), ['SERVFAIL', [], [], false]);
  t.equal((await ask('elsewhere.example')).rcode, 'REFUSED');
  t.equal((await ask('web.acme.summon.example', 'A', { questions: [{ name: 'web.acme.summon.example', type: 'A', class: 'CH' }] })).rcode, 'REFUSED');
  const minimum = ((await ask('none.acme.summon.example')).authorities![0] as { data: { minimum: number; mname: string } }).data;
  t.deepEqual([minimum.minimum, minimum.mname], [1, 'ns.summon.example']);
});

test('summon dns: no larger than allowed, nothing for what cannot be read', async (t) => {
  for (const size of [undefined, 512, 4096]) {
    const more = size === undefined ? {} : { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: size, extendedRcode: 0, ednsVersion: 0, flags: 0, options: [] }] };
    const reply = await answerSummon(query('wide.acme.summon.example', 'A', more), '', false, zone, resolver, undefined);
    t.ok(reply!.length <= 512, `${size}: ${reply!.length}`);
  }
  const good = query('web.acme.summon.example');
  t.equal(await answerSummon(Buffer.alloc(3), '', false, zone, resolver, undefined), undefined);
  t.equal(await answerSummon(Buffer.concat([good.subarray(0, 12), Buffer.from([0xff, 0xff, 1])]), '', false, zone, resolver, undefined), undefined);
  let seed = 1;
  let largest = 0;
  const random = (n: number): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % n;
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(good.subarray(0, 1 + random(good.length)));
    for (let n = random(4); n >= 0; n--) bytes[random(bytes.length)] = random(256);
    const reply = await answerSummon(bytes, '', false, zone, resolver, undefined);
    largest = Math.max(largest, reply?.length ?? 0);
  }
  t.ok(largest <= 512, `20,000 that are none: no reply over ${largest} bytes`);
});

test('summon dns: a source has its share', async (t) => {
  let nowMs = 0;
  const rates = new SourceRates({ perS: 10, burst: 20 }, () => nowMs);
  const outcomes = (source: string, count: number): Record<string, number> => {
    const of: Record<string, number> = { answer: 0, slip: 0, drop: 0 };
    for (let i = 0; i < count; i++) of[rates.take(source)]!++;
    return of;
  };
  t.deepEqual(outcomes('10.0.0.1', 100), { answer: 20, slip: 40, drop: 40 });
  t.deepEqual(outcomes('10.0.0.99', 10), { answer: 0, slip: 5, drop: 5 }, 'its neighbours share it');
  t.deepEqual(outcomes('10.0.1.1', 10), { answer: 10, slip: 0, drop: 0 }, 'others do not');
  nowMs += 1000;
  t.deepEqual(outcomes('10.0.0.1', 20), { answer: 10, slip: 5, drop: 5 });
  for (let i = 0; i < 70_000; i++) rates.take(`10.${i >> 8}.${i & 255}.1`);
  t.ok(rates.size <= 65_536, 'sources remembered are bounded');
  const few = new SourceRates({ perS: 1, burst: 1 }, () => nowMs);
  const reply = async (overTcp = false): Promise<Buffer | undefined> => answerSummon(query('web.acme.summon.example'), '10.9.9.9', overTcp, zone, resolver, few);
  await reply();
  t.equal(await reply(), undefined);
  const slip = (await reply())!;
  t.ok((packet.decode(slip) as unknown as Read).flag_tc && slip.length <= query('web.acme.summon.example').length, 'every second is told to come by TCP, in no more bytes than he sent');
  t.equal((packet.decode((await reply(true))!) as unknown as Read).answers!.length, 1, 'where nobody can pretend to be another');
});

test('summon dns: UDP and TCP, and ten thousand questions', async (t) => {
  let release: () => void = () => {};
  const slow = new Promise<void>((resolve) => (release = resolve));
  const late: Resolver = { ...resolver, resolve: async (target) => (target.commit === undefined ? outcome(target) : slow.then(() => outcome(target))) };
  const server = await serveMessages('127.0.0.1', 0, (message, client, overTcp) => answerSummon(message, client, overTcp, zone, late, undefined));
  const lookup = new Lookup({ timeout: 5000, tries: 1 });
  lookup.setServers([`127.0.0.1:${server.port}`]);
  const waiting = lookup.resolve4('abcd.web.acme.summon.example');
  t.deepEqual(await lookup.resolve4('web.acme.summon.example'), ['10.0.0.1'], 'one that waits holds up nobody');
  release();
  t.deepEqual(await waiting, ['10.0.0.2']);
  t.equal(await lookup.resolve4('none.acme.summon.example').catch((error: NodeJS.ErrnoException) => error.code), 'ENOTFOUND');
  t.equal(await lookup.resolve6('web.acme.summon.example').catch((error: NodeJS.ErrnoException) => error.code), 'ENODATA');
  const socket = createSocket('udp4');
  let answered = 0;
  const all = new Promise<void>((resolve) => socket.on('message', () => ++answered === 10_000 && resolve()));
  const message = query('none.acme.summon.example');
  const began = performance.now();
  // As many at once as a socket's buffer holds.
  for (let sent = 0; sent < 10_000; ) {
    for (let n = 0; n < 50 && sent < 10_000; n++, sent++) socket.send(message, server.port, '127.0.0.1');
    while (answered < sent - 100) await new Promise((resolve) => setImmediate(resolve));
  }
  await all;
  t.comment(`10,000 questions for names that do not exist, answered in ${Math.round(performance.now() - began)} ms`);
  t.equal(answered, 10_000);
  socket.close();
  await server.close();
});
